use half::f16;
use ndarray::Array1;

/// What is applied to the f32 sums before they are rounded to the storage type, in this order: bias,
/// activation, and the [`Residual`], which belongs to a call, not to a layer.
///
/// Start from [`Epilogue::default`] (neither bias nor activation) and set fields. The type is
/// `non_exhaustive`: fields can be added without a breaking change.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epilogue<T = f16> {
    /// Added to every row of y, in f32: `[N]`.
    pub bias: Option<Array1<T>>,
    /// Applied to the sums, bias included.
    pub activation: Option<Activation>,
}

impl<T> Default for Epilogue<T> {
    fn default() -> Self {
        Self { bias: None, activation: None }
    }
}

impl<T: 'static> Epilogue<T> {
    /// No bias and no activation.
    pub const NONE: &'static Self = &Self { bias: None, activation: None };

    /// An epilogue that adds `bias: [N]` to every row of y.
    pub fn bias(bias: Array1<T>) -> Self {
        Self { bias: Some(bias), ..Self::default() }
    }

    /// The same epilogue, with `activation` after the bias.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }
}

/// A function of each sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// GELU in the form with tanh that GPT-2 was trained with (`gelu_new`, PyTorch's `approximate="tanh"`):
    /// `t / 2 · (1 + tanh(√(2/π) · (t + 0.044715 t³)))`, which is `t · σ(√(8/π) · (t + 0.044715 t³))`.
    GeluTanh,
}

/// What a call adds last, in f32, before the single rounding: `[M, N]`, any row stride. `X` is the type of x:
/// a view with unit column stride for a layer on the CPU, a `cuda::Matrix` for a layer on a GPU.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Residual<X> {
    /// Nothing.
    #[default]
    None,
    /// The previous content of y.
    Output,
    /// A matrix. Memory that it shares with y (possible only with raw parts) must hold the same elements of
    /// both.
    Matrix(X),
    /// Two matrices, for a skip connection inside a module and the one around it.
    Sum(X, X),
}

impl<X> Residual<X> {
    /// The residual matrices other than y.
    pub(crate) fn matrices(&self) -> [Option<&X>; 2] {
        match self {
            Self::None | Self::Output => [None, None],
            Self::Matrix(one) => [Some(one), None],
            Self::Sum(one, other) => [Some(one), Some(other)],
        }
    }
}

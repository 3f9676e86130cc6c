use half::f16;
use ndarray::Array1;

/// What happens to the f32 sums before they are rounded to the storage type, in this order: bias, activation,
/// and the [`Residual`], which is a call's and not a layer's.
///
/// Start from [`Epilogue::default`] (nothing happens) and set what is wanted. The type is
/// `non_exhaustive`: more can be added without a break.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Epilogue {
    /// Added to every row of y, in f32: `[N]`.
    pub bias: Option<Array1<f16>>,
    /// Applied to the sums, bias included.
    pub activation: Option<Activation>,
}

impl Epilogue {
    /// Nothing happens.
    pub const NONE: &'static Epilogue = &Epilogue { bias: None, activation: None };

    /// Adds `bias`, `[N]`, to every row of y.
    pub fn bias(bias: Array1<f16>) -> Self {
        Self { bias: Some(bias), ..Self::default() }
    }

    /// The same, with `activation` after the bias.
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

/// What a call adds to y last, in f32, before the one rounding: `[M, N]`, any row stride. `X` is what x is: a
/// view, with unit column stride, for a layer on the CPU, a `cuda::Matrix` for one on a GPU.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Residual<X> {
    /// Nothing.
    #[default]
    None,
    /// What y holds.
    Output,
    /// A matrix. What it shares with y, which raw parts alone can make it, has to lie in the same place in
    /// both.
    Matrix(X),
    /// Two matrices: a skip within a module beside the one around it.
    Sum(X, X),
}

impl<X> Residual<X> {
    /// Those that are not y.
    pub(crate) fn matrices(&self) -> [Option<&X>; 2] {
        match self {
            Self::None | Self::Output => [None, None],
            Self::Matrix(one) => [Some(one), None],
            Self::Sum(one, other) => [Some(one), Some(other)],
        }
    }
}

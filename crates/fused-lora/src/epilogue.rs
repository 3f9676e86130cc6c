use half::f16;
use ndarray::Array1;

/// What happens to the f32 sums before they are rounded to the storage type.
///
/// Start from [`Epilogue::default`] (nothing happens) and set what is wanted. The type is
/// `non_exhaustive`: an activation or a residual can be added without a break.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Epilogue {
    /// Added to every row of y, in f32: `[N]`.
    pub bias: Option<Array1<f16>>,
}

impl Epilogue {
    /// Nothing happens.
    pub const NONE: &'static Epilogue = &Epilogue { bias: None };

    /// Adds `bias`, `[N]`, to every row of y.
    pub fn bias(bias: Array1<f16>) -> Self {
        Self { bias: Some(bias) }
    }
}

use fused_lora_kernels::{Global, layer_params::LayerNormParams, tile::LAYER_NORM_ROWS};

use crate::cuda::{buffer::Buffer, count::count, error::Error, matrix::Place};

/// `y = (x − mean) / √(variance + ε) · γ + β`: x and y of the same shape, and as wide as γ and β.
///
/// # Errors
///
/// [`Error::TooLarge`].
pub(in crate::cuda) fn params(
    x: Place,
    y: Place,
    gamma: &Buffer,
    beta: &Buffer,
    epsilon: f32,
) -> Result<LayerNormParams, Error> {
    Ok(LayerNormParams {
        x: Global::from_address(x.address),
        y: Global::from_address(y.address),
        gamma: Global::from_address(gamma.address()),
        beta: Global::from_address(beta.address()),
        rows: count("M", x.rows)?,
        columns: count("the width of LayerNorm", x.columns)?,
        ldx: count("the stride of x", x.row_stride())?,
        ldy: count("the stride of y", y.row_stride())?,
        reciprocal: (1.0 / x.columns as f64) as f32,
        epsilon,
    })
}

/// A warp for each row.
pub(in crate::cuda) fn grid(params: &LayerNormParams) -> u32 {
    params.rows.div_ceil(LAYER_NORM_ROWS)
}

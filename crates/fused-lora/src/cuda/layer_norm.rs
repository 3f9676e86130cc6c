use std::sync::Arc;

use fused_lora_kernels::layer_table::LayerKernel;
use half::f16;
use ndarray::ArrayView1;

use super::{
    buffer::Buffer,
    device::Device,
    error::Error,
    matrix::{Matrix, MatrixMut},
    stream::Stream,
};
use crate::{error::Operand, plan::params, shape::check_call};

/// GPT-2's ε.
const EPSILON: f32 = 1e-5;

/// LayerNorm on a device: `y = (x − mean) / √(variance + 1e-5) · γ + β`, row by row. Storage is f16, sums are
/// f32, and the variance is computed from the differences to the mean.
///
/// A NaN or infinity in a row of x makes that row of y NaN, and no other. Clones share γ and β.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Arc<Buffer>,
    beta: Arc<Buffer>,
    width: usize,
}

impl LayerNorm {
    /// Copies γ and β to the device.
    ///
    /// # Errors
    ///
    /// [`Error::NormWeights`] if they are empty or differ in length, [`Error::OutOfMemory`],
    /// [`Error::Driver`].
    pub fn new(
        device: &Device,
        gamma: ArrayView1<'_, f16>,
        beta: ArrayView1<'_, f16>,
    ) -> Result<Self, Error> {
        let width = gamma.len();
        if width == 0 || width != beta.len() {
            return Err(Error::NormWeights { gamma: width, beta: beta.len() });
        }
        let copy = |vector: ArrayView1<'_, f16>| {
            let mut elements = vector.to_vec();
            // Read 16 bytes at a time.
            elements.resize(width.next_multiple_of(8), f16::ZERO);
            Buffer::from_slice(device, &elements).map(Arc::new)
        };
        Ok(Self { gamma: copy(gamma)?, beta: copy(beta)?, width })
    }

    /// Elements of γ and β, and columns of x and y.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.gamma.device()
    }

    /// Normalises the rows of `x: [M, width]` into `y: [M, width]`. Neither needs alignment: rows are read
    /// and written 16 bytes at a time where address and stride allow it, otherwise element by element.
    ///
    /// The work is queued on the stream, under the rules of a layer's [`run`](super::Call::run).
    ///
    /// # Errors
    ///
    /// [`Error::Problem`], [`Error::Plan`], [`Error::OtherDevice`]: nothing has then been queued.
    /// [`Error::Driver`] if the launch fails.
    pub fn forward(&self, x: Matrix<'_>, y: MatrixMut<'_>, stream: &Stream) -> Result<(), Error> {
        let device = self.device();
        let (x, y) = (x.place(), y.place());
        check_call([self.width; 2], (Operand::X, x.shape()), [(Operand::Y, y.shape())])?;
        device.require_all([("x", x), ("y", y)])?;
        device.require("the stream", stream.device().ordinal())?;
        let weights = [&self.gamma, &self.beta].map(|weight| weight.address());
        let (params, grid) = params::layer_norm(x, y, weights, EPSILON)?;
        let _entered = device.enter()?;
        // SAFETY: the context is entered, and the stream of its device. Shapes were checked above, bounds
        // when the matrices were made; γ and β are as wide, and padded. All of them stay until the launch is
        // over: dropping them waits for it, and of matrices of somebody else, and of graphs, it is promised.
        unsafe { device.module().launch_layer(LayerKernel::layer_norm(), grid, &params, stream.raw()) }
    }
}

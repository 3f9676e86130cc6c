use fused_lora_kernels::layer_table::{LAYER_KERNELS, LayerKernel};

use super::{
    device::Device,
    error::Error,
    matrix::{Matrix, MatrixMut},
    stream::Stream,
};
use crate::{
    error::Operand,
    plan::{
        params,
        sizes::{count, count_u64},
    },
    shape::check_call,
};

/// Causal self-attention on a device: `y = softmax(q kᵀ / √head_dim, key ≤ query) v`, for each sequence and
/// head, without the matrix of scores in memory. Storage is f16, sums are f32, weights are rounded to f16
/// before they are multiplied by v.
///
/// Keys after a query do not influence it, whatever their k and v contain. NaN or infinity in q, or in a k or
/// v at or before the query, affects that query's row and no other.
#[derive(Clone, Debug)]
pub struct CausalAttention {
    device: Device,
    kernel: &'static LayerKernel,
    heads: u32,
    head_dim: u32,
}

impl CausalAttention {
    /// Attention with `heads` heads of `head_dim` columns each, a multiple of 8 up to 128.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if either is zero, [`Error::HeadDim`] if no kernel supports `head_dim`,
    /// [`Error::Plan`].
    pub fn new(device: &Device, heads: usize, head_dim: usize) -> Result<Self, Error> {
        if heads == 0 || head_dim == 0 {
            return Err(crate::Error::Heads { heads, head_dim }.into());
        }
        let shared = device.properties().shared_bytes_per_cta;
        let fits = |kernel: &&LayerKernel| kernel.shared_bytes <= shared;
        let kernel = u32::try_from(head_dim).ok().and_then(LayerKernel::attention).filter(fits);
        let Some(kernel) = kernel else {
            let limit = LAYER_KERNELS.iter().filter(fits).map(|kernel| kernel.head_dim).max().unwrap_or(0);
            return Err(Error::HeadDim { head_dim, limit: limit as usize });
        };
        let heads = count("the number of heads", heads)?;
        count_u64("the columns of qkv", 3 * u64::from(heads) * head_dim as u64)?;
        // At most the kernel's.
        Ok(Self { device: device.clone(), kernel, heads, head_dim: head_dim as u32 })
    }

    /// The number of heads.
    pub fn heads(&self) -> usize {
        self.heads as usize
    }

    /// Columns of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim as usize
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `qkv: [M, 3 · heads · head_dim]` holds queries, keys and values side by side, in each of them one head
    /// after the other; `y: [M, heads · head_dim]`. M rows are whole sequences of `seq_len` tokens, one after
    /// another.
    ///
    /// qkv is read 16 bytes at a time: its address must be a multiple of 16 bytes, and its stride a multiple
    /// of 8 elements. y needs no alignment.
    ///
    /// The work is queued on the stream, under the rules of a layer's [`run`](super::Call::run).
    ///
    /// # Errors
    ///
    /// [`Error::Problem`], [`Error::Plan`], [`Error::OtherDevice`]: nothing has then been queued.
    /// [`Error::Driver`] if the launch fails.
    pub fn forward(
        &self,
        qkv: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        stream: &Stream,
    ) -> Result<(), Error> {
        let device = &self.device;
        let (qkv, y) = (qkv.place(), y.place());
        let width = self.heads() * self.head_dim();
        check_call([width, 3 * width], (Operand::Qkv, qkv.shape()), [(Operand::Y, y.shape())])?;
        if seq_len == 0 || !qkv.rows.is_multiple_of(seq_len) {
            return Err(crate::Error::Sequences { rows: qkv.rows, seq_len }.into());
        }
        device.require_all([("qkv", qkv), ("y", y)])?;
        device.require("the stream", stream.device().ordinal())?;
        let (params, grid) = params::attention(qkv, y, seq_len, self.heads, self.head_dim)?;
        let _entered = device.enter()?;
        // SAFETY: the context is entered, and the stream of its device. Shapes and alignment were checked
        // above, bounds when the matrices were made, and that the kernel holds a head by `new`. qkv and y
        // stay until the launch is over: dropping them waits for it, and of matrices of somebody else, and of
        // graphs, it is promised.
        unsafe { device.module().launch_layer(self.kernel, grid, &params, stream.raw()) }
    }
}

use fused_lora_kernels::{Global, layer_params::AttentionParams, tile::ATTENTION_BLOCK};

use crate::cuda::{
    count::{count, count_u64},
    error::Error,
    matrix::Place,
};

/// `y = softmax(q kᵀ / √head_dim, causal) v`: qkv and y of the same number of rows, a multiple of `seq_len`, and three times
/// and once as wide as all heads.
///
/// # Errors
///
/// [`Error::Unaligned`], [`Error::TooLarge`].
pub(in crate::cuda) fn params(
    qkv: Place,
    y: Place,
    seq_len: usize,
    heads: u32,
    head_dim: u32,
) -> Result<AttentionParams, Error> {
    let stride = qkv.row_stride();
    if !qkv.address.is_multiple_of(16) || !stride.is_multiple_of(8) {
        return Err(Error::Unaligned { what: "qkv", address: qkv.address, stride });
    }
    Ok(AttentionParams {
        qkv: Global::from_address(qkv.address),
        y: Global::from_address(y.address),
        sequences: count("the number of sequences", qkv.rows / seq_len)?,
        seq_len: count("the length of sequences", seq_len)?,
        heads,
        head_dim,
        ld_qkv: count("the stride of qkv", stride)?,
        ldy: count("the stride of y", y.row_stride())?,
        scale: (std::f64::consts::LOG2_E / f64::from(head_dim).sqrt()) as f32,
    })
}

/// A CTA for each block of queries of each head of each sequence.
///
/// # Errors
///
/// [`Error::TooLarge`].
pub(in crate::cuda) fn grid(params: &AttentionParams) -> Result<u32, Error> {
    let blocks = u64::from(params.seq_len.div_ceil(ATTENTION_BLOCK)) * u64::from(params.heads);
    count_u64("the blocks of attention", blocks.saturating_mul(u64::from(params.sequences)))
}

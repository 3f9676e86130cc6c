//! The parameters of each kernel's launch.

use fused_lora_kernels::{
    Global,
    layer_params::{AttentionParams, LayerNormParams},
    params::{Epilogue, Params},
    table::{Kernel, Operation},
    tile::{ATTENTION_BLOCK, LAYER_NORM_ROWS},
};

use super::{
    adapters::Adapters,
    error::Error,
    layout::Layout,
    place::Place,
    sizes::{count, count_u64},
};
use crate::Activation;

/// The operands of a call, checked against each other.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) x: Global<u16>,
    pub(crate) w: Global<u16>,
    pub(crate) y: Global<u16>,
    /// Null for none.
    pub(crate) bias: Global<u16>,
    pub(crate) activation: Option<Activation>,
    pub(crate) residuals: [Added; 2],
    /// Where the base product is stored that another launch continues with, y or the workspace; none if there
    /// is no such launch.
    pub(crate) base: Added,
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) ldx: u32,
    pub(crate) ldw: u32,
    pub(crate) ldy: u32,
    pub(crate) adapters: Adapters<'a>,
    pub(crate) layout: Layout,
}

/// A matrix that is added to sums, `[M, N]`.
#[derive(Clone, Copy)]
pub(crate) struct Added {
    /// Null for none.
    pub(crate) from: Global<u16>,
    /// Row stride.
    pub(crate) ld: u32,
}

impl Added {
    pub(crate) const NONE: Self = Self { from: Global::NULL, ld: 0 };
}

impl Operands<'_> {
    /// The parameters of a launch of the call: sizes, addresses, tables.
    pub(crate) fn params(&self, kernel: &Kernel) -> Params {
        let whole = self.base();
        let lora = |layout| self.adapters.lora(kernel, self.m, layout);
        let base = self.base;
        match kernel.operation {
            // y = f16( activation( x Wᵀ + bias ) + residuals )
            Operation::Gemm | Operation::GemmSplitK if base.from.is_null() => whole,
            // f16( x Wᵀ + bias ), to where the expand finds it
            Operation::Gemm | Operation::GemmSplitK => {
                let epilogue = Epilogue { bias: self.bias, ..Epilogue::default() };
                Params { y: base.from, ldy: base.ld, epilogue, ..whole }
            }
            // y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals ), h by way of the
            // workspace
            Operation::Fused => Params { lora: lora(self.layout), ..whole },
            // The same, every CTA or cluster with its own h. No workspace: a kernel that touched it would
            // fault.
            Operation::FusedRecompute | Operation::FusedCooperative => {
                Params { lora: lora(Layout::default()), ..whole }
            }
            // h = f16( s · x Aᵀ ) into the workspace. Neither W nor y.
            Operation::Shrink => {
                let (epilogue, lora) = (Epilogue::default(), lora(self.layout));
                Params { w: Global::NULL, y: Global::NULL, epilogue, lora, ..whole }
            }
            // y = f16( activation( h Bᵀ + base ) + residuals ): the base product has the bias in it. Neither
            // x nor W.
            Operation::Expand => {
                let (addend, ld_addend) = (base.from, base.ld);
                let epilogue = Epilogue { addend, ld_addend, ..self.behind_the_bias() };
                Params { x: Global::NULL, w: Global::NULL, epilogue, lora: lora(self.layout), ..whole }
            }
        }
    }

    /// x, W and y, with the whole epilogue, without adapters.
    fn base(&self) -> Params {
        Params {
            x: self.x,
            w: self.w,
            y: self.y,
            m: self.m,
            n: self.n,
            k: self.k,
            ldx: self.ldx,
            ldw: self.ldw,
            ldy: self.ldy,
            epilogue: Epilogue { bias: self.bias, ..self.behind_the_bias() },
            ..Params::default()
        }
    }

    /// Activation and residuals.
    fn behind_the_bias(&self) -> Epilogue {
        let [residual, second] = self.residuals;
        Epilogue {
            residual: residual.from,
            second_residual: second.from,
            ld_residual: residual.ld,
            ld_second_residual: second.ld,
            activation: match self.activation {
                None => Epilogue::NO_ACTIVATION,
                Some(Activation::GeluTanh) => Epilogue::GELU_TANH,
            },
            ..Epilogue::default()
        }
    }
}

/// LayerNorm's parameters and its grid, a warp for each row: `y = (x − mean) / √(variance + ε) · γ + β`, x
/// and y of the same shape, and as wide as γ and β, of which these are the addresses.
///
/// # Errors
///
/// [`Error::TooLarge`].
pub(crate) fn layer_norm(
    x: Place,
    y: Place,
    [gamma, beta]: [u64; 2],
    epsilon: f32,
) -> Result<(LayerNormParams, u32), Error> {
    let rows = count("M", x.rows)?;
    let params = LayerNormParams {
        x: Global::from_address(x.address),
        y: Global::from_address(y.address),
        gamma: Global::from_address(gamma),
        beta: Global::from_address(beta),
        rows,
        columns: count("the width of LayerNorm", x.columns)?,
        ldx: count("the stride of x", x.row_stride())?,
        ldy: count("the stride of y", y.row_stride())?,
        reciprocal: (1.0 / x.columns as f64) as f32,
        epsilon,
    };
    Ok((params, rows.div_ceil(LAYER_NORM_ROWS)))
}

/// Attention's parameters and its grid, a CTA for each block of queries of each head of each sequence:
/// `y = softmax(q kᵀ / √head_dim, causal) v`, qkv and y of the same number of rows, a multiple of `seq_len`,
/// and three times and once as wide as all heads.
///
/// # Errors
///
/// [`Error::Unaligned`], [`Error::TooLarge`].
pub(crate) fn attention(
    qkv: Place,
    y: Place,
    seq_len: usize,
    heads: u32,
    head_dim: u32,
) -> Result<(AttentionParams, u32), Error> {
    let stride = qkv.row_stride();
    if !qkv.address.is_multiple_of(16) || !stride.is_multiple_of(8) {
        return Err(Error::Unaligned { what: "qkv", address: qkv.address, stride });
    }
    let (sequences, seq_len) =
        (count("the number of sequences", qkv.rows / seq_len)?, count("the length of sequences", seq_len)?);
    let params = AttentionParams {
        qkv: Global::from_address(qkv.address),
        y: Global::from_address(y.address),
        sequences,
        seq_len,
        heads,
        head_dim,
        ld_qkv: count("the stride of qkv", stride)?,
        ldy: count("the stride of y", y.row_stride())?,
        scale: (std::f64::consts::LOG2_E / f64::from(head_dim).sqrt()) as f32,
    };
    let blocks = u64::from(seq_len.div_ceil(ATTENTION_BLOCK)) * u64::from(heads);
    let grid = count_u64("the blocks of attention", blocks.saturating_mul(u64::from(sequences)))?;
    Ok((params, grid))
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;

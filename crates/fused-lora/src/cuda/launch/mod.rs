//! What each kernel is launched with.

pub(super) mod attention;
pub(super) mod layer_norm;
mod tensor_maps;

use std::ffi::c_void;

use fused_lora_kernels::{
    Global,
    params::{Epilogue, Params},
    table::{Kernel, Operation, Target},
    tensor_map::TensorParams,
};

use super::{adapters::Adapters, error::Error, layout::Layout, plan::Launch};
use crate::Activation;

/// The operands of a call, checked against each other.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) x: Global<u16>,
    pub(super) w: Global<u16>,
    pub(super) y: Global<u16>,
    /// Null for none.
    pub(super) bias: Global<u16>,
    pub(super) activation: Option<Activation>,
    pub(super) residuals: [Added; 2],
    /// Where a base product waits that another launch goes on with, y or workspace; none where there is no such launch.
    pub(super) base: Added,
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    pub(super) ldx: u32,
    pub(super) ldw: u32,
    pub(super) ldy: u32,
    pub(super) adapters: Adapters<'a>,
    pub(super) layout: Layout,
}

/// A matrix that is added to sums, `[M, N]`.
#[derive(Clone, Copy)]
pub(super) struct Added {
    /// Null for none.
    pub(super) from: Global<u16>,
    /// Row stride.
    pub(super) ld: u32,
}

impl Added {
    pub(super) const NONE: Self = Self { from: Global::NULL, ld: 0 };
}

/// What an entry gets, its one parameter.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack, for a launch")]
pub(super) enum Arguments {
    Params(Params),
    TensorParams(TensorParams),
}

impl Arguments {
    pub(super) fn as_ptr(&self) -> *const c_void {
        match self {
            Self::Params(params) => std::ptr::from_ref(params).cast(),
            Self::TensorParams(params) => std::ptr::from_ref(params).cast(),
        }
    }
}

impl Operands<'_> {
    /// What one of the call's launches gets.
    ///
    /// # Errors
    ///
    /// [`Error::TensorMap`]; none for operands that the plan took into account.
    pub(super) fn arguments(&self, launch: &Launch) -> Result<Arguments, Error> {
        let params = self.params(launch.kernel);
        Ok(match launch.kernel.target {
            Target::Sm80 => Arguments::Params(params),
            Target::Sm90a => {
                let maps = tensor_maps::encode(launch.kernel, launch.cluster, &params)?;
                Arguments::TensorParams(TensorParams { maps, params })
            }
        })
    }

    /// Sizes, addresses, tables.
    fn params(&self, kernel: &Kernel) -> Params {
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
            // y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals ), h by way of the workspace
            Operation::Fused => Params { lora: lora(self.layout), ..whole },
            // The same, every CTA or cluster with its own h. No workspace: a kernel that touched it would fault.
            Operation::FusedRecompute | Operation::FusedCooperative => {
                Params { lora: lora(Layout::default()), ..whole }
            }
            // h = f16( s · x Aᵀ ) into the workspace. Neither W nor y.
            Operation::Shrink => {
                let (epilogue, lora) = (Epilogue::default(), lora(self.layout));
                Params { w: Global::NULL, y: Global::NULL, epilogue, lora, ..whole }
            }
            // y = f16( activation( h Bᵀ + base ) + residuals ): the base product has the bias in it. Neither x nor W.
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

#[cfg(test)]
mod tests;

//! What each kernel is launched with. A kernel and its launcher carry the same name.

mod expand;
mod fused;
mod fused_cooperative;
mod fused_recompute;
mod gemm;
mod shrink;
mod tensor_maps;

use std::ffi::c_void;

use fused_lora_kernels::{
    Global,
    params::{Epilogue, Params},
    table::{Kernel, Operation, Target},
    tensor_map::TensorParams,
};

use super::{adapters::Adapters, error::Error, plan::Launch, workspace::Layout};

/// The operands of a call, checked against each other.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) x: Global<u16>,
    pub(super) w: Global<u16>,
    pub(super) y: Global<u16>,
    /// Null for none.
    pub(super) bias: Global<u16>,
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    pub(super) ldx: u32,
    pub(super) ldw: u32,
    pub(super) ldy: u32,
    pub(super) adapters: Adapters<'a>,
    pub(super) layout: Layout,
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
        match kernel.operation {
            Operation::Gemm | Operation::GemmSplitK => gemm::params(self),
            Operation::Fused => fused::params(self, kernel),
            Operation::FusedCooperative => fused_cooperative::params(self, kernel),
            Operation::FusedRecompute => fused_recompute::params(self, kernel),
            Operation::Shrink => shrink::params(self, kernel),
            Operation::Expand => expand::params(self, kernel),
        }
    }

    /// x, W and y, with the bias, without adapters.
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
            epilogue: Epilogue { bias: self.bias, ..Epilogue::default() },
            ..Params::default()
        }
    }
}

#[cfg(test)]
mod tests;

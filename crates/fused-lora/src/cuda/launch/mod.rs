//! What each kernel is launched with. A kernel and its launcher carry the same name.

mod expand;
mod fused;
mod fused_recompute;
mod gemm;
mod shrink;

use fused_lora_kernels::{
    Global,
    params::{Epilogue, Params},
    table::{Kernel, Operation},
};

use super::{adapters::Adapters, workspace::Layout};

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

impl Operands<'_> {
    /// The parameters of one of the call's launches.
    pub(super) fn params(&self, kernel: &Kernel) -> Params {
        match kernel.operation {
            Operation::Gemm => gemm::params(self),
            Operation::Fused => fused::params(self, kernel),
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

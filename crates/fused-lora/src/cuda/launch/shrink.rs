use fused_lora_kernels::{
    Global,
    params::{Epilogue, Params},
    table::Kernel,
};

use super::Operands;

/// `h = f16( s · x Aᵀ )` into the workspace. Neither W nor y.
pub(super) fn params(operands: &Operands<'_>, kernel: &Kernel) -> Params {
    let lora = operands.adapters.lora(kernel, operands.m, operands.layout);
    Params { w: Global::NULL, y: Global::NULL, epilogue: Epilogue::default(), lora, ..operands.base() }
}

use fused_lora_kernels::{params::Params, table::Kernel};

use super::Operands;
use crate::cuda::workspace::Layout;

/// `y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals )`, every CTA with its own h. No workspace: a kernel that
/// touched it would fault.
pub(super) fn params(operands: &Operands<'_>, kernel: &Kernel) -> Params {
    Params { lora: operands.adapters.lora(kernel, operands.m, Layout::default()), ..operands.base() }
}

use fused_lora_kernels::params::{Epilogue, Params};

use super::Operands;

/// `y = f16( activation( x Wᵀ + bias ) + residuals )`; where an expand follows, `f16( x Wᵀ + bias )` to where that finds it.
pub(super) fn params(operands: &Operands<'_>) -> Params {
    let whole = operands.base();
    if operands.base.from.is_null() {
        return whole;
    }
    let epilogue = Epilogue { bias: operands.bias, ..Epilogue::default() };
    Params { y: operands.base.from, ldy: operands.base.ld, epilogue, ..whole }
}

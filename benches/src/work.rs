//! What a method has to do, whoever does it.

/// Operations and bytes of a forward pass that no method can do without.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Useful operations, a multiply-add counted as two; padding is not work.
    pub flops: f64,
    /// Bytes of all operands that come from memory, and of y.
    pub bytes: f64,
}

/// What a method cannot do without, in percent of the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// At the rank.
    pub pct: f64,
    /// At the rank that its kernels round up to, where that is known.
    pub pad_pct: Option<f64>,
}

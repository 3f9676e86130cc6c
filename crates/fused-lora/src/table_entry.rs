use std::ops::Range;

use half::f16;
use ndarray::ArrayView2;

/// One adapter of an `AdapterTable`.
#[derive(Clone, Debug)]
pub struct TableEntry<'a, H = f16> {
    /// `[r, K]`; r may be zero.
    pub a: ArrayView2<'a, H>,
    /// `[columns, r]`
    pub b: ArrayView2<'a, H>,
    /// s: the scale.
    pub scale: f32,
    /// The columns of y that it adds to: all of them, or those of one projection in a fused QKV.
    pub columns: Range<usize>,
}

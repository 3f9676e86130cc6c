//! What comparisons and choices are on all types of numbers. PTX ISA, "Comparison and Selection
//! Instructions".

use std::cmp::Ordering;

use super::code::Compare;

/// The first of two values, or the second.
pub(super) fn chosen(is_first: bool, a: u64, b: u64) -> u64 {
    if is_first { a } else { b }
}

/// Whether a comparison is true of what was found; None if one is NaN.
pub(super) fn holds(compare: Compare, found: Option<Ordering>) -> bool {
    let Some(found) = found else {
        use Compare::{Equ, Geu, Gtu, Leu, Ltu, Nan, Neu};
        return matches!(compare, Equ | Neu | Ltu | Leu | Gtu | Geu | Nan);
    };
    match compare {
        Compare::Eq | Compare::Equ => found.is_eq(),
        Compare::Ne | Compare::Neu => found.is_ne(),
        Compare::Lt | Compare::Ltu => found.is_lt(),
        Compare::Le | Compare::Leu => found.is_le(),
        Compare::Gt | Compare::Gtu => found.is_gt(),
        Compare::Ge | Compare::Geu => found.is_ge(),
        Compare::Num => true,
        Compare::Nan => false,
    }
}

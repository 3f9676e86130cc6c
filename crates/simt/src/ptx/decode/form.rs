//! The forms that operands have.

use super::super::code::Operation as Op;

/// The form of an instruction's operands.
pub(super) struct Form {
    pub(super) op: Op,
    /// The operands, in their order.
    pub(super) operands: Vec<Slot>,
}

/// What stands at one place among the operands.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// A register for a result, or `_`.
    Out,
    /// Several of them: between braces, or one without.
    Outs,
    /// Two of them, `d|p`, or the first alone.
    Pair,
    /// A value of so many bits.
    Value(u32),
    /// Several of them.
    Values(u32),
    /// An immediate, which is kept.
    Immediate,
    /// An immediate that must be this.
    Must(u64),
    /// `[base+offset]`
    Address,
    /// `[base+offset, {x, y, …}]`, with so many coordinates.
    Box(u32),
    /// The label of a branch.
    Label,
    /// A predicate, which may be negated: its register, and whether it is.
    Predicate,
}

/// A form.
pub(super) fn form(op: Op, operands: impl Into<Vec<Slot>>) -> Form {
    Form { op, operands: operands.into() }
}

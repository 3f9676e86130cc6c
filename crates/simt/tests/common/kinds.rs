//! What a report is of.
#![allow(dead_code)] // Each test uses its part.

use fused_lora_simt::Kind;

macro_rules! kinds {
    ($($(#[$attr:meta])* $name:ident: $($kind:ident)|+;)*) => {
        $($(#[$attr])* pub(crate) fn $name(kind: &Kind) -> bool {
            matches!(kind, $(Kind::$kind { .. })|+)
        })*
    };
}

kinds! {
    race: Race;
    /// A race, or a read of what is not there yet.
    early: Race | Poison;
    poison: Poison;
    proxy: Proxy;
    deadlock: Deadlock;
    operand: Operand;
    divergence: Divergence;
    misaligned: Misaligned;
    out_of_bounds: OutOfBounds;
    not_started: NotStarted;
    departed: Departed;
    not_waited: NotWaited;
}

//! How a lane executes an instruction.

use std::panic::Location;

use crate::{
    fault::Action,
    run::{Outcome, Run, Stop},
    scheduler::{suspend, with},
    site::Op,
};

/// The lane failed: the scheduler sees the report and never resumes it.
#[cold]
pub(super) fn halt() -> ! {
    loop {
        suspend();
    }
}

/// Ends the run: an instruction has operands that it must not have.
#[cold]
#[track_caller]
pub(crate) fn refuse(op: Op, reason: &str) -> ! {
    let location = Location::caller();
    or_halt(with(|run| {
        let entered = run.enter(op, location, None)?;
        Err::<(), _>(run.operand(entered.site, reason))
    }));
    halt()
}

pub(super) fn or_halt<T>(outcome: Outcome<T>) -> T {
    match outcome {
        Ok(value) => value,
        Err(Stop) => halt(),
    }
}

/// Executes an instruction: enters it, lets others go first if the schedule wants so, and does it.
///
/// `body` sees the seeded fault, [`Action::Drop`] aside: that gives `dropped`.
#[inline]
pub(super) fn execute<T>(
    op: Op,
    location: &'static Location<'static>,
    dropped: T,
    body: impl FnOnce(&mut Run, u32, Option<Action>) -> Outcome<T>,
) -> T {
    let entered = or_halt(with(|run| run.enter(op, location, None)));
    if entered.pause {
        suspend();
    }
    if matches!(entered.action, Some(Action::Drop)) {
        return dropped;
    }
    or_halt(with(|run| body(run, entered.site, entered.action)))
}

/// A collective instruction: `body` arrives, then the lane waits for the others and takes its result.
#[inline]
pub(super) fn execute_together(
    op: Op,
    location: &'static Location<'static>,
    dropped: [u32; 4],
    body: impl FnOnce(&mut Run, u32, Option<Action>) -> Outcome<()>,
) -> [u32; 4] {
    let present = execute(op, location, false, |run, site, action| body(run, site, action).map(|()| true));
    if !present {
        return dropped;
    }
    suspend();
    with(|run| run.lane_mut().result)
}

/// An address in shared memory under [`Action::AddressXor`].
pub(super) fn flipped(address: u32, action: Option<Action>) -> u32 {
    match action {
        Some(Action::AddressXor(bits)) => address ^ bits,
        _ => address,
    }
}

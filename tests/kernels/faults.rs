//! Seeded faults: a checker that never failed has not been tested.
//!
//! A fault is one thing that the machine does wrong at one place of a kernel, whose source is untouched. Two
//! sets:
//!
//! - [`list::FAULTS`], by name, each with who has to catch it;
//! - *every* instruction that synchronises, as clean runs have met them: each in turn left out, and weakened.
//!   Those that nobody misses are listed in [`list::REDUNDANT`] with a reason; one that is not there fails.
//!
//! Before that, each kernel is clean with the same case under 20 schedules, all copies early, all late and
//! one slot among them.
//!
//! Kernels are compiled from a few functions for many tiles. Each function is here, the K loop with four
//! slots and with three, x aligned and not.

mod list;
mod source;
mod subject;

use fused_lora_kernels::table::KERNELS;
use fused_lora_simt::{Action, Op};
use list::{FAULTS, REDUNDANT, Redundant};
use subject::{Outcome, Subject};

/// What is tried on an instruction that synchronises.
fn actions(op: Op) -> &'static [(&'static str, Action)] {
    match op {
        Op::BarSync | Op::BarWarpSync | Op::CpAsyncCommitGroup | Op::AtomInc | Op::StRelaxed => {
            &[("gone", Action::Drop)]
        }
        Op::CpAsyncWaitGroup => &[("gone", Action::Drop), ("one group short", Action::WaitGroup(1))],
        Op::LdAcquire | Op::RedAddRelease => &[("gone", Action::Drop), ("relaxed", Action::Weaken)],
        _ => &[],
    }
}

const SYNCHRONISING: &[Op] = &[
    Op::BarSync,
    Op::BarWarpSync,
    Op::CpAsyncCommitGroup,
    Op::CpAsyncWaitGroup,
    Op::LdAcquire,
    Op::RedAddRelease,
    Op::AtomInc,
    Op::StRelaxed,
];

/// The named faults of a kernel are caught by those who have to.
fn named(subject: &Subject) {
    let mut wrong = Vec::new();
    for fault in FAULTS.iter().filter(|fault| fault.subject.name == subject.name) {
        let outcome = match fault.mutation(&subject.clean().sites) {
            Some(mutation) => subject.seed(&mutation),
            None => Outcome::NotMet,
        };
        println!("{}: {}: {outcome}", subject.name, fault.name);
        if !matches!(outcome, Outcome::Caught(by, _) if by.is(fault.by)) {
            wrong.push(format!("{} ({}), for {:?}: {outcome}", fault.name, subject.name, fault.by));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} seeded faults were not caught as they should be:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Each synchronising instruction is missed, except those that are listed.
fn synchronisation(subject: &Subject) {
    let mut wrong = Vec::new();
    let listed_here = |r: &&Redundant| r.subjects.iter().any(|s| s.name == subject.name);
    let mut redundant: Vec<_> = REDUNDANT.iter().filter(listed_here).collect();
    let mut tried = 0;
    for (op, site, place) in subject.clean().sites.all(SYNCHRONISING) {
        for &(what, action) in actions(op) {
            tried += 1;
            let outcome = subject.seed(&site.clone().does(action));
            println!("{}: {place}, {what}: {outcome}", subject.name);
            let listed = redundant.iter().position(|r| r.place.to_string() == place && r.action == what);
            match (listed, &outcome) {
                (None, Outcome::Caught(..)) => {}
                (Some(i), Outcome::Survived) => drop(redundant.remove(i)),
                (None, _) => wrong.push(format!("{place}, {what}: {outcome}")),
                (Some(_), _) => wrong.push(format!("{place}, {what}, is listed as redundant: {outcome}")),
            }
        }
    }
    assert!(tried > 0);
    assert!(wrong.is_empty(), "{}: {} of {tried}:\n{}", subject.name, wrong.len(), wrong.join("\n"));
    let gone: Vec<_> =
        redundant.iter().map(|r| format!("{}, {} ({})", r.place, r.action, r.reason)).collect();
    assert!(gone.is_empty(), "{}: listed as redundant, but not met: {}", subject.name, gone.join("; "));
}

macro_rules! subjects {
    ($($name:ident: $subject:ident;)*) => {
        static SUBJECTS: &[&Subject] = &[$(&list::$subject),*];

        $(mod $name {
            #[test]
            fn named_faults() {
                super::named(&super::list::$subject);
            }

            #[test]
            fn every_synchronising_instruction() {
                super::synchronisation(&super::list::$subject);
            }
        })*
    };
}

subjects! {
    gemm: GEMM;
    gemm_short: GEMM_SHORT;
    gemm_any: GEMM_ANY;
    gemm_wide: GEMM_WIDE;
    fused: FUSED;
    fused_short: FUSED_SHORT;
    fused_segments: FUSED_SEGMENTS;
    fused_any: FUSED_ANY;
    fused_wide: FUSED_WIDE;
    recompute: RECOMPUTE;
    recompute_segments: RECOMPUTE_SEGMENTS;
    shrink: SHRINK;
    expand: EXPAND;
    expand_segments: EXPAND_SEGMENTS;
}

/// The list is long enough, its names are unique, nothing is seeded into a kernel that no test runs, and no
/// kind of kernel is left out.
#[test]
fn the_list_is_sound() {
    assert!(FAULTS.len() >= 15);
    for kernel in KERNELS {
        let covered = SUBJECTS.iter().any(|subject| subject.operation() == kernel.operation);
        assert!(covered, "no faults are seeded into {:?}", kernel.operation);
    }
    for (i, fault) in FAULTS.iter().enumerate() {
        assert!(
            FAULTS[..i].iter().all(|other| other.name != fault.name),
            "two faults are called {}",
            fault.name
        );
        assert!(SUBJECTS.iter().any(|subject| subject.name == fault.subject.name), "{}", fault.subject.name);
    }
    for redundant in REDUNDANT {
        assert!(!redundant.reason.is_empty());
        for subject in redundant.subjects {
            assert!(SUBJECTS.iter().any(|other| other.name == subject.name), "{}", subject.name);
        }
    }
}

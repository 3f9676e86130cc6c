//! Seeded faults: a checker that never failed has not been tested.
//!
//! A fault is one thing that the machine does wrong at one place of a kernel, whose text is untouched. Two
//! sets:
//!
//! - [`list::FAULTS`] and [`list_sm90::FAULTS`], by name, each with who has to catch it;
//! - [`classes`]: *every* instruction that synchronises, in every entry: left out, weakened, made to wait for
//!   too little or the wrong thing, or, in a cluster, to go to another CTA. Those that nobody misses are in
//!   [`redundant::REDUNDANT`] with a reason; one that is not there fails.
//!
//! Before that, each kernel is clean with the same case. Kernels are compiled from a few functions for many
//! tiles; the named faults are in each function, the K loop with four slots and with three, x aligned and
//! not; for compute capability 9.0 one consumer warpgroup and two, one place for staged boxes and two,
//! clusters of 1, 2 and 4.

mod classes;
mod list;
mod list_sm90;
mod redundant;
mod seed;
mod source;
mod subject;
mod table;

use fused_lora_simt::{Action, Op};
use seed::Fault;
use subject::{Outcome, Subject};

use crate::case::all_kernels;

fn all_faults() -> impl Iterator<Item = &'static Fault> {
    list::FAULTS.iter().chain(list_sm90::FAULTS)
}

fn all_subjects() -> impl Iterator<Item = &'static Subject> {
    SUBJECTS.iter().chain(SM90_SUBJECTS).copied()
}

/// What is tried, in kernels that run in clusters, on an instruction that has a CTA of the cluster to go to;
/// nothing on others. (Exchanged ranks would show nothing where every CTA arrives at every other.)
fn actions_in_clusters(op: Op) -> &'static [(&'static str, Action)] {
    match op {
        Op::MbarrierArrive | Op::MbarrierArriveCluster | Op::CpAsyncBulkSharedCluster => {
            &[("at the first CTA", Action::Rank(0))]
        }
        _ => &[],
    }
}

/// What is tried on an instruction that synchronises; nothing on others.
fn actions(op: Op) -> &'static [(&'static str, Action)] {
    const GONE: (&str, Action) = ("gone", Action::Drop);
    const RELAXED: (&str, Action) = ("relaxed", Action::Weaken);
    const ONE_SHORT: (&str, Action) = ("one group short", Action::WaitGroup(1));
    match op {
        Op::BarSync
        | Op::BarWarpSync
        | Op::BarSyncNamed
        | Op::CpAsyncCommitGroup
        | Op::CpAsyncBulkCommitGroup
        | Op::AtomInc
        | Op::StRelaxed
        | Op::FenceMbarrierInit
        | Op::FenceProxyAsyncShared
        | Op::FenceProxyAsyncGlobal
        | Op::CpAsyncBulkTensor2dLoad
        | Op::CpAsyncBulkTensor2dStore
        | Op::SetmaxnregDec
        | Op::SetmaxnregInc
        | Op::GriddepcontrolWait
        | Op::GriddepcontrolLaunchDependents => &[GONE],
        Op::CpAsyncWaitGroup
        | Op::CpAsyncBulkWaitGroup
        | Op::CpAsyncBulkWaitGroupRead
        | Op::WgmmaWaitGroup => &[GONE, ONE_SHORT],
        Op::LdAcquire
        | Op::RedAddRelease
        | Op::MbarrierArrive
        | Op::MbarrierArriveCluster
        | Op::BarrierClusterArrive
        | Op::BarrierClusterWait => &[GONE, RELAXED],
        Op::MbarrierTryWaitParity => &[GONE, RELAXED, ("of the other parity", Action::ParityFlip)],
        Op::MbarrierArriveExpectTx => &[
            GONE,
            RELAXED,
            ("16 bytes too few", Action::ByteDelta(-16)),
            ("16 bytes too many", Action::ByteDelta(16)),
        ],
        Op::MbarrierInit => &[
            GONE,
            ("an arrival too few", Action::CountDelta(-1)),
            ("an arrival too many", Action::CountDelta(1)),
        ],
        Op::CpAsyncBulkTensor2dLoadMulticast => &[GONE, ("of one CTA less", Action::MaskXor(1))],
        Op::CpAsyncBulkSharedCluster => &[GONE, ("of 16 bytes less", Action::ByteDelta(-16))],
        _ => &[],
    }
}

/// The named faults of a kernel are caught by those who have to.
fn named(subject: &Subject) {
    let mut wrong = Vec::new();
    for fault in all_faults().filter(|fault| fault.subject.name == subject.name) {
        let outcome = match fault.mutations(&subject.clean().sites) {
            Some(mutations) => subject.seed(&mutations, fault.rank_delta()),
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

macro_rules! subjects {
    ($subjects:ident, $list:ident, $module:ident: $($name:ident $subject:ident,)*) => {
        static $subjects: &[&Subject] = &[$(&$list::$subject),*];

        mod $module {
            $(#[test]
            fn $name() {
                super::named(&super::$list::$subject);
            })*
        }
    };
}

subjects! {
    SUBJECTS, list, sm80_named_faults:
    gemm GEMM,
    gemm_short GEMM_SHORT,
    gemm_any GEMM_ANY,
    gemm_wide GEMM_WIDE,
    fused FUSED,
    fused_short FUSED_SHORT,
    fused_segments FUSED_SEGMENTS,
    fused_any FUSED_ANY,
    fused_wide FUSED_WIDE,
    recompute RECOMPUTE,
    recompute_segments RECOMPUTE_SEGMENTS,
    shrink SHRINK,
    expand EXPAND,
    expand_segments EXPAND_SEGMENTS,
}

// The cheapest first.
subjects! {
    SM90_SUBJECTS, list_sm90, sm90_named_faults:
    gemm_short GEMM_SHORT,
    gemm_in_place GEMM_IN_PLACE,
    gemm_epilogue GEMM_EPILOGUE,
    gemm GEMM,
    gemm_cluster GEMM_CLUSTER,
    split_k SPLIT_K,
    cooperative COOPERATIVE,
    cooperative_four COOPERATIVE_FOUR,
    cooperative_pair COOPERATIVE_PAIR,
    cooperative_segments COOPERATIVE_SEGMENTS,
    fused_short FUSED_SHORT,
    fused_segments FUSED_SEGMENTS,
    fused SHARED,
    cooperative_wide COOPERATIVE_WIDE,
    sliced SLICED,
    sliced_short SLICED_SHORT,
    gemm_warpgroups GEMM_WARPGROUPS,
}

/// The list is long enough, its names are unique, nothing is seeded into a kernel that no test runs, and no
/// kind of kernel is left out.
#[test]
fn the_list_is_sound() {
    assert!(list::FAULTS.len() >= 15 && list_sm90::FAULTS.len() >= 20);
    for kernel in all_kernels() {
        let same = |subject: &&Subject| {
            let other = subject.kernel();
            (other.target, other.operation) == (kernel.target, kernel.operation)
        };
        assert!(
            all_subjects().any(|subject| same(&subject)),
            "no faults are seeded into kernels like {}",
            kernel.name
        );
    }
    for (i, fault) in all_faults().enumerate() {
        assert!(
            all_faults().take(i).all(|other| other.name != fault.name),
            "two faults are called {}",
            fault.name
        );
        assert!(all_subjects().any(|subject| subject.name == fault.subject.name), "{}", fault.subject.name);
    }
}

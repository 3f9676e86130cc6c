//! Seeded faults: a checker that never failed has not been tested.
//!
//! A fault is one thing that the machine does wrong at one place of a kernel, whose source is untouched. Two
//! sets:
//!
//! - [`list::FAULTS`] and [`list_sm90::FAULTS`], by name, each with who has to catch it;
//! - *every* instruction that synchronises, as clean runs have met them: each in turn left out, weakened, and made
//!   wait for too little or the wrong thing, or, in a cluster, go to another CTA.
//!   Those that nobody misses are listed in `REDUNDANT` of both with a reason; one that is not there fails.
//!
//! Before that, each kernel is clean with the same case under 20 schedules, all copies early, all late and
//! one slot among them.
//!
//! Kernels are compiled from a few functions for many tiles. Each function is here, the K loop with four
//! slots and with three, x aligned and not; for compute capability 9.0 one consumer warpgroup and two, one place for
//! staged boxes and two, clusters of 1, 2 and 4.

mod classes;
mod list;
mod list_sm90;
mod seed;
mod source;
mod subject;

use std::collections::BTreeMap;

use fused_lora_simt::{Action, Op, Site};
use seed::{Fault, Redundant};
use subject::{Outcome, Subject};

use crate::suite::all_kernels;

fn all_faults() -> impl Iterator<Item = &'static Fault> {
    list::FAULTS.iter().chain(list_sm90::FAULTS)
}

fn all_redundant() -> impl Iterator<Item = &'static Redundant> {
    list::REDUNDANT.iter().chain(list_sm90::REDUNDANT)
}

fn all_subjects() -> impl Iterator<Item = &'static Subject> {
    SUBJECTS.iter().chain(SM90_SUBJECTS).copied()
}

/// What is tried, in kernels that run in clusters, on an instruction that has a CTA of the cluster to go to; nothing on
/// others. (Exchanged ranks would show nothing where every CTA arrives at every other.)
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

/// Each synchronising instruction is missed, except those that are listed.
fn synchronisation(subject: &Subject) {
    let mut wrong = Vec::new();
    let listed_here = |r: &&Redundant| r.subjects.iter().any(|s| s.name == subject.name);
    let mut redundant: Vec<_> = list::REDUNDANT.iter().filter(listed_here).collect();
    let mut tried = 0;
    for (op, site, place) in subject.clean().sites.all() {
        for &(what, action) in actions(op) {
            tried += 1;
            let outcome = subject.seed(&[site.clone().does(action)], 0);
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

/// Each synchronising instruction in a file, of the kernels for compute capability 9.0, is missed by one of the subjects
/// that have it, except those that are listed. (By one, not by each as above: these kernels share most of their
/// instructions, and of many it depends on K and on the ring which other one covers it.)
fn synchronisation_of(folder: &str, file: &str) {
    let here = format!(" of {folder}/{file}");
    let mut places: BTreeMap<String, Vec<(&Subject, Op, Site)>> = BTreeMap::new();
    for &subject in SM90_SUBJECTS {
        for (op, site, place) in subject.clean().sites.all().filter(|(.., place)| place.ends_with(&here)) {
            places.entry(place).or_default().push((subject, op, site));
        }
    }
    let (mut wrong, mut tried) = (Vec::new(), 0);
    let mut redundant: Vec<_> =
        list_sm90::REDUNDANT.iter().filter(|r| r.place.to_string().ends_with(&here)).collect();
    for (place, subjects) in places {
        let op = subjects[0].1;
        let everywhere = actions(op).iter().map(|action| (action, false));
        let somewhere = actions_in_clusters(op).iter().map(|action| (action, true));
        for (&(what, action), clusters) in everywhere.chain(somewhere) {
            let with_it = || subjects.iter().filter(|(subject, ..)| !clusters || subject.in_clusters());
            if with_it().next().is_none() {
                continue;
            }
            tried += 1;
            let mut missed = with_it().map(|(subject, _, site)| {
                let outcome = subject.seed_under(&[site.clone().does(action)], 0, FEW_SCHEDULES);
                (subject.name.clone(), outcome)
            });
            let caught = missed.find(|(_, outcome)| !matches!(outcome, Outcome::Survived | Outcome::NotMet));
            let listed = redundant.iter().position(|r| r.place.to_string() == place && r.action == what);
            match (listed, &caught) {
                (None, Some((name, outcome @ Outcome::Caught(..)))) => {
                    println!("{place}, {what}: {name}: {outcome}");
                }
                (Some(i), None) => drop(redundant.remove(i)),
                (None, None) => wrong.push(format!("{place}, {what}: NOT CAUGHT")),
                (_, Some((name, outcome))) => wrong.push(format!("{place}, {what}: {name}: {outcome}")),
            }
        }
    }
    assert!(tried > 0, "nothing synchronises in {folder}/{file}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    let gone: Vec<_> =
        redundant.iter().map(|r| format!("{}, {} ({})", r.place, r.action, r.reason)).collect();
    assert!(gone.is_empty(), "listed as redundant, but not met: {}", gone.join("; "));
}

/// Under how many schedules, of each subject, a fault is tried there.
const FEW_SCHEDULES: usize = 6;

macro_rules! sm90_subjects {
    ($($name:ident: $subject:ident;)*) => {
        /// The cheapest first.
        static SM90_SUBJECTS: &[&Subject] = &[$(&list_sm90::$subject),*];

        mod sm90_named_faults {
            $(#[test]
            fn $name() {
                super::named(&super::list_sm90::$subject);
            })*
        }
    };
}

sm90_subjects! {
    gemm_short: GEMM_SHORT;
    gemm_in_place: GEMM_IN_PLACE;
    gemm_epilogue: GEMM_EPILOGUE;
    gemm: GEMM;
    gemm_cluster: GEMM_CLUSTER;
    split_k: SPLIT_K;
    cooperative: COOPERATIVE;
    cooperative_four: COOPERATIVE_FOUR;
    cooperative_pair: COOPERATIVE_PAIR;
    cooperative_segments: COOPERATIVE_SEGMENTS;
    fused_short: FUSED_SHORT;
    fused_segments: FUSED_SEGMENTS;
    fused: SHARED;
    cooperative_wide: COOPERATIVE_WIDE;
    gemm_warpgroups: GEMM_WARPGROUPS;
}

macro_rules! sm90_files {
    ($($name:ident: $folder:literal $file:literal;)*) => {
        const SM90_FILES: &[(&str, &str)] = &[$(($folder, $file)),*];

        mod sm90_every_synchronising_instruction {
            $(#[test]
            fn $name() {
                super::synchronisation_of($folder, $file);
            })*
        }
    };
}

sm90_files! {
    of_cta: "sm90" "cta.rs";
    of_consumer: "sm90" "consumer.rs";
    of_producer: "sm90" "producer.rs";
    of_store: "sm90" "store.rs";
    of_epilogue: "sm90" "epilogue.rs";
    of_gemm: "sm90" "gemm.rs";
    of_gemm_split_k: "sm90" "gemm_split_k.rs";
    of_fused: "sm90" "fused.rs";
    of_fused_cooperative: "sm90" "fused_cooperative.rs";
    of_own_h: "sm90" "own_h.rs";
    of_hand_over: "sm80" "hand_over.rs";
}

#[test]
fn every_file_has_its_turn() {
    for subject in SM90_SUBJECTS {
        for (op, _, place) in subject.clean().sites.all() {
            let file = |(folder, file): &(&str, &str)| place.ends_with(&format!(" of {folder}/{file}"));
            assert!(actions(op).is_empty() || SM90_FILES.iter().any(file), "{place}");
        }
    }
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
    for redundant in all_redundant() {
        assert!(!redundant.reason.is_empty());
        for subject in redundant.subjects {
            assert!(all_subjects().any(|other| other.name == subject.name), "{}", subject.name);
        }
    }
}

//! Faults in every entry that ships: each synchronising instruction, as the compiler has copied it.
//!
//! A *class* is one place of the source with the calls that it was inlined by, in one entry; its *copies* are
//! lines of the PTX: unrolled loops have several. Every run seeds actions into all copies of a class at once,
//! and into one copy, chosen by the text: each place of the source and action in the smallest entry of an
//! operation that has it, and in one of three others. `FUSED_LORA_FAULTS=all` tries all of them in every
//! entry, seeds each copy alone as well, tries in every entry what is listed as [`REDUNDANT`] (else in the
//! smallest entry of an operation alone: what nobody misses takes all cases and schedules), and writes the
//! [`table`](super::table); entries that stand there as they are now are left out.

use std::collections::{BTreeMap, BTreeSet};

use fused_lora::Activation;
use fused_lora_kernels::table::{Kernel, Operation, Target};
use fused_lora_simt::{Action, Mutation, Op, Site, SiteInfo};
use fused_lora_tests::shipped;

use super::{
    actions, actions_in_clusters,
    redundant::REDUNDANT,
    source::Located,
    subject::{Outcome, Subject},
    table::{self, Row},
};
use crate::{
    case::{AdapterCase, Case, Rows, in_cluster},
    suite::{kernels, takes},
};

/// Under how many schedules a case has to miss a fault before the next case is tried; and one that is listed.
const SCHEDULES: usize = 3;
const SCHEDULES_IF_LISTED: usize = 1;

/// Cases of an entry, the one that catches most first.
fn subjects(kernel: &'static Kernel) -> Vec<Subject> {
    let (m, n, k) = (kernel.block_m as usize, kernel.block_n as usize, kernel.block_k as usize);
    let ring = (kernel.stages as usize + 2) * k + 8;
    let rank = if kernel.h > 0 { kernel.h as usize - 3 } else { 80 };
    let few = if kernel.operation == Operation::Fused { 3 } else { 1 };
    let case = |k: usize, cluster: Option<u32>, grid: u32| Case {
        bias: true,
        cluster,
        grid: Some(grid),
        ..Case::new(m + m / 2 + 4, n + n / 2 + 4, k, rank)
    };
    let segments = |cluster: Option<u32>, grid: u32| Case {
        adapters: vec![
            AdapterCase::new(10),
            AdapterCase::new(if kernel.max_rank > 0 { 16 } else { 140 }),
            AdapterCase { columns: Some(20.min(n - 1)..n + 4), ..AdapterCase::new(7) },
        ],
        rows: Rows::Table(vec![(0..20, 0), (20..50, 1), (m + 10..m + m / 2, 2)]),
        ..case(k + 8, cluster, grid)
    };
    let apart = |cluster, grid| Case {
        rows: Rows::Table(vec![(0..m / 2, 0), (m + 10..m + m / 2, 2)]),
        ..segments(cluster, grid)
    };
    let in_place = |cluster: Option<u32>| Case {
        in_place: true,
        second_residual: true,
        pad_residual: 4,
        activation: Some(Activation::GeluTanh),
        ..case(40, cluster, few)
    };
    let is_on_road = matches!(kernel.operation, Operation::Shrink | Operation::Expand);
    let mut cases = Vec::new();
    if kernel.operation == Operation::GemmSplitK {
        cases.extend([2, 4].map(|parts| Case { grid: None, ..case(ring * parts as usize, Some(parts), 1) }));
        cases.push(Case { grid: None, ..in_place(Some(2)) });
    } else if in_cluster(kernel) {
        let wide = |cluster: u32, k: usize| Case {
            n: n * (cluster as usize + 1) + 4,
            ..case(k, Some(cluster), cluster)
        };
        // CTAs of the smallest cluster.
        let few = if kernel.slices_k() { 2 } else { 1 };
        let in_place = Case { grid: Some(few), ..in_place(Some(few)) };
        cases.extend([wide(2, ring), case(ring, Some(few), few), in_place, segments(Some(2), 2)]);
        cases.extend([apart(Some(few), few), wide(4, k + 8), case(40, Some(few), few)]);
        // More columns of h than a step of the expand has.
        let ranks = (4 * kernel.h).min(kernel.max_rank) as usize;
        if ranks > k {
            cases.push(Case { adapters: vec![AdapterCase::new(ranks - 3)], ..wide(4, k + 8) });
        }
    } else {
        cases.extend([
            case(ring, None, few),
            segments(None, few),
            apart(None, few),
            in_place(None),
            case(40, None, few),
        ]);
    }
    cases
        .into_iter()
        .map(|case| case.adapted_to(kernel))
        // A road of three launches has its residuals elsewhere.
        .filter(|case| takes(kernel, case) && !(is_on_road && case.in_place))
        .enumerate()
        .map(|(number, case)| Subject::of_entry(format!("{}, case {number}", kernel.name), kernel, case))
        .collect()
}

/// An instruction of the source in an entry, with the calls it was inlined by.
struct Class {
    op: Op,
    /// Function, file, and which of its kind it is there.
    place: String,
    /// Its copies in the PTX.
    copies: Vec<SiteInfo>,
}

/// The classes that any of the cases meets, with faults to try.
fn classes(kernel: &Kernel, subjects: &[Subject]) -> Vec<Class> {
    let (module, _) = shipped::entry(kernel.name);
    let mut met: Vec<SiteInfo> =
        subjects.iter().flat_map(|subject| subject.clean().instructions_met.iter().copied()).collect();
    met.sort();
    met.dedup_by_key(|site| (site.ptx, site.op));
    let located = Located::new(met.clone());
    let mut classes: BTreeMap<_, Class> = BTreeMap::new();
    for site in met.into_iter().filter(|site| !actions(site.op).is_empty()) {
        let Some(place) = located.name(&site) else { panic!("{site} is in no function of sm80 or sm90") };
        let chain = module.place(site.ptx);
        let calls: Vec<_> = chain
            .ptx
            .iter()
            .flat_map(|trace| &trace.callers)
            .map(|call| (call.file, call.line, call.column))
            .collect();
        let key = (site.op, site.file, site.line, site.column, calls);
        classes
            .entry(key)
            .or_insert_with(|| Class { op: site.op, place, copies: Vec::new() })
            .copies
            .push(site);
    }
    classes.into_values().collect()
}

/// What becomes of a fault in some lines of the PTX.
fn seed(subjects: &[Subject], copies: &[SiteInfo], action: Action, schedules: usize) -> Outcome {
    let mutations: Vec<Mutation> = copies.iter().map(|copy| Site::at(copy).does(action)).collect();
    let meets = |subject: &&Subject| {
        let met = &subject.clean().instructions_met;
        copies.iter().any(|copy| met.iter().any(|site| (site.ptx, site.op) == (copy.ptx, copy.op)))
    };
    let mut last = Outcome::NotMet;
    for subject in subjects.iter().filter(meets) {
        match subject.seed_under(&mutations, 0, schedules) {
            outcome @ (Outcome::Survived | Outcome::NotMet) => last = outcome,
            outcome => return outcome,
        }
    }
    last
}

/// The item of [`REDUNDANT`] that a fault is listed in, by its number.
fn listed(kernel: &Kernel, place: &str, what: &str, alone: bool) -> Option<usize> {
    REDUNDANT.iter().position(|item| {
        item.entries.iter().any(|prefix| kernel.name.starts_with(prefix))
            && item.place == place
            && item.alone == alone
            && item.actions.contains(&what)
    })
}

/// Whether all faults are tried everywhere.
fn is_full() -> bool {
    match std::env::var("FUSED_LORA_FAULTS") {
        Ok(value) if value == "all" => true,
        Ok(value) if !value.is_empty() => panic!("FUSED_LORA_FAULTS={value}: it is `all` or nothing"),
        _ => false,
    }
}

/// Which copies of a class are tried alone.
fn alone(class: &Class) -> Vec<&[SiteInfo]> {
    let count = class.copies.len();
    if count == 1 {
        return Vec::new();
    }
    if is_full() {
        return class.copies.chunks(1).collect();
    }
    let one = ((u64::from(class.copies[0].ptx) * 0x9e37_79b9) >> 7) as usize % count;
    vec![&class.copies[one..=one]]
}

/// Of the classes and actions that a smaller entry has had, every so many is tried, others in the next entry.
/// The full set has them all.
const ONE_OF: usize = 3;

/// Tries an entry, the one of this `turn` among those of its operation, of which smaller ones have `had`
/// these places and actions. `is_smallest` of them: what is listed is tried as well. Gives what is wrong, and
/// which faults were not caught, by the item of the list.
fn entry(
    kernel: &'static Kernel,
    turn: usize,
    is_smallest: bool,
    had: &mut BTreeSet<(String, &'static str)>,
    survivors: &mut BTreeMap<usize, usize>,
) -> Vec<String> {
    let subjects = subjects(kernel);
    let clusters = subjects.iter().any(Subject::in_clusters);
    let mut wrong = Vec::new();
    let mut row = Row::default();
    let mut of_place: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let classes = classes(kernel, &subjects);
    row.classes = classes.len();
    let mut fault = turn;
    for class in &classes {
        let more = if clusters { actions_in_clusters(class.op) } else { &[] };
        for &(what, action) in actions(class.op).iter().chain(more) {
            let item = listed(kernel, &class.place, what, false);
            let item_alone = listed(kernel, &class.place, what, true).or(item);
            let most = item.map_or(0, |item| REDUNDANT[item].classes);
            fault += 1;
            let is_listed = item.or(item_alone).is_some();
            let is_new = had.insert((class.place.clone(), what));
            let is_skipped = if is_listed {
                most == usize::MAX && !is_smallest
            } else {
                !is_new && !fault.is_multiple_of(ONE_OF)
            };
            if is_skipped && !is_full() {
                continue;
            }
            let mut survived = None;
            for copies in std::iter::once(&class.copies[..]).chain(alone(class)) {
                let schedules = if most == usize::MAX { SCHEDULES_IF_LISTED } else { SCHEDULES };
                let item = if copies.len() < class.copies.len() { item_alone } else { item };
                let outcome = seed(&subjects, copies, action, schedules);
                row.tried += 1;
                match outcome {
                    Outcome::Caught(..) => row.caught += 1,
                    Outcome::Survived if item.is_some() => survived = item,
                    outcome => {
                        let fault = format!(
                            "{}: {}, {what}, in {} of {} copies: {outcome}",
                            kernel.name,
                            class.place,
                            copies.len(),
                            class.copies.len()
                        );
                        // At once: all of them take long.
                        println!("{fault}");
                        wrong.push(fault);
                    }
                }
            }
            if let Some(item) = survived {
                *survivors.entry(item).or_default() += 1;
                *of_place.entry((item, what)).or_default() += 1;
                println!(
                    "{}: {}, {what}, is not missed: {}",
                    kernel.name, class.place, REDUNDANT[item].reason
                );
            }
        }
    }
    for ((item, what), count) in of_place {
        let most = REDUNDANT[item].classes;
        if count > most {
            wrong.push(format!(
                "{}: {}, {what}: {count} classes are not missed, not {most}",
                kernel.name, REDUNDANT[item].place
            ));
        }
    }
    println!(
        "{}: {} cases, {} classes, {} faults, {} caught",
        kernel.name,
        subjects.len(),
        row.classes,
        row.tried,
        row.caught
    );
    if is_full() && wrong.is_empty() {
        table::add(kernel, &row);
    }
    wrong
}

fn all(operation: Operation, target: Target) {
    let (mut wrong, mut had, mut survivors) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    let mut all: Vec<_> = kernels(operation).filter(|kernel| kernel.target == target).collect();
    let size = |kernel: &&Kernel| kernel.block_m * kernel.block_n;
    all.sort_by_key(size);
    let smallest = all.first().map(size);
    let mut is_all = true;
    for (turn, kernel) in all.iter().enumerate() {
        if is_full() && table::has(kernel) {
            is_all = false;
            continue;
        }
        let is_smallest = Some(size(kernel)) == smallest;
        wrong.extend(entry(kernel, turn, is_smallest, &mut had, &mut survivors));
    }
    for (number, item) in REDUNDANT.iter().enumerate() {
        // Where a prefix is of these entries alone, the item is theirs.
        let is_of = |name: &str| item.entries.iter().any(|prefix| name.starts_with(prefix));
        let elsewhere = crate::case::all_kernels()
            .any(|kernel| is_of(kernel.name) && !all.iter().any(|own| own.name == kernel.name));
        if is_all
            && !elsewhere
            && all.iter().any(|kernel| is_of(kernel.name))
            && !survivors.contains_key(&number)
        {
            wrong.push(format!(
                "{}, {:?}, is listed as redundant, and is missed everywhere",
                item.place, item.actions
            ));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! operations {
    ($($test:ident $operation:ident $target:ident,)*) => {
        $(#[test]
        fn $test() {
            all(Operation::$operation, Target::$target);
        })*
    };
}

operations! {
    gemm Gemm Sm80,
    fused Fused Sm80,
    recompute FusedRecompute Sm80,
    shrink Shrink Sm80,
    expand Expand Sm80,
    sm90_gemm Gemm Sm90a,
    sm90_split_k GemmSplitK Sm90a,
    sm90_fused Fused Sm90a,
    sm90_cooperative FusedCooperative Sm90a,
}

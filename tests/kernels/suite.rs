//! Running cases over kernels and schedules.

use fused_lora_kernels::{
    sm90_tile::{MAX_CLUSTER, MAX_SLICES},
    table::{Kernel, Operation, Target},
};
use fused_lora_simt::{Machine, Schedule, Stats};

use crate::{
    case::{Case, all_kernels, in_cluster},
    setup::{Setup, set_up},
    tried::note,
};

/// `default` schedules, or as many as FUSED_LORA_SCHEDULES says if that is more. The extreme ones come round:
/// case number `turn` begins with another one than its neighbours.
pub(crate) fn schedules(turn: usize, default: usize) -> Vec<Schedule> {
    let count = enlarged(default);
    let mut schedules = Schedule::standard(count.max(9));
    let len = schedules.len();
    schedules.rotate_left(turn % len);
    schedules.truncate(count);
    schedules
}

/// `default`, or what FUSED_LORA_SCHEDULES says if that is more.
pub(crate) fn enlarged(default: usize) -> usize {
    match std::env::var("FUSED_LORA_SCHEDULES") {
        Ok(count) => match count.parse::<usize>() {
            Ok(count) => count.max(default),
            Err(_) => panic!("FUSED_LORA_SCHEDULES={count} is not a number"),
        },
        Err(_) => default,
    }
}

/// The kernels for an operation.
pub(crate) fn kernels(operation: Operation) -> impl Iterator<Item = &'static Kernel> {
    all_kernels().filter(move |kernel| kernel.operation == operation)
}

/// Most steps of the expand of a row tile, where h is shared and loaded by tensor map.
const MAX_EXPAND_STEPS: usize = 64;

/// Whether a kernel takes a case, by what its table entry says.
pub(crate) fn takes(kernel: &Kernel, case: &Case) -> bool {
    let multiple = |elements: &[usize]| elements.iter().all(|elements| elements.is_multiple_of(8));
    let addressable = match kernel.target {
        Target::Sm80 => {
            let reads_x = kernel.operation != Operation::Expand;
            !kernel.aligned || !reads_x || multiple(&[case.k, case.pad_x, case.shift_x])
        }
        // Tensor maps know K and N themselves: the pitches alone must be multiples.
        Target::Sm90a => multiple(&[case.k + case.pad_x, case.shift_x, case.n + case.pad_y, case.shift_y]),
    };
    addressable && fits(kernel, case)
}

/// Whether a kernel has room for a case's adapters.
fn fits(kernel: &Kernel, case: &Case) -> bool {
    let ranks = case.most_ranks(kernel.block_m);
    match (kernel.operation, kernel.target) {
        // One segment with an adapter a row tile, of a rank that the kernel has columns for.
        (Operation::FusedRecompute, _) => {
            case.row_tile_adapters(kernel.block_m).iter().all(|adapters| adapters.len() <= 1)
                && case.adapters.iter().all(|adapter| adapter.rank <= kernel.h as usize)
        }
        (Operation::FusedCooperative, _) => {
            let cluster = case.cluster_for(kernel);
            let ctas = if kernel.slices_k() { 2..=MAX_SLICES } else { 1..=MAX_CLUSTER };
            ctas.contains(&cluster) && ranks <= kernel.max_rank.min(kernel.h * cluster) as usize
        }
        (Operation::Fused, Target::Sm90a) => {
            let steps = |adapter: &usize| case.adapters[*adapter].rank.div_ceil(kernel.block_k as usize);
            let fit = |tile: &Vec<usize>| tile.iter().map(steps).sum::<usize>() <= MAX_EXPAND_STEPS;
            case.row_tile_adapters(kernel.block_m).iter().all(fit)
        }
        (Operation::GemmSplitK, _) => (2..=most_parts(kernel, case)).contains(&case.cluster_for(kernel)),
        _ => true,
    }
}

/// Runs a case over schedules, and holds each result to the reference and each run to be without bank
/// conflicts. Gives machine and case as the last run left them, and what it did.
pub(crate) fn hold(kernel: &'static Kernel, case: &Case, schedules: &[Schedule]) -> (Machine, Setup, Stats) {
    let case = &case.adapted_to(kernel);
    assert!(takes(kernel, case), "{} does not take {case:?}", kernel.name);
    let (mut machine, setup) = set_up(case, kernel);
    let mut last = None;
    for schedule in schedules {
        let stats = match setup.run(&mut machine, kernel, schedule) {
            Ok(stats) => stats,
            Err(failure) => panic!("{}: {failure}\n{case:?}\n{schedule:?}", kernel.name),
        };
        assert_eq!(stats.ldmatrix_conflicts, 0, "{}: bank conflicts of ldmatrix, {case:?}", kernel.name);
        assert_eq!(stats.cp_async_conflicts, 0, "{}: bank conflicts of cp.async, {case:?}", kernel.name);
        assert_eq!(stats.stmatrix_conflicts, 0, "{}: bank conflicts of stmatrix, {case:?}", kernel.name);
        note(kernel.name, &stats);
        last = Some(stats);
    }
    (machine, setup, last.expect("at least one schedule"))
}

/// Runs, for each kernel of an operation, those of its `cases` that it takes, each over `count` schedules or
/// as many as the environment says. Clusters are of other sizes from case to case.
pub(crate) fn hold_all(operation: Operation, count: usize, cases: impl Fn(&Kernel) -> Vec<Case>) {
    for kernel in kernels(operation) {
        // Of large tiles, whose runs take long, every third one, unless more is asked for.
        let large = kernel.target == Target::Sm90a && kernel.block_m * kernel.block_n > 128 * 128;
        let (step, count) = if large && enlarged(0) == 0 { (3, 1) } else { (1, count) };
        let cases: Vec<_> = cases(kernel)
            .into_iter()
            .step_by(step)
            .enumerate()
            .map(|(turn, case)| in_clusters(kernel, turn, case.adapted_to(kernel)))
            .filter(|case| takes(kernel, case))
            .collect();
        assert!(!cases.is_empty(), "no case for {}", kernel.name);
        for (turn, case) in cases.iter().enumerate() {
            hold(kernel, case, &schedules(turn, count));
        }
    }
}

/// Into how many parts K can be split: each has a step, and 16 columns of a tile to add up.
fn most_parts(kernel: &Kernel, case: &Case) -> u32 {
    let most = (case.k as u32).div_ceil(kernel.block_k).min(kernel.block_n / 16).min(8);
    1 << most.ilog2()
}

/// A case in clusters of 1, 2 or 4 as its turn is, or, where those that make h together must be so many, of
/// the fewest and of twice as many.
fn in_clusters(kernel: &Kernel, turn: usize, case: Case) -> Case {
    let cluster = match kernel.operation {
        _ if !in_cluster(kernel) || case.cluster.is_some() => return case,
        Operation::FusedCooperative if kernel.slices_k() => [2, 4][turn % 2],
        Operation::FusedCooperative => (case.cluster_for(kernel) << (turn % 2)).min(8),
        Operation::GemmSplitK => [2, 4, 8][turn % 3].min(most_parts(kernel, &case)),
        _ => [1, 2, 4][turn % 3],
    };
    Case { cluster: Some(cluster), ..case }
}

/// Defines a test for each operation from a function over operations, so that they run beside each other and
/// a failure names one; in a module of the function's name, with all of them as a
/// [`Group`](crate::tried::Group).
macro_rules! for_each_operation {
    ($function:ident: $($test:ident)*) => {
        pub(crate) mod $function {
            pub(crate) static GROUP: crate::tried::Group = crate::tried::Group {
                name: module_path!(),
                test: super::$function,
                operations: &[$(crate::suite::operation!($test)),*],
            };

            $(
                #[test]
                fn $test() {
                    GROUP.run(crate::suite::operation!($test));
                }
            )*
        }
    };
}
pub(crate) use for_each_operation;

/// The operation that a test is called after.
macro_rules! operation {
    (gemm) => {
        fused_lora_kernels::table::Operation::Gemm
    };
    (split_k) => {
        fused_lora_kernels::table::Operation::GemmSplitK
    };
    (fused) => {
        fused_lora_kernels::table::Operation::Fused
    };
    (recompute) => {
        fused_lora_kernels::table::Operation::FusedRecompute
    };
    (cooperative) => {
        fused_lora_kernels::table::Operation::FusedCooperative
    };
    (shrink) => {
        fused_lora_kernels::table::Operation::Shrink
    };
    (expand) => {
        fused_lora_kernels::table::Operation::Expand
    };
}
pub(crate) use operation;

/// The tests name operations, not kernels: this fails to compile when there is a new one.
#[test]
fn every_operation_has_tests() {
    for kernel in all_kernels() {
        match kernel.operation {
            Operation::Gemm
            | Operation::GemmSplitK
            | Operation::Fused
            | Operation::FusedRecompute
            | Operation::FusedCooperative
            | Operation::Shrink
            | Operation::Expand => {}
        }
    }
}

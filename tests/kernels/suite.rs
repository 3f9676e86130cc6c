//! Running cases over kernels and schedules.

use fused_lora_kernels::table::{KERNELS, Kernel, Operation};
use fused_lora_simt::{Machine, Schedule, Stats};

use crate::case::{Case, Rows, Setup, set_up};

/// `default` schedules, or as many as FUSED_LORA_SCHEDULES says if that is more. The extreme ones come round: case number `turn`
/// begins with another one than its neighbours.
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
    KERNELS.iter().filter(move |kernel| kernel.operation == operation)
}

/// Whether a kernel takes a case, by what its table entry says.
pub(crate) fn takes(kernel: &Kernel, case: &Case) -> bool {
    let aligned = [case.k, case.pad_x, case.shift_x].iter().all(|elements| elements % 8 == 0);
    let reads_x = kernel.operation != Operation::Expand;
    if kernel.aligned && reads_x && !aligned {
        return false;
    }
    kernel.operation != Operation::FusedRecompute || fits_recompute(kernel, case)
}

/// One segment with an adapter a row tile, of a rank that the kernel has columns for.
fn fits_recompute(kernel: &Kernel, case: &Case) -> bool {
    let ranked = |adapter: usize| case.adapters[adapter].rank > 0;
    let one_a_tile = match &case.rows {
        Rows::Uniform => true,
        Rows::Table(rows) => {
            let block_m = kernel.block_m as usize;
            (0..case.m).step_by(block_m).all(|first| {
                let touches =
                    |rows: &std::ops::Range<usize>| rows.start < first + block_m && rows.end > first;
                rows.iter().filter(|(rows, adapter)| touches(rows) && ranked(*adapter)).count() <= 1
            })
        }
    };
    one_a_tile && case.adapters.iter().all(|adapter| adapter.rank <= kernel.h as usize)
}

/// Runs a case over schedules, and holds each result to the reference and each run to be without bank conflicts.
/// Gives machine and case as the last run left them, and what it did.
pub(crate) fn hold(kernel: &'static Kernel, case: &Case, schedules: &[Schedule]) -> (Machine, Setup, Stats) {
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
        last = Some(stats);
    }
    (machine, setup, last.expect("at least one schedule"))
}

/// Runs, for each kernel of an operation, those of its `cases` that it takes, each over `count` schedules or as
/// many as the environment says.
pub(crate) fn hold_all(operation: Operation, count: usize, cases: impl Fn(&Kernel) -> Vec<Case>) {
    for kernel in kernels(operation) {
        let cases: Vec<_> = cases(kernel).into_iter().filter(|case| takes(kernel, case)).collect();
        assert!(!cases.is_empty(), "no case for {}", kernel.name);
        for (turn, case) in cases.iter().enumerate() {
            hold(kernel, case, &schedules(turn, count));
        }
    }
}

/// Defines a test for each operation from a function over operations, so that they run beside each other and a
/// failure names one.
macro_rules! for_each_operation {
    ($function:ident: $($test:ident $operation:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                $function(fused_lora_kernels::table::Operation::$operation);
            }
        )*
    };
}
pub(crate) use for_each_operation;

/// The tests name operations, not kernels: this fails to compile when there is a new one.
#[test]
fn every_operation_has_tests() {
    for kernel in KERNELS {
        match kernel.operation {
            Operation::Gemm
            | Operation::Fused
            | Operation::FusedRecompute
            | Operation::Shrink
            | Operation::Expand => {}
        }
    }
}

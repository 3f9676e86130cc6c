//! What the tests share.
#![allow(dead_code)] // Each test uses its part.

pub(crate) mod kinds;

use fused_lora_simt::{Kind, Launch, Machine, Report, Schedule, Stats};

/// Runs one launch of `grid` CTAs of `block` lanes with 4 KiB of shared memory.
pub(crate) fn run(
    machine: &mut Machine,
    schedule: &Schedule,
    grid: u32,
    block: u32,
    kernel: impl Fn() + 'static,
) -> Result<Stats, Report> {
    machine.run(&[Launch::new("kernel", grid, block, 4096, kernel)], schedule)
}

/// Runs a kernel on a buffer of 1 KiB of zeros under 21 schedules and hands each outcome to `check`.
pub(crate) fn on_every_schedule(
    grid: u32,
    block: u32,
    kernel: impl Fn(u64) + Clone + 'static,
    check: impl Fn(Result<Stats, Report>, &Machine, u64),
) {
    for schedule in Schedule::standard(21) {
        let mut machine = Machine::new();
        let buffer = machine.buffer(1024);
        machine.write(buffer, &[0u8; 1024]).unwrap();
        let kernel = kernel.clone();
        let result = run(&mut machine, &schedule, grid, block, move || kernel(buffer));
        check(result, &machine, buffer);
    }
}

/// The kernel is clean under every schedule.
pub(crate) fn clean(grid: u32, block: u32, kernel: impl Fn(u64) + Clone + 'static) {
    on_every_schedule(grid, block, kernel, |result, _, _| {
        if let Err(report) = result {
            panic!("{report}");
        }
    });
}

/// The kernel is reported under every schedule, with a kind that `is` accepts.
pub(crate) fn caught(
    grid: u32,
    block: u32,
    is: impl Fn(&Kind) -> bool,
    kernel: impl Fn(u64) + Clone + 'static,
) {
    on_every_schedule(grid, block, kernel, |result, _, _| {
        let report = result.expect_err("it must be caught under every schedule");
        assert!(is(&report.kind), "{report}");
    });
}

/// A race under every schedule.
pub(crate) fn races(grid: u32, block: u32, kernel: impl Fn(u64) + Clone + 'static) {
    caught(grid, block, |kind| matches!(kind, Kind::Race { .. }), kernel);
}

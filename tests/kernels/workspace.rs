//! One workspace for many launches, streams beside each other, launches that did not end.

use fused_lora::Strategy;
use fused_lora_kernels::table::{Kernel, Operation};
use fused_lora_simt::{Kind, Machine, Schedule};

use crate::{
    case::{AdapterCase, Case, Rows},
    setup::{Failure, Setup, Workspace, set_up},
    suite::{kernels, schedules},
};

/// Launches in turn on one workspace, for M, ranks and tables that change.
#[test]
fn m_changes_from_launch_to_launch() {
    for kernel in kernels(Operation::Fused) {
        let m = kernel.block_m as usize;
        let table = Rows::Table(vec![(0..3, 0), (3..m + 1, 1)]);
        let adapters = vec![AdapterCase::new(40), AdapterCase { scale: 2.0, ..AdapterCase::new(10) }];
        let cases = [
            Case::new(m + 1, 40, 40, 33),
            Case::new(3 * m + 2, 24, 24, 10),
            Case::new(5, 40, 136, 17),
            Case { adapters, rows: table, ..Case::new(m + 9, 40, 40, 0) },
            Case::new(2 * m, 24, 24, 0),
        ];
        let mut machine = Machine::new();
        let workspace = Workspace::new(&mut machine, 3 * m + 2, 4, 72);
        let setups =
            cases.map(|case| Setup::new(&mut machine, &case.adapted_to(kernel), kernel).on(workspace));
        for (i, schedule) in [0, 1, 2, 1, 3, 0, 4, 2, 3].into_iter().zip(schedules(2, 9)) {
            if let Err(failure) = setups[i].run(&mut machine, kernel, &schedule) {
                panic!("{}, launch {i}: {failure}\n{schedule:?}", kernel.name);
            }
        }
    }
}

/// Kernels with other tiles share one workspace, too.
#[test]
fn kernels_change_from_launch_to_launch() {
    let mut machine = Machine::new();
    let case = Case { bias: true, ..Case::new(200, 70, 40, 20) };
    let workspace = Workspace::new(&mut machine, 200, 4, 32);
    for turn in 0..2 {
        for (i, kernel) in kernels(Operation::Fused).enumerate() {
            let setup = Setup::new(&mut machine, &case.adapted_to(kernel), kernel).on(workspace);
            for schedule in schedules(3 * turn + i, 1) {
                if let Err(failure) = setup.run(&mut machine, kernel, &schedule) {
                    panic!("{}: {failure}\n{schedule:?}", kernel.name);
                }
            }
        }
    }
}

/// What fits into several row and column tiles, with h in several chunks or not.
fn medium(kernel: &Kernel, rank: usize) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    Case { seed: 15, ..Case::new(m + 3, n + 5, 40, rank) }.adapted_to(kernel)
}

/// Two streams: launches of one layer beside each other, each with its own workspace and y. Also of two
/// kernels.
#[test]
fn two_streams() {
    let all: Vec<_> = kernels(Operation::Fused).collect();
    for (i, first) in all.iter().enumerate() {
        // The next one with the same rows, or itself.
        let tiles = |k: &Kernel| (k.target, k.block_m, k.block_n);
        let same_tiles = |k: &&&Kernel| tiles(k) == tiles(first);
        let second = all.iter().skip(i + 1).find(same_tiles).unwrap_or(first);
        let (mut machine, setup) = set_up(&medium(first, 37), first);
        let other = setup.beside(&mut machine);
        for schedule in schedules(i, 5) {
            setup.poison(&mut machine);
            other.poison(&mut machine);
            let launches = [setup.launch(first, setup.params), other.launch(second, other.params)];
            machine.run(&launches, &schedule).unwrap_or_else(|report| panic!("{report}\n{schedule:?}"));
            for setup in [&setup, &other] {
                setup.check(&machine, Strategy::Fused).unwrap_or_else(|e| panic!("{}: {e}", first.name));
            }
        }
    }
}

/// Two launches at once on one workspace: what the contract forbids, and the machine sees.
#[test]
fn one_workspace_for_two_streams_is_caught() {
    for kernel in ["fused_64x64", "sm90_fused_64x64"].map(crate::case::kernel) {
        let (mut machine, setup) = set_up(&medium(kernel, 37), kernel);
        let workspace = setup.workspace;
        let other = setup.beside(&mut machine).on(workspace);
        let caught = schedules(0, 4).iter().any(|schedule| {
            setup.workspace.reset(&mut machine);
            setup.poison(&mut machine);
            other.poison(&mut machine);
            let launches = [&setup, &other].map(|setup| setup.launch(kernel, setup.params));
            machine.run(&launches, schedule).is_err()
                || [&setup, &other].iter().any(|setup| setup.check(&machine, Strategy::Fused).is_err())
        });
        assert!(caught, "{}", kernel.name);
    }
}

/// Runs until `instructions` are executed.
fn abort(
    setup: &Setup,
    machine: &mut Machine,
    kernel: &'static Kernel,
    schedule: &Schedule,
    instructions: u64,
) {
    match setup.run(machine, kernel, &schedule.clone().abort_after(instructions)) {
        Err(Failure::Machine(report)) if matches!(report.kind, Kind::Aborted { .. }) => {}
        Err(failure) => panic!("{}: {failure}", kernel.name),
        Ok(_) => panic!("{} is over before {instructions} instructions", kernel.name),
    }
}

/// A launch is stopped somewhere; the counters are set to zero; the next launch is right. Without setting
/// them to zero some are not, or leave the counters wrong: so the reset is needed, and this test sees whether
/// it is made.
#[test]
fn a_launch_after_an_aborted_one() {
    for kernel in kernels(Operation::Fused) {
        let (mut machine, setup) = set_up(&medium(kernel, 10), kernel);
        let mut wrong = Vec::new();
        for (turn, schedule) in schedules(3, 2).into_iter().enumerate() {
            let stats = setup.run(&mut machine, kernel, &schedule).unwrap();
            let total: u64 = stats.sites.iter().map(|site| site.count).sum();
            for eighth in (1..8).filter(|eighth| eighth % 2 == turn as u64 % 2) {
                let at = total * eighth / 8;
                abort(&setup, &mut machine, kernel, &schedule, at);
                // As if nothing had happened.
                if let Err(failure) =
                    setup.run(&mut machine, kernel, &schedule.clone().abort_after(2 * total))
                {
                    wrong.push(failure);
                }
                setup.workspace.reset(&mut machine);
                abort(&setup, &mut machine, kernel, &schedule, at);
                setup.workspace.reset(&mut machine);
                if let Err(failure) = setup.run(&mut machine, kernel, &schedule) {
                    panic!("{}, after one aborted at {at} of {total}: {failure}\n{schedule:?}", kernel.name);
                }
            }
        }
        assert!(!wrong.is_empty(), "{}: no abort leaves a trace", kernel.name);
    }
}

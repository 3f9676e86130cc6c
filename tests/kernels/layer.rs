//! What the kernels of a layer that are no products have in common for their tests.

use fused_lora_simt::{Machine, Report, Schedule, Stats};

/// Half a unit in the last place of f16, relative; a whole one of f32.
pub(crate) const U: f64 = 1.0 / 2048.0;
pub(crate) const EPSILON: f64 = f32::EPSILON as f64;

/// A kernel with a case of it in a machine's memory.
pub(crate) trait Subject {
    /// Runs it under a schedule, on a y that nobody wrote or that is x.
    fn launch(&self, machine: &mut Machine, schedule: &Schedule) -> Result<Stats, Report>;

    /// Holds y to the formula, and what is beside it to being as before.
    fn check(&self, machine: &Machine) -> Result<(), String>;
}

/// Runs a case over schedules, and holds each result to the reference and each run to be without bank
/// conflicts.
pub(crate) fn hold(
    machine: &mut Machine,
    subject: &impl Subject,
    case: &impl std::fmt::Debug,
    schedules: &[Schedule],
) -> Stats {
    let mut last = None;
    for schedule in schedules {
        let stats = subject.launch(machine, schedule).unwrap_or_else(|report| {
            panic!("{report}\n{case:?}\n{schedule:?}");
        });
        if let Err(what) = subject.check(machine) {
            panic!("{what}\n{case:?}\n{schedule:?}");
        }
        assert_eq!(stats.ldmatrix_conflicts, 0, "bank conflicts of ldmatrix, {case:?}");
        assert_eq!(stats.cp_async_conflicts, 0, "bank conflicts of cp.async, {case:?}");
        last = Some(stats);
    }
    last.expect("at least one schedule")
}

//! Kernels under all schedules, and their negative controls.

use std::time::Instant;

use fused_lora_simt::{Schedule, ptx::Coverage};
use rayon::prelude::*;

use crate::{
    forbidden::{self, Forbidden},
    manifest::{self, Kernel, Negative},
    operands::Operands,
    selection::Selection,
    subject::{Failure, Subject},
};

/// Schedules of each kernel and of each negative control.
const SCHEDULES: usize = 20;
/// The share of an entry's instructions that must be executed.
const COVERAGE: f64 = 0.95;

/// Runs something on all of them and fails with what was wrong with any.
fn on_all<T: Sync>(all: &[T], test: impl Fn(&T) -> Result<(), String> + Sync) {
    let wrong: Vec<String> = all.par_iter().filter_map(|one| test(one).err()).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

/// Runs a kernel with this text under all schedules, up to the first failure, with entries of the list
/// allowed.
fn run(subject: &Subject, is_allowed: impl Fn(&Forbidden) -> bool) -> Result<Coverage, (usize, Failure)> {
    let (kernel, text) = (&subject.kernel, &subject.text);
    let operands = Operands::new(kernel);
    let schedules = forbidden::allowing(kernel, text, Schedule::standard(SCHEDULES), is_allowed);
    let mut coverage = Coverage::default();
    for (number, schedule) in schedules.iter().enumerate() {
        coverage.add(&subject.run(&operands, schedule).map_err(|failure| (number, failure))?);
    }
    Ok(coverage)
}

#[test]
fn kernels_are_right_and_nothing_is_reported() {
    on_all(&Selection::of_environment().kernels(), |kernel| {
        is_right(kernel).map_err(|wrong| format!("{}: {wrong}", kernel.name))
    });
}

fn is_right(kernel: &Kernel) -> Result<(), String> {
    let begin = Instant::now();
    let subject = Subject::new(kernel.clone(), kernel.text())?;
    let coverage =
        run(&subject, |_| true).map_err(|(number, failure)| format!("schedule {number}: {failure}"))?;
    let (share, missing) = subject.covered(&coverage);
    println!("{}: {:.1} % in {:.2?}; not {missing:?}", kernel.name, 100.0 * share, begin.elapsed());
    if share < COVERAGE {
        return Err(format!(
            "{:.1} % of the instructions are executed, not lines {missing:?}",
            100.0 * share
        ));
    }
    Ok(())
}

#[test]
fn what_is_forbidden_is_reported() {
    on_all(&Selection::of_environment().kernels(), |kernel| {
        let subject = Subject::new(kernel.clone(), kernel.text())?;
        for entry in forbidden::of(kernel) {
            match run(&subject, |one| !std::ptr::eq(one, entry)) {
                Err((_, Failure::Report(report, line))) if entry.is_about(&report, &line) => {}
                Err((_, failure)) => return Err(format!("{}: reported is {failure}", kernel.name)),
                Ok(_) => return Err(format!("{}: {} is not reported", kernel.name, entry.instruction)),
            }
        }
        Ok(())
    });
}

#[test]
fn negative_controls_fail() {
    on_all(&Selection::of_environment().negatives(), |(kernel, negative)| {
        fails(kernel, negative).map_err(|wrong| format!("{}, {}: {wrong}", kernel.name, negative.name))
    });
}

fn fails(kernel: &Kernel, negative: &Negative) -> Result<(), String> {
    let begin = Instant::now();
    let (changed, text) = negative.apply(kernel, &kernel.text())?;
    let subject = Subject::new(changed, text)?;
    match run(&subject, |_| true) {
        Ok(_) => Err("no run fails".to_owned()),
        Err((number, failure)) => {
            let time = begin.elapsed();
            println!("{}, {}: schedule {number}, {time:.2?}: {failure}", kernel.name, negative.name);
            Ok(())
        }
    }
}

#[test]
fn negative_controls_are_of_the_text() {
    on_all(&manifest::kernels(), |kernel| {
        let text = kernel.text();
        for negative in &kernel.negatives {
            negative
                .apply(kernel, &text)
                .map_err(|wrong| format!("{}, {}: {wrong}", kernel.name, negative.name))?;
        }
        Ok(())
    });
}

//! Kernels under all schedules, and their negative controls.

use std::time::Instant;

use fused_lora_simt::{Schedule, ptx::Coverage};
use rayon::prelude::*;

use crate::{
    forbidden,
    manifest::{self, Kernel, Negative},
    operands::Operands,
    selection::Selection,
    subject::{Failure, Subject},
};

/// Schedules of each kernel and of each negative control.
const SCHEDULES: usize = 20;
/// The first of them, which are the extreme ones.
const EXTREMES: usize = 7;
/// The share of an entry's instructions that must be executed.
const COVERAGE: f64 = 0.95;

/// Runs something on all of them and fails with what was wrong with any.
fn on_all<T: Sync>(all: &[T], test: impl Fn(&T) -> Result<(), String> + Sync) {
    let wrong: Vec<String> = all.par_iter().filter_map(|one| test(one).err()).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

/// Runs a kernel under all schedules, up to the first failure.
fn run(subject: &Subject, operands: &Operands) -> Result<Coverage, (usize, Failure)> {
    run_under(subject, operands, &Schedule::standard(SCHEDULES))
}

fn run_under(
    subject: &Subject,
    operands: &Operands,
    schedules: &[Schedule],
) -> Result<Coverage, (usize, Failure)> {
    let mut coverage = Coverage::default();
    for (number, schedule) in schedules.iter().enumerate() {
        coverage.add(&subject.run(operands, schedule).map_err(|failure| (number, failure))?);
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
    let operands = Operands::new(kernel);
    let subject = Subject::new(kernel.clone(), forbidden::amended(kernel, &kernel.text())?)?;
    let coverage =
        run(&subject, &operands).map_err(|(number, failure)| format!("schedule {number}: {failure}"))?;
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
        let operands = Operands::new(kernel);
        for entry in forbidden::of(kernel) {
            let text = forbidden::amended_by(kernel, &kernel.text(), |one| !std::ptr::eq(one, entry))?;
            match run(&Subject::new(kernel.clone(), text)?, &operands) {
                Err((_, Failure::Report(report, line))) if entry.is_about(&report, &line) => {}
                Err((_, failure)) => return Err(format!("{}: reported is {failure}", kernel.name)),
                Ok(_) => return Err(format!("{}: {} is not reported", kernel.name, entry.instruction)),
            }
        }
        Ok(())
    });
}

/// The text is changed only where the machine cannot be told to go on.
#[test]
fn what_is_forbidden_does_no_harm() {
    let mut kernels = Selection::of_environment().kernels();
    kernels.retain(|kernel| forbidden::of(kernel).next().is_some());
    on_all(&kernels, |kernel| {
        let text = forbidden::amended_by(kernel, &kernel.text(), |entry| entry.allowed.is_none())?;
        let subject = Subject::new(kernel.clone(), text)?;
        let schedules = Schedule::standard(EXTREMES).into_iter();
        let schedules: Vec<_> = schedules.map(|schedule| forbidden::allowing(kernel, schedule)).collect();
        run_under(&subject, &Operands::new(kernel), &schedules)
            .map(|_| ())
            .map_err(|(number, failure)| format!("{}: schedule {number}: {failure}", kernel.name))
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
    let subject = Subject::new(changed, forbidden::amended(kernel, &text)?)?;
    match run(&subject, &Operands::new(kernel)) {
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

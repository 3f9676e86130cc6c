//! Running a program and keeping what it said.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs `command`.
///
/// # Errors
///
/// If it cannot be started, or fails: with what it said.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command.output();
    let output = output.with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output);
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    bail!("`{}` failed ({}):\n{said}", words.join(" "), output.status)
}

/// Runs `command`; its standard output as text.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?.stdout).into_owned())
}

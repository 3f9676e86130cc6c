//! Running a program and keeping what it said.

use std::process::{Command, Output};

use crate::Error;

/// Runs `command`; its output, or an error that has it if the program fails.
pub(crate) fn run(command: &mut Command) -> Result<Output, Error> {
    let output = command.output().map_err(|source| Error::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    Err(Error::Failed {
        program: words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
        status: output.status.to_string(),
        output: [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat(),
    })
}

/// Runs `command`; its standard output as text.
pub(crate) fn stdout(command: &mut Command) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&run(command)?.stdout).into_owned())
}

//! The command `fused-lora`: applies an adapter as PEFT saved it, lists its modules, measures what it costs,
//! says what this machine offers, and estimates what a GPU would take.
//!
//! Exit codes: 2 for a wrong command line, 1 for a failure. Data goes to stdout or `--output`, everything
//! else to stderr. Only clap colours anything, and it honours NO_COLOR.

mod apply;
mod bench;
mod columns;
mod device;
mod dtype;
mod encoded;
mod estimate;
mod info;
mod input;
mod inspect;
mod layer;
mod layout;
mod level;
mod machine;
mod modules;
mod output;
mod survey;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Linear layers with un-merged LoRA adapters.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Apply(apply::Args),
    Bench(bench::Args),
    Estimate(estimate::Args),
    Info(info::Args),
    Inspect(inspect::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Apply(args) => apply::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Estimate(args) => estimate::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // `fused-lora info | head -1`: whoever reads has what he wanted.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln`, which panics where stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

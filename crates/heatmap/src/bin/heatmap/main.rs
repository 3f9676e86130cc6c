//! `heatmap`: draws the six-panel figure of a measured grid, or writes the reader's page of all of them.
//! Plain `cargo run --release` is this program.
//!
//! The paths of the written files go to stdout, everything else to stderr. Exit code 2 is a mistake in the
//! command line, 1 any other failure.

mod cli;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use fused_lora_heatmap::{
    Figure, Origin, Output, Report, Selection, Source, draw_svg, png_from_svg, write_report,
};
use fused_lora_records::{to_csv, workspace_root};

use cli::Cli;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let root = workspace_root();
    let measurements = root.join(&cli.measurements);
    let source = Source::load(&cli.data, &measurements)?;
    for warning in &source.warnings {
        eprintln!("warning: {warning}");
    }
    if source.origin == Origin::Published {
        eprintln!(
            "note: no measurements in {}; this is the published data. \
             `cargo bench --bench grid` measures here.",
            measurements.display()
        );
    }
    if cli.report {
        let (query, metric, vmax, colormap) = (cli.query(), cli.metric, cli.vmax(), cli.colormap);
        let html = Report { query, metric, vmax, colormap }.html(source.records)?;
        return print(&write_report(&cli.folder(root), &html)?).context("stdout cannot be written");
    }
    let read = source.records.len();
    let selection = cli.query().select(source.records, cli.metric)?;
    if io::stderr().is_terminal() {
        report(&selection, &source.origin, read);
    }
    let figure = Figure::new(&selection, cli.metric, cli.vmax(), cli.colormap);
    for (row, cell) in figure.missing() {
        eprintln!("missing: {row} at {cell}");
    }
    let svg = draw_svg(&figure)?;
    let png = png_from_svg(&svg)?;
    let csv = to_csv(selection.base.iter().chain(selection.drawn()))?;
    let paths = Output { svg, png, csv }.write(&cli.folder(root), &selection.stem(cli.metric))?;
    print(&paths).context("stdout cannot be written")
}

/// What is drawn, and what could be drawn instead.
fn report(selection: &Selection, origin: &Origin, read: usize) {
    let from = match origin {
        Origin::Named(files) | Origin::Measured(files) => match files.as_slice() {
            [file] => file.display().to_string(),
            files => format!("{} files", files.len()),
        },
        Origin::Published => "the published data".to_owned(),
    };
    let drawn = selection.drawn().count();
    let Selection { workload, backend, cache, dtype, adapters, .. } = selection;
    let plural = if *adapters == 1 { "" } else { "s" };
    eprintln!(
        "{workload}, {backend}, {cache}, {dtype}, {adapters} adapter{plural}: {drawn} of {read} records \
         from {from}"
    );
    for other in &selection.left_out {
        eprintln!("not drawn, choose it by its option: {other}");
    }
}

fn print(paths: &[PathBuf]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for path in paths {
        match writeln!(stdout, "{}", path.display()) {
            // Whoever reads has seen enough; the files are written.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

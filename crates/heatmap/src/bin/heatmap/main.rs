//! `heatmap`: draws the six-panel figure of a measured grid, or that of few tokens, or writes the reader's
//! page of all grids.
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
use fused_lora::plan::Gpu;
use fused_lora_estimate::{csv, estimate, gpu_words};
use fused_lora_heatmap::{
    DecodeFigure, DecodeSelection, Figure, Origin, Output, Report, Selection, Source, draw_decode_svg,
    draw_svg, png_from_svg, write_report,
};
use fused_lora_records::{to_csv, workspace_root};

use cli::{Cli, Kind};

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
    if let Some(name) = &cli.estimate {
        let (svg, csv, stem) = estimated(cli, name)?;
        return write(cli, svg, csv, &stem);
    }
    let measurements = root.join(&cli.measurements);
    let source = Source::load(&cli.data, &measurements)?;
    for warning in &source.warnings {
        eprintln!("warning: {warning}");
    }
    if source.origin == Origin::Published {
        let bench = match cli.figure {
            Kind::Heatmap => "grid",
            Kind::Decode => "decode",
        };
        eprintln!(
            "note: no measurements in {}; this is the published data. \
             `cargo bench --bench {bench}` measures here.",
            measurements.display()
        );
    }
    if cli.report {
        let (query, metric, vmax, colormap) = (cli.query(), cli.metric(), cli.vmax(), cli.colormap);
        let html = Report { query, metric, vmax, colormap }.html(source.records)?;
        return print(&write_report(&cli.folder(root), &html)?).context("stdout cannot be written");
    }
    let (svg, csv, stem) = match cli.figure {
        Kind::Heatmap => heatmap(cli, source)?,
        Kind::Decode => decode(cli, source)?,
    };
    write(cli, svg, csv, &stem)
}

fn write(cli: &Cli, svg: String, csv: Vec<u8>, stem: &str) -> Result<()> {
    let png = png_from_svg(&svg)?;
    let paths = Output { svg, png, csv }.write(&cli.folder(workspace_root()), stem)?;
    print(&paths).context("stdout cannot be written")
}

/// What the cost model expects. Its CSV has other columns than records, so that none is read as one.
fn estimated(cli: &Cli, name: &str) -> Result<Drawn> {
    let query = cli.estimates()?;
    let gpu = Gpu::from_data_sheet(name).with_context(|| format!("there is no data sheet of {name}"))?;
    let words = gpu_words(&gpu, "data sheet");
    let estimates = estimate(&gpu, &[query.workload])?;
    let figure = query.figure(&words, &estimates)?;
    Ok((draw_svg(&figure)?, csv(&words, &estimates).into_bytes(), query.stem(name)))
}

/// The SVG, the records drawn as CSV, and the name of the files.
type Drawn = (String, Vec<u8>, String);

fn heatmap(cli: &Cli, source: Source) -> Result<Drawn> {
    let (read, metric) = (source.records.len(), cli.metric());
    let selection = cli.query().select(source.records, metric)?;
    let Selection { workload, backend, cache, dtype, adapters, left_out, .. } = &selection;
    let plural = if *adapters == 1 { "" } else { "s" };
    let of = format!("{workload}, {backend}, {cache}, {dtype}, {adapters} adapter{plural}");
    report(&of, selection.drawn().count(), read, &source.origin, left_out);
    let figure = Figure::new(&selection, metric, cli.vmax(), cli.colormap);
    for (row, cell) in figure.missing() {
        eprintln!("missing: {row} at {cell}");
    }
    let csv = to_csv(selection.base.iter().chain(selection.drawn()))?;
    Ok((draw_svg(&figure)?, csv, selection.stem(metric)))
}

fn decode(cli: &Cli, source: Source) -> Result<Drawn> {
    let read = source.records.len();
    let selection = cli.query().select_decode(source.records, cli.metric())?;
    let DecodeSelection { records, base, backend, cache, left_out, .. } = &selection;
    report(&format!("few tokens, {backend}, {cache}"), records.len(), read, &source.origin, left_out);
    let figure = DecodeFigure::new(&selection, cli.vmax, cli.colormap);
    for (method, cell) in figure.missing() {
        eprintln!("missing: {method} at {cell}");
    }
    Ok((draw_decode_svg(&figure)?, to_csv(base.iter().chain(records))?, selection.stem))
}

/// What is drawn, and what could be drawn instead; for a terminal.
fn report(of: &str, drawn: usize, read: usize, origin: &Origin, left_out: &[String]) {
    if !io::stderr().is_terminal() {
        return;
    }
    let from = match origin {
        Origin::Named(files) | Origin::Measured(files) => match files.as_slice() {
            [file] => file.display().to_string(),
            files => format!("{} files", files.len()),
        },
        Origin::Published => "the published data".to_owned(),
    };
    eprintln!("{of}: {drawn} of {read} records from {from}");
    for other in left_out {
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

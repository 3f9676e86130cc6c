//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use fused_lora_estimate::{Set, data_sheets};
use fused_lora_heatmap::{Colormap, EstimateQuery, MAX_ROWS, Metric, Query, Vmax};
use fused_lora_records::{MEASUREMENTS, MEASUREMENTS_HELP, MEASUREMENTS_VARIABLE, Workload};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The six panels of a grid
    Heatmap,
    /// Few tokens, one of each sequence, as in decoding: a line per rank over the number of tokens
    Decode,
}

/// Draws the six-panel figure of a measured grid: slow-down by batch size, rank, sequence length and
/// strategy; or the figure of few tokens.
///
/// Without options it draws the newest measurements of this workspace into figures/local/, or the published
/// data if nothing was measured.
#[derive(Debug, Parser)]
#[command(name = "heatmap", version)]
pub(crate) struct Cli {
    /// Files of records to draw instead of the workspace's measurements
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) data: Vec<PathBuf>,

    /// Folder of the records that are drawn without --data; if relative, below the workspace
    #[arg(long, env = MEASUREMENTS_VARIABLE, default_value = MEASUREMENTS, value_name = "DIR")]
    #[arg(help = MEASUREMENTS_HELP)]
    pub(crate) measurements: PathBuf,

    /// Which figure
    #[arg(long, value_enum, default_value = "heatmap")]
    pub(crate) figure: Kind,

    /// Methods of the rows, top to bottom [default: unfused,fused; of a transformer layer
    /// adapter-h,adapter-l,lora-unfused,lora-fused]. With few tokens, methods of the lines [default: base,
    /// fused, and peers without an adapter]
    #[arg(long, value_name = "A,B", value_parser = rows)]
    rows: Option<Rows>,

    /// Number of the lightest colour, in the unit of the colour bar, or `auto` for the largest number drawn
    /// [default: 35 for slowdown and over-floor, else auto]. With few tokens, the top of the y axis [default:
    /// what base and fused need]
    #[arg(long, value_name = "NUMBER|auto", value_parser = vmax, allow_hyphen_values = true)]
    pub(crate) vmax: Option<Vmax>,

    /// What the cells show [default: slowdown; with few tokens over-limit]
    #[arg(long, value_enum)]
    metric: Option<Metric>,

    /// Map of colours
    #[arg(long, value_enum, default_value = "rocket")]
    pub(crate) colormap: Colormap,

    #[command(flatten)]
    query: Query,

    /// Folder to write into [default: figures/local/ in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write into figures/ in the workspace: the published figure and its data
    #[arg(long, conflicts_with = "out")]
    publish: bool,

    /// Write one page for a browser instead, report.html: every figure, and the numbers behind each cell.
    /// What is chosen by other options is shown first
    #[arg(long, conflicts_with_all = ["publish", "mix_devices", "figure", "simd"])]
    pub(crate) report: bool,

    /// Draw what the cost model expects of a GPU by its data sheet instead: estimated, not measured, and
    /// never beside measurements. Written into target/estimates/ in the workspace
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(data_sheets()))]
    #[arg(conflicts_with_all = OF_RECORDS)]
    pub(crate) estimate: Option<String>,

    /// Constants of the cost model for --estimate
    #[arg(long, value_enum, default_value = "pessimistic", requires = "estimate")]
    constants: Set,
}

/// What chooses among records, or where figures of records are published. The folder of the records is not
/// among it: the environment may name one.
const OF_RECORDS: [&str; 13] = [
    "data",
    "figure",
    "rows",
    "metric",
    "publish",
    "report",
    "backend",
    "device",
    "mix_devices",
    "cache",
    "dtype",
    "adapters",
    "simd",
];

impl Cli {
    pub(crate) fn query(&self) -> Query {
        let rows = self.rows.clone().unwrap_or_default();
        Query { rows, ..self.query.clone() }
    }

    pub(crate) fn metric(&self) -> Metric {
        self.metric.unwrap_or(match self.figure {
            Kind::Heatmap => Metric::Slowdown,
            Kind::Decode => Metric::OverLimit,
        })
    }

    /// Of the heatmap.
    pub(crate) fn vmax(&self) -> Vmax {
        self.vmax.unwrap_or_else(|| Vmax::default_of(self.metric()))
    }

    /// What is to be drawn of estimates; without a workload, the first of the grid's.
    ///
    /// # Errors
    ///
    /// If the workload is more than linear layers, of which there are no estimates.
    pub(crate) fn estimates(&self) -> Result<EstimateQuery> {
        let linear =
            |workload: &&Workload| self.query.workload.as_ref().is_none_or(|name| workload.name() == name);
        let workload = Workload::LINEARS.iter().find(linear);
        let workload =
            workload.context("there are estimates of workloads of the grid's linear layers alone")?;
        let (set, vmax, colormap) = (self.constants, self.vmax(), self.colormap);
        Ok(EstimateQuery { workload, set, vmax, colormap })
    }

    pub(crate) fn folder(&self, root: &Path) -> PathBuf {
        let figures = root.join("figures");
        match &self.out {
            Some(folder) => folder.clone(),
            // Not below figures/, which has what was measured: this can be drawn again at any time.
            None if self.estimate.is_some() => root.join("target/estimates"),
            None if self.publish => figures,
            None => figures.join("local"),
        }
    }
}

/// The methods of the rows. Not called `Vec`, which clap takes for an option that may be repeated.
type Rows = Vec<String>;

fn rows(text: &str) -> std::result::Result<Rows, String> {
    let rows: Vec<String> = text.split(',').map(|row| row.trim().to_owned()).collect();
    if rows.iter().any(String::is_empty) {
        return Err("a row has no name".to_owned());
    }
    if rows.len() > MAX_ROWS {
        return Err(format!("{} rows; at most {MAX_ROWS} fit", rows.len()));
    }
    match rows.iter().enumerate().find(|(i, row)| rows[..*i].contains(row)) {
        Some((_, row)) => Err(format!("'{row}' is twice among the rows")),
        None => Ok(rows),
    }
}

fn vmax(text: &str) -> std::result::Result<Vmax, String> {
    if text == "auto" {
        return Ok(Vmax::Auto);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(Vmax::Fixed(number)),
        _ => Err("neither a number above 0 nor `auto`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> std::result::Result<Cli, clap::Error> {
        Cli::try_parse_from([&["heatmap"], arguments].concat())
    }

    #[test]
    fn the_command_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn folders_follow_the_options() {
        let root = Path::new("/workspace");
        let folder = |arguments: &[&str]| parse(arguments).unwrap().folder(root);
        assert_eq!(folder(&[]), Path::new("/workspace/figures/local"));
        assert_eq!(folder(&["--publish"]), Path::new("/workspace/figures"));
        assert_eq!(folder(&["--out", "here"]), Path::new("here"));
        assert_eq!(folder(&["--estimate", "h200"]), Path::new("/workspace/target/estimates"));
        assert_eq!(folder(&["--estimate", "h200", "--out", "here"]), Path::new("here"));
    }

    #[test]
    fn vmax_defaults_to_the_metrics() {
        let vmax = |arguments: &[&str]| parse(arguments).unwrap().vmax();
        assert_eq!(vmax(&[]), Vmax::Fixed(35.0));
        assert_eq!(vmax(&["--metric", "over-floor"]), Vmax::Fixed(35.0));
        assert_eq!(vmax(&["--metric", "time"]), Vmax::Auto);
        assert_eq!(vmax(&["--metric", "time", "--vmax", "3.5"]), Vmax::Fixed(3.5));
        assert_eq!(vmax(&["--vmax", "auto"]), Vmax::Auto);
    }
}

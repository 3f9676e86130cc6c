//! The command line.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use fused_lora_heatmap::{Colormap, MAX_ROWS, Metric, Query, Vmax};
use fused_lora_records::{MEASUREMENTS, MEASUREMENTS_HELP, MEASUREMENTS_VARIABLE, Workload};

/// Draws the six-panel figure of a measured grid: slow-down by batch size, rank, sequence length and
/// strategy.
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

    /// Methods of the rows, top to bottom [default: unfused,fused; of a transformer layer
    /// adapter-h,adapter-l,lora-unfused,lora-fused]
    #[arg(long, value_name = "A,B", value_parser = rows)]
    rows: Option<Rows>,

    /// Number of the lightest colour, in the unit of the colour bar, or `auto` for the largest number drawn
    /// [default: 35 for slowdown and over-floor, else auto]
    #[arg(long, value_name = "NUMBER|auto", value_parser = vmax, allow_hyphen_values = true)]
    vmax: Option<Vmax>,

    /// What the cells show
    #[arg(long, default_value = "slowdown", value_parser = metric_parser())]
    pub(crate) metric: Metric,

    /// Map of colours
    #[arg(long, default_value = "rocket", value_parser = colormap_parser())]
    pub(crate) colormap: Colormap,

    /// Workload to draw [default: that of the newest record]
    #[arg(long, value_parser = |name: &str| Workload::by_name(name).map(|found| found.name().to_owned()))]
    workload: Option<String>,

    /// Backend to draw [default: that of the newest record]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    /// Device to draw [default: that of the newest record]
    #[arg(long, value_name = "NAME", conflicts_with = "mix_devices")]
    device: Option<String>,

    /// Draw the records of all devices in one figure, of each cell the newest
    #[arg(long)]
    mix_devices: bool,

    /// State of the caches to draw [default: cold, else that of the newest record]
    #[arg(long, value_name = "NAME")]
    cache: Option<String>,

    /// Element type to draw, such as f16 or bf16 [default: that of the newest record]
    #[arg(long, value_name = "NAME")]
    dtype: Option<String>,

    /// Number of adapters in a batch to draw [default: that of the newest record]
    #[arg(long, value_name = "NUMBER", value_parser = adapters)]
    adapters: Option<usize>,

    /// Folder to write into [default: figures/local/ in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write into figures/ in the workspace: the published figure and its data
    #[arg(long, conflicts_with = "out")]
    publish: bool,

    /// Write one page for a browser instead, report.html: every figure, and the numbers behind each cell.
    /// What is chosen by other options is shown first
    #[arg(long, conflicts_with_all = ["publish", "mix_devices"])]
    pub(crate) report: bool,
}

impl Cli {
    pub(crate) fn query(&self) -> Query {
        Query {
            rows: self.rows.clone().map(|rows| rows.0).unwrap_or_default(),
            workload: self.workload.clone(),
            backend: self.backend.clone(),
            device: self.device.clone(),
            mix_devices: self.mix_devices,
            cache: self.cache.clone(),
            dtype: self.dtype.clone(),
            adapters: self.adapters,
        }
    }

    pub(crate) fn vmax(&self) -> Vmax {
        self.vmax.unwrap_or_else(|| Vmax::default_of(self.metric))
    }

    pub(crate) fn folder(&self, root: &Path) -> PathBuf {
        let figures = root.join("figures");
        match &self.out {
            Some(folder) => folder.clone(),
            None if self.publish => figures,
            None => figures.join("local"),
        }
    }
}

/// The methods of the rows. A type of its own, since clap takes a `Vec` for an option given several times.
#[derive(Clone, Debug)]
struct Rows(Vec<String>);

fn rows(text: &str) -> Result<Rows, String> {
    let rows: Vec<String> = text.split(',').map(|row| row.trim().to_owned()).collect();
    if rows.iter().any(String::is_empty) {
        return Err("a row has no name".to_owned());
    }
    if rows.len() > MAX_ROWS {
        return Err(format!("{} rows; at most {MAX_ROWS} fit", rows.len()));
    }
    match rows.iter().enumerate().find(|(i, row)| rows[..*i].contains(row)) {
        Some((_, row)) => Err(format!("'{row}' is twice among the rows")),
        None => Ok(Rows(rows)),
    }
}

fn adapters(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "not a whole number above 0".to_owned())
}

fn vmax(text: &str) -> Result<Vmax, String> {
    if text == "auto" {
        return Ok(Vmax::Auto);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(Vmax::Fixed(number)),
        _ => Err("neither a number above 0 nor `auto`".to_owned()),
    }
}

fn metric_parser() -> impl clap::builder::TypedValueParser<Value = Metric> {
    let by_name = |name: String| Metric::ALL.into_iter().find(|metric| metric.name() == name);
    PossibleValuesParser::new(Metric::ALL.map(Metric::name))
        .map(move |name| by_name(name).expect("one of the possible values"))
}

fn colormap_parser() -> impl clap::builder::TypedValueParser<Value = Colormap> {
    let by_name = |name: String| Colormap::ALL.into_iter().find(|map| map.name() == name);
    PossibleValuesParser::new(Colormap::ALL.map(Colormap::name))
        .map(move |name| by_name(name).expect("one of the possible values"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
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

    #[test]
    fn mistakes_are_usage_errors() {
        let mistakes: &[&[&str]] = &[
            &["--vmax", "0"],
            &["--vmax", "-5"],
            &["--vmax", "NaN"],
            &["--vmax", "inf"],
            &["--vmax", ""],
            &["--vmax", "lots"],
            &["--rows", ""],
            &["--rows", "fused,"],
            &["--rows", "fused,fused"],
            &["--rows", "a,b,c,d,e"],
            &["--metric", "speed"],
            &["--colormap", "jet"],
            &["--workload", "linear-1x1"],
            &["--publish", "--out", "here"],
            &["--device", "x", "--mix-devices"],
            &["--adapters", "0"],
            &["--adapters", "-1"],
            &["--adapters", "two"],
            &["--report", "--publish"],
            &["--report", "--mix-devices"],
            &["--report", "here"],
            &["--data"],
            &["--out"],
            &["stray"],
        ];
        for arguments in mistakes {
            let error = parse(arguments).expect_err(&arguments.join(" "));
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
        let error = parse(&["--workload", "linear-1x1"]).unwrap_err().to_string();
        assert!(error.contains("gpt2-medium-linears"), "{error}");
    }
}

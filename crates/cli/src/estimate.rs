//! What the cost model says of the grid of the benches.

use std::io::{self, Write};

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use fused_lora_records::Workload;

mod model;
mod table;

/// The data sheets that the library has.
const GPUS: [&str; 5] = ["h100", "h200", "a100", "l4", "rtx4090"];

/// Estimate the time and the slow-down of every cell of the benches' grid on a GPU, which need not be there.
///
/// The cost model that picks kernels says how long each would take, at the GPU's highest clock. It ranks
/// kernels; nothing in it was fitted to a measurement, and none replaces one.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(crate) struct Args {
    /// A GPU by its data sheet
    #[arg(long, group = "which", value_name = "NAME", value_parser = PossibleValuesParser::new(GPUS))]
    gpu: Option<String>,
    /// The CUDA device of this number
    #[arg(long, group = "which", value_name = "N")]
    device: Option<u32>,
    /// The layers of a forward pass, run one after another [default: all]
    #[arg(long, value_name = "NAME", value_parser = workloads())]
    workload: Vec<String>,
    /// CSV instead of a table
    #[arg(long)]
    csv: bool,
}

fn workloads() -> PossibleValuesParser {
    PossibleValuesParser::new(Workload::LINEARS.iter().map(Workload::name))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen = |workload: &&Workload| {
        args.workload.is_empty() || args.workload.iter().any(|name| name == workload.name())
    };
    let workloads: Vec<_> = Workload::LINEARS.iter().filter(chosen).collect();
    let (gpu, estimates) = model::estimate(args.gpu.as_deref(), args.device, &workloads)?;
    let text = if args.csv { table::csv(&gpu, &estimates) } else { table::text(&gpu, &estimates) };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

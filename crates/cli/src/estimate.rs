//! What the cost model says of the grid of the benches.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use fused_lora::plan::{Gpu, Target};
use fused_lora_estimate::{Set, Standing, csv, data_sheets, estimate, gpu_words, text};
use fused_lora_records::Workload;

use crate::device;

/// Estimate the time and the slow-down of every cell of the benches' grid on a GPU, which need not be there.
///
/// The cost model that picks kernels says how long each would take, by its optimistic and by its pessimistic
/// constants. It ranks kernels; nothing in it was fitted to a measurement, and none replaces one. For a GPU
/// of compute capability 9.0 the table ends with the goals of its kernels, and how far the model sees them.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(crate) struct Args {
    /// A GPU by its data sheet
    #[arg(long, group = "which", value_name = "NAME", value_parser = gpus())]
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

fn gpus() -> PossibleValuesParser {
    PossibleValuesParser::new(data_sheets())
}

fn workloads() -> PossibleValuesParser {
    PossibleValuesParser::new(Workload::LINEARS.iter().map(Workload::name))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen = |workload: &&Workload| {
        args.workload.is_empty() || args.workload.iter().any(|name| name == workload.name())
    };
    let workloads: Vec<_> = Workload::LINEARS.iter().filter(chosen).collect();
    let (gpu, source) = match &args.gpu {
        Some(name) => {
            let gpu = Gpu::from_data_sheet(name);
            (gpu.with_context(|| format!("there is no data sheet of {name}"))?, "data sheet")
        }
        None => (device::gpu(args.device.unwrap_or(0))?, "driver"),
    };
    let (words, estimates) = (gpu_words(&gpu, source), estimate(&gpu, &workloads)?);
    let mut output = if args.csv { csv(&words, &estimates) } else { text(&words, &estimates) };
    if !args.csv && gpu.target() == Target::Sm90a {
        let standings = Set::ALL.into_iter().filter_map(|set| Standing::of(&estimates, set));
        standings.for_each(|standing| output += &format!("\n{standing}"));
    }
    io::stdout().lock().write_all(output.as_bytes())?;
    Ok(())
}

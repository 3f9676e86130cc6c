//! What an adapter costs on this machine, as the benches measure it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use fused_lora::{AdapterElement, DType, cpu::Simd};
use fused_lora_heatmap::{BarFigure, Output, draw_bars_svg, png_from_svg};
use fused_lora_measure::{
    machine::Machine,
    measure::{Budget, measure},
    method::{COLD, Suite},
    number::Number,
    size::Size,
};
use fused_lora_records::Clock;
use half::{bf16, f16};

use crate::{
    dtype::dtypes,
    layout::Orientation,
    level::Level,
    machine::available_memory,
    survey::{Module, survey},
};
use product::Product;
use report::Line;
use shape::{Shape, Sharers, shapes};

mod product;
mod report;
mod shape;

/// Rounds of every size before any gets more, where they fit.
const ROUNDS: usize = 10;
/// The name of the files in `--out`.
const STEM: &str = "bench";

/// Measure what an adapter costs on this machine's CPU, module by module and in total.
///
/// Shapes, ranks and element types are those of the files, the numbers are random: no weights are read.
/// Modules of equal shapes and types are measured once. Base, unfused (three products, one after another) and
/// fused run in the same rounds, on operands that have left the caches, after each result was compared with
/// a reference; rounds that other processes disturbed are repeated.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The adapter's folder
    adapter: PathBuf,
    /// The base model: a folder, an index, or a safetensors file
    #[arg(long, value_name = "PATH")]
    base: PathBuf,
    #[command(flatten)]
    orientation: Orientation,
    /// Numbers of tokens, M: rows of x in a call
    #[arg(long, value_name = "M,…", value_delimiter = ',', default_value = "1,128,512", value_parser = tokens)]
    tokens: Vec<usize>,
    /// Element type of x, W and y: f16, bf16 or f32 [default: that of each module's weight]
    #[arg(long, value_name = "TYPE", value_parser = dtypes())]
    dtype: Option<DType>,
    /// Wall time for everything
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    seconds: u32,
    /// Folder to write `bench.csv`, `bench.svg` and `bench.png` to
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    level: Level,
}

fn tokens(text: &str) -> Result<usize, String> {
    // More would overflow a product's sizes before there is memory for them.
    let parsed = text.parse().ok().filter(|tokens| (1..=1 << 24).contains(tokens));
    parsed.ok_or_else(|| "tokens are numbers from 1 to 16777216".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    if let Some(folder) = &args.out {
        check_folder(folder)?;
    }
    let simd = args.level.simd()?;
    let survey = survey(&args.adapter, Some(&args.base), args.orientation.layout)?;
    let shapes = shapes(survey.modules.iter().filter_map(Module::measurable), args.dtype);
    let mut left_out: Vec<String> = survey.modules.iter().filter_map(left_out).collect();
    if shapes.is_empty() {
        let reason = left_out.first().map_or("it has no modules", String::as_str);
        bail!("{}: no module can be measured: {reason}", args.adapter.display());
    }
    let mut sizes: Vec<Size> = args.tokens.iter().map(|&tokens| Size { seq_len: tokens, batch: 1 }).collect();
    sizes.sort_unstable();
    sizes.dedup();

    let total = Duration::from_secs(args.seconds.into());
    let deadline = started + total;
    let mut lines = Vec::new();
    let mut measure_all = || -> Result<()> {
        for (number, (shape, sharers)) in shapes.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (shapes.len() - number) as u32;
            let job = Job { shape: *shape, sharers, simd, sizes: &sizes, total, share };
            lines.extend(job.measure(&mut left_out)?);
        }
        Ok(())
    };
    // In the pool whose threads compute: a call from outside pays for waking it up.
    rayon::scope(|_| measure_all())?;
    lines.sort_by_key(|line| line.tokens);
    let lines = with_totals(lines, shapes.len());

    let head = head(args, &shapes, simd, &lines);
    let mut text = format!("{}\n{}", head.join("\n"), report::table(&lines));
    if !left_out.is_empty() {
        text += &format!(
            "\nnot measured:\n{}",
            left_out.iter().map(|line| format!("  {line}\n")).collect::<String>()
        );
    }
    if let Some(folder) = &args.out {
        let figure = BarFigure {
            title: format!("What {} costs", name(&args.adapter)),
            names: ["unfused", "fused"],
            floor: "floor: the adapter's arithmetic",
            axis: "slow-down against the base product, %".to_owned(),
            panels: report::panels(&lines),
            footer: head,
        };
        let svg = draw_bars_svg(&figure)?;
        let output = Output { png: png_from_svg(&svg)?, svg, csv: report::csv(&lines)? };
        output.write(folder, STEM)?;
    }
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Why a module is not measured; None if it is.
fn left_out(module: &Module) -> Option<String> {
    let name = module.name.escape_debug();
    if let Some(reason) = &module.refused {
        return Some(format!("{name}: {reason}"));
    }
    let excluded = module.lora.as_ref()?.excluded.as_ref()?;
    Some(format!("{name}: the base product alone: {excluded}"))
}

/// What was measured, on what and how.
fn head(args: &Args, shapes: &[(Shape, Sharers)], simd: Simd, lines: &[Line]) -> Vec<String> {
    let modules: usize = shapes.iter().map(|(_, sharers)| sharers.count).sum();
    let dtype = shapes[0].0.dtype;
    let Machine { device, threads, simd, .. } = Machine::cpu(simd, dtype);
    let mut head = vec![
        format!(
            "{} on {}: {modules} modules, {} shapes",
            name(&args.adapter),
            name(&args.base),
            shapes.len()
        ),
        format!("{device}, {} threads, {simd}", threads.unwrap_or(1)),
        "W, A, B, x and y come from memory; intervals are of 95 %".to_owned(),
    ];
    if lines.iter().flat_map(|line| &line.times).any(|timed| timed.clock == Clock::Cpu) {
        head.push("*: of CPU times, since other programs disturbed most rounds".to_owned());
    }
    head
}

/// The last part of a path, as far as it can be shown.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().escape_debug().to_string()
}

/// Behind the lines of each number of tokens their sum, where all shapes were measured.
fn with_totals(lines: Vec<Line>, shapes: usize) -> Vec<Line> {
    let mut all = Vec::new();
    for part in lines.chunk_by(|a, b| a.tokens == b.tokens) {
        all.extend_from_slice(part);
        all.extend(Line::total(part).filter(|_| part.len() == shapes));
    }
    all
}

/// Fails if files cannot be written to a folder, which may be missing: before the work, not after it.
fn check_folder(folder: &Path) -> Result<()> {
    let existing =
        folder.ancestors().find(|ancestor| ancestor.exists()).filter(|path| !path.as_os_str().is_empty());
    let existing = existing.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        bail!("cannot write to {}: {} is no folder", folder.display(), existing.display());
    }
    tempfile::tempfile_in(existing).with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(())
}

/// A shape that is to be measured at some sizes.
struct Job<'a> {
    shape: Shape,
    sharers: &'a Sharers,
    simd: Simd,
    sizes: &'a [Size],
    /// What all shapes have together: a size of which a round takes longer is left out.
    total: Duration,
    /// What this one has: after it, sizes get one round each.
    share: Duration,
}

impl Job<'_> {
    /// A line for each size that fits into time and memory; of others, why they do not.
    fn measure(&self, left_out: &mut Vec<String>) -> Result<Vec<Line>> {
        match (self.shape.dtype, self.shape.wide) {
            (DType::F16, false) => self.measure_in::<f16, f16>(left_out),
            (DType::F16, true) => self.measure_in::<f16, f32>(left_out),
            (DType::Bf16, false) => self.measure_in::<bf16, bf16>(left_out),
            (DType::Bf16, true) => self.measure_in::<bf16, f32>(left_out),
            (DType::F32, _) => self.measure_in::<f32, f32>(left_out),
            (other, _) => bail!("{other} is not implemented"),
        }
    }

    fn measure_in<T: Number, H: AdapterElement<T>>(&self, left_out: &mut Vec<String>) -> Result<Vec<Line>> {
        let machine = Machine::cpu(self.simd, self.shape.dtype);
        let distance = COLD * machine.last_level_cache;
        let mut suite = Product::<T, H>::new(self.shape, self.simd, machine.last_level_cache);
        let mut sizes = Vec::new();
        for &size in self.sizes {
            let needed = suite.memory(size, distance);
            match available_memory().filter(|&available| needed > available as f64) {
                Some(available) => left_out.push(format!(
                    "{}: needs {:.1} GB of memory, {:.1} are free",
                    suite.label(size),
                    needed * 1e-9,
                    available as f64 * 1e-9
                )),
                None => sizes.push((size, suite.methods(size))),
            }
        }
        let budget = Budget {
            started: Instant::now(),
            total: self.total,
            reserved: self.total.saturating_sub(self.share),
            least: ROUNDS,
            fixed: None,
            threads: machine.threads.unwrap_or(1),
            distance,
        };
        let report = measure(&mut suite, sizes, &budget, &mut |_, _| Ok(()))?;
        left_out.extend(report.dropped.iter().map(|&(size, seconds)| {
            format!("{}: a round takes {seconds:.0} s, more than all of --seconds", suite.label(size))
        }));
        Ok(report.outcomes.iter().filter_map(|outcome| Line::of(outcome, self.shape, self.sharers)).collect())
    }
}

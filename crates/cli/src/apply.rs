use std::{
    io::{self, IsTerminal, Write},
    ops::Range,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use fused_lora::{
    DType, Element, Strategy,
    peft::{BaseModel, Choices, Layout, LoraFile, PeftError, TensorFile},
};
use half::{bf16, f16};
use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};

use crate::{
    device::{self, Choice, Job, Lora, OnDevice, Segment},
    layer::BaseLayer,
    level::Level,
    output::Output,
};

/// The tensor read from `--input`.
const INPUT: &str = "x";
/// The tensor written to `--output`.
const OUTPUT: &str = "y";

/// Apply one module of a PEFT adapter, with its base layer, to an input.
///
/// Computes y = x Wᵀ + s (x Aᵀ) Bᵀ + bias with f32 sums, in the element type of W unless told otherwise: x, W
/// and the bias are converted to it, and values that it cannot hold are an error. An adapter in f32 stays
/// f32, but for f16.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The base model: a safetensors file, a folder, or `model.safetensors.index.json`; it has the module's
    /// weight [N, K] (Conv1D of GPT-2: [K, N]) and, if the layer has one, its bias [N]
    #[arg(long, value_name = "PATH")]
    base: PathBuf,
    /// The module's name in the base model, where it is not found by `--module` and the known prefixes
    #[arg(long, value_name = "NAME")]
    base_module: Option<String>,
    /// Which way round the weight lies, where its shape and what is beside it do not say: out-in (nn.Linear)
    /// or in-out (Conv1D of GPT-2)
    #[arg(long, value_name = "LAYOUT", value_parser = layouts())]
    layout: Option<Layout>,
    /// Folder with `adapter_config.json` and `adapter_model.safetensors`, or one of the two; several times
    /// for a batch that mixes adapters, which is still one pass over x
    #[arg(long, value_name = "DIR", required = true)]
    adapter: Vec<PathBuf>,
    /// The rows of x that an adapter has, such as `0..8` (8 not included): as often as `--adapter`, in the
    /// same order. Rows that none has get the base product [default, for one adapter: all rows]
    #[arg(long, value_name = "FIRST..END", value_parser = rows)]
    rows: Vec<Range<usize>>,
    /// The module's name in the base model, such as `model.layers.0.self_attn.q_proj`
    #[arg(long)]
    module: String,
    /// Safetensors file with the input `x` [M, K]
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Safetensors file to write `y` [M, N] to, in the type that it is computed in; it appears whole or not
    /// at all
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// How base and adapter are put together; `base` leaves the adapter out
    #[arg(long, default_value = Strategy::Fused.name(), value_parser = strategies())]
    strategy: Strategy,
    /// Element type to compute in: f16, bf16 or f32 [default: that of `<MODULE>.weight`]
    #[arg(long, value_name = "TYPE", value_parser = dtypes())]
    dtype: Option<DType>,
    /// Where to compute: `auto` (the first CUDA device, or the CPU if that cannot be had, which it says),
    /// `cpu`, `cuda:0`, `cuda:1`, ...; GPUs compute in f16 alone
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
    #[command(flatten)]
    level: Level,
}

fn rows(text: &str) -> Result<Range<usize>, String> {
    let range = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    range.ok_or_else(|| "rows are FIRST..END, such as 0..8".to_owned())
}

fn strategies() -> impl TypedValueParser<Value = Strategy> {
    PossibleValuesParser::new(Strategy::ALL.map(Strategy::name)).try_map(|name| name.parse::<Strategy>())
}

fn layouts() -> impl TypedValueParser<Value = Layout> {
    PossibleValuesParser::new(Layout::ALL.map(Layout::name)).try_map(|name| name.parse::<Layout>())
}

fn dtypes() -> impl TypedValueParser<Value = DType> {
    PossibleValuesParser::new(DType::ALL.map(DType::name)).try_map(|name| name.parse::<DType>())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (adapters, rows) = (args.adapter.len(), args.rows.len());
    if rows != adapters && (adapters, rows) != (1, 0) {
        bail!("{adapters} times --adapter and {rows} times --rows: each adapter needs its rows");
    }
    let lora_files =
        args.adapter.iter().map(|folder| LoraFile::open(folder)).collect::<Result<Vec<_>, _>>()?;
    // The adapters first: a module that one does not have is not looked for in the base.
    for file in &lora_files {
        file.module(&args.module)?;
    }
    let base = BaseModel::open(&args.base)?;
    let mut inputs: Vec<_> = base.files().map(|file| ("--base", file)).collect();
    inputs.push(("--input", &args.input));
    inputs.extend(lora_files.iter().flat_map(LoraFile::paths).map(|file| ("--adapter", file)));
    // Before the work, not after it: a wrong output should not cost the time that y takes.
    let output = Output::check(&args.output, &inputs)?;

    let choices = Choices { base_module: args.base_module.as_deref(), layout: args.layout };
    let modules = lora_files.iter().map(|file| base.resolve(file, &args.module, choices));
    let layer = BaseLayer::new(&base, &lora_files, modules.collect::<Result<_, _>>()?)?;
    match args.dtype.map_or_else(|| layer.dtype(), Ok)? {
        DType::Bf16 => apply::<bf16>(args, &lora_files, &layer, &output, Lora::unrounded),
        DType::F32 => apply::<f32>(args, &lora_files, &layer, &output, Lora::unrounded),
        DType::F16 => apply::<f16>(args, &lora_files, &layer, &output, Lora::of_f16),
        other => bail!("{other} is not implemented"),
    }
}

/// The rows of x that each adapter has, in the order of the rows.
fn segments(args: &Args, layer: &BaseLayer<'_>, m: usize) -> Result<Option<Vec<Segment>>> {
    if args.rows.is_empty() {
        return Ok(None);
    }
    // Where a configuration leaves the module out, its rows have no adapter.
    let of = |(i, rows): (usize, &Range<usize>)| (rows.clone(), (!layer.is_excluded(i)).then_some(i));
    let mut segments: Vec<_> = args.rows.iter().enumerate().map(of).collect();
    segments.sort_by_key(|(rows, _)| (rows.start, rows.end));
    for (rows, _) in &segments {
        if rows.start >= rows.end || rows.end > m {
            bail!("--rows {}..{} are no rows of x, which has {m}", rows.start, rows.end);
        }
    }
    for ((one, _), (other, _)) in segments.iter().zip(&segments[1..]) {
        if other.start < one.end {
            bail!("--rows {}..{} and {}..{} overlap", one.start, one.end, other.start, other.end);
        }
    }
    Ok(Some(segments))
}

fn apply<T: OnDevice>(
    args: &Args,
    lora_files: &[LoraFile],
    layer: &BaseLayer<'_>,
    output: &Output,
    load: impl Fn(&LoraFile, &str) -> Result<Lora<T>, PeftError>,
) -> Result<()> {
    let adapters = lora_files.iter().map(|file| load(file, &args.module)).collect::<Result<Vec<_>, _>>()?;
    let (weight, bias) = (layer.weight()?, layer.bias()?);
    let x = input(args, &weight)?;
    let segments = segments(args, layer, x.nrows())?;
    let strategy = if segments.is_none() && layer.is_excluded(0) { Strategy::Base } else { args.strategy };
    let level = &args.level;
    let job = Job { x: &x, weight: &weight, bias, adapters: &adapters, segments, strategy, level };
    let outcome = device::run(&job, args.device)?;
    if let Some(reason) = &outcome.fell_back {
        let _ = writeln!(io::stderr(), "computed on the CPU: {reason}");
    }

    output.write(&serialise(&outcome.y)?)?;
    for note in layer.notes() {
        let _ = writeln!(io::stderr(), "{note}");
    }
    if io::stderr().is_terminal() {
        let (ranks, m) = (adapters.iter().map(|lora| lora.sizes()[2].to_string()), x.nrows());
        let ((n, k), rank) = (weight.dim(), ranks.collect::<Vec<_>>().join(", "));
        let (strategy, by, dtype) = (strategy, &outcome.by, T::DTYPE);
        let _ = writeln!(
            io::stderr(),
            "{}: M {m}, N {n}, K {k}, rank {rank}, {dtype}, {strategy}, {by}: {OUTPUT} is in {}",
            args.module,
            args.output.display()
        );
    }
    Ok(())
}

fn input<T: Element>(args: &Args, weight: &Array2<T>) -> Result<Array2<T>> {
    let x = TensorFile::open(&args.input)?.read_matrix(INPUT)?;
    let k = weight.ncols();
    if x.ncols() != k {
        bail!(
            "{}: tensor {INPUT:?} has {} columns, but module {:?} of {} takes {k}",
            args.input.display(),
            x.ncols(),
            args.module,
            args.base.display(),
        );
    }
    Ok(x)
}

fn serialise<T: Element>(y: &Array2<T>) -> Result<Vec<u8>> {
    let values = y.iter().map(|v| v.to_f32());
    let (dtype, bytes): (_, Vec<u8>) = match T::DTYPE {
        DType::Bf16 => (Dtype::BF16, values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect()),
        DType::F32 => (Dtype::F32, values.flat_map(f32::to_le_bytes).collect()),
        DType::F16 => (Dtype::F16, values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect()),
        other => bail!("{other} is not implemented"),
    };
    let view = TensorView::new(dtype, y.shape().to_vec(), &bytes)?;
    safetensors::serialize([(OUTPUT, view)], None).context("cannot serialise y")
}

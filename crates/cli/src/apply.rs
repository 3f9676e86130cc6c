use std::{
    io::{self, IsTerminal, Write},
    ops::Range,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use fused_lora::{
    DType, Element, Strategy,
    peft::{CONFIG_NAME, LoraFile, PeftError, TensorFile, WEIGHTS_NAME},
};
use half::{bf16, f16};
use ndarray::{Array1, Array2};
use safetensors::tensor::{Dtype, TensorView};

use crate::{
    device::{self, Choice, Job, Lora, OnDevice, Segment},
    dtype::dtypes,
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
    /// Safetensors file of the base model, with `<MODULE>.weight` [N, K] ([K, N] if the adapter says
    /// `fan_in_fan_out`) and, if the layer has one, `<MODULE>.bias` [N]
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Folder with `adapter_config.json` and `adapter_model.safetensors`; several times for a batch that
    /// mixes adapters, which is still one pass over x
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

pub(crate) fn run(args: &Args) -> Result<()> {
    let of_adapter = |folder: &PathBuf| [CONFIG_NAME, WEIGHTS_NAME].map(|name| folder.join(name));
    let adapter_files: Vec<_> = args.adapter.iter().flat_map(of_adapter).collect();
    let mut inputs = vec![("--base", args.base.as_path()), ("--input", &args.input)];
    inputs.extend(adapter_files.iter().map(|file| ("--adapter", file.as_path())));
    // Before the work, not after it: a wrong output should not cost the time that y takes.
    let output = Output::check(&args.output, &inputs)?;

    let (adapters, rows) = (args.adapter.len(), args.rows.len());
    if rows != adapters && (adapters, rows) != (1, 0) {
        bail!("{adapters} times --adapter and {rows} times --rows: each adapter needs its rows");
    }
    let lora_files =
        args.adapter.iter().map(|folder| LoraFile::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let base = TensorFile::open(&args.base)?;
    let weight = format!("{}.weight", args.module);
    // The adapters first: a module that one does not have is not looked for in the base.
    for file in &lora_files {
        file.dtypes(&args.module)?;
    }
    match args.dtype.map_or_else(|| base.dtype(&weight), Ok)? {
        DType::Bf16 => apply::<bf16>(args, &lora_files, &base, &output, Lora::unrounded),
        DType::F32 => apply::<f32>(args, &lora_files, &base, &output, Lora::unrounded),
        DType::F16 => apply::<f16>(args, &lora_files, &base, &output, Lora::of_f16),
        other => bail!("{other} is not implemented"),
    }
}

/// The rows of x that each adapter has, in the order of the rows.
fn segments(args: &Args, m: usize) -> Result<Option<Vec<Segment>>> {
    if args.rows.is_empty() {
        return Ok(None);
    }
    let mut segments: Vec<_> =
        args.rows.iter().enumerate().map(|(adapter, rows)| (rows.clone(), Some(adapter))).collect();
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
    base: &TensorFile,
    output: &Output,
    load: impl Fn(&LoraFile, &str) -> Result<Lora<T>, PeftError>,
) -> Result<()> {
    let adapters = lora_files.iter().map(|file| load(file, &args.module)).collect::<Result<Vec<_>, _>>()?;
    // What the base has to fit.
    let of = |(lora, file): (&Lora<T>, &LoraFile)| (lora.sizes()[..2].to_vec(), file.fan_in_fan_out());
    let shapes: Vec<_> = adapters.iter().zip(lora_files).map(of).collect();
    if let Some(other) = shapes.iter().position(|shape| *shape != shapes[0]) {
        let [one, other] = [0, other].map(|i| {
            let ((sizes, transposed), folder) = (&shapes[i], args.adapter[i].display());
            let way = if *transposed { ", fan_in_fan_out" } else { "" };
            format!("{folder} (N {}, K {}{way})", sizes[0], sizes[1])
        });
        bail!("{one} and {other} are not adapters of the same module");
    }
    let Base { weight, bias } = Base::read(args, base, adapters[0].sizes(), lora_files[0].fan_in_fan_out())?;
    let x = input(args, &weight)?;
    let (strategy, level) = (args.strategy, &args.level);
    let segments = segments(args, x.nrows())?;
    let job = Job { x: &x, weight: &weight, bias, adapters: &adapters, segments, strategy, level };
    let outcome = device::run(&job, args.device)?;
    if let Some(reason) = &outcome.fell_back {
        let _ = writeln!(io::stderr(), "computed on the CPU: {reason}");
    }

    output.write(&serialise(&outcome.y)?)?;
    if io::stderr().is_terminal() {
        let (ranks, m) = (adapters.iter().map(|lora| lora.sizes()[2].to_string()), x.nrows());
        let ((n, k), rank) = (weight.dim(), ranks.collect::<Vec<_>>().join(", "));
        let (strategy, by, dtype) = (args.strategy, &outcome.by, T::DTYPE);
        let _ = writeln!(
            io::stderr(),
            "{}: M {m}, N {n}, K {k}, rank {rank}, {dtype}, {strategy}, {by}: {OUTPUT} is in {}",
            args.module,
            args.output.display()
        );
    }
    Ok(())
}

/// The layer as the base model has it.
struct Base<T> {
    /// `[N, K]`, whichever way round the file has it.
    weight: Array2<T>,
    bias: Option<Array1<T>>,
}

impl<T: Element> Base<T> {
    fn read(args: &Args, file: &TensorFile, [n, k, _]: [usize; 3], fan_in_fan_out: bool) -> Result<Self> {
        let (weight_name, bias_name) = (format!("{}.weight", args.module), format!("{}.bias", args.module));

        let stored = file.read_matrix(&weight_name)?;
        let expected = if fan_in_fan_out { (k, n) } else { (n, k) };
        if stored.dim() != expected {
            let hint = match (stored.dim() == (expected.1, expected.0), fan_in_fan_out) {
                (false, _) => "",
                (true, true) => " (it lies the other way round, but the adapter says fan_in_fan_out)",
                (true, false) => {
                    " (it lies the other way round, but the adapter does not say fan_in_fan_out)"
                }
            };
            bail!(
                "{}: tensor {weight_name:?} has shape {:?}, but {} adapts one of {expected:?}{hint}",
                args.base.display(),
                stored.dim(),
                args.adapter[0].display(),
            );
        }
        let weight = if fan_in_fan_out { stored.t().as_standard_layout().into_owned() } else { stored };

        let bias = file.contains(&bias_name).then(|| file.read_vector::<T>(&bias_name)).transpose()?;
        if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != n) {
            bail!(
                "{}: tensor {bias_name:?} has {} elements, but {weight_name:?} gives {n}",
                args.base.display(),
                bias.len(),
            );
        }
        Ok(Base { weight, bias })
    }
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

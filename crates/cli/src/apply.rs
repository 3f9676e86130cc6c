use std::{
    collections::HashSet,
    io::{self, IsTerminal, Write},
    ops::Range,
    path::PathBuf,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use fused_lora::{
    DType, Error, Strategy,
    peft::{BaseModel, Choices, LoraFile},
};
use half::{bf16, f16};

use crate::{
    device::{self, Choice, Job, OnDevice, Segment},
    dtype::dtypes,
    encoded::Encoded,
    input::{Input, Rows},
    layer::BaseLayer,
    layout::Orientation,
    level::Level,
    modules::Selection,
    output::Output,
};

/// What y is called where there is one module.
const OUTPUT: &str = "y";

/// Apply modules of a PEFT adapter, with their base layers, to inputs.
///
/// Computes y = x Wᵀ + s (x Aᵀ) Bᵀ + bias with f32 sums: in the type of W if x and y have it, otherwise in f32.
/// A value that a type cannot hold is an error, and so is a row of y that is not finite though that row of x is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The base model: a safetensors file, a folder, or `model.safetensors.index.json`; it has the module's
    /// weight [N, K] (Conv1D of GPT-2: [K, N]) and, if the layer has one, its bias [N]
    #[arg(long, value_name = "PATH")]
    base: PathBuf,
    /// The module's name in the base model, where it is not found by `--module` and the known prefixes
    #[arg(long, value_name = "NAME")]
    base_module: Option<String>,
    #[command(flatten)]
    orientation: Orientation,
    /// Folder with `adapter_config.json` and `adapter_model.safetensors`, or one of the two; several times
    /// for a batch that mixes adapters, which is still one pass over x
    #[arg(long, value_name = "DIR", required = true)]
    adapter: Vec<PathBuf>,
    /// The rows of x that an adapter has, such as `0..8` (8 not included): as often as `--adapter`, in the
    /// same order. Rows that none has get the base product [default, for one adapter: all rows]
    #[arg(long, value_name = "FIRST..END", value_parser = rows)]
    rows: Vec<Range<usize>>,
    /// The module's name in the base model, such as `model.layers.0.self_attn.q_proj`; several times, or as a
    /// pattern such as `*.q_proj`, for modules that each have a tensor of their name in the input
    #[arg(long, value_name = "NAME", required = true)]
    module: Vec<String>,
    /// Safetensors file with the input as a hook on the module gives it, [K], [M, K] or [batch, seq, K]: `x`,
    /// the tensor of the module's name, or the only one
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Safetensors file to write `y` to, or tensors of the modules' names, in the shape of the input with N in
    /// the place of K; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Element type of y: f16, bf16 or f32 [default: that of the input]
    #[arg(long, value_name = "TYPE", value_parser = dtypes())]
    output_dtype: Option<DType>,
    /// How base and adapter are put together; `base` leaves the adapter out
    #[arg(long, default_value = Strategy::Fused.name(), value_parser = strategies())]
    strategy: Strategy,
    /// Element type to compute in: f16, bf16 or f32 [default: that of W, if x and y have it too; otherwise f32]
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
    let (adapters, rows) = (args.adapter.len(), args.rows.len());
    if rows != adapters && (adapters, rows) != (1, 0) {
        bail!("{adapters} times --adapter and {rows} times --rows: each adapter needs its rows");
    }
    let adapters = args.adapter.iter().map(|path| LoraFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    // The adapters first: a module that one does not have is not looked for in the base.
    let Selection { modules, by_name } = Selection::new(&args.module, &adapters[0])?;
    for (adapter, module) in adapters.iter().flat_map(|adapter| modules.iter().map(move |m| (adapter, m))) {
        adapter.module(module)?;
    }
    if let (Some(name), true) = (&args.base_module, by_name) {
        bail!("--base-module {name:?} is the name of one module, but --module names {}", modules.len());
    }
    let base = BaseModel::open(&args.base)?;
    let input = Input::open(&args.input)?;
    let mut inputs: Vec<_> = base.files().map(|file| ("--base", file)).collect();
    inputs.push(("--input", &args.input));
    inputs.extend(adapters.iter().flat_map(LoraFile::paths).map(|file| ("--adapter", file)));
    // Before the work, not after it: a wrong output should not cost the time that y takes.
    let output = Output::check(&args.output, &inputs)?;

    // Said when all is done, each once: an error is a line of its own.
    let mut notes: Vec<String> = adapters.iter().flat_map(LoraFile::warnings).collect();
    let choices = Choices { base_module: args.base_module.as_deref(), layout: args.orientation.layout };
    let mut results = Vec::with_capacity(modules.len());
    for module in &modules {
        let found = adapters.iter().map(|adapter| base.resolve(adapter, module, choices));
        let layer = BaseLayer::new(&base, &adapters, found.collect::<Result<_, _>>()?)?;
        let tensor = if by_name { input.named(module) } else { input.only(module) }?;
        let name = if by_name { module } else { OUTPUT };
        results.push((name, one(args, &layer, &input, &tensor, &mut notes)?));
        notes.extend(layer.notes());
    }
    output.write(&safetensors::serialize(results, None).context("cannot serialise y")?)?;
    let mut said = HashSet::new();
    for note in notes.iter().filter(|note| said.insert(*note)) {
        let _ = writeln!(io::stderr(), "{note}");
    }
    Ok(())
}

/// y of one module, in the types that are asked for or that input and base have.
fn one(
    args: &Args,
    layer: &BaseLayer<'_>,
    input: &Input,
    tensor: &str,
    notes: &mut Vec<String>,
) -> Result<Encoded> {
    let (of_x, of_weight) = (input.dtype(tensor)?, layer.dtype()?);
    let of_y = args.output_dtype.unwrap_or(of_x);
    // f32 holds the numbers of all types, and y is then rounded once.
    let in_between = if [of_x, of_y] == [of_weight; 2] { of_weight } else { DType::F32 };
    match args.dtype.unwrap_or(in_between) {
        DType::Bf16 => apply::<bf16>(args, layer, (input, tensor), of_y, notes),
        DType::F32 => apply::<f32>(args, layer, (input, tensor), of_y, notes),
        DType::F16 => apply::<f16>(args, layer, (input, tensor), of_y, notes),
        other => bail!("{other} is not implemented"),
    }
}

/// The rows of x that each adapter has, in the order of the rows.
fn segments(args: &Args, layer: &BaseLayer<'_>, m: usize) -> Result<Option<Vec<Segment>>> {
    if args.rows.is_empty() {
        return Ok(None);
    }
    let of = |(i, rows): (usize, &Range<usize>)| (rows.clone(), layer.number(i));
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
    layer: &BaseLayer<'_>,
    (input, tensor): (&Input, &str),
    of_y: DType,
    notes: &mut Vec<String>,
) -> Result<Encoded> {
    let module = &layer.modules[0].lora;
    let Rows { x, leading } = input.read::<T>(tensor, &module.name, module.k)?;
    let segments = segments(args, layer, x.nrows())?;
    let strategy = if segments.is_none() && layer.is_excluded(0) { Strategy::Base } else { args.strategy };
    let (weight, bias, loras, level) = (layer.weight()?, layer.bias()?, layer.loras(), &args.level);
    let job = Job { x: &x, weight: &weight, bias, loras: &loras, segments, strategy, level };
    let outcome = device::run(&job, args.device)?;
    if let Some(reason) = &outcome.fell_back {
        notes.push(format!("computed on the CPU: {reason}"));
    }
    let y = Encoded::new(of_y, &x, &outcome.y, &leading).map_err(|error| {
        let beyond_f16 = matches!(error.downcast_ref(), Some(Error::NotFinite { dtype: DType::F16, .. }));
        let hint = match (args.dtype, of_y) {
            _ if !beyond_f16 => "",
            (Some(DType::F16), DType::F16) => "; give --dtype and --output-dtype f32 or bf16",
            (Some(DType::F16), _) => "; give --dtype f32 or bf16",
            _ => "; give --output-dtype f32 or bf16",
        };
        anyhow!("module {:?}: {error:#}{hint}", module.name)
    })?;
    if io::stderr().is_terminal() {
        let (ranks, m) = (layer.modules.iter().map(|found| found.lora.rank.to_string()), x.nrows());
        let ((n, k), rank) = (weight.dim(), ranks.collect::<Vec<_>>().join(", "));
        let (by, dtype, module) = (&outcome.by, T::DTYPE, &module.name);
        let _ =
            writeln!(io::stderr(), "{module}: M {m}, N {n}, K {k}, rank {rank}, {dtype}, {strategy}, {by}");
    }
    Ok(y)
}

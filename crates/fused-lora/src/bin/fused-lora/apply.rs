use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use fused_lora::{
    Strategy,
    peft::{CONFIG_NAME, LoraFile, LoraWeights, TensorFile, WEIGHTS_NAME},
};
use half::f16;
use ndarray::{Array1, Array2};
use safetensors::tensor::{Dtype, TensorView};

use crate::{
    device::{self, Choice, Job},
    level::Level,
    output::Output,
};

/// The tensor read from `--input`.
const INPUT: &str = "x";
/// The tensor written to `--output`.
const OUTPUT: &str = "y";

/// Apply one module of a PEFT adapter, with its base layer, to an input.
///
/// Computes y = x Wᵀ + s (x Aᵀ) Bᵀ + bias in f16 with f32 sums. bf16 and f32 tensors are converted to f16;
/// values that f16 cannot hold are an error.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Safetensors file of the base model, with `<MODULE>.weight` [N, K] ([K, N] if the adapter says
    /// `fan_in_fan_out`) and, if the layer has one, `<MODULE>.bias` [N]
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Folder with `adapter_config.json` and `adapter_model.safetensors`
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The module's name in the base model, such as `model.layers.0.self_attn.q_proj`
    #[arg(long)]
    module: String,
    /// Safetensors file with the input `x` [M, K]
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Safetensors file to write `y` [M, N] to, as f16; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// How base and adapter are put together; `base` leaves the adapter out
    #[arg(long, default_value = Strategy::Fused.name(), value_parser = strategies())]
    strategy: Strategy,
    /// Where to compute: `auto` (the first CUDA device, or the CPU if that cannot be had, which it says),
    /// `cpu`, `cuda:0`, `cuda:1`, ...
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
    #[command(flatten)]
    level: Level,
}

fn strategies() -> impl TypedValueParser<Value = Strategy> {
    PossibleValuesParser::new(Strategy::ALL.map(Strategy::name)).try_map(|name| name.parse::<Strategy>())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let adapter_files = [CONFIG_NAME, WEIGHTS_NAME].map(|name| args.adapter.join(name));
    let inputs = [
        ("--base", args.base.as_path()),
        ("--input", &args.input),
        ("--adapter", &adapter_files[0]),
        ("--adapter", &adapter_files[1]),
    ];
    // Before the work, not after it: a wrong output should not cost the time that y takes.
    let output = Output::check(&args.output, &inputs)?;

    let lora_file = LoraFile::open(&args.adapter)?;
    let lora = lora_file.load(&args.module)?;
    let base = Base::read(args, &lora, lora_file.fan_in_fan_out())?;
    let x = input(args, &base)?;

    let Base { weight, bias } = base;
    let (strategy, level) = (args.strategy, &args.level);
    let job = Job { x: &x, weight: &weight, bias, lora: &lora, strategy, level };
    let outcome = device::run(&job, args.device)?;
    if let Some(reason) = &outcome.fell_back {
        let _ = writeln!(io::stderr(), "computed on the CPU: {reason}");
    }

    output.write(&serialise(&outcome.y)?)?;
    if io::stderr().is_terminal() {
        let (m, n, k, rank) = (x.nrows(), outcome.y.ncols(), x.ncols(), lora.a.nrows());
        let (strategy, by) = (args.strategy, &outcome.by);
        let _ = writeln!(
            io::stderr(),
            "{}: M {m}, N {n}, K {k}, rank {rank}, {strategy}, {by}: {OUTPUT} is in {}",
            args.module,
            args.output.display()
        );
    }
    Ok(())
}

/// The layer as the base model has it.
struct Base {
    /// `[N, K]`, whichever way round the file has it.
    weight: Array2<f16>,
    bias: Option<Array1<f16>>,
}

impl Base {
    fn read(args: &Args, lora: &LoraWeights, fan_in_fan_out: bool) -> Result<Base> {
        let file = TensorFile::open(&args.base)?;
        let (weight_name, bias_name) = (format!("{}.weight", args.module), format!("{}.bias", args.module));

        let stored = file.f16_matrix(&weight_name)?;
        let (n, k) = (lora.b.nrows(), lora.a.ncols());
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
                args.adapter.display(),
            );
        }
        let weight = if fan_in_fan_out { stored.t().as_standard_layout().into_owned() } else { stored };

        let bias = file.contains(&bias_name).then(|| file.f16_vector(&bias_name)).transpose()?;
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

fn input(args: &Args, base: &Base) -> Result<Array2<f16>> {
    let x = TensorFile::open(&args.input)?.f16_matrix(INPUT)?;
    let k = base.weight.ncols();
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

fn serialise(y: &Array2<f16>) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = y.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F16, y.shape().to_vec(), &bytes)?;
    safetensors::serialize([(OUTPUT, view)], None).context("cannot serialise y")
}

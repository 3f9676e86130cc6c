//! What is measured, from the environment: Criterion rejects flags that it does not know.
//!
//! [`Settings`] is the one place where a variable's name, meaning and default stand. A test holds the table
//! in `docs/benchmarking.md` to it.

use std::error::Error;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, Resettable, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use fused_lora::DType;
use fused_lora::cpu::SIMD_VARIABLE;
pub use fused_lora_measure::operands::Cache;
use fused_lora_records::{MEASUREMENTS, MEASUREMENTS_HELP, MEASUREMENTS_VARIABLE, Shard, Workload};
use fused_lora_transformer::Targets;

/// Where this library computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// On the processor.
    Cpu,
    /// On an NVIDIA GPU.
    Cuda,
}

impl Backend {
    /// The name in the records.
    pub fn name(self) -> &'static str {
        if self == Backend::Cpu { "cpu" } else { "cuda" }
    }
}

/// Which sizes of the grid are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GridPart {
    /// All.
    Full,
    /// Batches of 1, 4 and 16.
    Reduced,
    /// M = 128, 512, 4096 and 16384.
    Sizes,
    /// One token of each of 1 to 64 sequences, at ranks of its own.
    Decode,
}

/// Named in the errors of the PyTorch that runs in the rounds.
pub const TORCH: &str = "FUSED_LORA_TORCH";
/// Named where kernels are left out.
pub const PLAN: &str = "FUSED_LORA_PLAN";
/// Begins the names of a simulated driver's settings.
const SIMULATION: &str = "FUSED_LORA_SIMT_";

/// The settings of one run. A variable that is empty is as good as none.
#[derive(Clone, Debug, PartialEq, Parser)]
pub struct Settings {
    /// The four projections of a layer of GPT-2 medium are `gpt2-medium-linears`; `gpt2-medium` is 24 layers
    /// [default: the first that the
    /// bench measures; `decode` measures one after another]
    #[arg(long, env = "FUSED_LORA_WORKLOAD", default_value = "linear-1024x1024", hide_default_value = true)]
    #[arg(value_parser = one_of(Workload::every().map(Workload::name), Workload::by_name))]
    pub workload: &'static Workload,
    /// Of x, W, A, B and y; on a GPU `f16` [default: f16; `decode` measures one type after another]
    #[arg(long, env = "FUSED_LORA_DTYPE", default_value = "f16", hide_default_value = true)]
    #[arg(value_parser = one_of(DType::ALL.map(DType::name), str::parse::<DType>))]
    pub dtype: DType,
    /// `cuda` is an NVIDIA GPU [default: cpu; of `gpu_peers` cuda]
    #[arg(long, env = "FUSED_LORA_BACKEND", value_enum, default_value = "cpu", hide_default_value = true)]
    pub backend: Backend,
    /// Whether the backend was asked for by name: if not, a GPU may be missing.
    #[arg(skip)]
    pub backend_is_named: bool,
    /// For `cuda`: the GPU's number among those that the driver shows
    #[arg(long, env = "FUSED_LORA_DEVICE", default_value = "0", value_name = "NUMBER")]
    #[arg(value_parser = ordinal)]
    pub device: u32,
    /// `cold`: W, A, B, x and y rotate over 3 × the last-level cache; `warm-w`: the weights stay
    #[arg(long, env = "FUSED_LORA_CACHE", value_enum, default_value = "cold")]
    pub cache: Cache,
    /// Wall time for everything, Criterion's analysis included [default: `grid` 225; `layer` 1500, parts of
    /// it 450, with PyTorch twice that; `decode` 900; `peers` 170, with PyTorch 600; `gpu_peers` 120, with
    /// PyTorch 360]
    #[arg(long, env = "FUSED_LORA_BUDGET_S", value_name = "SECONDS", value_parser = seconds)]
    pub budget: Option<Duration>,
    /// Rounds of every size before any gets more, where they fit into the budget [default: 10]
    #[arg(long, env = "FUSED_LORA_ROUNDS", value_name = "NUMBER", value_parser = count)]
    pub rounds: Option<usize>,
    /// `1`: go on with the newest run of the same configuration and code
    #[arg(long, env = "FUSED_LORA_RESUME", default_value = "0", action = ArgAction::Set)]
    #[arg(value_parser = one_of(["0", "1"], |text| Ok::<_, String>(text == "1")))]
    pub resume: bool,
    /// This host's part of the sizes: every n-th, from the i-th
    #[arg(long, env = "FUSED_LORA_SHARD", default_value = "1/1", value_name = "I/N")]
    pub shard: Shard,
    /// Which sizes: `full`; `reduced` to batches of 1, 4, 16; `sizes`: M = 128, 512, 4096, 16384; `decode`:
    /// M = 1 to 64, one token of each sequence, at ranks of 0 to 250 [default: full; of `peers` and
    /// `gpu_peers` sizes; of `decode` decode]
    #[arg(long, env = "FUSED_LORA_GRID", value_enum, default_value = "full", hide_default_value = true)]
    pub grid: GridPart,
    /// For `grid` and `decode` on a CPU: adapters in a batch, each of which has as many of its rows. Beside
    /// `unfused` and `fused`, which take all of them in a call, `clones` is a call for each, and PEFT's mixed
    /// batch joins with `FUSED_LORA_TORCH`
    #[arg(long, env = "FUSED_LORA_MIX", default_value = "1", value_name = "NUMBER", value_parser = count)]
    pub mix: usize,
    /// For `layer`: the projections that LoRA is on, `all` or `q,v`
    #[arg(long, env = "FUSED_LORA_TARGETS", default_value = "all", value_name = "PROJECTIONS")]
    pub targets: Targets,
    /// For `peers`, `gpu_peers` and `layer`, and where adapters are mixed: a Python with PyTorch, NumPy and
    /// safetensors, whose [methods](../benches/peers/README.md) join the rounds; a relative path is below the
    /// workspace
    #[arg(long, env = TORCH, value_name = "PROGRAM")]
    pub torch: Option<PathBuf>,
    /// The folder of the records; if relative, below the workspace.
    #[arg(long, env = MEASUREMENTS_VARIABLE, default_value = MEASUREMENTS, value_name = "DIR")]
    #[arg(help = MEASUREMENTS_HELP)]
    pub measurements: PathBuf,
    /// The commit that is recorded, with `-dirty` behind it if the work tree differed [default: what git
    /// says]
    #[arg(long, env = "FUSED_LORA_REVISION", value_name = "COMMIT")]
    pub revision: Option<String>,
    /// `amx`, `avx512bf16`, `avx512`, `avx2` or `portable`; read by the library [default: the best there is]
    #[arg(long, env = SIMD_VARIABLE, value_name = "LEVEL")]
    pub simd: Option<String>,
    /// For `cuda`: `entry/cluster`, a kernel that is launched whatever the cost model says; or
    /// `-entry/cluster,-entry`, kernels that never are, without a cluster in none. Methods that no kernel is
    /// left for are skipped by name. Read by the library
    #[arg(long, env = PLAN, value_name = "KERNELS", allow_hyphen_values = true)]
    pub plan: Option<String>,
    /// The driver's library, for everything that uses CUDA; read by the library [default: libcuda.so.1]
    #[arg(long, env = "FUSED_LORA_LIBCUDA", value_name = "FILE")]
    pub libcuda: Option<PathBuf>,
}

/// What a bench can measure; of each list, the first is its default.
#[derive(Clone, Copy)]
pub struct Choices {
    /// Where.
    pub backends: &'static [Backend],
    /// What.
    pub workloads: &'static [Workload],
    /// In which types.
    pub dtypes: &'static [DType],
    /// At which sizes.
    pub grids: &'static [GridPart],
    /// Whether a batch may have several adapters.
    pub mixes: bool,
    /// Whether, where no workload is named, all of them are measured one after another; and likewise types.
    pub in_turn: bool,
}

/// An environment that means nothing: exit code 2, all else is 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Default for Settings {
    /// Whatever the environment says.
    fn default() -> Settings {
        let command = without(Settings::command(), |_| true);
        Settings::parse_flags(command, &[]).expect("each default is a value")
    }
}

impl Settings {
    /// Reads the process's environment: the settings of each run, by workload, then by type. Fails at the
    /// first variable whose value means nothing, or nothing to the bench.
    pub fn from_env(choices: &Choices) -> Result<Vec<Settings>, Usage> {
        let command = choices.command();
        for variable in command.get_arguments().filter_map(Arg::get_env) {
            if std::env::var_os(variable).is_some_and(|value| value.to_str().is_none()) {
                return Err(Usage(format!("{}: not valid Unicode", variable.display())));
            }
        }
        let is_empty = |variable: &OsStr| std::env::var_os(variable).is_some_and(|value| value.is_empty());
        Settings::runs(without(command, is_empty), &[], choices)
    }

    /// The settings under their long names: tests do not change the environment of all.
    fn parse_flags(command: Command, flags: &[&str]) -> Result<Settings, Usage> {
        Settings::parse(command, flags).map(|(settings, _)| settings)
    }

    /// The settings, and which of them are named.
    fn parse(command: Command, flags: &[&str]) -> Result<(Settings, impl Fn(&str) -> bool), Usage> {
        let matches =
            command.no_binary_name(true).try_get_matches_from(flags).map_err(|error| usage(&error))?;
        let settings = Settings::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        let is_named = move |id: &str| matches.value_source(id) != Some(ValueSource::DefaultValue);
        if settings.backend == Backend::Cuda && settings.mix != 1 {
            return Err(Usage(format!("FUSED_LORA_MIX={}: expected 1 on a GPU", settings.mix)));
        }
        if settings.backend == Backend::Cuda && settings.dtype != DType::F16 {
            return Err(Usage(format!("FUSED_LORA_DTYPE={}: expected f16 on a GPU", settings.dtype)));
        }
        Ok((Settings { backend_is_named: is_named("backend"), ..settings }, is_named))
    }

    /// One after another: where they are not named, all workloads and types of a bench that measures them in
    /// turn.
    fn runs(command: Command, flags: &[&str], choices: &Choices) -> Result<Vec<Settings>, Usage> {
        let (settings, is_named) = Settings::parse(command, flags)?;
        let mut runs = vec![settings];
        if choices.in_turn && !is_named("workload") {
            let with = |workload| Settings { workload, ..runs[0].clone() };
            runs = choices.workloads.iter().map(with).collect();
        }
        if choices.in_turn && !is_named("dtype") {
            let with =
                |run: Settings| choices.dtypes.iter().map(move |&dtype| Settings { dtype, ..run.clone() });
            runs = runs.into_iter().flat_map(with).collect();
        }
        Ok(runs)
    }
}

impl Choices {
    /// The settings, each with what the bench has a choice of.
    fn command(&self) -> Command {
        fn some<T: ValueEnum + Send + Sync + 'static>(arg: Arg, values: &[T]) -> Arg {
            let values: Vec<PossibleValue> = values.iter().filter_map(T::to_possible_value).collect();
            arg.default_value(values[0].get_name().to_owned())
                .value_parser(one_of(values, |text| T::from_str(text, false)))
        }
        let workloads = one_of(self.workloads.iter().map(Workload::name), Workload::by_name);
        let dtypes = one_of(self.dtypes.iter().map(|dtype| dtype.name()), str::parse::<DType>);
        Settings::command()
            .mut_arg("backend", |arg| some(arg, self.backends))
            .mut_arg("workload", |arg| arg.default_value(self.workloads[0].name()).value_parser(workloads))
            .mut_arg("dtype", |arg| arg.default_value(self.dtypes[0].name()).value_parser(dtypes))
            .mut_arg("grid", |arg| some(arg, self.grids))
            .mut_arg("mix", |arg| match self.mixes {
                true => arg,
                false => arg.value_parser(one_of(["1"], str::parse::<usize>)),
            })
    }
}

/// Variables that look like settings and are none: a slip of the pen that would otherwise go unnoticed.
pub fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let command = Settings::command();
    let is_known = |name: &str| command.get_arguments().any(|arg| arg.get_env() == Some(OsStr::new(name)));
    let is_unknown =
        |name: &String| name.starts_with("FUSED_LORA_") && !name.starts_with(SIMULATION) && !is_known(name);
    let mut unknown: Vec<String> = names.filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown
}

/// The command that does not read those variables.
fn without(command: Command, leaves_out: impl Fn(&OsStr) -> bool) -> Command {
    command.mut_args(|arg| match arg.get_env() {
        Some(variable) if leaves_out(variable) => arg.env(Resettable::Reset),
        _ => arg,
    })
}

/// What clap says of a flag, `--long <VALUE>`, said of its variable.
fn usage(error: &clap::Error) -> Usage {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let long = text(ContextKind::InvalidArg).trim_start_matches('-').split(' ').next();
    let command = Settings::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == long);
    let Some(variable) = arg.and_then(Arg::get_env) else { return Usage(error.to_string()) };
    let reason = match (error.get(ContextKind::ValidValue), error.source()) {
        (Some(ContextValue::Strings(values)), _) => format!("expected {}", values.join(" or ")),
        (_, reason) => reason.map_or_else(|| error.kind().to_string(), |reason| reason.to_string()),
    };
    Usage(format!("{}={}: {reason}", variable.display(), text(ContextKind::InvalidValue)))
}

/// Takes one of those names.
fn one_of<T: Clone + Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>> + 'static>(
    names: impl IntoIterator<Item = impl Into<PossibleValue>>,
    parse: fn(&str) -> Result<T, E>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.into_iter().map(Into::into)).try_map(move |name| parse(&name))
}

fn ordinal(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "expected the number of a GPU, counted from 0")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or("expected a number of seconds above 0, such as 300")
}

fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|&count| count > 0).ok_or("expected a number above 0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CHILD, run_in_child};

    const GPU: Choices = Choices {
        backends: &[Backend::Cuda],
        workloads: Workload::LAYERS,
        dtypes: &[DType::F16],
        grids: &[GridPart::Reduced],
        mixes: false,
        in_turn: false,
    };

    fn of(choices: &Choices, flags: &[&str]) -> Result<Settings, Usage> {
        Settings::parse_flags(without(choices.command(), |_| true), flags)
    }

    /// In a process of its own, whose environment has each variable once, then none.
    #[test]
    fn every_variable_is_heard() {
        let all = Choices {
            backends: &[Backend::Cuda, Backend::Cpu],
            workloads: Workload::LINEARS,
            dtypes: &DType::ALL,
            grids: &[GridPart::Sizes, GridPart::Full],
            mixes: true,
            in_turn: false,
        };
        let heard = Settings {
            workload: Workload::by_name("gpt2-medium-linears").unwrap(),
            dtype: DType::Bf16,
            backend: Backend::Cpu,
            backend_is_named: true,
            device: 3,
            resume: true,
            shard: "2/3".parse().unwrap(),
            budget: Some(Duration::from_millis(12_500)),
            rounds: Some(40),
            cache: Cache::WarmW,
            grid: GridPart::Full,
            mix: 8,
            targets: Targets::QueryValue,
            torch: Some("venv/bin/python".into()),
            measurements: "elsewhere".into(),
            revision: Some("0123abc-dirty".to_owned()),
            simd: Some("avx2".to_owned()),
            plan: Some("-fused_64x64".to_owned()),
            libcuda: Some("libcuda.so".into()),
        };
        match std::env::var(CHILD).as_deref() {
            Ok("full") => assert_eq!(Settings::from_env(&all), Ok(vec![heard])),
            Ok("empty") => {
                let (backend, grid) = (Backend::Cuda, GridPart::Sizes);
                let default = Settings { backend, grid, ..Settings::default() };
                assert_eq!(Settings::from_env(&all), Ok(vec![default]));
            }
            Ok(_) => {
                let said = "FUSED_LORA_DEVICE=x: expected the number of a GPU, counted from 0";
                assert_eq!(Settings::from_env(&all), Err(Usage(said.to_owned())));
            }
            Err(_) => {
                let values = [
                    ("FUSED_LORA_WORKLOAD", "gpt2-medium-linears"),
                    ("FUSED_LORA_BACKEND", "cpu"),
                    ("FUSED_LORA_DEVICE", "3"),
                    ("FUSED_LORA_DTYPE", "bf16"),
                    ("FUSED_LORA_RESUME", "1"),
                    ("FUSED_LORA_SHARD", "2/3"),
                    ("FUSED_LORA_BUDGET_S", "12.5"),
                    ("FUSED_LORA_ROUNDS", "40"),
                    ("FUSED_LORA_CACHE", "warm-w"),
                    ("FUSED_LORA_GRID", "full"),
                    ("FUSED_LORA_MIX", "8"),
                    ("FUSED_LORA_TARGETS", "q,v"),
                    ("FUSED_LORA_TORCH", "venv/bin/python"),
                    ("FUSED_LORA_MEASUREMENTS", "elsewhere"),
                    ("FUSED_LORA_REVISION", "0123abc-dirty"),
                    ("FUSED_LORA_SIMD", "avx2"),
                    ("FUSED_LORA_PLAN", "-fused_64x64"),
                    ("FUSED_LORA_LIBCUDA", "libcuda.so"),
                ];
                let empty = values.map(|(name, _)| (name, ""));
                let mut wrong = empty;
                wrong[2].1 = "x";
                for (child, variables) in [("full", values), ("empty", empty), ("wrong", wrong)] {
                    let variables = [&variables[..], &[(CHILD, child)]].concat();
                    run_in_child("settings::tests::every_variable_is_heard", &variables);
                }
            }
        }
    }

    #[test]
    fn a_bench_has_defaults_and_choices_of_its_own() {
        let settings = of(&GPU, &[]).unwrap();
        assert_eq!(
            (settings.backend, settings.workload.name(), settings.grid, settings.backend_is_named),
            (Backend::Cuda, "gpt2-medium-layer", GridPart::Reduced, false)
        );
        assert!(of(&GPU, &["--backend", "cuda"]).unwrap().backend_is_named);
        for (flag, value, said) in [
            ("--backend", "cpu", "FUSED_LORA_BACKEND=cpu: expected cuda"),
            ("--workload", "x", "FUSED_LORA_WORKLOAD=x: expected gpt2-medium-layer or gpt2-medium"),
            ("--dtype", "f32", "FUSED_LORA_DTYPE=f32: expected f16"),
            ("--grid", "full", "FUSED_LORA_GRID=full: expected reduced"),
        ] {
            assert_eq!(of(&GPU, &[flag, value]), Err(Usage(said.to_owned())));
        }
    }

    #[test]
    fn another_type_on_a_gpu_is_refused() {
        let command = || without(Settings::command(), |_| true);
        let error = Settings::parse_flags(command(), &["--backend", "cuda", "--dtype", "bf16"]);
        assert_eq!(error, Err(Usage("FUSED_LORA_DTYPE=bf16: expected f16 on a GPU".to_owned())));
        assert!(Settings::parse_flags(command(), &["--backend", "cuda", "--dtype", "f16"]).is_ok());
    }

    #[test]
    fn what_is_not_named_is_measured_in_turn() {
        let choices = Choices {
            backends: &[Backend::Cpu],
            workloads: Workload::DECODES,
            dtypes: &DType::ALL,
            grids: &[GridPart::Decode],
            mixes: true,
            in_turn: true,
        };
        let of = |choices: &Choices, flags: &[&str]| {
            let runs = Settings::runs(without(choices.command(), |_| true), flags, choices).unwrap();
            let named = |run: &Settings| format!("{} {}", run.workload.d_out(), run.dtype);
            runs.iter().map(named).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            of(&choices, &[]),
            "1024 f16, 1024 bf16, 1024 f32, 4096 f16, 4096 bf16, 4096 f32, 11008 f16, 11008 bf16, 11008 f32"
        );
        assert_eq!(of(&choices, &["--dtype", "f32"]), "1024 f32, 4096 f32, 11008 f32");
        let workload = ["--workload", "linear-4096x11008"];
        assert_eq!(of(&choices, &workload), "11008 f16, 11008 bf16, 11008 f32");
        assert_eq!(of(&choices, &[&workload[..], &["--dtype", "f16"]].concat()), "11008 f16");
        assert_eq!(of(&Choices { in_turn: false, ..choices }, &[]), "1024 f16");
    }

    #[test]
    fn misspelt_variables_are_found() {
        let names = [
            "PATH",
            "FUSED_LORA_SIMD",
            "FUSED_LORA_BUDGET",
            "FUSED_LORA_BUDGET_S",
            "FUSED_LORA_LIBCUDA",
            "FUSED_LORA_SIMT_SEED",
        ];
        assert_eq!(unknown(names.into_iter().map(str::to_owned)), ["FUSED_LORA_BUDGET"]);
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (flag, variable, value, hint) in [
            ("workload", "WORKLOAD", "linear", "linear-4096x4096"),
            ("dtype", "DTYPE", "f64", "f16 or bf16 or f32"),
            ("backend", "BACKEND", "auto", "cpu or cuda"),
            ("device", "DEVICE", "cuda:0", "number"),
            ("device", "DEVICE", "-1", "number"),
            ("resume", "RESUME", "yes", "0 or 1"),
            ("shard", "SHARD", "3/2", "i/n"),
            ("budget", "BUDGET_S", "-1", "seconds"),
            ("budget", "BUDGET_S", "0", "seconds"),
            ("budget", "BUDGET_S", "nan", "seconds"),
            ("budget", "BUDGET_S", "5 min", "seconds"),
            ("rounds", "ROUNDS", "0", "number"),
            ("mix", "MIX", "0", "number"),
            ("cache", "CACHE", "hot", "cold or warm-w"),
            ("grid", "GRID", "all", "full or reduced or sizes or decode"),
            ("targets", "TARGETS", "qv", "q,v"),
        ] {
            let command = without(Settings::command(), |_| true);
            let text = Settings::parse_flags(command, &[&format!("--{flag}={value}")]).unwrap_err().0;
            assert!(
                text.starts_with(&format!("FUSED_LORA_{variable}={value}: ")) && text.contains(hint),
                "{text}"
            );
        }
    }

    /// What stands in the table is what clap knows of the settings; on a difference, the test prints the
    /// right table.
    #[test]
    fn the_documented_table_is_that_of_the_settings() {
        let mut table = "| variable | values | meaning |\n|---|---|---|\n".to_owned();
        for arg in Settings::command().get_arguments() {
            let Some(variable) = arg.get_env() else { continue };
            let names: Vec<String> =
                arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
            let kind = arg.get_value_names().map_or(String::new(), |names| names[0].to_lowercase());
            let values = if names.is_empty() { kind } else { names.join(", ") };
            let mut meaning = arg.get_help().expect("each setting has a help text").to_string();
            if let ([default], false) = (arg.get_default_values(), arg.is_hide_default_value_set()) {
                meaning += &format!(" [default: {}]", default.display());
            }
            table += &format!("| `{}` | {values} | {meaning} |\n", variable.display());
        }
        let docs = std::fs::read_to_string(fused_lora_records::workspace_root().join("docs/benchmarking.md"))
            .unwrap();
        assert!(docs.contains(&table), "docs/benchmarking.md lacks this table:\n{table}");
    }
}

//! What is measured, from the environment: Criterion rejects flags that it does not know.

use std::env::VarError;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use fused_lora_records::{Shard, Workload};
use fused_lora_transformer::Targets;

/// Where this library computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// On the processor.
    Cpu,
    /// On an NVIDIA GPU.
    Cuda,
}

impl Backend {
    /// The name in the records' column `backend`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Cuda => "cuda",
        }
    }
}

/// State of the caches when a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// W, A, B, x and y all come from buffers that have left the caches.
    Cold,
    /// One W, A and B for all calls; x and y come from buffers that have left the caches.
    WarmW,
}

impl Cache {
    /// The name in the records' column `cache`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cache::Cold => "cold",
            Cache::WarmW => "warm-w",
        }
    }
}

/// Which cells of the grid are measured by a bench that has a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// `peers`, `gpu_peers`: a few sizes, from smallest to large, at every rank.
    Sizes,
    /// `layer`: batches of 1, 4 and 16.
    Reduced,
    /// The whole grid.
    Full,
}

impl Selection {
    /// All of them.
    pub const ALL: [Selection; 3] = [Selection::Sizes, Selection::Reduced, Selection::Full];

    /// The name in `FUSED_LORA_GRID`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Selection::Sizes => "sizes",
            Selection::Reduced => "reduced",
            Selection::Full => "full",
        }
    }
}

/// The settings of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `FUSED_LORA_WORKLOAD`
    pub workload: &'static Workload,
    /// `FUSED_LORA_BACKEND`
    pub backend: Backend,
    /// `FUSED_LORA_DEVICE`: the GPU's number among those that the driver shows. The backend `cpu` has none.
    pub device: u32,
    /// `FUSED_LORA_RESUME`: go on with the newest run of the same configuration and code.
    pub resume: bool,
    /// `FUSED_LORA_SHARD`: this host's part of the grid.
    pub shard: Shard,
    /// `FUSED_LORA_BUDGET_S`: wall time for everything, Criterion's analysis included.
    pub budget: Option<Duration>,
    /// `FUSED_LORA_ROUNDS`: rounds of every size before any gets more, where they fit.
    pub rounds: Option<usize>,
    /// `FUSED_LORA_CACHE`
    pub cache: Cache,
    /// `FUSED_LORA_GRID`
    pub selection: Selection,
    /// `FUSED_LORA_TARGETS`: which projections LoRA is on in `layer`.
    pub targets: Targets,
    /// `FUSED_LORA_TORCH`: the Python interpreter whose PyTorch runs in the rounds of `layer`; none without it.
    pub torch: Option<PathBuf>,
    /// `FUSED_LORA_MEASUREMENTS`: the folder of the records; if it is relative, below the workspace's root.
    pub measurements: PathBuf,
    /// `FUSED_LORA_REVISION`: the revision that a program was built from, where its work tree is not at hand.
    pub revision: Option<String>,
}

/// A variable whose value means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value}: {reason}")]
pub struct BadSetting {
    /// The variable's name.
    pub variable: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub reason: String,
}

const WORKLOAD: &str = "FUSED_LORA_WORKLOAD";
const BACKEND: &str = "FUSED_LORA_BACKEND";
const DEVICE: &str = "FUSED_LORA_DEVICE";
const RESUME: &str = "FUSED_LORA_RESUME";
const SHARD: &str = "FUSED_LORA_SHARD";
const BUDGET: &str = "FUSED_LORA_BUDGET_S";
const ROUNDS: &str = "FUSED_LORA_ROUNDS";
const CACHE: &str = "FUSED_LORA_CACHE";
const GRID: &str = "FUSED_LORA_GRID";
const TARGETS: &str = "FUSED_LORA_TARGETS";
/// Named in the errors of the PyTorch that runs in the rounds.
pub const TORCH: &str = "FUSED_LORA_TORCH";
const MEASUREMENTS: &str = "FUSED_LORA_MEASUREMENTS";
const REVISION: &str = "FUSED_LORA_REVISION";
/// All of them, with those of the library and of the loader of the CUDA driver.
const KNOWN: [&str; 15] = [
    WORKLOAD,
    BACKEND,
    DEVICE,
    RESUME,
    SHARD,
    BUDGET,
    ROUNDS,
    CACHE,
    GRID,
    TARGETS,
    TORCH,
    MEASUREMENTS,
    REVISION,
    fused_lora::cpu::SIMD_VARIABLE,
    "FUSED_LORA_LIBCUDA",
];
/// Begins the names of a simulated driver's settings.
const SIMULATION: &str = "FUSED_LORA_SIMT_";

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            workload: &Workload::LINEARS[0],
            backend: Backend::Cpu,
            device: 0,
            resume: false,
            shard: Shard::WHOLE,
            budget: None,
            rounds: None,
            cache: Cache::Cold,
            selection: Selection::Sizes,
            targets: Targets::All,
            torch: None,
            measurements: "measurements".into(),
            revision: None,
        }
    }
}

impl Settings {
    /// Reads the process's environment. What it does not set is that of `default`.
    ///
    /// # Errors
    ///
    /// The first variable whose value means nothing.
    pub fn from_env(default: Settings) -> Result<Settings, BadSetting> {
        Settings::read(default, |name| std::env::var(name))
    }

    fn read(
        default: Settings,
        lookup: impl Fn(&str) -> Result<String, VarError>,
    ) -> Result<Settings, BadSetting> {
        let variables = Variables { lookup };
        Ok(Settings {
            workload: variables
                .get(WORKLOAD, |text| Workload::by_name(text).map_err(said))?
                .unwrap_or(default.workload),
            backend: variables
                .choice(BACKEND, &[Backend::Cpu, Backend::Cuda].map(|backend| (backend.name(), backend)))?
                .unwrap_or(default.backend),
            device: variables.get(DEVICE, ordinal)?.unwrap_or(default.device),
            resume: variables.choice(RESUME, &[("1", true), ("0", false)])?.unwrap_or(default.resume),
            shard: variables.get(SHARD, |text| Shard::from_str(text).map_err(said))?.unwrap_or(default.shard),
            budget: variables.get(BUDGET, seconds)?.or(default.budget),
            rounds: variables.get(ROUNDS, count)?.or(default.rounds),
            cache: variables
                .choice(CACHE, &[("cold", Cache::Cold), ("warm-w", Cache::WarmW), ("warm", Cache::WarmW)])?
                .unwrap_or(default.cache),
            selection: variables
                .choice(GRID, &Selection::ALL.map(|selection| (selection.name(), selection)))?
                .unwrap_or(default.selection),
            targets: variables
                .get(TARGETS, |text| Targets::from_str(text).map_err(said))?
                .unwrap_or(default.targets),
            torch: variables.get(TORCH, |text| Ok(text.into()))?.or(default.torch),
            measurements: variables
                .get(MEASUREMENTS, |text| Ok(text.into()))?
                .unwrap_or(default.measurements),
            revision: variables.get(REVISION, |text| Ok(text.to_owned()))?.or(default.revision),
        })
    }
}

/// Variables that look like settings and are none: a slip of the pen that would otherwise go unnoticed.
pub fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with("FUSED_LORA_") && !is_known(name)).collect();
    unknown.sort_unstable();
    unknown
}

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || name.starts_with(SIMULATION)
}

fn ordinal(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected the number of a GPU, counted from 0".to_owned())
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(|| "expected a number of rounds above 0".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number of seconds above 0, such as 300".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|budget| !budget.is_zero()).ok_or_else(expected)
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Result<String, VarError>> Variables<F> {
    /// None where the variable is not set, or empty.
    fn get<T>(
        &self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, BadSetting> {
        let bad = |value: String, reason| BadSetting { variable, value, reason };
        match (self.lookup)(variable) {
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(value)) => {
                Err(bad(value.to_string_lossy().into_owned(), "not valid Unicode".to_owned()))
            }
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => parse(&value).map(Some).map_err(|reason| bad(value, reason)),
        }
    }

    fn choice<T: Copy>(
        &self,
        variable: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, BadSetting> {
        self.get(variable, |text| {
            let found = choices.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
            found.ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
                format!("expected {}", names.join(" or "))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, BadSetting> {
        Settings::read(Settings::default(), |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        })
    }

    #[test]
    fn nothing_set_is_the_default_grid() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.workload.name(), "linear-1024x1024");
        assert_eq!((settings.backend, settings.device), (Backend::Cpu, 0));
        assert_eq!((settings.resume, settings.budget, &settings.revision), (false, None, &None));
        assert_eq!(
            (settings.shard, settings.cache, settings.selection),
            (Shard::WHOLE, Cache::Cold, Selection::Sizes)
        );
        assert_eq!(read(&[(WORKLOAD, ""), (BUDGET, "")]), Ok(settings));
    }

    #[test]
    fn every_variable_is_heard() {
        let settings = read(&[
            (WORKLOAD, "gpt2-medium-linears"),
            (BACKEND, "cuda"),
            (DEVICE, "3"),
            (RESUME, "1"),
            (SHARD, "2/3"),
            (BUDGET, "12.5"),
            (ROUNDS, "40"),
            (CACHE, "warm-w"),
            (GRID, "full"),
            (TARGETS, "q,v"),
            (TORCH, "venv/bin/python"),
            (MEASUREMENTS, "elsewhere"),
            (REVISION, "0123abc-dirty"),
        ])
        .unwrap();
        assert_eq!(
            settings,
            Settings {
                workload: Workload::by_name("gpt2-medium-linears").unwrap(),
                backend: Backend::Cuda,
                device: 3,
                resume: true,
                shard: "2/3".parse().unwrap(),
                budget: Some(Duration::from_millis(12_500)),
                rounds: Some(40),
                cache: Cache::WarmW,
                selection: Selection::Full,
                targets: Targets::QueryValue,
                torch: Some("venv/bin/python".into()),
                measurements: "elsewhere".into(),
                revision: Some("0123abc-dirty".to_owned()),
            }
        );
    }

    #[test]
    fn a_bench_has_defaults_of_its_own_unless_one_is_named() {
        let layer = &Workload::LAYERS[0];
        let default = Settings {
            backend: Backend::Cuda,
            workload: layer,
            selection: Selection::Full,
            ..Settings::default()
        };
        assert_eq!(Settings::read(default.clone(), |_| Err(VarError::NotPresent)), Ok(default.clone()));
        let backend = |named: &str| {
            let lookup =
                |name: &str| if name == BACKEND { Ok(named.to_owned()) } else { Err(VarError::NotPresent) };
            Settings::read(default.clone(), lookup).unwrap().backend
        };
        assert_eq!(
            [backend(""), backend("cuda"), backend("cpu")],
            [Backend::Cuda, Backend::Cuda, Backend::Cpu]
        );
    }

    #[test]
    fn misspelt_variables_are_found() {
        let names = [
            "PATH",
            "FUSED_LORA_SIMD",
            "FUSED_LORA_BUDGET",
            "FUSED_LORA_GRID",
            "FUSED_LORA_BUDGET_S",
            "FUSED_LORA_LIBCUDA",
            "FUSED_LORA_SIMT_SEED",
        ];
        assert_eq!(unknown(names.into_iter().map(str::to_owned)), ["FUSED_LORA_BUDGET"]);
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (variable, value, hint) in [
            (WORKLOAD, "linear", "linear-4096x4096"),
            (BACKEND, "auto", "cpu or cuda"),
            (DEVICE, "cuda:0", "number"),
            (DEVICE, "-1", "number"),
            (RESUME, "yes", "1 or 0"),
            (SHARD, "3/2", "i/n"),
            (BUDGET, "-1", "seconds"),
            (BUDGET, "0", "seconds"),
            (BUDGET, "nan", "seconds"),
            (BUDGET, "5 min", "seconds"),
            (ROUNDS, "0", "rounds"),
            (CACHE, "hot", "cold or warm-w"),
            (GRID, "all", "sizes or reduced or full"),
            (TARGETS, "qv", "q,v"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err();
            assert_eq!((error.variable, error.value.as_str()), (variable, value));
            let text = error.to_string();
            assert!(text.contains(variable) && text.contains(value) && text.contains(hint), "{text}");
        }
    }
}

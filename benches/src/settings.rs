//! What is measured, from the environment: Criterion rejects flags that it does not know.

use std::cell::RefCell;
use std::env::VarError;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use fused_lora_records::{Shard, Workload};
use fused_lora_transformer::Targets;

/// An enum of which each value has a name in the environment and in the records.
macro_rules! named {
    ($(#[$of_type:meta])* $type:ident { $($(#[$of_value:meta])* $value:ident = $name:literal,)+ }) => {
        $(#[$of_type])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$of_value])* $value,)+ }

        impl $type {
            const NAMED: &[(&str, $type)] = &[$(($name, $type::$value)),+];

            /// The name in the environment and in the records.
            pub fn name(self) -> &'static str {
                match self { $($type::$value => $name,)+ }
            }
        }
    };
}

named! {
    /// Where this library computes.
    Backend {
        /// On the processor.
        Cpu = "cpu",
        /// On an NVIDIA GPU.
        Cuda = "cuda",
    }
}

named! {
    /// State of the caches when a call begins.
    Cache {
        /// W, A, B, x and y all come from buffers that have left the caches.
        Cold = "cold",
        /// One W, A and B for all calls; x and y come from buffers that have left the caches.
        WarmW = "warm-w",
    }
}

named! {
    /// Which cells of the grid are measured by a bench that has a choice.
    Selection {
        /// `peers`, `gpu_peers`: a few sizes, from smallest to large, at every rank.
        Sizes = "sizes",
        /// `layer`: batches of 1, 4 and 16.
        Reduced = "reduced",
        /// The whole grid.
        Full = "full",
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

/// An environment that means nothing: exit code 2, all else is 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Named in the errors of the PyTorch that runs in the rounds.
pub const TORCH: &str = "FUSED_LORA_TORCH";
/// Named where kernels are left out.
pub const PLAN: &str = "FUSED_LORA_PLAN";
/// Variables that are not read here, but by the library and the loader of the CUDA driver.
const OTHERS: [&str; 3] = [fused_lora::cpu::SIMD_VARIABLE, "FUSED_LORA_LIBCUDA", PLAN];
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
    /// Reads the process's environment. What it does not set is that of `default`; fails at the first variable whose value means nothing.
    pub fn from_env(default: Settings) -> Result<Settings, Usage> {
        Settings::read(default, &|name| std::env::var(name))
    }

    fn read(default: Settings, lookup: &Lookup<'_>) -> Result<Settings, Usage> {
        let mut read = default;
        let Settings { workload, backend, device, resume, shard, budget, rounds, .. } = &mut read;
        set(workload, "FUSED_LORA_WORKLOAD", lookup, Workload::by_name)?;
        set(backend, "FUSED_LORA_BACKEND", lookup, choice(Backend::NAMED))?;
        let ordinal = |text: &str| text.parse().map_err(|_| "expected the number of a GPU, counted from 0");
        set(device, "FUSED_LORA_DEVICE", lookup, ordinal)?;
        set(resume, "FUSED_LORA_RESUME", lookup, choice(&[("1", true), ("0", false)]))?;
        set(shard, "FUSED_LORA_SHARD", lookup, Shard::from_str)?;
        set(budget, "FUSED_LORA_BUDGET_S", lookup, |text| {
            let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let time = time.filter(|time| !time.is_zero());
            time.map(Some).ok_or("expected a number of seconds above 0, such as 300")
        })?;
        set(rounds, "FUSED_LORA_ROUNDS", lookup, |text| {
            let count = text.parse().ok().filter(|&count| count > 0);
            count.map(Some).ok_or("expected a number of rounds above 0")
        })?;
        let Settings { cache, selection, targets, torch, measurements, revision, .. } = &mut read;
        let caches = [Cache::NAMED, &[("warm", Cache::WarmW)]].concat();
        set(cache, "FUSED_LORA_CACHE", lookup, choice(&caches))?;
        set(selection, "FUSED_LORA_GRID", lookup, choice(Selection::NAMED))?;
        set(targets, "FUSED_LORA_TARGETS", lookup, Targets::from_str)?;
        set(torch, TORCH, lookup, |text| text.parse().map(Some))?;
        set(measurements, "FUSED_LORA_MEASUREMENTS", lookup, PathBuf::from_str)?;
        set(revision, "FUSED_LORA_REVISION", lookup, |text| text.parse().map(Some))?;
        Ok(read)
    }
}

/// Variables that look like settings and are none: a slip of the pen that would otherwise go unnoticed.
pub fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = RefCell::new(OTHERS.map(str::to_owned).to_vec());
    // Those that are read.
    let _ = Settings::read(Settings::default(), &|name| {
        known.borrow_mut().push(name.to_owned());
        Err(VarError::NotPresent)
    });
    let is_unknown = |name: &String| {
        name.starts_with("FUSED_LORA_") && !name.starts_with(SIMULATION) && !known.borrow().contains(name)
    };
    let mut unknown: Vec<String> = names.filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown
}

/// The environment.
type Lookup<'a> = dyn Fn(&str) -> Result<String, VarError> + 'a;

/// Leaves the setting as it is where the variable is not set, or empty.
fn set<T, E: fmt::Display>(
    setting: &mut T,
    variable: &str,
    lookup: &Lookup<'_>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), Usage> {
    let bad = |value: &str, reason: &dyn fmt::Display| Usage(format!("{variable}={value}: {reason}"));
    match lookup(variable) {
        Err(VarError::NotPresent) => (),
        Err(VarError::NotUnicode(value)) => return Err(bad(&value.to_string_lossy(), &"not valid Unicode")),
        Ok(value) if value.is_empty() => (),
        Ok(value) => *setting = parse(&value).map_err(|reason| bad(&value, &reason))?,
    }
    Ok(())
}

fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    |text| {
        let found = choices.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
        found.ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
            format!("expected {}", names.join(" or "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_over(default: Settings, variables: &[(&str, &str)]) -> Result<Settings, Usage> {
        Settings::read(default, &|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        })
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Usage> {
        read_over(Settings::default(), variables)
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
        assert_eq!(read(&[("FUSED_LORA_WORKLOAD", ""), ("FUSED_LORA_BUDGET_S", "")]), Ok(settings));
    }

    #[test]
    fn every_variable_is_heard() {
        let settings = read(&[
            ("FUSED_LORA_WORKLOAD", "gpt2-medium-linears"),
            ("FUSED_LORA_BACKEND", "cuda"),
            ("FUSED_LORA_DEVICE", "3"),
            ("FUSED_LORA_RESUME", "1"),
            ("FUSED_LORA_SHARD", "2/3"),
            ("FUSED_LORA_BUDGET_S", "12.5"),
            ("FUSED_LORA_ROUNDS", "40"),
            ("FUSED_LORA_CACHE", "warm-w"),
            ("FUSED_LORA_GRID", "full"),
            ("FUSED_LORA_TARGETS", "q,v"),
            (TORCH, "venv/bin/python"),
            ("FUSED_LORA_MEASUREMENTS", "elsewhere"),
            ("FUSED_LORA_REVISION", "0123abc-dirty"),
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
        assert_eq!(read_over(default.clone(), &[]), Ok(default.clone()));
        for (named, backend) in [("", Backend::Cuda), ("cuda", Backend::Cuda), ("cpu", Backend::Cpu)] {
            let settings = read_over(default.clone(), &[("FUSED_LORA_BACKEND", named)]).unwrap();
            assert_eq!(settings.backend, backend);
        }
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
            ("FUSED_LORA_WORKLOAD", "linear", "linear-4096x4096"),
            ("FUSED_LORA_BACKEND", "auto", "cpu or cuda"),
            ("FUSED_LORA_DEVICE", "cuda:0", "number"),
            ("FUSED_LORA_DEVICE", "-1", "number"),
            ("FUSED_LORA_RESUME", "yes", "1 or 0"),
            ("FUSED_LORA_SHARD", "3/2", "i/n"),
            ("FUSED_LORA_BUDGET_S", "-1", "seconds"),
            ("FUSED_LORA_BUDGET_S", "0", "seconds"),
            ("FUSED_LORA_BUDGET_S", "nan", "seconds"),
            ("FUSED_LORA_BUDGET_S", "5 min", "seconds"),
            ("FUSED_LORA_ROUNDS", "0", "rounds"),
            ("FUSED_LORA_CACHE", "hot", "cold or warm-w"),
            ("FUSED_LORA_GRID", "all", "sizes or reduced or full"),
            ("FUSED_LORA_TARGETS", "qv", "q,v"),
        ] {
            let text = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{variable}={value}: ")) && text.contains(hint), "{text}");
        }
    }
}

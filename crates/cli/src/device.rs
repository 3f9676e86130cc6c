//! Where `apply` computes.

use std::{fmt, str::FromStr};

use anyhow::{Result, bail};
use fused_lora::{AdapterElement, Element, check_finite};
use half::f16;
use ndarray::Array2;

#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "device/no_cuda.rs"
)]
mod cuda;
mod job;

pub(crate) use cuda::{facts, gpu};
pub(crate) use job::{Job, Segment, Source};

/// `--device`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// The first CUDA device if it can, the CPU otherwise.
    Auto,
    Cpu,
    Cuda(u32),
}

/// What came of it.
pub(crate) struct Outcome<T> {
    pub(crate) y: Array2<T>,
    /// What computed it: `avx512`, `cuda:0, NVIDIA H100, fused_64x64 × …`.
    pub(crate) by: String,
    /// Why not a CUDA device, where one was to be tried.
    pub(crate) fell_back: Option<String>,
}

/// An element type, and how CUDA device number so and so computes a job of it: y, and what computed it.
pub(crate) trait OnDevice: Element + AdapterElement<Self> {
    fn on_device(job: &Job<'_, Self>, _: u32) -> Result<(Array2<Self>, String)> {
        let _ = job;
        bail!("the GPU's kernels compute in f16, not in {}: give --dtype f16, or --device cpu", Self::DTYPE)
    }
}

impl OnDevice for f16 {
    fn on_device(job: &Job<'_, f16>, ordinal: u32) -> Result<(Array2<f16>, String)> {
        cuda::forward(job, ordinal)
    }
}

impl OnDevice for half::bf16 {}
impl OnDevice for f32 {}

/// Computes y where `choice` says.
pub(crate) fn run<T: OnDevice>(job: &Job<'_, T>, choice: Choice) -> Result<Outcome<T>> {
    let of = |(y, by)| Outcome { y, by, fell_back: None };
    match choice {
        Choice::Cpu => job.on_cpu().map(of),
        Choice::Cuda(ordinal) => T::on_device(job, ordinal).map(of),
        Choice::Auto => match T::on_device(job, 0).and_then(|(y, by)| {
            // On a GPU h is f16, which may be too narrow where a CPU's f32 is not.
            check_finite(job.x.view(), y.view())?;
            Ok((y, by))
        }) {
            Ok(outcome) => Ok(of(outcome)),
            Err(reason) => Ok(Outcome { fell_back: Some(format!("{reason:#}")), ..job.on_cpu().map(of)? }),
        },
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let ordinal = |number: &str| {
            // Digits alone: `parse` would take a sign, too.
            number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
        };
        match word {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => word
                .strip_prefix("cuda:")
                .and_then(ordinal)
                .map(Self::Cuda)
                .ok_or_else(|| "known are auto, cpu, cuda, cuda:0, cuda:1, ...".to_owned()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_choices() {
        for (word, choice) in [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda:0", Choice::Cuda(0)),
            ("cuda:17", Choice::Cuda(17)),
        ] {
            assert_eq!(word.parse(), Ok(choice));
            assert_eq!(choice.to_string(), word);
        }
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        for word in ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:99999999999", "cuda0"] {
            assert!(word.parse::<Choice>().is_err(), "{word}");
        }
    }
}

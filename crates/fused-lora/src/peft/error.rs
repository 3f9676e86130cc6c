use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    base_error::BaseError,
    foreign,
    shown::shown,
    tensors::{TensorError, list},
};

/// Why an adapter folder, or a module of it, was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeftError {
    /// The configuration cannot be read, or asks for something that is not implemented.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read, or a tensor is not as required.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// There are only pickled weights, which could run arbitrary code when opened.
    #[error("{} is a pickle, which is not read: save the adapter as safetensors", shown(file))]
    Pickle {
        /// The pickle.
        file: PathBuf,
    },
    /// The file holds nothing for this module.
    #[error("{}: no module {module:?}; there is {}", shown(file), list(modules))]
    NoSuchModule {
        /// The weights.
        file: PathBuf,
        /// The module asked for.
        module: String,
        /// The modules in the file.
        modules: Vec<String>,
    },
    /// Two modules of the file are the module asked for, but for prefixes.
    #[error(
        "{}: module {module:?} may be {:?} or {:?}: give one of these names",
        shown(file), modules[0], modules[1]
    )]
    TwoModules {
        /// The weights.
        file: PathBuf,
        /// The module asked for.
        module: String,
        /// Two that fit.
        modules: [String; 2],
    },
    /// What was given is not there.
    #[error("there is no folder {}{}", shown(path), hub(path))]
    NotThere {
        /// The path.
        path: PathBuf,
    },
    /// A safetensors file that is not an adapter's.
    #[error(
        "{} is not an adapter: give its folder, with adapter_config.json and adapter_model.safetensors",
        shown(file)
    )]
    NotAnAdapter {
        /// The file.
        file: PathBuf,
    },
    /// The folder of an adapter holds none, or something else.
    #[error("{} holds no adapter_config.json{hint}", shown(folder))]
    NoAdapter {
        /// The folder.
        folder: PathBuf,
        /// What there is instead, and what to do.
        hint: String,
    },
    /// The base model cannot be used, or does not fit the adapter.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A tensor of the weights is not as required.
    #[error("{}: tensor {tensor:?} {problem}", shown(file))]
    Lora {
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        problem: LoraProblem,
    },
}

/// What is wrong with a tensor of an adapter's weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraProblem {
    /// It is the module's whole weight, saved with the adapter: the module has no LoRA.
    #[error("replaces the module as a whole: there is no LoRA to apply")]
    Whole,
    /// Two tensors of the file are the same part of the same module.
    #[error("is the same part of the module as {other:?}: one of them must go")]
    Twice {
        /// The other tensor.
        other: String,
    },
    /// It is not understood, so its module's adapter is not a plain linear LoRA.
    #[error("is not supported: {why}")]
    Unsupported {
        /// What the tensor indicates.
        why: &'static str,
    },
    /// It is missing: the module has only one of its two matrices.
    #[error("is missing")]
    Missing,
    /// The rank of the configuration (after `rank_pattern`) is not the tensor's.
    #[error("has rank {found}, the configuration says {config}")]
    Rank {
        /// The tensor's rank.
        found: usize,
        /// The configuration's rank.
        config: usize,
    },
    /// f32 or bf16 values that f16 cannot represent, whatever power of two they are multiplied by: a single
    /// input of 1 overflows y. The tensor is the one with the larger value.
    #[error("overflows f16: its value {value:e} makes {magnitude:e} of an input of 1 at scale {scale:e}")]
    Overflow {
        /// The value.
        value: f32,
        /// `alpha / r` or `alpha / sqrt(r)`.
        scale: f64,
        /// The magnitude in y that an input of 1 gives.
        magnitude: f64,
    },
}

/// Why an `adapter_config.json` was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", shown(file))]
    Io {
        /// The configuration.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file's content is not as required.
    #[error("{}: {problem}", shown(file))]
    Content {
        /// The configuration.
        file: PathBuf,
        /// What is wrong.
        problem: ConfigProblem,
    },
}

/// What is wrong with the content of a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// The file is not JSON.
    #[error("broken JSON: {reason}")]
    Json {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A key that the result depends on is missing. PEFT always writes it.
    #[error("key {key:?} is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A value has the wrong type or range.
    #[error("{key} must be {expected}, found {found}")]
    Value {
        /// The key; in a pattern table, with the pattern.
        key: String,
        /// The values that are allowed.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// The file is something else, which is known.
    #[error("{0}")]
    Foreign(
        /// What it is, and what to do.
        &'static str,
    ),
    /// A regular expression is not valid, is not supported, or takes too long.
    #[error("{key} holds {pattern:?}, which is not a supported regular expression: {reason}")]
    Pattern {
        /// The key that holds it.
        key: &'static str,
        /// The expression.
        pattern: String,
        /// What is wrong with the expression.
        reason: String,
    },
    /// An expression takes too many steps on a module's name.
    #[error("an expression of {key} takes too long: {reason}")]
    TooLong {
        /// The key that holds it.
        key: &'static str,
        /// What the engine says.
        reason: String,
    },
    /// The adapter uses something that is not implemented and would change the result.
    #[error("{key} = {found} is not supported: {why}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// Why it is not supported.
        why: &'static str,
    },
    /// A key that no PEFT version known here writes, with a value that may mean something.
    #[error("unknown key {key:?} = {found}: it may change the result, so it is not ignored")]
    UnknownKey {
        /// The key.
        key: String,
        /// Its value.
        found: String,
    },
    /// `alpha / r` (or `alpha / sqrt(r)`) is not a finite f32.
    #[error("module {module:?} has scale {scale:e} (alpha {alpha:e}, rank {rank}): it must be a finite f32")]
    Scale {
        /// The module.
        module: String,
        /// The module's alpha, after `alpha_pattern`.
        alpha: f64,
        /// The module's rank, after `rank_pattern`.
        rank: usize,
        /// The scale.
        scale: f64,
    },
}

/// What to do about a name on a hub.
fn hub(path: &Path) -> &'static str {
    if foreign::is_hub_name(path) {
        "; an adapter of a hub must be downloaded first: give its local folder"
    } else {
        ""
    }
}

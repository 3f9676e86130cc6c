use std::{io, path::PathBuf};

use super::tensors::{TensorError, list};

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
    #[error("{} is a pickle, which is not read: save the adapter as safetensors", file.display())]
    Pickle {
        /// The pickle.
        file: PathBuf,
    },
    /// The file holds nothing for this module.
    #[error("{}: no module {module:?}; there is {}", file.display(), list(modules))]
    NoSuchModule {
        /// The weights.
        file: PathBuf,
        /// The module asked for.
        module: String,
        /// The modules in the file.
        modules: Vec<String>,
    },
    /// A tensor of the weights is not as required.
    #[error("{}: tensor {tensor:?} {problem}", file.display())]
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
    /// It belongs to no LoRA module: a whole weight that was saved with the adapter, or a name in another
    /// scheme.
    #[error("is no LoRA tensor of a module (base_model.model.<module>.lora_…)")]
    Foreign,
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
    #[error("cannot read {}", file.display())]
    Io {
        /// The configuration.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file's content is not as required.
    #[error("{}: {problem}", file.display())]
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
    /// A key of a `*_pattern` table is not a valid regular expression (of the `regex` crate: no look-around,
    /// no back-references).
    #[error("{key} holds {pattern:?}, which is not a supported regular expression: {reason}")]
    Pattern {
        /// `rank_pattern` or `alpha_pattern`.
        key: &'static str,
        /// The expression.
        pattern: String,
        /// What is wrong with the expression.
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

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
    /// A tensor that belongs to no LoRA module: a whole weight that was saved with the adapter, or a name in
    /// another scheme.
    #[error(
        "{}: tensor {tensor:?} is no LoRA tensor of a module (base_model.model.<module>.lora_…)",
        file.display()
    )]
    ForeignTensor {
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
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
    /// The module has a tensor that is not understood, so its adapter is not a plain linear LoRA.
    #[error("{}: tensor {tensor:?} is not supported: {why}", file.display())]
    UnsupportedTensor {
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the tensor indicates.
        why: &'static str,
    },
    /// The module has only one of its two matrices.
    #[error("{}: tensor {tensor:?} is missing", file.display())]
    MissingTensor {
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The rank of the configuration (after `rank_pattern`) is not the tensor's.
    #[error("{}: tensor {tensor:?} has rank {found}, the configuration says {config}", file.display())]
    RankMismatch {
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The tensor's rank.
        found: usize,
        /// The configuration's rank.
        config: usize,
    },
    /// f32 or bf16 tensors whose values f16 cannot represent, whatever power of two they are multiplied by: a
    /// single input of 1 overflows h or y.
    #[error(
        "{}: tensor {tensor:?} overflows f16: its value {value:e} makes {magnitude:e} of an input of 1 \
         at scale {scale:e}",
        file.display()
    )]
    Overflow {
        /// The weights.
        file: PathBuf,
        /// The tensor with the larger value.
        tensor: String,
        /// That value.
        value: f32,
        /// `alpha / r` or `alpha / sqrt(r)`.
        scale: f64,
        /// The magnitude in h or y that an input of 1 gives.
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
    /// The file is not JSON.
    #[error("{}: broken JSON: {reason}", file.display())]
    Json {
        /// The configuration.
        file: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A key that the result depends on is missing. PEFT always writes it.
    #[error("{}: key {key:?} is missing", file.display())]
    MissingKey {
        /// The configuration.
        file: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// A value has the wrong type or range.
    #[error("{}: {key} must be {expected}, found {found}", file.display())]
    Value {
        /// The configuration.
        file: PathBuf,
        /// The key; in a pattern table, with the pattern.
        key: String,
        /// The values that are allowed.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// A key of a `*_pattern` table is not a valid regular expression (of the `regex` crate: no look-around,
    /// no back-references).
    #[error(
        "{}: {key} holds {pattern:?}, which is not a supported regular expression: {reason}",
        file.display()
    )]
    Pattern {
        /// The configuration.
        file: PathBuf,
        /// `rank_pattern` or `alpha_pattern`.
        key: &'static str,
        /// The expression.
        pattern: String,
        /// What is wrong with the expression.
        reason: String,
    },
    /// The adapter uses something that is not implemented and would change the result.
    #[error("{}: {key} = {found} is not supported: {why}", file.display())]
    Unsupported {
        /// The configuration.
        file: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// Why it is not supported.
        why: &'static str,
    },
    /// A key that no PEFT version known here writes, with a value that may mean something.
    #[error(
        "{}: unknown key {key:?} = {found}: it may change the result, so it is not ignored",
        file.display()
    )]
    UnknownKey {
        /// The configuration.
        file: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
    },
    /// `alpha / r` (or `alpha / sqrt(r)`) is not a finite f32.
    #[error(
        "{}: module {module:?} has scale {scale:e} (alpha {alpha:e}, rank {rank}): it must be a finite f32",
        file.display()
    )]
    Scale {
        /// The configuration.
        file: PathBuf,
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

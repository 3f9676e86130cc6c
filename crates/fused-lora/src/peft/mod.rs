//! Adapters as Hugging Face PEFT saves them: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! ```no_run
//! use fused_lora::{cpu::Adapter, peft::LoraFile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = LoraFile::open("my-adapter".as_ref())?;
//! for module in file.modules() {
//!     let lora = file.load(module)?;
//!     let adapter: Adapter = Adapter::new(lora.a.view(), lora.b.view(), lora.scale)?;
//!     println!("{module}: rank {}", adapter.rank());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is read: linear layers with tensors of f16, bf16 or f32; `r` and `lora_alpha` with their
//! `rank_pattern` and `alpha_pattern`; `use_rslora`; `fan_in_fan_out` ([`LoraFile::fan_in_fan_out`]).
//! Anything that would change the result and is not implemented is an error that names it: see
//! [`ConfigError`] and [`PeftError`]. That holds for every key of the configuration, also for keys of future
//! versions of PEFT, and for every tensor.

mod config;
mod error;
mod json;
mod keys;
mod modules;
mod normalise;
mod pattern;
mod tensors;

use std::path::Path;

pub use error::{ConfigError, ConfigProblem, LoraProblem, PeftError};
pub use normalise::LoraWeights;
pub use tensors::{HeaderError, TensorError, TensorFile, TensorProblem};

use config::Config;
use modules::{Modules, bad};
use normalise::Overflow;
use tensors::Matrix;

use crate::problem::DType;

/// The configuration's file name in an adapter folder.
pub const CONFIG_NAME: &str = "adapter_config.json";
/// The weights' file name in an adapter folder.
pub const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// What older PEFT versions wrote instead; a pickle, so it is never opened.
const PICKLE_NAME: &str = "adapter_model.bin";

/// An adapter folder, opened: the configuration is checked, the tensors are read by [`load`](Self::load).
#[derive(Debug)]
pub struct LoraFile {
    config: Config,
    tensors: TensorFile,
    modules: Modules,
}

impl LoraFile {
    /// Opens the adapter folder `dir`.
    ///
    /// # Errors
    ///
    /// A file that is missing or malformed; a configuration that asks for something that is not implemented;
    /// a tensor that belongs to no LoRA module.
    pub fn open(dir: &Path) -> Result<LoraFile, PeftError> {
        let config = Config::read(dir.join(CONFIG_NAME))?;
        let weights = dir.join(WEIGHTS_NAME);
        let pickle = dir.join(PICKLE_NAME);
        if !weights.exists() && pickle.exists() {
            return Err(PeftError::Pickle { file: pickle });
        }
        let tensors = TensorFile::open(&weights)?;
        let modules = Modules::sort(&tensors)?;
        Ok(LoraFile { config, tensors, modules })
    }

    /// The modules for which the file holds LoRA tensors, by their names in the base model, sorted.
    ///
    /// Embeddings and convolutions are included; [`load`](Self::load) rejects them.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.names()
    }

    /// Whether the base model stores the adapted weights as `[in, out]` (GPT-2's `Conv1D`) instead of
    /// `[out, in]`: the base weight must then be transposed before it becomes a layer. A and B are not
    /// affected.
    pub fn fan_in_fan_out(&self) -> bool {
        self.config.fan_in_fan_out
    }

    /// The two files of the folder: configuration and weights.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.config.file, self.tensors.path()]
    }

    /// Reads the adapter of `module` as f16.
    ///
    /// # Errors
    ///
    /// A module that is missing or is not a linear layer; a rank that differs from the configuration's;
    /// tensors of another type than f16, bf16 or f32, with NaN or infinite elements, or with values that f16
    /// cannot represent.
    pub fn load(&self, module: &str) -> Result<LoraWeights, PeftError> {
        let ([name_a, name_b], scale) = self.linear(module)?;
        let a = self.tensors.matrix(&name_a)?;
        let b = self.tensors.matrix(&name_b)?;
        normalise::to_f16(a, b, scale).map_err(|Overflow { of_a, value, magnitude }| {
            let problem = LoraProblem::Overflow { value, scale, magnitude };
            bad(&self.tensors, if of_a { &name_a } else { &name_b }, problem)
        })
    }

    /// Reads the adapter of `module` as f32, which holds every f16 and every bf16.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but no value is too large.
    pub fn load_f32(&self, module: &str) -> Result<LoraWeights<f32>, PeftError> {
        let (names, scale) = self.linear(module)?;
        let [a, b] = names.map(|name| self.tensors.matrix(&name).map(Matrix::into_f32));
        Ok(LoraWeights { a: a?, b: b?, scale: scale as f32 })
    }

    /// The element types of A and B of `module` in the file.
    ///
    /// # Errors
    ///
    /// A module that is missing or is not a linear layer; tensors of another type than f16, bf16 or f32.
    pub fn dtypes(&self, module: &str) -> Result<[DType; 2], PeftError> {
        let [a, b] = self.modules.linear(module, &self.tensors)?.map(|name| self.tensors.dtype(&name));
        Ok([a?, b?])
    }

    /// The names of A and B, whose shapes fit the configuration, and the scale.
    fn linear(&self, module: &str) -> Result<([String; 2], f64), PeftError> {
        let [name_a, name_b] = self.modules.linear(module, &self.tensors)?;
        let a_shape = self.tensors.matrix_shape(&name_a)?;
        let b_shape = self.tensors.matrix_shape(&name_b)?;

        let rank = self.config.rank(module);
        for (tensor, found) in [(&name_a, a_shape[0]), (&name_b, b_shape[1])] {
            if found != rank {
                return Err(bad(&self.tensors, tensor, LoraProblem::Rank { found, config: rank }));
            }
        }
        let scale = self.config.scale(module)?;
        Ok(([name_a, name_b], scale))
    }
}

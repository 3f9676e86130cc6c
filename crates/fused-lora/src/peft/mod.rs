//! Adapters as Hugging Face PEFT saves them, and the base models that they belong to.
//!
//! ```no_run
//! use fused_lora::{
//!     cpu::{Adapter, Layer},
//!     peft::{BaseModel, Choices, LoraFile},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let adapter = LoraFile::open("my-adapter".as_ref())?; // the folder, or a file in it
//! let base = BaseModel::open("my-model".as_ref())?; // a folder, an index, a file
//! for module in adapter.modules() {
//!     let found = base.resolve(&adapter, module, Choices::default())?;
//!     println!("{module}: rank {}, W is {}", found.lora.rank, found.weight.tensor);
//!     let layer = Layer::new(found.read_weight::<f32>(&base, &adapter)?.view())?;
//!     if found.lora.excluded.is_none() {
//!         let lora = adapter.load_f32(module)?;
//!         layer.with_adapter(Adapter::new(lora.a.view(), lora.b.view(), lora.scale)?)?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is read: linear layers with tensors of f16, bf16 or f32; `r` and `lora_alpha` with their
//! `rank_pattern` and `alpha_pattern`; `use_rslora`; biases and base weights that the adapter brings. Which
//! modules a configuration leaves out is decided as PEFT does ([`LoraModule::excluded`]), which way round a
//! weight lies by shapes and by what stands beside it ([`Layout`]).
//!
//! What would change the result and is not implemented is an error of the modules that it changes, and names
//! it: see [`ConfigError`] and [`PeftError`]. That holds for every key of the configuration, also for keys of
//! future versions of PEFT, and for every tensor of a module.

mod adapter;
mod base;
mod base_error;
mod config;
mod error;
mod files;
mod foreign;
mod index;
mod json;
mod keys;
mod layout;
mod modules;
mod names;
mod normalise;
mod pattern;
mod python_regex;
mod resolve;
mod shown;
mod targets;
mod tensors;

pub use adapter::{CONFIG_NAME, LoraFile, LoraModule, WEIGHTS_NAME};
pub use base::BaseModel;
pub use base_error::BaseError;
pub use error::{ConfigError, ConfigProblem, LoraProblem, PeftError};
pub use layout::Layout;
pub use normalise::LoraWeights;
pub use resolve::{Choices, Location, Resolved};
pub use targets::Exclusion;
pub use tensors::{HeaderError, TensorError, TensorFile, TensorProblem};

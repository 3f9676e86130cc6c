//! A layer of GPT-2, as the workload on which adapters are compared.
//!
//! ```text
//! n1  = LayerNorm(x)                        [M, d]        M = sequences · seq_len tokens
//! qkv = n1 Wqkvᵀ + b                        [M, 3d]
//! a   = softmax(q kᵀ / √(d/heads)) v        [M, d]        causal, for each sequence and head
//! mid = x + a Wprojᵀ + b                    [M, d]
//! n2  = LayerNorm(mid)                      [M, d]
//! u   = gelu(n2 Wupᵀ + b)                   [M, mlp]
//! y   = mid + u Wdownᵀ + b                  [M, d]
//! ```
//!
//! That is the pre-LN block of GPT-2 (Radford et al. 2019), GELU in its form with tanh, LayerNorm's ε 10⁻⁵.
//! Weights are `[N, K]`, the transpose of GPT-2's `Conv1D`. Everything in memory is f16, every sum f32.
//! Biases, GELU and the residual sums are [epilogues](fused_lora::Epilogue) of the products, so only
//! LayerNorm and attention read and write memory in addition to the products.
//!
//! # Methods
//!
//! A [`Method`] says how the layer is adapted; its docs say what that costs. The methods are those that Hu et
//! al. 2021 ("LoRA", arXiv 2106.09685, sections 3 and 5.1) compare:
//!
//! - *AdapterH*, Houlsby et al. 2019 (arXiv 1902.00751): `z + up(gelu(down(z)))` with biases, on the output z
//!   of the attention's projection and of the MLP, each before the residual sum.
//! - *AdapterL*, Lin et al. 2020 (arXiv 2004.03829): once a layer, after the MLP:
//!   `y + up(gelu(down(LayerNorm(y))))` with biases.
//! - *LoRA*, un-merged: `s · x Aᵀ Bᵀ` beside the products, as three products or in one pass.
//!
//! Both have biases, since Hu et al. count them among the parameters: `2 · d · r + r + d` an adapter and
//! `2 · d` a LayerNorm. Lin et al. use ReLU; here both use GELU, whose cost is negligible beside the
//! product's.
//!
//! Sequential adapters use the same epilogues: an AdapterH is two products, and its two residual sums are
//! part of the second product's epilogue. The rest of its cost is arithmetic and two more passes over
//! `[M, d]`.
//!
//! A [`Layer`] and a [`Model`] run on a [`Backend`]: the CPU ([`cpu`]) or a GPU (`cuda`).
//!
//! ```
//! use fused_lora::cpu::Simd;
//! use fused_lora_transformer::{
//!     Config, Method, Targets,
//!     cpu::{Model, Workspace},
//! };
//! use half::f16;
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), fused_lora_transformer::Error> {
//! let config = Config { d: 64, heads: 4, mlp: 256, layers: 2 };
//! let model = Model::random(&Simd::detect()?, config, 1)?;
//! let adapted = model.with_random_adapters(Method::LoraFused, Targets::All, 8, 2)?; // shares the weights
//!
//! let x = Array2::from_elem((2 * 16, 64), f16::ONE); // two sequences of 16 tokens
//! let mut y = Array2::zeros((2 * 16, 64));
//! adapted.forward(x.view(), 16, y.view_mut(), &mut Workspace::new(), &())?;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod backend;
mod config;
pub mod cpu;
#[cfg(all(feature = "cuda", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
mod error;
mod layer;
mod layer_norm;
mod method;
mod model;
mod weights;
mod workspace;

pub use backend::Backend;
pub use config::{Config, SEQ_LEN_LIMIT};
pub use error::Error;
pub use layer::{Layer, Stage};
pub use method::{Method, Targets};
pub use model::Model;
pub use weights::{
    AdapterWeights, BottleneckWeights, LayerWeights, LinearWeights, LoraTargets, LoraWeights, NormWeights,
};
pub use workspace::{Scratch, Workspace};

//! The layer on an NVIDIA GPU: [`fused_lora::cuda`]'s products with their epilogues, its LayerNorm and its attention.
//!
//! A forward pass of the bare layer is seven launches: LayerNorm, QKV, attention, projection, LayerNorm, and the two products of the
//! MLP. Biases, GELU and residual sums are in the products' epilogues, and `lora-fused` adds no launch (on
//! [q and v](crate::Targets::QueryValue) one). [`Model::capture`] puts the whole pass into one graph.
//!
//! ```no_run
//! use fused_lora::cuda::{Buffer, Device, Matrix, MatrixMut, Stream};
//! use fused_lora_transformer::{Config, Method, Targets, cuda::{Model, Workspace}};
//!
//! # fn main() -> Result<(), fused_lora_transformer::Error> {
//! let config = Config { layers: 24, ..Config::GPT2_MEDIUM_LAYER };
//! let (seq_len, rank, m, d) = (128, 10, 4 * 128, config.d);
//! let device = Device::open(0)?;
//! let stream = Stream::new(&device)?;
//! let bare = Model::random(&device, config, 1)?;
//! let model = bare.with_random_adapters(Method::LoraFused, Targets::All, rank, 2)?; // shares the weights
//!
//! let mut workspace = Workspace::new(&device, config, m, rank)?; // one for each stream
//! let (x, mut y) = (Buffer::zeroed(&device, m * d)?, Buffer::zeroed(&device, m * d)?);
//! model.forward(Matrix::new(&x, m, d)?, seq_len, MatrixMut::new(&mut y, m, d)?, &mut workspace, &stream)?;
//! # Ok(())
//! # }
//! ```

mod bottleneck;
mod layer;
mod model;
mod products;
mod qkv;
mod workspace;

pub use layer::Layer;
pub use model::Model;
pub use products::products;
pub use workspace::Workspace;

use fused_lora::{
    Activation, Epilogue,
    cuda::{self, Device},
};

use crate::{Error, LinearWeights, LoraWeights, expect_shape};

/// A product with its bias.
fn linear(
    device: &Device,
    tensor: &'static str,
    shape: [usize; 2],
    weights: &LinearWeights,
    activation: Option<Activation>,
) -> Result<cuda::Layer, Error> {
    expect_shape(tensor, &shape, weights.weight.shape())?;
    let mut epilogue = Epilogue::bias(weights.bias.clone());
    epilogue.activation = activation;
    Ok(cuda::Layer::new(device, weights.weight.view())?.with_epilogue(&epilogue)?)
}

fn set_lora(layer: &mut cuda::Layer, weights: &LoraWeights) -> Result<(), Error> {
    let LoraWeights { a, b, scale } = weights;
    layer.set_adapter(Some(cuda::Adapter::new(layer.device(), a.view(), b.view(), *scale)?))?;
    Ok(())
}

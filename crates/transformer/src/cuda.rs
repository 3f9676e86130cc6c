//! The layer on an NVIDIA GPU: [`fused_lora::cuda`]'s products with their epilogues, its LayerNorm and its
//! attention. A device is the backend.
//!
//! A forward pass of the bare layer is seven launches: LayerNorm, QKV, attention, projection, LayerNorm, and
//! the two products of the MLP. Biases, GELU and residual sums are in the products' epilogues, and
//! `lora-fused` adds no launch (on [q and v](crate::Targets::QueryValue) one). [`Model::capture`] puts the
//! whole pass into one graph.
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

use std::ops::Range;

use fused_lora::{
    Epilogue, Problem, Residual, Strategy,
    cuda::{
        self, Adapter, Buffer, CausalAttention, Device, Graph, LayerNorm, Matrix, MatrixMut, Stream,
        workspace_size,
    },
};
use half::f16;
use ndarray::{Array2, ArrayView2, s};

use crate::{
    backend::Backend,
    config::Config,
    error::Error,
    method::{Method, Targets},
    weights::{LinearWeights, LoraWeights, NormWeights},
    workspace::{Buffers, Scratch},
};

/// One layer on a device.
pub type Layer = crate::layer::Layer<Device>;
/// Layers on a device.
pub type Model = crate::model::Model<Device>;
/// Memory for a forward pass on a device. It does not grow.
pub type Workspace = crate::workspace::Workspace<Device>;

impl Workspace {
    /// A workspace for calls of up to `m_max` rows, for models of these widths with adapters of ranks up to
    /// `rank_max`: `2 (6 d + mlp + 2 r) m_max` bytes and a little more, and two more matrices `[m_max, d]` if
    /// there is more than one layer.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::validated`], and [`Error::Cuda`] if there is not enough memory.
    pub fn new(device: &Device, config: Config, m_max: usize, rank_max: usize) -> Result<Self, Error> {
        let Config { d, mlp, layers, .. } = config.validated()?;
        let scratch = |columns: usize| {
            // Zeros only so that a mistake would be the same each time.
            Buffer::zeroed(device, m_max.saturating_mul(columns)).map(Scratch::new)
        };
        // One layer passes nothing on.
        let hidden = || scratch(if layers > 1 { d } else { 0 });
        Ok(Self {
            buffers: Buffers {
                products: cuda::Workspace::new(device, workspace_size(m_max, rank_max))?,
                norm: scratch(d)?,
                qkv: scratch(d.saturating_mul(3))?,
                attention: scratch(d)?,
                middle: scratch(d)?,
                mlp: scratch(mlp)?,
                bottleneck: scratch(padded(rank_max))?,
            },
            hidden: [hidden()?, hidden()?],
            rows_max: m_max,
        })
    }
}

impl Model {
    /// Records [`forward`](Self::forward) in a graph instead of running it: a pass is then one launch of the
    /// graph.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn capture(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<Graph, Error> {
        Graph::capture(stream, |stream| self.forward(x, seq_len, y, workspace, stream))
    }
}

impl Backend for Device {
    type Linear = cuda::Layer;
    type LayerNorm = LayerNorm;
    type Attention = CausalAttention;
    type Matrix<'a> = Matrix<'a>;
    type MatrixMut<'a> = MatrixMut<'a>;
    type Memory = Buffer;
    type Products = cuda::Workspace;
    type Stream = Stream;

    /// Elements in 16 bytes: the fast kernels read x so, and columns of x have to be a multiple of it.
    const RANK_GRANULE: usize = 8;

    fn linear(&self, weight: ArrayView2<'_, f16>, epilogue: &Epilogue) -> Result<cuda::Layer, Error> {
        Ok(cuda::Layer::new(self, weight)?.with_epilogue(epilogue)?)
    }

    fn out_features(linear: &cuda::Layer) -> usize {
        linear.out_features()
    }

    fn set_adapter(linear: &mut cuda::Layer, adapter: Option<&LoraWeights>) -> Result<(), Error> {
        let device = linear.device();
        let copy =
            |LoraWeights { a, b, scale }: &LoraWeights| Adapter::new(device, a.view(), b.view(), *scale);
        let adapter = adapter.map(copy).transpose()?;
        linear.set_adapter(adapter)?;
        Ok(())
    }

    /// A launch gives each row of x one adapter, which may add to some columns only. So q and k are one
    /// product, v is another, and both are copies of parts of `weights`.
    fn query_value(
        &self,
        _: &cuda::Layer,
        LinearWeights { weight, bias }: &LinearWeights,
        [query, value]: [&LoraWeights; 2],
    ) -> Result<Vec<cuda::Layer>, Error> {
        let d = weight.nrows() / 3;
        let part = |rows: Range<usize>, LoraWeights { a, b, scale }: &LoraWeights| {
            let epilogue = Epilogue::bias(bias.slice(s![rows.clone()]).to_owned());
            let n = rows.len();
            let layer = self.linear(weight.slice(s![rows, ..]), &epilogue)?;
            let adapter = Adapter::on_columns(self, a.view(), b.view(), *scale, 0..d, n)?;
            Ok::<_, Error>(layer.with_adapter(adapter)?)
        };
        Ok(vec![part(0..2 * d, query)?, part(2 * d..3 * d, value)?])
    }

    fn layer_norm(&self, weights: &NormWeights) -> Result<LayerNorm, Error> {
        Ok(LayerNorm::new(self, weights.gamma.view(), weights.beta.view())?)
    }

    fn attention(&self, heads: usize, head_dim: usize) -> Result<CausalAttention, Error> {
        Ok(CausalAttention::new(self, heads, head_dim)?)
    }

    fn shapes(x: &Matrix<'_>, y: &MatrixMut<'_>) -> [[usize; 2]; 2] {
        [[x.rows(), x.columns()], [y.rows(), y.columns()]]
    }

    fn check_columns(_: &Matrix<'_>, _: &MatrixMut<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn reborrow<'a>(x: &'a Matrix<'_>) -> Matrix<'a> {
        *x
    }

    fn matrix(memory: &Buffer, rows: usize, columns: usize) -> Result<Matrix<'_>, Error> {
        Ok(Matrix::new(memory, rows, columns)?)
    }

    fn matrix_mut(
        memory: &mut Buffer,
        rows: usize,
        stride: usize,
        columns: Range<usize>,
    ) -> Result<MatrixMut<'_>, Error> {
        Ok(MatrixMut::strided(memory, columns.start, rows, columns.len(), stride)?)
    }

    fn to_array(memory: &Buffer, rows: usize, columns: usize) -> Result<Array2<f16>, Error> {
        let mut values = memory.to_vec()?;
        values.truncate(rows * columns);
        Ok(Array2::from_shape_vec((rows, columns), values).expect("the memory has held that matrix"))
    }

    fn run_linear(
        linear: &cuda::Layer,
        strategy: Strategy,
        x: Matrix<'_>,
        residual: Residual<Matrix<'_>>,
        y: MatrixMut<'_>,
        products: &mut cuda::Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        Ok(linear.call(x).residual(residual).strategy(strategy).run(y, products, stream)?)
    }

    fn run_layer_norm(
        norm: &LayerNorm,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        stream: &Stream,
    ) -> Result<(), Error> {
        Ok(norm.forward(x, y, stream)?)
    }

    fn run_attention(
        attention: &CausalAttention,
        qkv: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        _: &mut cuda::Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        Ok(attention.forward(qkv, seq_len, y, stream)?)
    }
}

/// The products of a forward pass of one layer with `m` rows and adapters of this rank, in order, and the
/// strategy of each. LayerNorm and attention, which every method has, are not products.
///
/// [`Gpu::plan`](fused_lora::cuda::Gpu::plan) says what a product launches.
#[must_use]
pub fn products(
    config: &Config,
    method: Method,
    targets: Targets,
    rank: usize,
    m: usize,
) -> Vec<(Problem, Strategy)> {
    let Config { d, mlp, .. } = *config;
    let strategy = method.strategy();
    // Output and input width, and the rank of its adapter.
    let product = |n: usize, k: usize, rank: usize| (Problem::new(m, n, k, rank), strategy);
    let is_lora = matches!(method, Method::LoraUnfused | Method::LoraFused);
    let on_all = if is_lora && targets == Targets::All { rank } else { 0 };
    let bottleneck = [product(padded(rank), d, 0), product(d, padded(rank), 0)];
    let mut products = if is_lora && targets == Targets::QueryValue {
        vec![product(2 * d, d, rank), product(d, d, rank)]
    } else {
        vec![product(3 * d, d, on_all)]
    };
    products.push(product(d, d, on_all));
    if method == Method::AdapterH {
        products.extend(bottleneck);
    }
    products.extend([product(mlp, d, on_all), product(d, mlp, on_all)]);
    if matches!(method, Method::AdapterH | Method::AdapterL) {
        products.extend(bottleneck);
    }
    products
}

/// A bottleneck's rank as the kernels are given it.
fn padded(rank: usize) -> usize {
    rank.next_multiple_of(Device::RANK_GRANULE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiply-adds, computed in another way by the method.
    #[test]
    fn they_multiply_what_the_method_says() {
        let config = Config::GPT2_MEDIUM_LAYER;
        for targets in [Targets::All, Targets::QueryValue] {
            for method in Method::ALL {
                for rank in [8, 104, 256] {
                    let mul_adds = |(problem, _): &(Problem, Strategy)| {
                        let Problem { m, n, k, rank, .. } = *problem;
                        m * (n * k + rank * (n + k))
                    };
                    let products = products(&config, method, targets, rank, 3);
                    let mut expected = config.product_mul_adds() + method.mul_adds(&config, targets, rank);
                    if method.strategy() != Strategy::Base && targets == Targets::QueryValue {
                        // q's adapter is one of q and k together, whose columns of k are zero.
                        expected += (rank * config.d) as f64;
                    }
                    let sum: usize = products.iter().map(mul_adds).sum();
                    assert_eq!(sum as f64, 3.0 * expected, "{method} {targets:?} {rank}");
                }
            }
        }
    }
}

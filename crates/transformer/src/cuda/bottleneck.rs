use fused_lora::{
    Activation, Residual, Strategy,
    cuda::{self, Device, Matrix, MatrixMut, Stream},
};
use ndarray::{Array1, Array2, s};

use super::{linear, workspace::Scratch};
use crate::{BottleneckWeights, Error, LinearWeights, expect_shape};

/// Elements in 16 bytes: what an operand's columns have to be a multiple of for the fast kernels.
const GRANULE: usize = 8;

/// `up(gelu(down(x)))`, its rank rounded up with zeros so that what stands between the two products can be read 16 bytes at a
/// time. What is added is zero: `gelu(0) = 0`.
#[derive(Clone, Debug)]
pub(super) struct Bottleneck {
    down: cuda::Layer,
    up: cuda::Layer,
}

impl Bottleneck {
    pub(super) fn new(device: &Device, d: usize, weights: &BottleneckWeights) -> Result<Self, Error> {
        let BottleneckWeights { down, up } = weights;
        let rank = down.weight.nrows();
        expect_shape("the adapter's down projection", &[rank, d], down.weight.shape())?;
        expect_shape("the adapter's up projection", &[d, rank], up.weight.shape())?;
        expect_shape("the bias of the adapter's down projection", &[rank], down.bias.shape())?;
        let padded = padded_rank(rank);
        let down = LinearWeights {
            weight: padded_to(&down.weight, [padded, d]),
            bias: {
                let mut bias = Array1::zeros(padded);
                bias.slice_mut(s![..rank]).assign(&down.bias);
                bias
            },
        };
        let up = LinearWeights { weight: padded_to(&up.weight, [d, padded]), bias: up.bias.clone() };
        Ok(Self {
            down: linear(
                device,
                "the adapter's down projection",
                [padded, d],
                &down,
                Some(Activation::GeluTanh),
            )?,
            up: linear(device, "the adapter's up projection", [d, padded], &up, None)?,
        })
    }

    /// `y = up(gelu(down(x))) + residual`
    pub(super) fn forward(
        &self,
        x: Matrix<'_>,
        residual: Residual<Matrix<'_>>,
        y: MatrixMut<'_>,
        between: &mut Scratch,
        products: &mut cuda::Workspace,
        stream: &Stream,
    ) -> Result<(), cuda::Error> {
        self.down.call(x).strategy(Strategy::Base).run(
            between.shaped(x.rows(), self.down.out_features())?,
            products,
            stream,
        )?;
        self.up.call(between.view()?).residual(residual).strategy(Strategy::Base).run(y, products, stream)
    }
}

/// The rank as the kernels are given it.
pub(super) fn padded_rank(rank: usize) -> usize {
    rank.next_multiple_of(GRANULE)
}

/// A matrix in the upper left corner of zeros.
fn padded_to(matrix: &Array2<half::f16>, shape: [usize; 2]) -> Array2<half::f16> {
    let mut padded = Array2::zeros(shape);
    padded.slice_mut(s![..matrix.nrows(), ..matrix.ncols()]).assign(matrix);
    padded
}

//! Weights as matrices, before anything is packed.

use half::f16;
use ndarray::{Array1, Array2};
use rand::{SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Normal};

use crate::{
    config::Config,
    error::Error,
    method::{Method, Targets},
};

/// GPT-2's standard deviation of weights.
const DEVIATION: f32 = 0.02;
/// Layers of GPT-2 medium: what its two projections into the residual stream are scaled for, `0.02 / √(2 ·
/// 24)`, however many of them are there.
const LAYERS: f32 = 24.0;

/// The weights of a LayerNorm.
#[derive(Clone, Debug)]
pub struct NormWeights {
    /// `[d]`
    pub gamma: Array1<f16>,
    /// `[d]`
    pub beta: Array1<f16>,
}

/// The weights of a linear layer: `y = x Wᵀ + bias`.
#[derive(Clone, Debug)]
pub struct LinearWeights {
    /// W: `[N, K]`
    pub weight: Array2<f16>,
    /// `[N]`
    pub bias: Array1<f16>,
}

/// The weights of a layer, without adapters.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Before attention.
    pub norm1: NormWeights,
    /// W: `[3 d, d]`: the rows of q, then k, then v; within each, one head after another.
    pub qkv: LinearWeights,
    /// W: `[d, d]`
    pub proj: LinearWeights,
    /// Before the MLP.
    pub norm2: NormWeights,
    /// W: `[mlp, d]`
    pub up: LinearWeights,
    /// W: `[d, mlp]`
    pub down: LinearWeights,
}

/// The weights of a bottleneck: `up(gelu(down(x)))`.
#[derive(Clone, Debug)]
pub struct BottleneckWeights {
    /// W: `[r, d]`
    pub down: LinearWeights,
    /// W: `[d, r]`
    pub up: LinearWeights,
}

/// One LoRA adapter: `s · x Aᵀ Bᵀ`.
#[derive(Clone, Debug)]
pub struct LoraWeights {
    /// `[r, K]`
    pub a: Array2<f16>,
    /// `[N, r]`
    pub b: Array2<f16>,
    /// s: the scale.
    pub scale: f32,
}

/// The LoRA adapters of a layer.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them, each owning megabytes")]
pub enum LoraTargets {
    /// [`Targets::All`]
    All {
        /// N = 3 d, K = d
        qkv: LoraWeights,
        /// N = K = d
        proj: LoraWeights,
        /// N = mlp, K = d
        up: LoraWeights,
        /// N = d, K = mlp
        down: LoraWeights,
    },
    /// [`Targets::QueryValue`], N = K = d
    QueryValue {
        /// On q.
        query: LoraWeights,
        /// On v.
        value: LoraWeights,
    },
}

/// A layer's adapters.
#[derive(Clone, Debug)]
pub enum AdapterWeights {
    /// [`Method::None`]
    None,
    /// [`Method::AdapterH`]
    H {
        /// After the attention's projection.
        attention: BottleneckWeights,
        /// After the MLP.
        mlp: BottleneckWeights,
    },
    /// [`Method::AdapterL`]
    L {
        /// Before the bottleneck.
        norm: NormWeights,
        /// After the MLP.
        bottleneck: BottleneckWeights,
    },
    /// [`Method::LoraUnfused`] or [`Method::LoraFused`].
    Lora {
        /// Whether the adapters run in the same pass as the products.
        fused: bool,
        /// The adapters.
        targets: LoraTargets,
    },
}

impl LayerWeights {
    /// Random weights of the real model's scale: weights N(0, 0.02²), the two projections into the residual
    /// stream N(0, (0.02 / √48)²), gamma 1 with noise of 0.2, beta and biases 0 with noise of 0.02.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::validated`].
    pub fn random(config: Config, seed: u64) -> Result<Self, Error> {
        let Config { d, mlp, .. } = config.validated()?;
        let mut random = Random::new(seed);
        let residual = DEVIATION / (2.0 * LAYERS).sqrt();
        Ok(Self {
            norm1: random.norm(d),
            qkv: random.linear(3 * d, d, DEVIATION),
            proj: random.linear(d, d, residual),
            norm2: random.norm(d),
            up: random.linear(mlp, d, DEVIATION),
            down: random.linear(d, mlp, residual),
        })
    }
}

impl AdapterWeights {
    /// The method that has such adapters.
    pub fn method(&self) -> Method {
        match self {
            Self::None => Method::None,
            Self::H { .. } => Method::AdapterH,
            Self::L { .. } => Method::AdapterL,
            Self::Lora { fused: false, .. } => Method::LoraUnfused,
            Self::Lora { fused: true, .. } => Method::LoraFused,
        }
    }

    /// Random adapters, as if trained: no element is zero. Rank 0 means no adapter. `targets` matters only
    /// for LoRA.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::validated`].
    pub fn random(
        config: Config,
        method: Method,
        targets: Targets,
        rank: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let Config { d, mlp, .. } = config.validated()?;
        let mut random = Random::new(seed);
        Ok(match method {
            _ if rank == 0 => Self::None,
            Method::None => Self::None,
            Method::AdapterH => {
                Self::H { attention: random.bottleneck(d, rank), mlp: random.bottleneck(d, rank) }
            }
            Method::AdapterL => Self::L { norm: random.norm(d), bottleneck: random.bottleneck(d, rank) },
            Method::LoraUnfused | Method::LoraFused => {
                let targets = match targets {
                    Targets::All => LoraTargets::All {
                        qkv: random.lora(3 * d, d, rank),
                        proj: random.lora(d, d, rank),
                        up: random.lora(mlp, d, rank),
                        down: random.lora(d, mlp, rank),
                    },
                    Targets::QueryValue => LoraTargets::QueryValue {
                        query: random.lora(d, d, rank),
                        value: random.lora(d, d, rank),
                    },
                };
                Self::Lora { fused: method == Method::LoraFused, targets }
            }
        })
    }
}

struct Random(SmallRng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    fn matrix(&mut self, rows: usize, columns: usize, deviation: f32) -> Array2<f16> {
        let normal = Normal::new(0.0, deviation).expect("a finite deviation");
        Array2::from_shape_simple_fn((rows, columns), || f16::from_f32(normal.sample(&mut self.0)))
    }

    fn vector(&mut self, len: usize, mean: f32, deviation: f32) -> Array1<f16> {
        let normal = Normal::new(mean, deviation).expect("a finite deviation");
        Array1::from_shape_simple_fn(len, || f16::from_f32(normal.sample(&mut self.0)))
    }

    fn norm(&mut self, d: usize) -> NormWeights {
        NormWeights { gamma: self.vector(d, 1.0, 0.2), beta: self.vector(d, 0.0, DEVIATION) }
    }

    fn linear(&mut self, n: usize, k: usize, deviation: f32) -> LinearWeights {
        LinearWeights { weight: self.matrix(n, k, deviation), bias: self.vector(n, 0.0, DEVIATION) }
    }

    fn bottleneck(&mut self, d: usize, rank: usize) -> BottleneckWeights {
        BottleneckWeights { down: self.linear(rank, d, DEVIATION), up: self.linear(d, rank, DEVIATION) }
    }

    fn lora(&mut self, n: usize, k: usize, rank: usize) -> LoraWeights {
        LoraWeights { a: self.matrix(rank, k, DEVIATION), b: self.matrix(n, rank, DEVIATION), scale: 1.0 }
    }
}

/// A seed of its own for each layer.
pub(crate) fn of_layer(seed: u64, layer: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(values: &Array2<f16>) -> f32 {
        (values.iter().map(|value| value.to_f32().powi(2)).sum::<f32>() / values.len() as f32).sqrt()
    }

    #[test]
    fn random_weights_have_the_real_models_scale() {
        let config = Config { d: 128, heads: 4, mlp: 512, layers: 1 };
        let weights = LayerWeights::random(config, 1).unwrap();
        for (matrix, expected) in [
            (&weights.qkv.weight, 0.02),
            (&weights.up.weight, 0.02),
            (&weights.proj.weight, 0.02 / 48f32.sqrt()),
            (&weights.down.weight, 0.02 / 48f32.sqrt()),
        ] {
            let found = deviation(matrix);
            assert!((found / expected - 1.0).abs() < 0.03, "{found} is not {expected}");
        }
        let gamma = weights.norm1.gamma.mapv(f16::to_f32);
        assert!((gamma.mean().unwrap() - 1.0).abs() < 0.1 && gamma.iter().any(|&gamma| gamma != 1.0));
        let again = LayerWeights::random(config, 1).unwrap();
        assert_eq!(weights.down.weight, again.down.weight);
        assert_ne!(weights.down.weight, LayerWeights::random(config, 2).unwrap().down.weight);
    }

    #[test]
    fn a_rank_of_zero_is_no_adapter() {
        let config = Config { d: 8, heads: 2, mlp: 32, layers: 1 };
        for method in Method::ALL {
            let adapters = AdapterWeights::random(config, method, Targets::All, 0, 1).unwrap();
            assert!(matches!(adapters, AdapterWeights::None), "{method}");
        }
    }
}

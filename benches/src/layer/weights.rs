//! What backends, reference and PyTorch all start from, before anything is packed: the layer's weights, its
//! adapters, and tokens.

use std::collections::HashMap;

use fused_lora_records::SEQ_LENS;
use fused_lora_transformer::{AdapterWeights, Config, Error, LayerWeights, LoraTargets, Method};
use half::f16;
use ndarray::{Array3, s};

use super::variant::Variant;
use crate::normals::Normals;

/// Of the first layer; each has one of its own.
const SEED: u64 = 5;
const SEED_OF_TOKENS: u64 = 3;

/// How many different sequences there are.
const DISTINCT: usize = 2;

/// alpha of LoRA's scale, alpha / √r as rsLoRA has it. With the 1 of [`AdapterWeights::random`], and rank 10
/// on q and v, y is y without adapters but for 7 · 10⁻⁴ of its norm, which is what y may be off: a method
/// that forgot its adapters would pass. This makes them half as large as the products, at any rank. No time
/// depends on it.
const LORA_ALPHA: f32 = 25.0;
/// By how much each of a bottleneck's matrices is larger than random ones are, for the same reason.
const BOTTLENECK_SCALE: f32 = 4.0;

/// Random weights of the real model's scale; adapters are made when they are asked for.
pub struct Weights {
    /// The model's sizes.
    pub config: Config,
    /// Of each layer, without adapters.
    pub layers: Vec<LayerWeights>,
    /// Two sequences of N(0, 1): [2, the longest, d].
    pub sequences: Array3<f16>,
    /// By [`Variant::of_weights`], then by layer.
    adapters: HashMap<Variant, Vec<AdapterWeights>>,
}

impl Weights {
    /// The bare model's. An error if there can be no such model.
    pub fn new(config: Config) -> Result<Weights, Error> {
        let layers = (0..config.layers as u64).map(|i| LayerWeights::random(config, SEED + i));
        let layers = layers.collect::<Result<_, _>>()?;
        let longest = SEQ_LENS.into_iter().max().unwrap_or(1);
        let mut sequences = Array3::zeros((DISTINCT, longest, config.d));
        let tokens = sequences.as_slice_mut().expect("a new array is one slice");
        Normals::new(SEED_OF_TOKENS).fill(1.0, tokens);
        Ok(Weights { config, layers, sequences, adapters: HashMap::new() })
    }

    /// Fills x, [M, d] in row-major order, with the first `seq_len` tokens of one sequence and the other in
    /// turn.
    pub fn tokens(&self, seq_len: usize, x: &mut [f16]) {
        for (i, x) in x.chunks_exact_mut(seq_len * self.config.d).enumerate() {
            let sequence = self.sequences.slice(s![i % DISTINCT, ..seq_len, ..]);
            x.copy_from_slice(sequence.as_slice().expect("rows follow each other"));
        }
    }

    /// Makes the adapters of a variant, where they are missing. An error if there can be none.
    pub fn ensure(&mut self, variant: Variant) -> Result<(), Error> {
        let key @ Variant { method, targets, rank } = variant.of_weights();
        if !self.adapters.contains_key(&key) {
            let of_layer = |i: u64| {
                let seed = (i << 32) | (SEED + rank as u64);
                let mut adapters = AdapterWeights::random(self.config, method, targets, rank, seed)?;
                amplify(&mut adapters, rank);
                Ok(adapters)
            };
            let adapters = (0..self.config.layers as u64).map(of_layer).collect::<Result<_, Error>>()?;
            self.adapters.insert(key, adapters);
        }
        Ok(())
    }

    /// The adapters of a variant, by layer: those of fused and unfused LoRA are the same but for which of the
    /// two they say they are. Panics if they were not [made](Self::ensure).
    pub fn adapters(&self, variant: Variant) -> Vec<AdapterWeights> {
        let adapters = self.adapters.get(&variant.of_weights());
        let mut adapters = adapters.unwrap_or_else(|| panic!("no adapters for {variant:?}")).clone();
        for adapters in &mut adapters {
            if let AdapterWeights::Lora { fused, .. } = adapters {
                *fused = variant.method == Method::LoraFused;
            }
        }
        adapters
    }

    /// The variants that adapters were made for, one of LoRA's two.
    pub fn variants(&self) -> impl ExactSizeIterator<Item = Variant> {
        self.adapters.keys().copied()
    }
}

fn amplify(adapters: &mut AdapterWeights, rank: usize) {
    let (bottlenecks, loras) = match adapters {
        AdapterWeights::None => (vec![], vec![]),
        AdapterWeights::H { attention, mlp } => (vec![attention, mlp], vec![]),
        AdapterWeights::L { bottleneck, .. } => (vec![bottleneck], vec![]),
        AdapterWeights::Lora { targets: LoraTargets::All { qkv, proj, up, down }, .. } => {
            (vec![], vec![qkv, proj, up, down])
        }
        AdapterWeights::Lora { targets: LoraTargets::QueryValue { query, value }, .. } => {
            (vec![], vec![query, value])
        }
    };
    for linear in bottlenecks.into_iter().flat_map(|weights| [&mut weights.down, &mut weights.up]) {
        linear.weight.mapv_inplace(|value| f16::from_f32(value.to_f32() * BOTTLENECK_SCALE));
    }
    for lora in loras {
        lora.scale = LORA_ALPHA / (rank as f32).sqrt();
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_transformer::Targets;
    use ndarray::Axis;

    use super::*;

    #[test]
    fn fused_and_unfused_have_the_same_numbers() {
        let mut weights = Weights::new(Config { d: 16, heads: 2, mlp: 32, layers: 2 }).unwrap();
        let [unfused, fused] =
            [Method::LoraUnfused, Method::LoraFused].map(|method| Variant::new(method, Targets::All, 3));
        weights.ensure(unfused).unwrap();
        weights.ensure(fused).unwrap();
        assert_eq!(weights.variants().len(), 1);
        let mut seen = Vec::new();
        for (variant, expected) in [(unfused, false), (fused, true)] {
            for adapters in weights.adapters(variant) {
                let AdapterWeights::Lora { fused, targets: LoraTargets::All { qkv, .. } } = adapters else {
                    panic!("{adapters:?}")
                };
                assert_eq!((fused, qkv.a.dim(), qkv.scale), (expected, (3, 16), LORA_ALPHA / 3f32.sqrt()));
                seen.push(qkv.a);
            }
        }
        assert_eq!(seen[..2], seen[2..]);
        assert_ne!(seen[0], seen[1], "each layer has its own");
        assert_ne!(weights.layers[0].qkv.weight, weights.layers[1].qkv.weight);
        let [first, second] = [0, 1].map(|sequence| weights.sequences.index_axis(Axis(0), sequence));
        assert_ne!(first, second, "a row of one sequence would pass for one of the other");
    }
}

//! The layer's weights and its adapters, before anything is packed: what backends, reference and PyTorch all start from.

use std::collections::HashMap;

use fused_lora_transformer::{
    AdapterWeights, BottleneckWeights, Config, Error, LayerWeights, LoraTargets, LoraWeights, Method,
};
use half::f16;

use super::variant::Variant;

/// Of the first layer; each has one of its own.
const SEED: u64 = 5;

/// alpha of LoRA's scale, alpha / √r as rsLoRA has it. With the 1 of [`AdapterWeights::random`], and rank 10 on q and v, y is y without
/// adapters but for 7 · 10⁻⁴ of its norm, which is what y may be off: a method that forgot its adapters would pass. This makes them half
/// as large as the products, at any rank. No time depends on it.
const LORA_ALPHA: f32 = 25.0;
/// By how much each of a bottleneck's matrices is larger than random ones are, for the same reason.
const BOTTLENECK_SCALE: f32 = 4.0;

/// Random weights of the real model's scale, made when they are asked for.
pub struct Weights {
    config: Config,
    layers: Vec<LayerWeights>,
    /// By [`Variant::of_weights`], then by layer.
    adapters: HashMap<Variant, Vec<AdapterWeights>>,
}

impl Weights {
    /// The bare model's.
    ///
    /// # Errors
    ///
    /// If there can be no such model.
    pub fn new(config: Config) -> Result<Weights, Error> {
        let layers = (0..config.layers as u64)
            .map(|i| LayerWeights::random(config, SEED + i))
            .collect::<Result<_, _>>()?;
        Ok(Weights { config, layers, adapters: HashMap::new() })
    }

    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }

    /// Of each layer, without adapters.
    #[must_use]
    pub fn layers(&self) -> &[LayerWeights] {
        &self.layers
    }

    /// Makes the adapters of a variant, where they are missing.
    ///
    /// # Errors
    ///
    /// If there can be no such adapters.
    pub fn ensure(&mut self, variant: Variant) -> Result<(), Error> {
        let key = variant.of_weights();
        if self.adapters.contains_key(&key) {
            return Ok(());
        }
        let Variant { method, targets, rank } = key;
        let of_layer = |i: u64| {
            AdapterWeights::random(self.config, method, targets, rank, (i << 32) | (SEED + rank as u64))
        };
        let mut adapters = (0..self.config.layers as u64).map(of_layer).collect::<Result<Vec<_>, _>>()?;
        adapters.iter_mut().for_each(|adapters| amplify(adapters, rank));
        self.adapters.insert(key, adapters);
        Ok(())
    }

    /// The adapters of a variant, by layer: those of fused and unfused LoRA are the same but for which of the two they say they are.
    ///
    /// # Panics
    ///
    /// If they were not [made](Self::ensure).
    #[must_use]
    pub fn adapters(&self, variant: Variant) -> Vec<AdapterWeights> {
        let mut adapters = self
            .adapters
            .get(&variant.of_weights())
            .unwrap_or_else(|| panic!("no adapters for {variant:?}"))
            .clone();
        for adapters in &mut adapters {
            if let AdapterWeights::Lora { fused, .. } = adapters {
                *fused = variant.method == Method::LoraFused;
            }
        }
        adapters
    }

    /// The variants that adapters were made for, one of LoRA's two.
    pub fn variants(&self) -> impl Iterator<Item = Variant> {
        self.adapters.keys().copied()
    }
}

fn amplify(adapters: &mut AdapterWeights, rank: usize) {
    let bottleneck = |weights: &mut BottleneckWeights| {
        for linear in [&mut weights.down, &mut weights.up] {
            linear.weight.mapv_inplace(|value| f16::from_f32(value.to_f32() * BOTTLENECK_SCALE));
        }
    };
    let lora = |weights: &mut LoraWeights| weights.scale = LORA_ALPHA / (rank as f32).sqrt();
    match adapters {
        AdapterWeights::None => {}
        AdapterWeights::H { attention, mlp } => [attention, mlp].into_iter().for_each(bottleneck),
        AdapterWeights::L { bottleneck: weights, .. } => bottleneck(weights),
        AdapterWeights::Lora { targets: LoraTargets::All { qkv, proj, up, down }, .. } => {
            [qkv, proj, up, down].into_iter().for_each(lora);
        }
        AdapterWeights::Lora { targets: LoraTargets::QueryValue { query, value }, .. } => {
            [query, value].into_iter().for_each(lora);
        }
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_transformer::{LoraTargets, Targets};

    use super::*;

    #[test]
    fn fused_and_unfused_have_the_same_numbers() {
        let mut weights = Weights::new(Config { d: 16, heads: 2, mlp: 32, layers: 2 }).unwrap();
        let of = |method| Variant { method, targets: Targets::All, rank: 3 };
        weights.ensure(of(Method::LoraUnfused)).unwrap();
        weights.ensure(of(Method::LoraFused)).unwrap();
        assert_eq!(weights.variants().count(), 1);
        let mut seen = Vec::new();
        for (method, expected) in [(Method::LoraUnfused, false), (Method::LoraFused, true)] {
            for adapters in weights.adapters(of(method)) {
                let AdapterWeights::Lora { fused, targets: LoraTargets::All { qkv, .. } } = adapters else {
                    panic!("{method}")
                };
                assert_eq!((fused, qkv.a.dim(), qkv.scale), (expected, (3, 16), LORA_ALPHA / 3f32.sqrt()));
                seen.push(qkv.a);
            }
        }
        assert_eq!(seen[..2], seen[2..]);
        assert_ne!(seen[0], seen[1], "each layer has its own");
        assert_ne!(weights.layers()[0].qkv.weight, weights.layers()[1].qkv.weight);
    }
}

//! The layer on the CPU.

use std::time::{Duration, Instant};

use fused_lora::cpu::Simd;
use fused_lora_transformer::cpu::{Layer, Model, Workspace};
use fused_lora_transformer::{Error, Method};
use half::f16;
use ndarray::{Array2, ArrayView2};

use super::backend::{Backend, rotating_bytes};
use super::models::Models;
use super::rotation::Rotation;
use super::sequences::Sequences;
use super::size::Size;
use super::variant::Variant;
use super::weights::Weights;
use crate::engine::COLD;
use crate::settings::Cache;

/// Models and tokens in the memory of this host, and what a forward pass needs besides.
pub struct Cpu {
    simd: Simd,
    cache: Cache,
    /// Bytes to be touched between two uses of a slot.
    distance: usize,
    /// By slot, each packed into memory of its own.
    models: Vec<Models<Model>>,
    tokens: Vec<Tokens>,
    rotation: Rotation,
    variants: Vec<Variant>,
    seq_len: usize,
    /// Slot of the last call.
    last: usize,
    workspace: Workspace,
    /// The most tokens that a forward pass has had.
    largest: usize,
}

/// x and y: [M, d].
struct Tokens {
    x: Array2<f16>,
    y: Array2<f16>,
}

impl Cpu {
    /// With nothing on it. `last_level_cache` is 0 for a rehearsal, which measures nothing.
    #[must_use]
    pub fn new(simd: Simd, cache: Cache, last_level_cache: usize) -> Cpu {
        let distance = COLD * last_level_cache;
        Cpu {
            simd,
            cache,
            distance,
            models: Vec::new(),
            tokens: Vec::new(),
            rotation: Rotation::cold(1, 0, 1),
            variants: Vec::new(),
            seq_len: 0,
            last: 0,
            workspace: Workspace::new(),
            largest: 0,
        }
    }

    fn bare(&self, weights: &Weights) -> Result<Model, Error> {
        let config = weights.config();
        let layers = weights.layers().iter().map(|layer| Layer::with_simd(self.simd, config, layer));
        Model::new(config, layers.collect::<Result<_, _>>()?)
    }

    fn forward(&mut self, place: usize, slot: usize) -> Result<Duration, Error> {
        let weights = match self.cache {
            Cache::Cold => slot,
            Cache::WarmW => 0,
        };
        let model = self.models[weights].get(self.variants[place]);
        let Tokens { x, y } = &mut self.tokens[slot];
        let start = Instant::now();
        model.forward(x.view(), self.seq_len, y.view_mut(), &mut self.workspace)?;
        Ok(start.elapsed())
    }

    /// Lets the workspace grow before anything is timed, where this size is the largest so far: with the highest rank of each method.
    fn grow(&mut self, size: Size) -> Result<(), Error> {
        if size.m() <= self.largest {
            return Ok(());
        }
        self.largest = size.m();
        for method in Method::ALL {
            let of_method = (0..self.variants.len()).filter(|&place| self.variants[place].method == method);
            if let Some(place) = of_method.max_by_key(|&place| self.variants[place].rank) {
                self.forward(place, 0)?;
            }
        }
        self.tokens[0].y.fill(f16::NAN);
        Ok(())
    }
}

impl Backend for Cpu {
    fn furnish(
        &mut self,
        size: Size,
        variants: &[Variant],
        weights: &Weights,
        sequences: &Sequences,
    ) -> anyhow::Result<()> {
        let bytes = rotating_bytes(weights.config(), size.m(), self.cache);
        self.rotation = Rotation::cold(bytes, self.distance, variants.len());
        self.variants = variants.to_vec();
        self.seq_len = size.seq_len;
        let slots = self.rotation.slots();
        let models = if self.cache == Cache::Cold { slots } else { 1 };
        while self.models.len() < models {
            self.models.push(Models::new(self.bare(weights)?));
        }
        for models in &mut self.models[..models] {
            models.ensure(variants, |bare, variant| bare.with_adapters(&weights.adapters(variant)))?;
        }
        // The last size's go first: at M = 16384 a slot is 67 MB.
        self.tokens.clear();
        self.tokens.resize_with(slots, || {
            let x = sequences.batch(size);
            // Written, so that its pages are there.
            let y = Array2::from_elem(x.dim(), f16::NAN);
            Tokens { x, y }
        });
        self.grow(size)?;
        Ok(())
    }

    fn call(&mut self, place: usize) -> anyhow::Result<Duration> {
        self.last = self.rotation.advance();
        Ok(self.forward(place, self.last)?)
    }

    fn inspect(
        &mut self,
        check: &mut dyn FnMut(ArrayView2<'_, f16>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let y = &mut self.tokens[self.last].y;
        let result = check(y.view());
        y.fill(f16::NAN);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use fused_lora_transformer::{Config, Targets};

    use super::*;

    const CONFIG: Config = Config { d: 32, heads: 2, mlp: 64, layers: 2 };
    const SIZE: Size = Size { seq_len: 4, batch: 3 };
    const KIB: usize = 1 << 10;

    fn furnished(cache: Cache, last_level_cache: usize) -> (Cpu, Vec<Variant>) {
        let mut variants = vec![Variant::NONE];
        variants.extend(
            Method::ALL[1..]
                .iter()
                .flat_map(|&method| [2, 5].map(|rank| Variant { method, targets: Targets::All, rank })),
        );
        let mut weights = Weights::new(CONFIG).unwrap();
        variants.iter().for_each(|&variant| weights.ensure(variant).unwrap());
        let mut cpu = Cpu::new(Simd::detect().unwrap(), cache, last_level_cache);
        cpu.furnish(SIZE, &variants, &weights, &Sequences::new(8, CONFIG.d)).unwrap();
        (cpu, variants)
    }

    #[test]
    fn bytes_are_those_of_weights_x_and_y() {
        let layer = Config::GPT2_MEDIUM_LAYER;
        // 12 · 1024² weights of 2 bytes, and x and y of 128 · 1024 each.
        assert_eq!(rotating_bytes(layer, 128, Cache::Cold), (24 << 20) + (512 << 10));
        assert_eq!(rotating_bytes(layer, 128, Cache::WarmW), 512 << 10);
        assert_eq!(rotating_bytes(Config { layers: 24, ..layer }, 128, Cache::WarmW), 512 << 10);
    }

    #[test]
    fn weights_rotate_with_the_tokens_or_stay() {
        // 32 KiB of weights (two layers) and 1.5 KiB of x and y a slot.
        let (cold, _) = furnished(Cache::Cold, 32 * KIB);
        assert!(cold.tokens.len() >= 4 && cold.models.len() == cold.tokens.len(), "{}", cold.tokens.len());
        let (mut warm, _) = furnished(Cache::WarmW, 32 * KIB);
        assert_eq!(warm.models.len(), 1);
        assert!(warm.tokens.len() > 64, "{}", warm.tokens.len());
        // All slots, on the one model.
        for slot in 0..warm.tokens.len() {
            warm.call(0).unwrap();
            assert_eq!(warm.last, slot);
        }
        let (rehearsal, _) = furnished(Cache::Cold, 0);
        assert_eq!((rehearsal.models.len(), rehearsal.tokens.len()), (1, 1));
    }

    #[test]
    fn calls_go_through_the_slots_and_all_slots_agree() {
        let (mut cpu, variants) = furnished(Cache::Cold, 32 * KIB);
        let mut seen: HashMap<Variant, Array2<f16>> = HashMap::new();
        for _ in 0..cpu.tokens.len() {
            for (place, &variant) in variants.iter().enumerate() {
                cpu.call(place).unwrap();
                cpu.inspect(&mut |y| {
                    assert!(y.iter().all(|value| value.is_finite()), "{variant:?}");
                    assert_eq!(seen.entry(variant).or_insert_with(|| y.to_owned()).view(), y, "{variant:?}");
                    Ok(())
                })
                .unwrap();
            }
        }
        let outputs: Vec<_> = variants.iter().map(|variant| &seen[variant]).collect();
        for (i, y) in outputs.iter().enumerate() {
            assert!(!outputs[..i].contains(y), "{:?} is some other", variants[i]);
        }
    }

    #[test]
    fn what_was_looked_at_is_poisoned() {
        let (mut cpu, _) = furnished(Cache::Cold, 0);
        let of = |cpu: &mut Cpu| {
            let mut y = None;
            cpu.inspect(&mut |found| {
                y = Some(found.to_owned());
                Ok(())
            })
            .unwrap();
            y.unwrap()
        };
        assert!(of(&mut cpu).iter().all(|value| value.is_nan()), "also before the first call");
        cpu.call(0).unwrap();
        assert!(of(&mut cpu).iter().all(|value| value.is_finite()));
        assert!(of(&mut cpu).iter().all(|value| value.is_nan()));
        let refused = cpu.inspect(&mut |_| anyhow::bail!("wrong")).unwrap_err();
        assert_eq!(refused.to_string(), "wrong");
    }
}

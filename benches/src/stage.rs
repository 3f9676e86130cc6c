//! The host's buffers of one size, made when something is measured on them.

use fused_lora_records::Workload;
use half::f16;

use crate::check::{Wrong, check};
use crate::engine::COLD;
use crate::lineup::Lineup;
use crate::method::Method;
use crate::model::{Linear, Model};
use crate::normals::Normals;
use crate::on_host::OnHost;
use crate::ring::Ring;
use crate::settings::Cache;
use crate::tokens::{self, Tokens};

const SEED: u64 = 2;

/// The tokens of one M, for whatever is measured at that M.
pub struct Stage {
    workload: &'static Workload,
    m: usize,
    cache: Cache,
    /// Bytes to be touched between two uses of a slot.
    distance: usize,
    normals: Normals,
    tokens: Vec<Vec<Tokens>>,
}

impl Stage {
    /// A stage with nothing on it yet.
    #[must_use]
    pub fn new(workload: &'static Workload, m: usize, cache: Cache, last_level_cache: usize) -> Stage {
        let distance = COLD * last_level_cache;
        Stage { workload, m, cache, distance, normals: Normals::new(SEED), tokens: Vec::new() }
    }

    /// A stage to run once on, not to measure on: its ring is as short as can be.
    #[must_use]
    pub fn rehearsal(workload: &'static Workload, m: usize, cache: Cache) -> Stage {
        Stage::new(workload, m, cache, 0)
    }

    /// Makes the tokens for so many methods at a time, and the model's weights for them with adapters of that
    /// rank.
    ///
    /// # Errors
    ///
    /// If the library refuses the weights.
    pub fn furnish<'m>(
        &mut self,
        model: &'m mut Model,
        rank: usize,
        methods: usize,
    ) -> Result<&'m [Vec<Linear>], fused_lora::Error> {
        let slots = self.ring(methods).slots();
        while self.tokens.len() < slots {
            self.tokens.push(tokens::slot(self.workload, self.m, &mut self.normals));
        }
        let slots = match self.cache {
            Cache::Cold => slots,
            Cache::WarmW => 1,
        };
        model.ensure(slots, rank)?;
        Ok(&model.slots()[..slots])
    }

    /// Compares what a method computes with the reference, on the first slot.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(
        &mut self,
        method: &mut dyn Method,
        slots: &[Vec<Linear>],
        rank: usize,
    ) -> Result<(), Wrong> {
        check(method, &slots[0], rank, &mut self.tokens[0])
    }

    /// The methods on a ring of their own length.
    ///
    /// # Panics
    ///
    /// If the stage was not furnished for as many.
    #[must_use]
    pub fn line_up<'a>(&'a mut self, methods: Vec<Box<dyn Method + 'a>>) -> Lineup<'a> {
        let ring = self.ring(methods.iter().filter(|method| method.computes().is_some()).count());
        Lineup::new(OnHost::new(methods, ring, self.cache, &mut self.tokens))
    }

    fn ring(&self, methods: usize) -> Ring {
        Ring::cold(methods, rotating_bytes(self.workload, self.m, self.cache), self.distance)
    }
}

/// Bytes of one slot that are others in the next: x and y, and the weights unless they stay warm.
#[must_use]
pub fn rotating_bytes(workload: &Workload, m: usize, cache: Cache) -> usize {
    let weights: usize = workload.projections().iter().map(|p| p.d_in * p.d_out * size_of::<f16>()).sum();
    let rotating = if cache == Cache::Cold { weights } else { 0 };
    tokens::slot_bytes(workload, m) + rotating
}

#[cfg(test)]
mod tests {
    use fused_lora::cpu::Simd;

    use super::*;

    const LLC: usize = 32 << 20;

    #[test]
    fn a_ring_is_as_long_as_the_cache_demands() {
        let linear = Workload::by_name("linear-1024x1024").unwrap();
        let slots = |m, cache, methods| Stage::new(linear, m, cache, LLC).ring(methods).slots();
        // 2 MiB of W and 0.5 MiB of x and y.
        for methods in 1..=5 {
            let slots = slots(128, Cache::Cold, methods);
            assert!(
                slots as f64 * 2.5 >= 96.0 && slots as f64 * 2.5 < 96.0 + 2.5 * 2.0 * methods as f64,
                "{slots}"
            );
        }
        assert_eq!(slots(16_384, Cache::Cold, 2), 4);
        assert!(slots(128, Cache::WarmW, 2) as f64 * 0.5 >= 96.0);
        assert_eq!(Stage::rehearsal(linear, 128, Cache::Cold).ring(2).slots(), 2);
    }

    #[test]
    fn weights_are_made_for_the_slots_that_are_used() {
        let linear = Workload::by_name("linear-1024x1024").unwrap();
        for (cache, weights) in [(Cache::Cold, 5), (Cache::WarmW, 1)] {
            let mut model = Model::new(linear, Simd::detect().unwrap());
            let mut stage = Stage::rehearsal(linear, 1, cache);
            assert_eq!(stage.furnish(&mut model, 10, 5).unwrap().len(), weights);
            assert_eq!(stage.tokens.len(), 5);
            stage.furnish(&mut model, 0, 2).unwrap();
            assert_eq!(stage.tokens.len(), 5, "what is there stays");
        }
    }
}

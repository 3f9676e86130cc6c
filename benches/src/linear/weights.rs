//! The weights of a workload, once for each slot of the ring: as a user has them, and as layers of a backend.

use std::collections::BTreeMap;
use std::rc::Rc;

use fused_lora::reference::LoraView;
use fused_lora_records::Workload;
use half::f16;
use ndarray::{Array2, ArrayView2};

use crate::normals::Normals;

/// s. Not 1, which would hide a scale that is forgotten; exact in f16, which some peers take it as.
pub const SCALE: f32 = 1.5;

const SEED: u64 = 1;

/// A backend of this library, as far as it makes layers.
pub trait Engine {
    /// A linear layer, its weights packed where the backend wants them. Clones share them.
    type Layer: Clone;

    /// A layer without an adapter; w is [N, K].
    ///
    /// # Errors
    ///
    /// If the library refuses the weights, or there is no memory for them.
    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<Self::Layer>;

    /// That layer with an adapter; a is [r, K], b is [N, r].
    ///
    /// # Errors
    ///
    /// As [`layer`](Engine::layer).
    fn with_adapter(
        &self,
        layer: Self::Layer,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> anyhow::Result<Self::Layer>;
}

/// One projection.
pub struct Linear<L> {
    /// W, [N, K].
    pub w: Rc<Array2<f16>>,
    /// W packed, without an adapter.
    layer: L,
    adapters: BTreeMap<usize, Lora<L>>,
}

/// One adapter of a projection.
pub struct Lora<L> {
    /// [r, K]
    pub a: Rc<Array2<f16>>,
    /// [N, r]
    pub b: Rc<Array2<f16>>,
    /// The projection's layer with this adapter; shares the packed W.
    pub layer: L,
}

impl<L> Lora<L> {
    /// The adapter as the reference takes it.
    #[must_use]
    pub fn view(&self) -> LoraView<'_> {
        LoraView { a: self.a.view(), b: self.b.view(), scale: SCALE }
    }
}

impl<L> Linear<L> {
    /// The adapter of that rank.
    ///
    /// # Panics
    ///
    /// If [`Weights::ensure`] was not asked for it.
    #[must_use]
    pub fn adapter(&self, rank: usize) -> &Lora<L> {
        self.adapters.get(&rank).unwrap_or_else(|| panic!("no adapter of rank {rank} was made"))
    }
}

/// The same layers again for each slot, with other numbers.
pub struct Weights<E: Engine> {
    workload: &'static Workload,
    engine: E,
    normals: Normals,
    /// By slot and projection.
    slots: Vec<Vec<Linear<E::Layer>>>,
}

impl<E: Engine> Weights<E> {
    /// None yet.
    #[must_use]
    pub fn new(workload: &'static Workload, engine: E) -> Weights<E> {
        Weights { workload, engine, normals: Normals::new(SEED), slots: Vec::new() }
    }

    /// Makes what is missing of the first `slots` slots, each with an adapter of that rank.
    ///
    /// # Errors
    ///
    /// If the library refuses the weights, or there is no memory for them.
    pub fn ensure(&mut self, slots: usize, rank: usize) -> anyhow::Result<()> {
        let Weights { engine, normals, .. } = self;
        while self.slots.len() < slots {
            let mut projections = Vec::new();
            for projection in self.workload.projections() {
                let w = normals.matrix(deviation(projection.d_in), projection.d_out, projection.d_in);
                let layer = engine.layer(w.view())?;
                projections.push(Linear { w: Rc::new(w), layer, adapters: BTreeMap::new() });
            }
            self.slots.push(projections);
        }
        for linear in self.slots[..slots].iter_mut().flatten() {
            if !linear.adapters.contains_key(&rank) {
                let (d_out, d_in) = linear.w.dim();
                let a = normals.matrix(deviation(d_in), rank, d_in);
                let b = normals.matrix(deviation(rank), d_out, rank);
                let layer = engine.with_adapter(linear.layer.clone(), a.view(), b.view(), SCALE)?;
                linear.adapters.insert(rank, Lora { a: Rc::new(a), b: Rc::new(b), layer });
            }
        }
        Ok(())
    }

    /// The projections of each of the first `slots` slots.
    #[must_use]
    pub fn slots(&self, slots: usize) -> &[Vec<Linear<E::Layer>>] {
        &self.slots[..slots]
    }

    /// The layers with an adapter of that rank, of each of the first `slots` slots.
    #[must_use]
    pub fn layers(&self, slots: usize, rank: usize) -> Vec<Vec<E::Layer>> {
        let of_slot = |slot: &Vec<Linear<E::Layer>>| {
            slot.iter().map(|linear| linear.adapter(rank).layer.clone()).collect()
        };
        self.slots(slots).iter().map(of_slot).collect()
    }
}

/// So that a product of so many terms has about the size of its input. Of rank 0 there is nothing to scale.
fn deviation(terms: usize) -> f64 {
    1.0 / (terms.max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use fused_lora::cpu::Simd;

    use super::*;

    #[test]
    fn slots_hold_the_same_shapes_and_other_numbers() {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        let mut weights = Weights::new(workload, Simd::detect().unwrap());
        weights.ensure(2, 10).unwrap();
        let [first, second] = [0, 1].map(|slot| &weights.slots(2)[slot][0]);
        assert_eq!(first.w.dim(), (1024, 1024));
        assert_ne!(first.w, second.w);
        assert_eq!((first.adapter(10).a.dim(), first.adapter(10).b.dim()), ((10, 1024), (1024, 10)));
        assert_ne!(first.adapter(10).a, second.adapter(10).a);
        assert_eq!(weights.layers(2, 10)[0][0].rank(), 10);

        let kept = Rc::clone(&first.w);
        weights.ensure(1, 0).unwrap();
        weights.ensure(3, 10).unwrap();
        assert!(Rc::ptr_eq(&weights.slots(1)[0][0].w, &kept), "what is there is kept");
        assert_eq!(weights.layers(1, 0)[0][0].rank(), 0);
        assert_eq!(weights.layers(3, 10)[2][0].rank(), 10);
    }
}

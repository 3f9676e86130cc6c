//! The weights of a workload, once for each slot of the ring.

use std::collections::BTreeMap;

use fused_lora::cpu::{Layer, Simd};
use fused_lora::reference::LoraView;
use fused_lora_records::{Projection, Workload};
use half::f16;
use ndarray::Array2;

use crate::engine::Engine;
use crate::normals::Normals;

/// s. Not 1, which would hide a scale that is forgotten; exact in f16, which some peers take it as.
pub const SCALE: f32 = 1.5;

const SEED: u64 = 1;

/// All weights of one workload: the same layers again for each slot, with other numbers.
pub struct Model<E: Engine = Simd> {
    workload: &'static Workload,
    engine: E,
    normals: Normals,
    slots: Vec<Vec<Linear<E::Layer>>>,
}

/// Weights by slot and projection.
pub type Slots<L> = [Vec<Linear<L>>];

/// One projection: its weights as a user has them, and packed as a layer.
pub struct Linear<L = Layer> {
    /// W, [N, K].
    pub w: Array2<f16>,
    /// W packed, without an adapter.
    layer: L,
    adapters: BTreeMap<usize, Lora<L>>,
}

/// One adapter of a projection.
pub struct Lora<L = Layer> {
    /// [r, K]
    pub a: Array2<f16>,
    /// [N, r]
    pub b: Array2<f16>,
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

impl<L: Clone> Linear<L> {
    fn new<E: Engine<Layer = L>>(
        projection: Projection,
        engine: &E,
        normals: &mut Normals,
    ) -> Result<Linear<L>, E::Error> {
        let Projection { d_in, d_out } = projection;
        let w = normals.matrix(1.0 / (d_in as f64).sqrt(), d_out, d_in);
        Ok(Linear { layer: engine.layer(w.view())?, w, adapters: BTreeMap::new() })
    }

    fn add_adapter<E: Engine<Layer = L>>(
        &mut self,
        rank: usize,
        engine: &E,
        normals: &mut Normals,
    ) -> Result<(), E::Error> {
        let (d_out, d_in) = self.w.dim();
        let a = normals.matrix(1.0 / (d_in as f64).sqrt(), rank, d_in);
        // Of rank 0 there is nothing to scale.
        let b = normals.matrix(1.0 / (rank.max(1) as f64).sqrt(), d_out, rank);
        let layer = engine.with_adapter(self.layer.clone(), a.view(), b.view(), SCALE)?;
        self.adapters.insert(rank, Lora { a, b, layer });
        Ok(())
    }
}

impl<L> Linear<L> {
    /// The adapter of that rank.
    ///
    /// # Panics
    ///
    /// If [`Model::ensure`] was not asked for it.
    #[must_use]
    pub fn adapter(&self, rank: usize) -> &Lora<L> {
        self.adapters.get(&rank).unwrap_or_else(|| panic!("no adapter of rank {rank} was made"))
    }
}

impl<E: Engine> Model<E> {
    /// A model that has no slots yet.
    #[must_use]
    pub fn new(workload: &'static Workload, engine: E) -> Model<E> {
        Model { workload, engine, normals: Normals::new(SEED), slots: Vec::new() }
    }

    /// Makes what is missing of the first `slots` slots, each with an adapter of that rank.
    ///
    /// # Errors
    ///
    /// If the library refuses the weights, or there is no memory for them.
    pub fn ensure(&mut self, slots: usize, rank: usize) -> Result<(), E::Error> {
        while self.slots.len() < slots {
            let projections = self.workload.projections().iter();
            let linears =
                projections.map(|&projection| Linear::new(projection, &self.engine, &mut self.normals));
            self.slots.push(linears.collect::<Result<_, _>>()?);
        }
        for linear in self.slots[..slots].iter_mut().flatten() {
            if !linear.adapters.contains_key(&rank) {
                linear.add_adapter(rank, &self.engine, &mut self.normals)?;
            }
        }
        Ok(())
    }

    /// The projections of each slot.
    #[must_use]
    pub fn slots(&self) -> &Slots<E::Layer> {
        &self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_the_same_shapes_and_other_numbers() {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        let mut model = Model::new(workload, Simd::detect().unwrap());
        model.ensure(2, 10).unwrap();
        let [first, second] = [0, 1].map(|slot| &model.slots()[slot][0]);
        assert_eq!(first.w.dim(), (1024, 1024));
        assert_ne!(first.w, second.w);
        assert_eq!(first.adapter(10).a.dim(), (10, 1024));
        assert_eq!(first.adapter(10).b.dim(), (1024, 10));
        assert_ne!(first.adapter(10).a, second.adapter(10).a);
        assert_eq!(first.adapter(10).layer.rank(), 10);

        let kept = first.w.clone();
        model.ensure(1, 0).unwrap();
        model.ensure(3, 10).unwrap();
        assert_eq!(model.slots().len(), 3);
        assert_eq!(model.slots()[0][0].w, kept, "what is there is kept");
        assert_eq!(model.slots()[0][0].adapter(0).layer.rank(), 0);
        assert_eq!(model.slots()[2][0].adapter(10).a.dim(), (10, 1024));
    }
}

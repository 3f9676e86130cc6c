//! The weights of a workload, once for each slot of the ring: as a user has them, and as layers of a backend.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use ndarray::{Array2, ArrayView2};

use crate::normals::Normals;
use crate::number::Number;
use crate::torch::Tensors;

/// s. Not 1, which would hide a scale that is forgotten; exact in f16, which some peers take it as.
pub const SCALE: f32 = 1.5;

const SEED: u64 = 1;

/// Packs weights for a backend.
pub trait Packer {
    /// The type of x, W, A, B and y.
    type Element: Number;
    /// A product with its packed W, with or without an adapter. Clones share what is packed.
    type Linear: Clone;

    /// Packs W, `[N, K]`. An error if the library refuses it, or there is no memory for it.
    fn linear(&self, w: ArrayView2<'_, Self::Element>) -> anyhow::Result<Self::Linear>;

    /// A product with the adapter A, `[r, K]`, and B, `[N, r]`; shares its W. Errors as of
    /// [`linear`](Self::linear).
    fn adapted(
        linear: &Self::Linear,
        a: ArrayView2<'_, Self::Element>,
        b: ArrayView2<'_, Self::Element>,
        scale: f32,
    ) -> anyhow::Result<Self::Linear>;
}

/// One projection.
pub struct Linear<P: Packer> {
    /// W, [N, K].
    pub w: Rc<Array2<P::Element>>,
    /// W packed, without an adapter.
    layer: P::Linear,
    /// By rank, as many of each as a batch mixes.
    adapters: BTreeMap<usize, Vec<Lora<P>>>,
}

/// One adapter of a projection.
pub struct Lora<P: Packer> {
    /// [r, K]
    pub a: Rc<Array2<P::Element>>,
    /// [N, r]
    pub b: Rc<Array2<P::Element>>,
    /// The projection's layer with this adapter; shares the packed W.
    pub layer: P::Linear,
}

impl<P: Packer> Linear<P> {
    /// The first adapter of that rank. Panics if [`Weights::ensure`] was not asked for it.
    pub fn adapter(&self, rank: usize) -> &Lora<P> {
        &self.adapters(rank)[0]
    }

    /// The adapters of that rank, all that a batch mixes. Panics as [`adapter`](Self::adapter).
    pub fn adapters(&self, rank: usize) -> &[Lora<P>] {
        self.adapters.get(&rank).unwrap_or_else(|| panic!("no adapter of rank {rank} was made"))
    }

    /// How many adapters were made.
    pub(super) fn ranks(&self) -> usize {
        self.adapters.len()
    }

    /// Puts the matrices of the i-th projection, as PyTorch knows them.
    pub(super) fn put(&self, i: usize, tensors: &mut Tensors) {
        tensors.put(&format!("w.{i}"), &*self.w);
        for (rank, adapters) in self.adapters.iter().filter(|&(&rank, _)| rank > 0) {
            for (number, Lora { a, b, .. }) in adapters.iter().enumerate() {
                let behind = if number == 0 { String::new() } else { format!(".{number}") };
                tensors.put(&format!("a.{rank}.{i}{behind}"), &**a);
                tensors.put(&format!("b.{rank}.{i}{behind}"), &**b);
            }
        }
    }
}

/// The same layers again for each slot, with other numbers.
pub struct Weights<P: Packer> {
    /// K and N of each projection.
    widths: Vec<(usize, usize)>,
    /// Adapters of each rank.
    mix: usize,
    normals: Normals<P::Element>,
    /// By slot and projection.
    slots: Vec<Vec<Linear<P>>>,
}

impl<P: Packer> Weights<P> {
    /// None yet, for projections of these K and N, with so many adapters of each rank.
    pub fn new(widths: Vec<(usize, usize)>, mix: usize) -> Weights<P> {
        Weights { widths, mix, normals: Normals::new(SEED), slots: Vec::new() }
    }

    /// The rows of a batch of `m` that each adapter has, as many or one more; none for some, where `m` is
    /// less than they are.
    pub fn share(&self, m: usize) -> impl Iterator<Item = Range<usize>> + use<P> {
        let mix = self.mix;
        (0..mix).map(move |i| i * m / mix..(i + 1) * m / mix)
    }

    /// Makes what is missing of the first `slots` slots, each with an adapter of that rank. An error if the
    /// library refuses the weights, or there is no memory for them.
    pub fn ensure(&mut self, packer: &P, slots: usize, rank: usize) -> anyhow::Result<()> {
        let Weights { widths, normals, mix, .. } = self;
        while self.slots.len() < slots {
            let mut projection = |&(k, n): &(usize, usize)| {
                let w = normals.matrix(deviation(k), n, k);
                let layer = packer.linear(w.view())?;
                Ok(Linear { w: Rc::new(w), layer, adapters: BTreeMap::new() })
            };
            self.slots.push(widths.iter().map(&mut projection).collect::<anyhow::Result<_>>()?);
        }
        for linear in self.slots[..slots].iter_mut().flatten() {
            if !linear.adapters.contains_key(&rank) {
                let (n, k) = linear.w.dim();
                let mut lora = || {
                    let [a, b] =
                        [(rank, k), (n, rank)].map(|(rows, k)| normals.matrix(deviation(k), rows, k));
                    let layer = P::adapted(&linear.layer, a.view(), b.view(), SCALE)?;
                    Ok(Lora { a: Rc::new(a), b: Rc::new(b), layer })
                };
                // Of rank 0 they are all the same.
                let count = if rank == 0 { 1 } else { *mix };
                let adapters = (0..count).map(|_| lora()).collect::<anyhow::Result<_>>()?;
                linear.adapters.insert(rank, adapters);
            }
        }
        Ok(())
    }

    /// The projections of each of the first `slots` slots.
    pub fn slots(&self, slots: usize) -> &[Vec<Linear<P>>] {
        &self.slots[..slots]
    }

    /// The layers with an adapter of that rank, of each of the first `slots` slots.
    pub fn layers(&self, slots: usize, rank: usize) -> Vec<Vec<P::Linear>> {
        let layer = |linear: &Linear<P>| linear.adapter(rank).layer.clone();
        self.slots(slots).iter().map(|slot| slot.iter().map(layer).collect()).collect()
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
    use crate::processor::Processor;

    #[test]
    fn slots_hold_the_same_shapes_and_other_numbers() {
        let cpu: Processor = Processor::new(Simd::detect().unwrap(), 0);
        let ensure = |weights: &mut Weights<_>, slots, rank| weights.ensure(&cpu, slots, rank).unwrap();
        let mut weights = Weights::new(vec![(1024, 512)], 1);
        ensure(&mut weights, 2, 10);
        let [first, second] = [0, 1].map(|slot| &weights.slots(2)[slot][0]);
        assert_eq!(first.w.dim(), (512, 1024));
        assert_ne!(first.w, second.w);
        assert_eq!((first.adapter(10).a.dim(), first.adapter(10).b.dim()), ((10, 1024), (512, 10)));
        assert_ne!(first.adapter(10).a, second.adapter(10).a);
        assert_eq!(weights.layers(2, 10)[0][0].rank(), 10);

        let kept = Rc::clone(&first.w);
        ensure(&mut weights, 1, 0);
        ensure(&mut weights, 3, 10);
        assert!(Rc::ptr_eq(&weights.slots(1)[0][0].w, &kept), "what is there is kept");
        assert_eq!(weights.layers(1, 0)[0][0].rank(), 0);
        assert_eq!(weights.layers(3, 10)[2][0].rank(), 10);
    }
}

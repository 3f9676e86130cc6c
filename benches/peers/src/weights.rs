//! The weights of a workload, as a peer takes them.

use std::cell::RefCell;
use std::rc::Rc;

use fused_lora_benches::linear::weights::{Linear, Lora, Packer};
use ndarray::Array2;

/// One projection.
pub(crate) struct Weights<T> {
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// [n, k]
    pub(crate) w: T,
    /// A, [r, k], and B, [n, r]; None for the base alone.
    pub(crate) adapter: Option<(T, T)>,
}

/// W by slot and projection: one for the base and all ranks. Clones of `T` share the matrix.
pub(crate) type Kept<T> = RefCell<Vec<Vec<T>>>;

/// By slot and projection, with an adapter of that rank if one is named. `w` makes what is not kept yet.
pub(crate) fn weights<T: Clone, P: Packer>(
    kept: &Kept<T>,
    slots: &[Vec<Linear<P>>],
    rank: Option<usize>,
    w: impl Fn(&Rc<Array2<P::Element>>) -> anyhow::Result<T>,
    adapter: impl Fn(&Lora<P>) -> anyhow::Result<(T, T)>,
) -> anyhow::Result<Vec<Vec<Weights<T>>>> {
    let mut kept = kept.borrow_mut();
    for slot in &slots[kept.len().min(slots.len())..] {
        kept.push(slot.iter().map(|linear| w(&linear.w)).collect::<Result<_, _>>()?);
    }
    let of_projection = |(linear, w): (&Linear<P>, &T)| {
        let (n, k) = linear.w.dim();
        let adapter = rank.map(|rank| adapter(linear.adapter(rank))).transpose()?;
        Ok(Weights { n, k, w: w.clone(), adapter })
    };
    slots.iter().zip(&*kept).map(|(slot, w)| slot.iter().zip(w).map(of_projection).collect()).collect()
}

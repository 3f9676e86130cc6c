//! What is timed: ways to compute the y of a workload.

use fused_lora::Strategy;
use fused_lora::cpu::{Layer, Workspace};
use ndarray::ArrayViewMut2;

use crate::model::Linear;
use crate::tokens::{Layout, Tokens};

/// Something whose calls are timed.
pub trait Method {
    /// The name in the records.
    fn name(&self) -> &str;

    /// Which part of the operation it computes, or None for a method that computes none and is timed for
    /// comparison only.
    fn computes(&self) -> Option<Strategy>;

    /// How it lays out y.
    fn layout(&self) -> Layout {
        Layout::RowMajor
    }

    /// Computes y of every projection, with the weights of that slot. On the host this is what a round times:
    /// nothing is allocated or packed here that could be kept from call to call.
    ///
    /// # Errors
    ///
    /// If whatever computes it fails.
    fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()>;
}

/// One strategy of this library.
pub struct Ours {
    name: String,
    strategy: Strategy,
    /// By slot and projection.
    layers: Vec<Vec<Layer>>,
    workspace: Workspace,
}

impl Ours {
    /// The strategy on the slots of a model that have an adapter of that rank.
    #[must_use]
    pub fn new(name: impl Into<String>, strategy: Strategy, slots: &[Vec<Linear>], rank: usize) -> Ours {
        let layers =
            slots.iter().map(|slot| slot.iter().map(|linear| linear.adapter(rank).layer.clone()).collect());
        Ours { name: name.into(), strategy, layers: layers.collect(), workspace: Workspace::new() }
    }
}

impl Method for Ours {
    fn name(&self) -> &str {
        &self.name
    }

    fn computes(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        for (layer, tokens) in self.layers[slot].iter().zip(tokens) {
            let shape = (tokens.x.nrows(), layer.out_features());
            let y = ArrayViewMut2::from_shape(shape, &mut tokens.y).expect("y has M · N elements");
            layer.forward_with(self.strategy, tokens.x.view(), y, &mut self.workspace)?;
        }
        Ok(())
    }
}

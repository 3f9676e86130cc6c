//! What a backend has to offer to be measured.
//!
//! An [`Engine`] makes layers, a [`Rig`] holds the buffers of one size and brings strategies together in a
//! [`Lineup`]. All else of the harness, from ids and budget to intervals and records, does not know what a
//! backend is.

use fused_lora::Strategy;
use fused_lora_records::Workload;
use half::f16;
use ndarray::ArrayView2;

use crate::check::Wrong;
use crate::lineup::Lineup;
use crate::method::Method;
use crate::model::{Model, Slots};
use crate::settings::Cache;

/// Between two uses of a buffer, so many times the last-level cache is touched.
pub const COLD: usize = 3;

/// A backend of this library.
pub trait Engine: Sized {
    /// A linear layer, its weights packed where the backend wants them. Clones share them.
    type Layer: Clone;
    /// What its layers are run on.
    type Rig: Rig<Self>;
    /// What can go wrong with weights and buffers.
    type Error: std::error::Error + Send + Sync + 'static;

    /// A layer without an adapter; w is [N, K].
    ///
    /// # Errors
    ///
    /// If the library refuses the weights, or there is no memory for them.
    fn layer(&self, w: ArrayView2<'_, f16>) -> Result<Self::Layer, Self::Error>;

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
    ) -> Result<Self::Layer, Self::Error>;

    /// A rig for one size, with nothing on it yet.
    fn rig(&self, size: Size) -> Self::Rig;
}

/// What a rig is for.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The layers of one forward pass.
    pub workload: &'static Workload,
    /// Tokens.
    pub m: usize,
    /// What is to have left the caches.
    pub cache: Cache,
    /// Bytes of the cache that it is to have left; 0 for a rehearsal, which runs once and measures nothing.
    pub last_level_cache: usize,
}

/// The buffers of one size, and what times the strategies that run on them.
pub trait Rig<E: Engine> {
    /// A strategy of this library that is ready to run on these buffers.
    type Ours: Method;

    /// Makes the buffers for so many methods at a time, and the model's weights for them with adapters of
    /// that rank. Returns the weights by slot and projection.
    ///
    /// # Errors
    ///
    /// If the library refuses the weights, or there is no memory.
    fn furnish<'m>(
        &mut self,
        model: &'m mut Model<E>,
        rank: usize,
        methods: usize,
    ) -> Result<&'m Slots<E::Layer>, E::Error>;

    /// A strategy on the slots of a model that have an adapter of that rank.
    ///
    /// # Errors
    ///
    /// If there is no memory for what it keeps from call to call.
    fn ours(&self, strategy: Strategy, slots: &Slots<E::Layer>, rank: usize) -> Result<Self::Ours, E::Error>;

    /// Compares what a strategy computes with the reference, on the first slot.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn check(&mut self, ours: &mut Self::Ours, slots: &Slots<E::Layer>, rank: usize) -> Result<(), Wrong>;

    /// The strategies against each other.
    ///
    /// # Errors
    ///
    /// If they cannot be timed.
    fn line_up(&mut self, ours: Vec<Self::Ours>) -> Result<Lineup<'_>, E::Error>;
}

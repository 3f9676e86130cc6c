//! What a backend has to offer for the layer to be measured on it.

use std::time::Duration;

use fused_lora_transformer::Config;
use half::f16;
use ndarray::ArrayView2;

use super::sequences::Sequences;
use super::size::Size;
use super::variant::Variant;
use super::weights::Weights;
use crate::settings::Cache;

/// Forward passes of the layer's variants, on buffers of the backend's own.
///
/// Between two uses of a buffer, [`COLD`](crate::engine::COLD) times the last-level cache is touched; the slots of the rotation hold the
/// same numbers, so that any call can be checked.
pub trait Backend {
    /// Forward passes that a call makes at that size. Its time is that of one.
    fn passes(&self, _: Size, _: Config) -> usize {
        1
    }

    /// Makes buffers of a size, filled and their y poisoned, and the weights of those variants where they are missing. From now on
    /// variants are called by their places here.
    ///
    /// # Errors
    ///
    /// If the library refuses the weights, or there is no memory.
    fn furnish(
        &mut self,
        size: Size,
        variants: &[Variant],
        weights: &Weights,
        sequences: &Sequences,
    ) -> anyhow::Result<()>;

    /// Forward passes of the variant at that place, on the next slots: how long one took.
    ///
    /// # Errors
    ///
    /// If it failed, so that there is no time.
    fn call(&mut self, place: usize) -> anyhow::Result<Duration>;

    /// Shows y of the last call, [M, d], and poisons it.
    ///
    /// # Errors
    ///
    /// Those of `check`, and if y cannot be had.
    fn inspect(
        &mut self,
        check: &mut dyn FnMut(ArrayView2<'_, f16>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>;
}

/// Bytes of one slot that are others in the next: x and y, and the products' weights unless they stay warm. Adapters rotate too, but not
/// every call has any.
pub(super) fn rotating_bytes(config: Config, m: usize, cache: Cache) -> usize {
    let weights = match cache {
        Cache::Cold => config.product_mul_adds() as usize * size_of::<f16>(),
        Cache::WarmW => 0,
    };
    2 * m * config.d * size_of::<f16>() + weights
}

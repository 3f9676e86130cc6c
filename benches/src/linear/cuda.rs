//! The linear layers on a GPU.

use fused_lora::Strategy;
use fused_lora::cuda::{Adapter, Layer, Workspace};
use fused_lora::reference::LoraView;
use fused_lora_records::Workload;
use half::f16;
use ndarray::ArrayView2;

use super::{Engine, Library, Linears};
use crate::cuda::Gpu;
use crate::cuda::captured::{Captured, capture};
use crate::method::Call;
use crate::settings::Cache;

pub use super::this_library;

/// What a library computes on.
pub type Ground = super::Ground<Gpu>;
/// The workload on a GPU.
pub type Cuda = Linears<Gpu>;

impl Cuda {
    /// The workload on that device, computed by those libraries; the first is this one.
    pub fn new(workload: &'static Workload, cache: Cache, gpu: Gpu, libraries: Vec<Library<Ground>>) -> Cuda {
        Linears::on(gpu, workload, cache, libraries)
    }
}

impl Engine for Gpu {
    type Layer = Layer;

    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<Layer> {
        Ok(Layer::new(&self.device, w)?)
    }

    /// Rank 0 is no adapter: its strategies take the base path.
    fn adapted(&self, layer: Layer, LoraView { a, b, scale }: LoraView<'_>) -> anyhow::Result<Layer> {
        Ok(layer.with_adapter(Adapter::new(&self.device, a, b, scale)?)?)
    }

    fn ready(ground: &Ground, strategy: Strategy, rank: usize) -> anyhow::Result<Box<dyn Call>> {
        let Ground { backend: gpu, weights, operands, weight_slots, passes, .. } = ground;
        let layers = weights.layers(*weight_slots, rank);
        let bytes = layers.iter().flatten().map(|layer| layer.workspace_size(operands.m())).max();
        let mut workspace = Workspace::new(&gpu.device, bytes.unwrap_or(0))?;
        let graph = capture(&gpu.stream, *passes, operands.slots(), |slot, stream| {
            let layers = &layers[slot % layers.len()];
            operands.each(slot, |product, x, y| {
                Ok(layers[product].forward_with(strategy, x, y, &mut workspace, stream)?)
            })
        })?;
        let kept = Box::new((layers, workspace));
        // SAFETY: the passes use the operands, the layers' weights, and the workspace, which is in no other graph.
        Ok(Box::new(unsafe { Captured::new(gpu, operands, *passes, graph, kept)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Wrong, check};
    use crate::linear::ours;
    use crate::size::Size;
    use crate::suite::Suite as _;
    use crate::testing::{checked, gpu};

    const SIZE: Size = Size { seq_len: 4, batch: 2 };

    fn cuda(gpu: &Gpu, cache: Cache) -> Cuda {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        Cuda::new(workload, cache, gpu.clone(), vec![this_library("", ours)])
    }

    #[test]
    fn strategies_are_right_and_no_other_passes_for_them() {
        let Some(gpu) = gpu() else { return };
        let mut cuda = cuda(&gpu, Cache::Cold);
        let mut methods = cuda.methods(SIZE);
        methods.retain(|method| method.rank <= 10);
        let mut calls = checked(&mut cuda, SIZE, 1, &methods);
        assert_eq!(calls.len(), 5);
        assert!(calls.iter_mut().all(|call| call.call(0).unwrap().wall > 0.0));
        let of_rank_10 = cuda.expected(SIZE, &methods[4]).unwrap();
        let error = check(&methods[0], &mut *calls[0], &of_rank_10).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
    }

    /// Each slot's x with that slot's weights, or with the first one's where they stay warm.
    #[test]
    fn a_call_goes_round_the_whole_ring() {
        let Some(gpu) = gpu() else { return };
        for (cache, weights) in [(Cache::Cold, 2), (Cache::WarmW, 1)] {
            let mut cuda = cuda(&gpu, cache);
            let methods = &cuda.methods(SIZE)[..1];
            let mut calls = cuda.prepare(SIZE, 2, methods).unwrap();
            assert_eq!((cuda.ground.weight_slots, cuda.ground.passes % 2), (weights, 0));
            calls[0].call(0).unwrap();
            let seen = [0, 1].map(|slot| cuda.ground.operands.read(slot).unwrap().remove(0).0);
            assert!(seen.iter().flatten().all(|y| y.is_finite()), "a slot was not written");
            assert_ne!(seen[0], seen[1], "a slot has the x of another");
        }
    }

    #[test]
    fn a_graph_that_computes_nothing_is_not_timed() {
        let Some(gpu) = gpu() else { return };
        let mut cuda = cuda(&gpu, Cache::Cold);
        let methods = &cuda.methods(SIZE)[..1];
        drop(cuda.prepare(SIZE, 1, methods).unwrap());
        cuda.ground.passes = 0;
        let mut empty = Gpu::ready(&cuda.ground, Strategy::Base, 0).unwrap();
        let expected = cuda.expected(SIZE, &methods[0]).unwrap();
        let error = check(&methods[0], &mut *empty, &expected).unwrap_err();
        assert!(matches!(error, Wrong::NotWritten { missing: 8192, .. }), "{error}");
    }
}

//! The linear layers on the CPU.

use fused_lora::Strategy;
use fused_lora::cpu::{Adapter, Layer, Simd, Workspace};
use fused_lora::reference::LoraView;
use fused_lora_records::Workload;
use half::f16;
use ndarray::ArrayView2;

use super::{Engine, Library, Linears};
use crate::backend::Processor;
use crate::method::Call;
use crate::operands::{Layout, on_host};
use crate::settings::Cache;

pub use super::{ours, theirs, this_library};

/// What a library computes on.
pub type Ground = super::Ground<Processor>;
/// The workload on this host.
pub type Cpu = Linears<Processor>;

impl Cpu {
    /// The workload with a SIMD level, computed by those libraries; the first is this one. `last_level_cache` is in bytes.
    pub fn new(
        workload: &'static Workload,
        cache: Cache,
        simd: Simd,
        last_level_cache: usize,
        libraries: Vec<Library<Ground>>,
    ) -> Cpu {
        Linears::on(Processor::new(simd, last_level_cache), workload, cache, libraries)
    }
}

impl Engine for Processor {
    type Layer = Layer;

    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<Layer> {
        Ok(Layer::with_simd(self.simd, w)?)
    }

    fn adapted(&self, layer: Layer, LoraView { a, b, scale }: LoraView<'_>) -> anyhow::Result<Layer> {
        Ok(layer.with_adapter(Adapter::with_simd(self.simd, a, b, scale)?)?)
    }

    fn ready(ground: &Ground, strategy: Strategy, rank: usize) -> anyhow::Result<Box<dyn Call>> {
        let layers = ground.weights.layers(ground.weight_slots, rank);
        let mut workspace = Workspace::new();
        Ok(on_host(&ground.operands, ground.cache, Layout::RowMajor, move |slot, tokens| {
            for (layer, tokens) in layers[slot].iter().zip(tokens) {
                layer.forward_with(strategy, tokens.x, tokens.y_rows(), &mut workspace)?;
            }
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Wrong, check};
    use crate::size::Size;
    use crate::suite::Suite as _;
    use crate::testing::checked;

    const SIZE: Size = Size { seq_len: 20, batch: 2 };

    fn cpu(cache: Cache) -> Cpu {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        Cpu::new(workload, cache, Simd::detect().unwrap(), 0, vec![this_library("", ours)])
    }

    #[test]
    fn every_method_is_right_on_its_own_operands_alone() {
        let mut cpu = cpu(Cache::Cold);
        let methods = cpu.methods(SIZE);
        let mut calls = checked(&mut cpu, SIZE, 2, &methods);
        for (call, _) in calls.iter_mut().zip(&methods).filter(|(_, method)| !method.is_probe()) {
            // The second slot has other weights and another x.
            call.poison().unwrap();
            call.call(1).unwrap();
            assert_eq!(call.output().unwrap()[0].missing(), 40 * 3072, "that was another y");
        }
        // The base is not taken for the whole, nor one rank for another.
        let fused = methods.iter().position(|method| method.ids[0] == "r100/fused").unwrap();
        let expected = cpu.expected(SIZE, &methods[fused]).unwrap();
        for other in [0, fused - 2] {
            let error = check(&methods[other], &mut *calls[other], &expected).unwrap_err();
            let Wrong::Mismatch { deviation, .. } = error else { panic!("{error}") };
            assert!(deviation.element > 10.0 && deviation.norm > 10.0, "{deviation:?}");
        }
    }

    #[test]
    fn warm_weights_are_those_of_one_slot() {
        let mut cpu = cpu(Cache::WarmW);
        let methods = cpu.methods(SIZE);
        let (warm, cold) = (cpu.slots(SIZE, 32 << 20), self::cpu(Cache::Cold).slots(SIZE, 32 << 20));
        assert!(warm > 20 && cold < 4, "{warm} {cold}");
        let mut calls = cpu.prepare(SIZE, 3, &methods[..1]).unwrap();
        assert_eq!(cpu.ground.weight_slots, 1);
        calls[0].call(2).unwrap();
    }
}

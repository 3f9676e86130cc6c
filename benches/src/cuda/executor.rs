//! A GPU.

use std::rc::Rc;

use fused_lora::cuda::{self, Adapter, Device};
use fused_lora::{Granule, Strategy};
use fused_lora_transformer::cuda::{Model, Workspace};
use half::f16;
use ndarray::ArrayView2;

use crate::cuda::captured::Captured;
use crate::cuda::left_out::or_left_out;
use crate::cuda::{Gpu, Operands, passes};
use crate::executor::{Executor, LayerExecutor, LayerSetup, LinearSetup, Setup};
use crate::linear::weights::Packer;
use crate::method::{Call, Ready};

impl Packer for Gpu {
    type Element = f16;
    type Linear = cuda::Layer;

    fn linear(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<cuda::Layer> {
        Ok(cuda::Layer::new(&self.device, w)?)
    }

    fn adapted(
        linear: &cuda::Layer,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> anyhow::Result<cuda::Layer> {
        Ok(linear.clone().with_adapter(Adapter::new(linear.device(), a, b, scale)?)?)
    }
}

impl Executor for Gpu {
    type Operands = Operands;

    fn granule(&self) -> Granule {
        self.machine().granule
    }

    fn resize(
        &self,
        operands: &mut Rc<Operands>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        mut fill: impl FnMut(&mut [f16]),
    ) -> anyhow::Result<()> {
        // The last size's go first.
        *operands = Rc::default();
        let mut new = Operands::new(m, widths);
        let mut x = vec![f16::ZERO; m * widths.iter().map(|&(k, _)| k).sum::<usize>()];
        for _ in 0..slots {
            fill(&mut x);
            new.push(&self.device, &x)?;
        }
        *operands = Rc::new(new);
        Ok(())
    }

    fn passes(&self, slots: usize, flops: f64) -> usize {
        passes(slots, flops, self.peak_flops())
    }

    fn called(&self) -> Box<dyn Fn()> {
        let clock = Rc::clone(&self.clock);
        Box::new(move || clock.sample())
    }

    fn or_left_out(&self, id: &str, made: anyhow::Result<Box<dyn Call>>) -> anyhow::Result<Ready> {
        or_left_out(self.leaves_out, id, made)
    }

    fn linears(setup: &LinearSetup<Gpu>, strategy: Strategy, rank: usize) -> anyhow::Result<Box<dyn Call>> {
        let Setup { backend: gpu, weights, operands, weight_slots, passes, .. } = setup;
        let layers = weights.layers(*weight_slots, rank);
        let bytes = layers.iter().flatten().map(|layer| layer.workspace_size(operands.m())).max();
        let workspace = cuda::Workspace::new(&gpu.device, bytes.unwrap_or(0))?;
        let pass = |(layers, workspace): &mut (Vec<Vec<cuda::Layer>>, _), slot: usize, stream: &_| {
            let layers = &layers[slot % layers.len()];
            operands.each(slot, |product, x, y| {
                Ok(layers[product].call(x).strategy(strategy).run(y, workspace, stream)?)
            })
        };
        // SAFETY: the passes use the operands, the layers' weights, and the workspace, which is in no other
        // graph.
        Ok(Box::new(unsafe { Captured::new(gpu, operands, *passes, (layers, workspace), pass)? }))
    }
}

impl LayerExecutor for Gpu {
    type Backend = Device;

    fn backend(&self) -> &Device {
        &self.device
    }

    fn layers(
        setup: &LayerSetup<Gpu>,
        models: Vec<Model>,
        seq_len: usize,
        rank: usize,
    ) -> anyhow::Result<Box<dyn Call>> {
        let Setup { backend: gpu, weights, operands, passes, .. } = setup;
        let workspace = Workspace::new(&gpu.device, weights.config, operands.m(), rank)?;
        let pass = |(models, workspace): &mut (Vec<Model>, _), slot: usize, stream: &_| {
            let model = &models[slot % models.len()];
            operands.each(slot, |_, x, y| Ok(model.forward(x, seq_len, y, workspace, stream)?))
        };
        // SAFETY: the passes use the operands, the models' weights, and the workspace, which is in no other
        // graph.
        Ok(Box::new(unsafe { Captured::new(gpu, operands, *passes, (models, workspace), pass)? }))
    }
}

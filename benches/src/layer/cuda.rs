//! The layer on a GPU.

use fused_lora_transformer::cuda::{Layer, Model, Workspace};
use fused_lora_transformer::{AdapterWeights, Error};

use super::weights::Weights;
use super::{Engine, Ground};
use crate::cuda::Gpu;
use crate::cuda::captured::{Captured, capture};
use crate::method::Call;

impl Engine for Gpu {
    type Model = Model;

    fn bare(&self, weights: &Weights) -> Result<Model, Error> {
        let config = weights.config;
        let layers = weights.layers.iter().map(|layer| Layer::new(&self.device, config, layer));
        Model::new(config, layers.collect::<Result<_, _>>()?)
    }

    fn adapted(bare: &Model, adapters: &[AdapterWeights]) -> Result<Model, Error> {
        bare.with_adapters(adapters)
    }

    fn ready(
        ground: &Ground<Gpu>,
        models: Vec<Model>,
        seq_len: usize,
        rank: usize,
    ) -> anyhow::Result<Box<dyn Call>> {
        let Ground { backend: gpu, weights, operands, passes, .. } = ground;
        let mut workspace = Workspace::new(&gpu.device, weights.config, operands.m(), rank)?;
        let graph = capture(&gpu.stream, *passes, operands.slots(), |slot, stream| {
            let model = &models[slot % models.len()];
            operands.each(slot, |_, x, y| Ok(model.forward(x, seq_len, y, &mut workspace, stream)?))
        })?;
        let kept = Box::new((models, workspace));
        // SAFETY: the passes use the operands, the models' weights, and the workspace, which is in no other graph.
        Ok(Box::new(unsafe { Captured::new(gpu, operands, *passes, graph, kept)? }))
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_transformer::{Config, Targets};

    use crate::check::check;
    use crate::layer::Layers;
    use crate::settings::Cache;
    use crate::size::Size;
    use crate::suite::Suite as _;
    use crate::testing::{checked, gpu};

    const CONFIG: Config = Config { d: 32, heads: 2, mlp: 64, layers: 2 };
    const SIZE: Size = Size { seq_len: 4, batch: 3 };

    /// Every method is one graph and right; another method's y is wrong.
    #[test]
    fn every_method_is_one_graph_and_right() {
        let Some(gpu) = gpu() else { return };
        for (cache, targets) in [(Cache::Cold, Targets::All), (Cache::WarmW, Targets::QueryValue)] {
            let mut cuda = Layers::new(gpu.clone(), CONFIG, targets, cache, None).unwrap();
            let mut methods = cuda.methods(SIZE);
            methods.retain(|method| method.rank <= 10);
            let mut calls = checked(&mut cuda, SIZE, 1, &methods);
            for method in &methods {
                let expected = cuda.expected(SIZE, method).unwrap();
                let other = if method.rank == 0 { methods.len() - 1 } else { 0 };
                check(method, &mut *calls[other], &expected).expect_err("that is another method's y");
            }
        }
    }
}

//! The processor of this host.

use std::cell::RefCell;
use std::rc::Rc;

use fused_lora::cpu::{self, Simd};
use fused_lora::reference::LoraView;
use fused_lora::{DType, Granule, Strategy};
use fused_lora_transformer::cpu::{Layer, Model, Workspace};
use fused_lora_transformer::{AdapterWeights, Error};
use half::f16;
use ndarray::ArrayView2;

use crate::executor::Executor;
use crate::layer::{self, weights::Weights};
use crate::linear;
use crate::method::Call;
use crate::operands::{Layout, Operands, on_host};
use crate::probes::Memory;

/// The processor, and the memory of what is timed on it alone.
pub struct Processor {
    /// The instructions that are used.
    pub simd: Simd,
    memory: Memory,
    /// Of all methods of the layer: it grows to what the largest rank needs.
    pub(crate) workspace: Rc<RefCell<Workspace>>,
}

impl Processor {
    /// With a last-level cache of so many bytes; 0 for a test run.
    pub fn new(simd: Simd, last_level_cache: usize) -> Processor {
        Processor { simd, memory: Memory::new(last_level_cache), workspace: Rc::default() }
    }
}

impl Executor for Processor {
    type Operands = RefCell<Operands>;

    fn granule(&self) -> Granule {
        self.simd.granule(DType::F16)
    }

    fn resize(
        &self,
        operands: &mut Rc<RefCell<Operands>>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        fill: impl FnMut(&mut [f16]),
    ) -> anyhow::Result<()> {
        // The last size may have been larger.
        self.workspace.take();
        operands.borrow_mut().resize(m, widths, slots, fill);
        Ok(())
    }

    fn memory(&self) -> Option<&Memory> {
        Some(&self.memory)
    }
}

impl linear::Engine for Processor {
    type Layer = cpu::Layer;

    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<cpu::Layer> {
        Ok(cpu::Layer::with_simd(self.simd, w)?)
    }

    fn adapted(
        &self,
        layer: cpu::Layer,
        LoraView { a, b, scale }: LoraView<'_>,
    ) -> anyhow::Result<cpu::Layer> {
        Ok(layer.with_adapter(cpu::Adapter::with_simd(self.simd, a, b, scale)?)?)
    }

    fn ready(
        setup: &linear::Setup<Processor>,
        strategy: Strategy,
        rank: usize,
    ) -> anyhow::Result<Box<dyn Call>> {
        let layers = setup.weights.layers(setup.weight_slots, rank);
        let mut workspace = cpu::Workspace::new();
        Ok(on_host(&setup.operands, setup.cache, Layout::RowMajor, move |slot, tokens| {
            for (layer, tokens) in layers[slot].iter().zip(tokens) {
                layer.call(tokens.x).strategy(strategy).run(tokens.y_rows(), &mut workspace)?;
            }
            Ok(())
        }))
    }
}

impl layer::Engine for Processor {
    type Model = Model;

    fn bare(&self, weights: &Weights) -> Result<Model, Error> {
        let config = weights.config;
        let layers = weights.layers.iter().map(|layer| Layer::new(&self.simd, config, layer));
        Model::new(config, layers.collect::<Result<_, _>>()?)
    }

    fn adapted(bare: &Model, adapters: &[AdapterWeights]) -> Result<Model, Error> {
        bare.with_adapters(adapters)
    }

    fn ready(
        setup: &layer::Setup<Processor>,
        models: Vec<Model>,
        seq_len: usize,
        _: usize,
    ) -> anyhow::Result<Box<dyn Call>> {
        let workspace = Rc::clone(&setup.backend.workspace);
        Ok(on_host(&setup.operands, setup.cache, Layout::RowMajor, move |slot, tokens| {
            let x = tokens[0].x;
            Ok(models[slot].forward(x, seq_len, tokens[0].y_rows(), &mut workspace.borrow_mut(), &())?)
        }))
    }
}

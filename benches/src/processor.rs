//! The processor of this host.

use std::cell::RefCell;
use std::rc::Rc;

use fused_lora::cpu::{self, Simd};
use fused_lora::{DType, Granule, Strategy};
use fused_lora_transformer::cpu::{Model, Workspace};
use half::f16;

use crate::executor::{Executor, LayerSetup, LinearSetup};
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
    type Backend = Simd;
    type Operands = RefCell<Operands>;

    fn backend(&self) -> &Simd {
        &self.simd
    }

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

    fn linears(
        setup: &LinearSetup<Processor>,
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

    fn layers(
        setup: &LayerSetup<Processor>,
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

//! The processor of this host.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use fused_lora::cpu::{self, Adapter, Simd};
use fused_lora::{Granule, Strategy};
use fused_lora_transformer::cpu::{Model, Workspace};
use half::f16;
use ndarray::ArrayView2;

use crate::executor::{Executor, LayerExecutor, LayerSetup, LinearSetup};
use crate::linear::weights::Packer;
use crate::method::Call;
use crate::number::Number;
use crate::operands::{Layout, Operands, on_host};
use crate::probes::Probes;

/// The processor, computing in an element type, and the memory of what is timed on it alone.
pub struct Processor<T = f16> {
    /// The instructions that are used.
    pub simd: Simd,
    probes: Probes,
    element: PhantomData<T>,
    /// Of all methods of the layer: it grows to what the largest rank needs.
    pub(crate) workspace: Rc<RefCell<Workspace>>,
}

impl<T: Number> Processor<T> {
    /// With a last-level cache of so many bytes; 0 for a test run.
    pub fn new(simd: Simd, last_level_cache: usize) -> Processor<T> {
        let probes = Probes::new(simd, T::DTYPE, last_level_cache);
        Processor { simd, probes, element: PhantomData, workspace: Rc::default() }
    }
}

impl<T: Number> Packer for Processor<T> {
    type Element = T;
    type Linear = cpu::Layer<T>;

    fn linear(&self, w: ArrayView2<'_, T>) -> anyhow::Result<cpu::Layer<T>> {
        Ok(cpu::Layer::with_simd(self.simd, w)?)
    }

    fn adapted(
        linear: &cpu::Layer<T>,
        a: ArrayView2<'_, T>,
        b: ArrayView2<'_, T>,
        scale: f32,
    ) -> anyhow::Result<cpu::Layer<T>> {
        Ok(linear.clone().with_adapter(Adapter::with_simd(linear.simd(), a, b, scale)?)?)
    }
}

impl<T: Number> Executor for Processor<T> {
    type Operands = RefCell<Operands<T>>;

    fn granule(&self) -> Granule {
        self.simd.granule(T::DTYPE)
    }

    fn resize(
        &self,
        operands: &mut Rc<RefCell<Operands<T>>>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        fill: impl FnMut(&mut [T]),
    ) -> anyhow::Result<()> {
        // The last size may have been larger.
        self.workspace.take();
        operands.borrow_mut().resize(m, widths, slots, fill);
        Ok(())
    }

    fn probes(&self) -> Option<&Probes> {
        Some(&self.probes)
    }

    fn linears(
        setup: &LinearSetup<Processor<T>>,
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

impl LayerExecutor for Processor {
    type Backend = Simd;

    fn backend(&self) -> &Simd {
        &self.simd
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

//! The processor of this host.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::rc::Rc;

use anyhow::Context as _;
use fused_lora::cpu::{self, Adapter, AdapterTable, Segments, Simd};
use fused_lora::{Granule, Strategy};
use fused_lora_transformer::cpu::{Model, Workspace};
use half::f16;
use ndarray::{ArrayView2, s};

use crate::executor::{Executor, LayerExecutor, LayerSetup, LinearSetup};
use crate::linear::weights::{Linear, Lora, Packer};
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
        let m = setup.operands.borrow().m();
        let of = |linear: &Linear<Self>| match linear.adapters(rank) {
            [lora] => Ok((lora.layer.clone(), None)),
            loras => Ok((loras[0].layer.clone(), Some(segments(loras, setup.weights.share(m), m)?))),
        };
        let slots = setup.weights.slots(setup.weight_slots).iter();
        let layers: Vec<Vec<_>> =
            slots.map(|slot| slot.iter().map(of).collect()).collect::<anyhow::Result<_>>()?;
        let mut workspace = cpu::Workspace::new();
        Ok(on_host(&setup.operands, setup.cache, Layout::RowMajor, move |slot, tokens| {
            for ((layer, segments), tokens) in layers[slot].iter().zip(tokens) {
                let mut call = layer.call(tokens.x).strategy(strategy);
                if let Some(segments) = segments {
                    call = call.segments(segments);
                }
                call.run(tokens.y_rows(), &mut workspace)?;
            }
            Ok(())
        }))
    }
}

impl<T: Number> Processor<T> {
    /// A call for each adapter of a batch, on its rows.
    pub fn clones(setup: &LinearSetup<Processor<T>>, rank: usize) -> Box<dyn Call> {
        let share: Vec<_> = setup.weights.share(setup.operands.borrow().m()).collect();
        let of = |linear: &Linear<Self>| -> Vec<_> {
            linear.adapters(rank).iter().map(|lora| lora.layer.clone()).collect()
        };
        let slots = setup.weights.slots(setup.weight_slots).iter();
        let layers: Vec<Vec<_>> = slots.map(|slot| slot.iter().map(of).collect()).collect();
        let mut workspace = cpu::Workspace::new();
        on_host(&setup.operands, setup.cache, Layout::RowMajor, move |slot, tokens| {
            for (layers, tokens) in layers[slot].iter().zip(tokens) {
                for (layer, rows) in layers.iter().zip(&share) {
                    let rows = s![rows.clone(), ..];
                    let x = tokens.x;
                    let mut y = tokens.y_rows();
                    layer.call(x.slice(rows)).run(y.slice_mut(rows), &mut workspace)?;
                }
            }
            Ok(())
        })
    }
}

/// A table of these adapters, and which rows each has.
fn segments<T: Number>(
    loras: &[Lora<Processor<T>>],
    share: impl Iterator<Item = Range<usize>>,
    m: usize,
) -> anyhow::Result<Segments<T>> {
    let layer = &loras[0].layer;
    let (k, n) = (layer.in_features(), layer.out_features());
    let mut table = AdapterTable::with_simd::<T>(layer.simd(), k, n, &[])?;
    for (i, lora) in loras.iter().enumerate() {
        let adapter = lora.layer.adapter().context("a layer without its adapter")?;
        table = table.with(i, adapter.clone())?;
    }
    let rows: Vec<_> = share.enumerate().map(|(i, rows)| (rows, Some(i))).collect();
    Ok(Segments::new(&table, m, &rows)?)
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

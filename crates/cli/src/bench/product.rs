//! One linear layer with its adapter, on random operands of the shapes and types that a model has: a suite of
//! the harness.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Result, bail};
use fused_lora::{
    AdapterElement, Element, Epilogue, Problem, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
    reference::{Inputs, LoraView},
};
use fused_lora_measure::{
    expected::{expected, sampled_rows},
    method::{Expected, Floor, Method, Provider, Ready, Suite, Task, Work, slots_apart},
    normals::Normals,
    number::Number,
    operands::{Cache, Layout, Operands, on_host},
    probes::Probes,
    size::Size,
};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::shape::{Shape, tokens};

/// s. Not 1, which would hide a scale that is forgotten.
const SCALE: f32 = 1.5;
const SEED: u64 = 1;
/// More would take longer to make than to measure. Of products below 24 KiB, with a last-level cache of 32 MiB,
/// some then still are in a cache.
const MOST_SLOTS: usize = 4096;

/// The suite of one shape, with x, W and y of type T, and A and B of type H.
pub(super) struct Product<T: Element, H> {
    shape: Shape,
    simd: Simd,
    probes: Probes,
    /// Numbers of x, W and the bias, and those of A and B.
    normals: (Normals<T>, Normals<H>),
    operands: Rc<RefCell<Operands<T>>>,
    /// Packed, for each slot of the ring: without and with the adapter.
    slots: Vec<[Layer<T>; 2]>,
    /// What the reference sees: the operands of the first slot.
    first: First<T, H>,
}

struct First<T, H> {
    x: Vec<T>,
    w: Array2<T>,
    a: Array2<H>,
    b: Array2<H>,
    epilogue: Epilogue<T>,
}

impl<T: Number, H: AdapterElement<T>> Product<T, H> {
    /// With nothing made yet, for a last-level cache of so many bytes.
    pub(super) fn new(shape: Shape, simd: Simd, last_level_cache: usize) -> Self {
        let empty = First {
            x: Vec::new(),
            w: Array2::default((0, 0)),
            a: Array2::default((0, 0)),
            b: Array2::default((0, 0)),
            epilogue: Epilogue::default(),
        };
        Product {
            shape,
            simd,
            probes: Probes::new(simd, T::DTYPE, last_level_cache),
            normals: (Normals::new(SEED), Normals::new(SEED + 1)),
            operands: Rc::default(),
            slots: Vec::new(),
            first: empty,
        }
    }

    fn problem(&self, size: Size) -> Problem {
        let Shape { n, k, rank, .. } = self.shape;
        Problem::new(size.m(), n, k, rank)
    }

    /// Operations of a strategy, and the bytes of its operands and of y.
    fn work(&self, size: Size, strategy: Strategy) -> Work {
        let problem @ Problem { m, n, k, rank, .. } = self.problem(size);
        let bias = if self.shape.bias { n } else { 0 };
        let adapter = if strategy == Strategy::Base { 0 } else { rank * (n + k) };
        let bytes = (m * (n + k) + n * k + bias) * T::DTYPE.size() + adapter * H::DTYPE.size();
        Work { flops: problem.flops(strategy), bytes: bytes as f64 }
    }

    /// Bytes of all operands at a size, about: those of each slot, and W before it is packed.
    pub(super) fn memory(&self, size: Size, distance: usize) -> f64 {
        (self.slots(size, distance) + 2) as f64 * self.work(size, Strategy::Fused).bytes
    }

    /// Makes layers up to so many slots. Numbers of a product of K terms have about the size of its input.
    fn pack(&mut self, slots: usize) -> Result<()> {
        let Shape { n, k, rank, .. } = self.shape;
        let deviation = |terms: usize| 1.0 / (terms.max(1) as f64).sqrt();
        while self.slots.len() < slots {
            let (normals, of_adapter) = &mut self.normals;
            let w = normals.matrix(deviation(k), n, k);
            let bias = self.shape.bias.then(|| Array1::from_iter(normals.matrix(1.0, 1, n)));
            let epilogue = bias.map_or_else(Epilogue::default, Epilogue::bias);
            let [a, b] = [(rank, k), (n, rank)].map(|(rows, k)| of_adapter.matrix(deviation(k), rows, k));
            let layer = Layer::with_simd(self.simd, w.view())?.with_epilogue(&epilogue)?;
            let adapter = Adapter::with_simd(self.simd, a.view(), b.view(), SCALE)?;
            if self.slots.is_empty() {
                self.first = First { x: std::mem::take(&mut self.first.x), w, a, b, epilogue };
            }
            self.slots.push([layer.clone(), layer.with_adapter(adapter)?]);
        }
        Ok(())
    }
}

impl<T: Number, H: AdapterElement<T>> Suite for Product<T, H> {
    fn methods(&self, size: Size) -> Vec<Method> {
        let problem = self.problem(size);
        let floor = Floor {
            pct: problem.floor_pct(),
            pad_pct: Some(problem.floor_pad_pct(self.simd.granule(T::DTYPE))),
        };
        let ours = Strategy::ALL.map(|strategy| Method {
            base: Some(0),
            work: self.work(size, strategy),
            floor: (strategy != Strategy::Base).then_some(floor),
            dtype: T::DTYPE.name(),
            ..Method::new(strategy.name(), problem.rank, Task::Linear(strategy), Provider::Library(0))
        });
        let probes = self.probes.methods(problem.flops(Strategy::Base));
        ours.into_iter().chain(probes).collect()
    }

    fn label(&self, size: Size) -> String {
        let Shape { n, k, rank, .. } = self.shape;
        format!("N {n}, K {k}, rank {rank}, {}", tokens(size.m()))
    }

    fn slots(&self, size: Size, distance: usize) -> usize {
        slots_apart(self.work(size, Strategy::Base).bytes as usize, distance).min(MOST_SLOTS)
    }

    fn prepare(&mut self, size: Size, slots: usize, methods: &[Method]) -> Result<Vec<Ready>> {
        let (widths, first) = ([(self.shape.k, self.shape.n)], &mut self.first.x);
        let normals = &mut self.normals.0;
        first.clear();
        self.operands.borrow_mut().resize(size.m(), &widths, slots, |x| {
            normals.fill(1.0, x);
            if first.is_empty() {
                first.extend_from_slice(x);
            }
        });
        self.pack(slots)?;
        let flops = self.problem(size).flops(Strategy::Base);
        let ready = |method: &Method| -> Result<Ready> {
            let strategy = match method.task {
                Task::Probe(probe) => return Ok(Some(self.probes.ready(probe, flops))),
                Task::Linear(strategy) => strategy,
                Task::Layer(_) => bail!("{} is no linear layer", method.names[0]),
            };
            let place = usize::from(strategy != Strategy::Base);
            let layers: Vec<Layer<T>> = self.slots[..slots].iter().map(|slot| slot[place].clone()).collect();
            let mut workspace = Workspace::new();
            Ok(Some(on_host(&self.operands, Cache::Cold, Layout::RowMajor, move |slot, tokens| {
                let call = layers[slot].call(tokens[0].x).strategy(strategy);
                Ok(call.run(tokens[0].y_rows(), &mut workspace)?)
            })))
        };
        methods.iter().map(ready).collect()
    }

    fn expected(&mut self, size: Size, method: &Method) -> Result<Rc<Vec<Expected>>> {
        let Task::Linear(strategy) = method.task else { return Ok(Rc::default()) };
        let First { x, w, a, b, epilogue } = &self.first;
        let rows = sampled_rows(size.m(), w.len());
        let x = ArrayView2::from_shape((size.m(), w.ncols()), x)?.select(Axis(0), &rows);
        let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: SCALE });
        let [y, tolerance] = expected(&Inputs { x: x.view(), w: w.view(), adapter, epilogue }, strategy)?;
        let rows = rows.into_iter().enumerate().map(|(number, row)| (row, number)).collect();
        Ok(Rc::new(vec![Expected { rows, y, tolerance, norm_tolerance: T::NORM_TOLERANCE }]))
    }
}

#[cfg(test)]
mod tests {
    use fused_lora::DType;
    use fused_lora_measure::{
        check::{Wrong, check},
        machine::Machine,
    };
    use half::{bf16, f16};

    use super::*;

    const SIZE: Size = Size { seq_len: 7, batch: 1 };

    fn product<T: Number, H: AdapterElement<T>>(bias: bool) -> Product<T, H> {
        let shape = Shape { n: 80, k: 96, rank: 5, bias, dtype: T::DTYPE, wide: T::DTYPE != H::DTYPE };
        Product::new(shape, Simd::detect().unwrap(), 0)
    }

    /// Each strategy is right by the bound of its types, on the first of two slots alone; the base is not
    /// taken for the whole, nor a product without its bias.
    fn every_method_is_right<T: Number, H: AdapterElement<T>>() {
        let mut product = product::<T, H>(true);
        let methods = product.methods(SIZE);
        assert_eq!(methods.iter().filter(|method| !method.is_probe()).count(), 3);
        let mut calls = product.prepare(SIZE, 2, &methods).unwrap();
        for (place, method) in methods.iter().enumerate().filter(|(_, method)| !method.is_probe()) {
            let expected = product.expected(SIZE, method).unwrap();
            let call = calls[place].as_mut().unwrap();
            check(method, &mut **call, &expected).unwrap();
            call.poison().unwrap();
            call.call(1).unwrap();
            assert!(call.output().unwrap()[0].iter().all(|y| y.is_nan()), "{}: that was another y", place);
        }
        let whole = product.expected(SIZE, &methods[2]).unwrap();
        let error = check(&methods[0], &mut **calls[0].as_mut().unwrap(), &whole).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
        product.first.epilogue = Epilogue::default();
        let without = product.expected(SIZE, &methods[2]).unwrap();
        assert!(check(&methods[2], &mut **calls[2].as_mut().unwrap(), &without).is_err());
    }

    #[test]
    fn every_method_is_right_in_all_types() {
        every_method_is_right::<f16, f16>();
        every_method_is_right::<f16, f32>();
        every_method_is_right::<bf16, bf16>();
        every_method_is_right::<bf16, f32>();
        every_method_is_right::<f32, f32>();
    }

    /// By hand: 7 tokens, N 80, K 96, rank 5; an f32 adapter has twice the bytes.
    #[test]
    fn work_and_floor_are_those_of_the_shape() {
        let [same, wide] =
            [product::<bf16, bf16>(false).methods(SIZE), product::<bf16, f32>(false).methods(SIZE)];
        let plain = 2.0 * (7.0 * 176.0 + 80.0 * 96.0);
        assert_eq!([0, 1, 2].map(|i| same[i].work.bytes), [plain, plain + 1760.0, plain + 1760.0]);
        assert_eq!(wide[2].work.bytes, plain + 3520.0);
        assert_eq!(product::<bf16, bf16>(true).methods(SIZE)[0].work.bytes, plain + 160.0);
        assert_eq!(same[2].work.flops, 2.0 * 7.0 * (80.0 * 96.0 + 5.0 * 176.0));
        assert_eq!((same[0].floor, same[2].floor.unwrap().pct), (None, 100.0 * (5.0 / 80.0 + 5.0 / 96.0)));
        let granule = Machine::cpu(Simd::detect().unwrap(), DType::Bf16).granule;
        let padded = Problem::new(7, 80, 96, 5).floor_pad_pct(granule);
        assert_eq!(same[1].floor.unwrap().pad_pct, Some(padded));
    }
}

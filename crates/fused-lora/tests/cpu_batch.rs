//! Batches that mix adapters: every SIMD level, strategy and type, against the reference and against a layer
//! for each adapter.

mod common;

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Operands, Strided, normal, poison, rng};
use fused_lora::{
    Activation, AdapterElement, DType, Element, Epilogue, Error, Operand, Residual, Strategy,
    cpu::{Adapter, AdapterTable, Executor, Layer, Rayon, Segments, Serial, Simd, TableEntry, Workspace},
    reference::{self, Expected, Inputs, LoraView, Sums},
};
use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;

/// Rows, and the number of their adapter.
type Rows = (Range<usize>, Option<usize>);

/// An adapter, not packed.
#[derive(Clone)]
struct Host<H> {
    a: Array2<H>,
    b: Array2<H>,
    scale: f32,
    columns: Range<usize>,
}

impl<H: Element> Host<H> {
    fn random(seed: u64, k: usize, rank: usize, columns: Range<usize>) -> Self {
        let Operands { a, b, scale, .. } = Operands::random(seed, 1, columns.len(), k, rank);
        Self { a, b, scale: scale + seed as f32 / 8.0, columns }
    }

    fn entry(&self) -> TableEntry<'_, H> {
        TableEntry { a: self.a.view(), b: self.b.view(), scale: self.scale, columns: self.columns.clone() }
    }

    /// B on all columns of y, zero where it has none.
    fn padded_b(&self, n: usize) -> Array2<H> {
        let mut padded = Array2::from_elem((n, self.a.nrows()), H::from_f32(0.0));
        padded.slice_mut(s![self.columns.clone(), ..]).assign(&self.b);
        padded
    }
}

/// What all of a case's levels and strategies share.
struct Case<T: Element, H> {
    x: Array2<T>,
    w: Array2<T>,
    epilogue: Epilogue<T>,
    residual: Option<Array2<T>>,
    adapters: Vec<Host<H>>,
    rows: Vec<Rows>,
    threads: usize,
}

impl<T: Element, H: AdapterElement<T>> Case<T, H> {
    /// Row by row as with one adapter for all, of the rows that have it.
    fn expected(&self, strategy: Strategy) -> Expected {
        let (m, n) = (self.x.nrows(), self.w.nrows());
        let mut whole = Expected { y: Array2::zeros((m, n)), tolerance: Array2::zeros((m, n)) };
        let mut put = |rows: Range<usize>, adapter: Option<&Host<H>>| {
            if rows.is_empty() {
                return;
            }
            let rows = s![rows, ..];
            let b = adapter.map(|adapter| adapter.padded_b(n));
            let adapter = adapter.zip(b.as_ref());
            let lora = adapter.map(|(of, b)| LoraView { a: of.a.view(), b: b.view(), scale: of.scale });
            let x = self.x.slice(rows);
            let inputs = Inputs { x, w: self.w.view(), adapter: lora, epilogue: &self.epilogue };
            let residual: Vec<_> = self.residual.iter().map(|residual| residual.slice(rows)).collect();
            let part = reference::forward_summed(&inputs, &residual, strategy, Sums::OneByOne).unwrap();
            whole.y.slice_mut(rows).assign(&part.y);
            whole.tolerance.slice_mut(rows).assign(&part.tolerance);
        };
        put(0..m, None);
        for (rows, adapter) in &self.rows {
            put(rows.clone(), adapter.map(|adapter| &self.adapters[adapter]));
        }
        whole
    }

    fn check(&self) {
        let (m, [n, k]) = (self.x.nrows(), [self.w.nrows(), self.w.ncols()]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().unwrap();
        let entries: Vec<_> = self.adapters.iter().map(Host::entry).collect();
        let x = Strided::copy_of(&self.x, 3, 1);
        for strategy in Strategy::ALL {
            let expected =
                if strategy == Strategy::Base { self.without_adapters() } else { self.expected(strategy) };
            for simd in Simd::available() {
                let layer = Layer::with_simd(simd, self.w.view()).unwrap();
                let layer = layer.with_epilogue(&self.epilogue).unwrap();
                let table = AdapterTable::with_simd(simd, k, n, &entries).unwrap();
                let segments = Segments::new(&table, m, &self.rows).unwrap();
                let mut y = Strided::poisoned(m, n, 2, 3);
                let mut workspace = Workspace::new();
                let mut call = |y: &mut Strided<T>| {
                    let residual = self.residual.as_ref();
                    let residual = residual.map_or(Residual::None, |r| Residual::Matrix(r.view()));
                    let call = layer.call(x.view()).segments(&segments).strategy(strategy).residual(residual);
                    pool.install(|| call.run(y.view_mut(), &mut workspace)).unwrap();
                };
                call(&mut y);
                let types = format!("{} with {}", T::DTYPE, H::DTYPE);
                let case = || format!("{simd} {types} {strategy} m {m} n {n} k {k} {:?}", self.rows);
                if let Err(mismatch) = reference::check_elements(&expected, y.view()) {
                    panic!("{}: {mismatch}", case());
                }
                assert!(y.gaps_are_untouched(), "{}: wrote between the rows of y", case());
                let first = y.view().to_owned();
                call(&mut y);
                assert_eq!(y.view(), first, "{}: the second call differs", case());
            }
        }
    }

    fn without_adapters(&self) -> Expected {
        let (x, w) = (self.x.view(), self.w.view());
        let inputs = Inputs::<T, H> { x, w, adapter: None, epilogue: &self.epilogue };
        let residual: Vec<_> = self.residual.iter().map(|residual| residual.view()).collect();
        reference::forward_summed(&inputs, &residual, Strategy::Base, Sums::OneByOne).unwrap()
    }
}

/// A case of these sizes. `cuts` are gaps before segments, their lengths, and their adapters; those that do
/// not fit into m rows are cut off.
fn case<T: Element, H: AdapterElement<T>>(
    seed: u64,
    [m, n, k]: [usize; 3],
    adapters: &[(usize, Range<usize>)],
    cuts: &[(usize, usize, Option<usize>)],
    [bias, gelu, residual]: [bool; 3],
    threads: usize,
) -> Case<T, H> {
    let Operands { x, w, bias: values, .. } = Operands::<T>::random(seed, m, n, k, 0);
    let adapters: Vec<_> = adapters
        .iter()
        .enumerate()
        .map(|(i, (rank, columns))| Host::random(i as u64 + 1, k, *rank, columns.clone()))
        .collect();
    let (mut rows, mut end) = (Vec::new(), 0);
    for &(gap, length, adapter) in cuts {
        let start = (end + gap).min(m);
        end = (start + length).min(m);
        rows.push((start..end, adapter.map(|adapter| adapter % adapters.len())));
    }
    let epilogue = if bias { Epilogue::bias(values) } else { Epilogue::default() };
    let epilogue = if gelu { epilogue.with_activation(Activation::GeluTanh) } else { epilogue };
    let residual = residual.then(|| normal(&mut rng(!seed), m, n, 1.0));
    Case { x, w, epilogue, residual, adapters, rows, threads }
}

/// A layer's type, and whether its adapters are f32.
fn in_type(
    types: (DType, bool),
    seed: u64,
    sizes: [usize; 3],
    adapters: &[(usize, Range<usize>)],
    cuts: &[(usize, usize, Option<usize>)],
    end: [bool; 3],
    threads: usize,
) {
    match types {
        (DType::F16, false) => case::<f16, f16>(seed, sizes, adapters, cuts, end, threads).check(),
        (DType::F16, true) => case::<f16, f32>(seed, sizes, adapters, cuts, end, threads).check(),
        (DType::Bf16, false) => case::<bf16, bf16>(seed, sizes, adapters, cuts, end, threads).check(),
        (DType::Bf16, true) => case::<bf16, f32>(seed, sizes, adapters, cuts, end, threads).check(),
        _ => case::<f32, f32>(seed, sizes, adapters, cuts, end, threads).check(),
    }
}

const ALL_TYPES: [(DType, bool); 5] =
    [(DType::F16, false), (DType::Bf16, false), (DType::F32, false), (DType::F16, true), (DType::Bf16, true)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_any_columns(
        m in prop_oneof![1usize..20, 1usize..150, proptest::sample::select(vec![64usize, 65, 128, 131])],
        n in 1usize..150,
        k in prop_oneof![4 => 1usize..130, 1 => proptest::sample::select(vec![1025usize, 2049])],
        adapters in proptest::collection::vec(
            (proptest::sample::select(vec![0usize, 1, 7, 16, 17, 48, 49, 100]), 0.0..1.0f64, 0.0..1.0f64, any::<bool>()),
            1..6,
        ),
        cuts in proptest::collection::vec(
            (prop_oneof![3 => Just(0usize), 1 => 0usize..9], prop_oneof![0usize..4, 0usize..70],
             proptest::option::weighted(0.8, 0usize..6)),
            0..20,
        ),
        end: [bool; 3],
        threads in 1usize..=4,
        types in proptest::sample::select(ALL_TYPES.to_vec()),
        seed in 0u64..1000,
    ) {
        let adapters: Vec<_> = adapters
            .into_iter()
            .map(|(rank, from, to, all)| {
                let start = if all { 0 } else { (from * n as f64) as usize };
                let end = if all { n } else { start + 1 + (to * (n - start - 1) as f64) as usize };
                (rank, start..end)
            })
            .collect();
        in_type(types, seed, [m, n, k], &adapters, &cuts, end, threads);
    }
}

/// One token each, whole blocks each, none at all; K in one block and in several.
#[test]
fn decode_and_prefill() {
    let adapters = [(16, 0..100), (100, 0..100), (0, 0..100), (33, 30..61), (1, 99..100)];
    for types in ALL_TYPES {
        for (m, each) in [(8, 1), (64, 1), (200, 25), (256, 64), (7, 0)] {
            for (k, threads) in [(70, 2), (2600, 2), (1030, 1)] {
                let cuts: Vec<_> = (0..m / each.max(1)).map(|i| (0, each, Some(i))).collect();
                in_type(types, 5, [m, 100, k], &adapters, &cuts, [true, false, m == 64], threads);
            }
        }
    }
}

/// Each row is, bit for bit, what a layer with its adapter alone computes, on whoever's threads. (With AMX
/// sums of few rows are made in another order: there, one is near the other.)
#[test]
fn a_batch_gives_what_clones_of_the_layer_give() {
    fn check<T: Element + AdapterElement<T>>() {
        let adapters = [(16, 0..300), (60, 0..300), (7, 48..250), (130, 0..48)];
        let cuts: Vec<_> = (0..40).map(|i| (i % 3, 1 + i * 7 % 13, Some(i))).collect();
        let case = case::<T, T>(3, [200, 300, 1100], &adapters, &cuts, [true, true, false], 2);
        for simd in Simd::available() {
            let layer = Layer::with_simd(simd, case.w.view()).unwrap().with_epilogue(&case.epilogue).unwrap();
            let entries: Vec<_> = case.adapters.iter().map(Host::entry).collect();
            let table = AdapterTable::with_simd(simd, 1100, 300, &entries).unwrap();
            let segments = Segments::new(&table, 200, &case.rows).unwrap();
            let run = |executor: &dyn Executor| {
                let mut y = Array2::from_elem((200, 300), poison::<T>());
                let call = layer.call(case.x.view()).segments(&segments).on(executor);
                call.run(y.view_mut(), &mut Workspace::new()).unwrap();
                y
            };
            let y = run(&Rayon);
            assert_eq!(y, run(&Serial), "{simd}");
            let mut expected = Array2::from_elem((200, 300), poison::<T>());
            layer.call(case.x.view()).run(expected.view_mut(), &mut Workspace::new()).unwrap();
            for (rows, adapter) in &case.rows {
                let clone = layer.clone().with_adapter(table.get(adapter.unwrap()).unwrap().clone()).unwrap();
                let (rows, x) = (s![rows.clone(), ..], case.x.slice(s![rows.clone(), ..]));
                clone.call(x).run(expected.slice_mut(rows), &mut Workspace::new()).unwrap();
            }
            if (simd, T::DTYPE) == (Simd::Amx, DType::Bf16) {
                let far =
                    |(y, of): (&T, &T)| (y.to_f32() - of.to_f32()).abs() > 0.02 * of.to_f32().abs().max(1.0);
                assert!(!y.iter().zip(&expected).any(far), "{simd}");
            } else {
                assert_eq!(y, expected, "{simd} {}", T::DTYPE);
            }
        }
    }
    check::<f16>();
    check::<bf16>();
    check::<f32>();
}

/// q and v of a fused QKV, for a layer and in a table beside others.
#[test]
fn adapters_beside_each_other_are_one_product() {
    let (m, n, k) = (70, 3 * 40, 90);
    let Operands { x, w, .. } = Operands::<f16>::random(8, m, n, k, 0);
    let [q, v] =
        [(1, 12, 0..40), (2, 5, 80..120)].map(|(seed, r, columns)| Host::random(seed, k, r, columns));
    // The same as one adapter of both ranks.
    let mut a = Array2::zeros((17, k));
    let mut b = Array2::zeros((n, 17));
    a.slice_mut(s![..12, ..]).assign(&q.a);
    a.slice_mut(s![12.., ..]).assign(&v.a);
    b.slice_mut(s![0..40, ..12]).assign(&q.b);
    b.slice_mut(s![80.., 12..]).assign(&v.b);
    for simd in Simd::available() {
        let pack = |h: &Host<f16>| {
            Adapter::<f16>::on_columns(simd, h.a.view(), h.b.view(), 2.0, h.columns.clone(), n).unwrap()
        };
        let both = pack(&q).beside(&pack(&v)).unwrap();
        assert_eq!((both.rank(), both.out_features(), both.in_features()), (17, n, k));
        let layer = Layer::with_simd(simd, w.view()).unwrap();
        let lora = LoraView { a: a.view(), b: b.view(), scale: 2.0 };
        let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(lora), epilogue: Epilogue::NONE };
        let table = AdapterTable::<f16>::with_simd::<f16>(simd, k, n, &[]).unwrap();
        let table = table.with(0, pack(&q)).unwrap().with(1, both.clone()).unwrap();
        let segments = Segments::new(&table, m, &[(0..m, Some(1))]).unwrap();
        for strategy in [Strategy::Fused, Strategy::Unfused] {
            let expected = reference::forward_summed(&inputs, &[], strategy, Sums::OneByOne).unwrap();
            let alone = layer.clone().with_adapter(both.clone()).unwrap();
            let mut y = Array2::from_elem((m, n), f16::NAN);
            alone.call(x.view()).strategy(strategy).run(y.view_mut(), &mut Workspace::new()).unwrap();
            reference::check(&expected, y.view()).unwrap_or_else(|e| panic!("{simd} {strategy}: {e}"));
            let mut batch = Array2::from_elem((m, n), f16::NAN);
            let call = layer.call(x.view()).segments(&segments).strategy(strategy);
            call.run(batch.view_mut(), &mut Workspace::new()).unwrap();
            assert_eq!(batch, y);
        }
        let error = both.beside(&pack(&q)).unwrap_err();
        assert_eq!(error, Error::ColumnsOverlap { one: (0, 40), other: (0, 40) });
    }
}

/// Eight threads swap a table's adapter while they compute with it: each batch is of one table.
#[test]
fn a_table_is_a_snapshot() {
    let seconds = std::env::var("FUSED_LORA_SWAP_SECONDS").map_or(5.0, |text| text.parse().unwrap());
    let (m, n, k) = (12, 100, 130);
    let Operands { x, w, .. } = Operands::<f16>::random(9, m, n, k, 0);
    let adapters: Vec<Adapter> = [(1, 8), (2, 40)]
        .map(|(seed, rank)| {
            let Host { a, b, scale, .. } = Host::<f16>::random(seed, k, rank, 0..n);
            Adapter::new(a.view(), b.view(), scale).unwrap()
        })
        .into();
    let layer = Layer::new(w.view()).unwrap();
    let expected = adapters.iter().map(|adapter| {
        let mut y = Array2::from_elem((m, n), f16::NAN);
        let layer = layer.clone().with_adapter(adapter.clone()).unwrap();
        layer.call(x.view()).run(y.view_mut(), &mut Workspace::new()).unwrap();
        y
    });
    let expected: Vec<_> = expected.collect();
    assert_ne!(expected[0], expected[1]);
    let empty = AdapterTable::<f16>::new::<f16>(k, n, &[]).unwrap();
    let table = Mutex::new(empty.with(0, adapters[0].clone()).unwrap());
    let (over, seen) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (over, seen, table, adapters, expected, layer, x) =
                (&over, &seen, &table, &adapters, &expected, &layer, &x);
            scope.spawn(move || {
                let (mut workspace, mut count) = (Workspace::new(), thread);
                while !over.load(Ordering::Relaxed) {
                    {
                        let mut table = table.lock().unwrap();
                        *table = table.with(0, adapters[count % 2].clone()).unwrap();
                    }
                    let now = table.lock().unwrap().clone();
                    let segments = Segments::new(&now, m, &[(0..m, Some(0))]).unwrap();
                    drop(now);
                    let mut y = Array2::from_elem((m, n), f16::NAN);
                    let call = layer.call(x.view()).segments(&segments).on(&Serial);
                    call.run(y.view_mut(), &mut workspace).unwrap();
                    let which = expected.iter().position(|expected| *expected == y);
                    seen[which.expect("y of one adapter or the other")].fetch_add(1, Ordering::Relaxed);
                    count += 1;
                }
            });
        }
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < seconds {
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) > 0), "both adapters were seen: {seen:?}");
}

#[test]
fn what_does_not_fit_is_refused_and_y_stays() {
    let (m, n, k) = (20, 40, 24);
    let Operands { x, w, .. } = Operands::<f16>::random(1, m, n, k, 0);
    let good = Host::<f16>::random(1, k, 10, 0..n);
    let layer = Layer::new(w.view()).unwrap();
    let table = AdapterTable::<f16>::new(k, n, &[good.entry(), good.entry()]).unwrap();
    let narrow = AdapterTable::<f16>::new(k, 32, &[Host::<f16>::random(1, k, 10, 0..32).entry()]).unwrap();
    let segments = |rows: &[Rows]| Segments::new(&table, m, rows).map(|_| ()).unwrap_err();

    let rows = |index, rows, allowed| Error::SegmentRows { index, rows, allowed };
    assert_eq!(segments(&[(0..21, Some(0))]), rows(0, (0, 21), (0, 20)));
    assert_eq!(segments(&[(0..9, Some(0)), (8..20, None)]), rows(1, (8, 20), (9, 20)));
    let error = segments(&[(0..9, None), (9..20, Some(2))]);
    assert_eq!(error, Error::SegmentAdapter { index: 1, adapter: 2, count: 2 });
    // A slot that is gone, and what was made before it went.
    let before = Segments::new(&table, m, &[(0..m, Some(1))]).unwrap();
    let without = table.without(1).unwrap();
    let gone = Segments::new(&without, m, &[(0..m, Some(1))]).map(|_| ()).unwrap_err();
    assert_eq!(gone, Error::SegmentAdapter { index: 0, adapter: 1, count: 2 });
    assert_eq!(
        (without.len(), without.rank(0), without.rank(1), without.max_rank()),
        (2, Some(10), None, 10)
    );
    assert_eq!(table.without(2).map(|_| ()), Err(Error::Slot { slot: 2, count: 2 }));

    let wide = Array2::from_elem((10, k + 1), f16::ONE);
    let entry = |entry| AdapterTable::<f16>::new(k, n, &[good.entry(), entry]).map(|_| ());
    let of_entry = |source| Err(Error::Entry { index: 1, source: Box::new(source) });
    let columns = |columns: Range<usize>| entry(TableEntry { columns, ..good.entry() });
    assert_eq!(columns(1..41), of_entry(Error::Columns { columns: (1, 41), out_features: 40 }));
    assert_eq!(columns(3..3), of_entry(Error::Columns { columns: (3, 3), out_features: 40 }));
    let shape = |operand, axis, expected, found| Error::Shape { operand, axis, expected, found };
    assert_eq!(columns(0..39), of_entry(shape(Operand::B, "rows", 39, 40)));
    assert!(entry(TableEntry { scale: f32::NAN, ..good.entry() }).is_err());
    let error = entry(TableEntry { a: wide.view(), ..good.entry() });
    assert_eq!(error, of_entry(shape(Operand::A, "columns", k, k + 1)));

    let adapter = |of: &Host<f16>| Adapter::<f16>::new(of.a.view(), of.b.view(), 1.0).unwrap();
    assert_eq!(table.with(3, adapter(&good)).map(|_| ()), Err(Error::Slot { slot: 3, count: 2 }));
    let small = adapter(&Host::random(1, k, 10, 0..32));
    assert_eq!(table.with(0, small).map(|_| ()), Err(shape(Operand::B, "rows", n, 32)));
    let Host { a, b, .. } = Host::<f32>::random(1, k, 10, 0..n);
    let of_f32 = Adapter::<f16>::new(a.view(), b.view(), 1.0).unwrap();
    let error = Error::AdapterType { expected: DType::F16, found: DType::F32 };
    assert_eq!(table.with(0, of_f32.clone()).map(|_| ()), Err(error.clone()));
    assert_eq!(adapter(&good).beside(&of_f32).map(|_| ()), Err(error));
    // The only one may be replaced by one of another type.
    assert_eq!(without.with(0, of_f32).unwrap().rank(0), Some(10));
    let portable = Adapter::<f16>::with_simd(Simd::Portable, good.a.view(), good.b.view(), 1.0).unwrap();
    let detected = layer.simd();
    if detected != Simd::Portable {
        let error = Error::SimdMismatch { layer: detected, adapter: Simd::Portable };
        assert_eq!(table.with(0, portable).map(|_| ()), Err(error));
    }

    let mut y = Array2::from_elem((m, n), poison::<f16>());
    let refused = |x: ArrayView2<'_, f16>, segments: &Segments, y: &mut Array2<f16>| {
        let call = layer.call(x).segments(segments);
        call.run(y.view_mut(), &mut Workspace::new()).unwrap_err()
    };
    let of_narrow = Segments::new(&narrow, m, &[(0..m, Some(0))]).unwrap();
    assert_eq!(refused(x.view(), &of_narrow, &mut y), shape(Operand::B, "rows", n, 32));
    let short = x.slice(s![1.., ..]);
    let mut fewer = Array2::from_elem((m - 1, n), poison::<f16>());
    assert_eq!(refused(short, &before, &mut fewer), shape(Operand::X, "rows", m, m - 1));
    assert!(y.iter().chain(&fewer).all(|&value| common::is_poison(value)));
    layer.call(x.view()).segments(&before).run(y.view_mut(), &mut Workspace::new()).unwrap();
    assert!(y.iter().all(|value| !value.is_nan()));
}

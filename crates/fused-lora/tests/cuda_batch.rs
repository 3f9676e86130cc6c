//! Batches with several adapters on a device against the f64 reference. Skipped where there is no device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Operands, normal, rng};
use fused_lora::{
    Epilogue, Operand, Strategy,
    cuda::{
        Adapter, AdapterTable, Device, Error, KERNELS, Launch, Layer, Operation, SM90_KERNELS, Segments,
        Stream, TableEntry, Workspace, workspace_size,
    },
    plan,
    reference::{self, Expected, Inputs, LoraView},
};
use half::f16;
use ndarray::{Array2, s};
use on_device::{Memory, Placed, assert_agrees, device};

/// Rows, and the number of their adapter.
type Rows = (Range<usize>, Option<usize>);

/// An adapter on the host.
struct Host {
    a: Array2<f16>,
    b: Array2<f16>,
    scale: f32,
    columns: Range<usize>,
}

impl Host {
    fn random(seed: u64, k: usize, rank: usize, columns: Range<usize>) -> Self {
        let Operands { a, b, scale, .. } = Operands::random(seed, 1, columns.len(), k, rank);
        Self { a, b, scale: scale + seed as f32 / 8.0, columns }
    }

    fn entry(&self) -> TableEntry<'_> {
        TableEntry { a: self.a.view(), b: self.b.view(), scale: self.scale, columns: self.columns.clone() }
    }

    fn on(&self, device: &Device, out_features: usize) -> Adapter {
        let TableEntry { a, b, scale, columns } = self.entry();
        Adapter::on_columns(device, a, b, scale, columns, out_features).unwrap()
    }
}

struct Batch {
    device: Device,
    stream: Stream,
    x: Array2<f16>,
    w: Array2<f16>,
    adapters: Vec<Host>,
    table: AdapterTable,
    layer: Layer,
}

impl Batch {
    /// x and W, and adapters of the given ranks and columns.
    fn new(device: Device, [m, n, k]: [usize; 3], adapters: &[(usize, Range<usize>)]) -> Self {
        let Operands { x, w, .. } = Operands::random(21, m, n, k, 0);
        let adapters: Vec<_> = adapters
            .iter()
            .enumerate()
            .map(|(i, (rank, columns))| Host::random(i as u64 + 1, k, *rank, columns.clone()))
            .collect();
        let entries: Vec<_> = adapters.iter().map(Host::entry).collect();
        let table = AdapterTable::new(&device, k, n, &entries).unwrap();
        let layer = Layer::new(&device, w.view()).unwrap();
        let stream = Stream::new(&device).unwrap();
        Self { device, stream, x, w, adapters, table, layer }
    }

    /// Segment by segment, each with its own adapter on all of y's columns, zero where it has none.
    fn expected(&self, rows: &[Rows], strategy: Strategy) -> Expected {
        let (m, n) = (self.x.nrows(), self.w.nrows());
        let mut whole = Expected { y: Array2::zeros((m, n)), tolerance: Array2::zeros((m, n)) };
        self.put(&mut whole, 0..m, None, strategy);
        for (rows, adapter) in rows {
            let Some(Host { a, b, scale, columns }) = adapter.map(|adapter| &self.adapters[adapter]) else {
                continue;
            };
            let mut padded = Array2::zeros((n, a.nrows()));
            padded.slice_mut(s![columns.clone(), ..]).assign(b);
            self.put(&mut whole, rows.clone(), Some((a, &padded, *scale)), strategy);
        }
        whole
    }

    /// What the reference says of some rows.
    fn put(
        &self,
        whole: &mut Expected,
        rows: Range<usize>,
        adapter: Option<(&Array2<f16>, &Array2<f16>, f32)>,
        strategy: Strategy,
    ) {
        let rows = s![rows, ..];
        let adapter = adapter.map(|(a, b, scale)| LoraView { a: a.view(), b: b.view(), scale });
        let inputs = Inputs { x: self.x.slice(rows), w: self.w.view(), adapter, epilogue: Epilogue::NONE };
        let part = reference::forward(&inputs, strategy).unwrap();
        whole.y.slice_mut(rows).assign(&part.y);
        whole.tolerance.slice_mut(rows).assign(&part.tolerance);
    }

    fn agrees(&self, rows: &[Rows], strategy: Strategy, allow: impl Fn(&Launch) -> bool, x_memory: Memory) {
        self.agrees_in(rows, strategy, allow, x_memory, self.table.max_rank());
    }

    /// The same with a workspace for h of so many columns.
    fn agrees_in(
        &self,
        rows: &[Rows],
        strategy: Strategy,
        allow: impl Fn(&Launch) -> bool,
        x_memory: Memory,
        columns: usize,
    ) {
        let segments = Segments::new(&self.table, self.x.nrows(), rows).unwrap();
        self.agrees_with(&segments, rows, strategy, allow, x_memory, columns);
    }

    /// The same for segments of another table, whose rows have these of the batch's adapters.
    fn agrees_with(
        &self,
        segments: &Segments,
        rows: &[Rows],
        strategy: Strategy,
        allow: impl Fn(&Launch) -> bool,
        x_memory: Memory,
        columns: usize,
    ) {
        let (m, n) = (self.x.nrows(), self.w.nrows());
        let expected = self.expected(rows, strategy);
        let x = Placed::copy_of(&self.device, &self.x, x_memory);
        let mut workspace = Workspace::new(&self.device, workspace_size(m, columns)).unwrap();
        // Rows that the copy engine can store.
        let y_memory = Memory { gap: n.next_multiple_of(8) - n, offset: 0 };
        for _ in 0..2 {
            let mut y = Placed::poisoned(&self.device, m, n, y_memory);
            self.layer
                .call(x.view())
                .segments(segments)
                .strategy(strategy)
                .among(&allow)
                .run(y.view_mut(), &mut workspace, &self.stream)
                .unwrap();
            let plan = self.layer.call(x.view()).segments(segments).strategy(strategy).plan().unwrap();
            assert_agrees(&y, &expected, &format!("{strategy} {rows:?} {plan}"));
        }
    }
}

/// A snapshot of a table, and which of the batch's adapters its slots hold.
#[derive(Clone)]
struct Snapshot(AdapterTable, Vec<Option<usize>>);

impl Batch {
    /// As the batch's table, but with these adapters.
    fn snapshot(&self, slots: &[usize]) -> Snapshot {
        let entries: Vec<_> = slots.iter().map(|&adapter| self.adapters[adapter].entry()).collect();
        let [n, k] = self.w.dim().into();
        let table = AdapterTable::new(&self.device, k, n, &entries).unwrap();
        Snapshot(table, slots.iter().copied().map(Some).collect())
    }

    /// Whether each slot holds its adapter, in a batch of all of them.
    fn holds(&self, Snapshot(table, slots): &Snapshot, case: &str) {
        assert_eq!(table.len(), slots.len(), "{case}");
        let held = slots.iter().enumerate().filter_map(|(slot, adapter)| Some((slot, (*adapter)?)));
        let rows = |of: fn((usize, usize)) -> usize| -> Vec<Rows> {
            held.clone().enumerate().map(|(i, held)| (3 * i..3 * i + 2, Some(of(held)))).collect()
        };
        let segments = Segments::new(table, self.x.nrows(), &rows(|(slot, _)| slot)).unwrap();
        let columns = held.clone().count() * table.max_rank().next_multiple_of(16);
        let rows = rows(|(_, adapter)| adapter);
        self.agrees_with(&segments, &rows, Strategy::Fused, |_| true, Memory::default(), columns);
    }
}

impl Snapshot {
    fn with(&self, batch: &Batch, slot: usize, adapter: usize) -> Self {
        let on_device = batch.adapters[adapter].on(&batch.device, batch.w.nrows());
        let table = self.0.with(slot, on_device).unwrap();
        let mut slots = self.1.clone();
        slots.resize(slots.len().max(slot + 1), None);
        slots[slot] = Some(adapter);
        Self(table, slots)
    }
}

/// None, rank 10 and rank 250; cuts inside of row tiles; one adapter on a range of columns that starts and
/// ends inside of column tiles.
fn mixed(device: Device) -> (Batch, Vec<Rows>) {
    let batch =
        Batch::new(device, [150, 140, 72], &[(10, 0..140), (250, 0..140), (33, 30..101), (0, 0..140)]);
    let rows = vec![
        (0..20, Some(0)),
        (20..33, None),
        (33..90, Some(1)),
        (90..97, Some(2)),
        (97..99, Some(3)),
        (120..121, Some(0)),
        (121..150, Some(2)),
    ];
    (batch, rows)
}

#[test]
fn none_10_and_250_in_one_batch() {
    let Some((device, _alone)) = device() else { return };
    let (batch, rows) = mixed(device);
    for strategy in Strategy::ALL {
        batch.agrees(&rows, strategy, |_| true, Memory::default());
    }
    // And with an x that is read element by element.
    batch.agrees(&rows, Strategy::Fused, |_| true, Memory { gap: 1, offset: 1 });
    batch.agrees(&rows, Strategy::Unfused, |_| true, Memory { gap: 1, offset: 1 });
}

#[test]
fn every_kernel_with_shared_h_takes_a_mixed_batch() {
    let Some((device, _alone)) = device() else { return };
    let (batch, rows) = mixed(device);
    for kernel in KERNELS.iter().filter(|kernel| batch.device.resident(kernel) > 0) {
        match kernel.operation {
            Operation::Fused => {
                batch.agrees(&rows, Strategy::Fused, |l| l.kernel.name == kernel.name, Memory::default());
            }
            Operation::Shrink | Operation::Expand => {
                let only = |launch: &Launch| {
                    launch.kernel.name == kernel.name || launch.kernel.operation != kernel.operation
                };
                batch.agrees(&rows, Strategy::Unfused, only, Memory::default());
            }
            _ => {}
        }
    }
    // Up to 16 + 256 + 48 + 16 columns meet in a row tile, side by side in the workspace.
    let shared = |operation| operation == Operation::Fused;
    for kernel in SM90_KERNELS.iter().filter(|k| shared(k.operation) && batch.device.resident(k) > 0) {
        let only = |launch: &Launch| launch.kernel.name == kernel.name;
        batch.agrees_in(&rows, Strategy::Fused, only, Memory::default(), 16 + 256 + 48 + 16);
    }
}

/// All segments of a row tile together, in clusters that just hold them and in larger ones.
#[test]
fn cooperative_h_takes_a_mixed_batch() {
    let Some((device, _alone)) = device() else { return };
    let batch = Batch::new(device, [150, 140, 72], &[(10, 0..140), (33, 30..101), (16, 0..140)]);
    let rows = [(0..20, Some(0)), (20..33, None), (33..60, Some(1)), (60..97, Some(2)), (100..150, Some(1))];
    let cooperative = |operation| operation == Operation::FusedCooperative;
    for kernel in SM90_KERNELS.iter().filter(|kernel| cooperative(kernel.operation)) {
        // 16 + 48 + 16 columns meet in the first 64 rows, and 48 more in the first 128.
        let sizes =
            [4, 8].into_iter().filter(|size| size * kernel.h >= if kernel.block_m == 64 { 80 } else { 128 });
        for cluster in sizes.filter(|&size| batch.device.gpu().clusters(kernel, size) > 0) {
            let only = |launch: &Launch| launch.kernel.name == kernel.name && launch.cluster == cluster;
            batch.agrees(&rows, Strategy::Fused, only, Memory::default());
        }
    }
}

/// A workspace for the largest rank alone is enough for every batch, whatever meets in a row tile.
#[test]
fn the_least_workspace_serves_every_batch() {
    let Some((device, _alone)) = device() else { return };
    let batch = Batch::new(device, [150, 136, 72], &[(100, 0..136)]);
    let rows: Vec<Rows> = (0..7).map(|i| (20 * i..20 * i + 15, Some(0))).collect();
    batch.agrees(&rows, Strategy::Fused, |_| true, Memory::default());
    batch.agrees_in(&rows, Strategy::Fused, |_| true, Memory::default(), 7 * 112);
}

#[test]
fn recomputed_h_takes_one_small_adapter_in_a_row_tile() {
    let Some((device, _alone)) = device() else { return };
    let batch = Batch::new(device, [200, 140, 72], &[(10, 0..140), (16, 70..71), (1, 0..64)]);
    let recomputes = |launch: &Launch| launch.kernel.operation == Operation::FusedRecompute;
    for rows in [
        vec![(0..64, Some(0)), (64..128, Some(1)), (130..150, Some(2)), (150..200, None)],
        vec![(5..60, Some(2)), (128..129, Some(0))],
    ] {
        batch.agrees(&rows, Strategy::Fused, recomputes, Memory::default());
    }
    let rows = [(0..20, Some(0)), (20..30, Some(1))];
    let segments = Segments::new(&batch.table, 200, &rows).unwrap();
    let x = Placed::copy_of(&batch.device, &batch.x, Memory::default());
    let mut y = Placed::poisoned(&batch.device, 200, 140, Memory::default());
    let mut workspace = Workspace::new(&batch.device, workspace_size(200, 16)).unwrap();
    let refused = batch.layer.call(x.view()).segments(&segments).among(&recomputes).run(
        y.view_mut(),
        &mut workspace,
        &batch.stream,
    );
    assert_eq!(
        refused,
        Err(plan::Error::NoKernel { strategy: Strategy::Fused, operation: Operation::Fused }.into())
    );
    assert!(y.is_poisoned());
}

#[test]
fn a_batch_without_adapters_is_the_base_product() {
    let Some((device, _alone)) = device() else { return };
    let batch = Batch::new(device, [70, 40, 24], &[(0, 0..40), (10, 0..40)]);
    for rows in [vec![], vec![(0..70, None)], vec![(0..30, Some(0)), (30..30, Some(1))]] {
        let segments = Segments::new(&batch.table, 70, &rows).unwrap();
        let x = Placed::copy_of(&batch.device, &batch.x, Memory::default());
        let plan = batch.layer.call(x.view()).segments(&segments).strategy(Strategy::Unfused).plan().unwrap();
        assert_eq!(plan.launches().iter().map(|l| l.kernel.operation).collect::<Vec<_>>(), [Operation::Gemm]);
        batch.agrees(&rows, Strategy::Fused, |_| true, Memory::default());
    }
}

#[test]
fn segments_that_do_not_fit_the_layer_or_x_are_refused() {
    let Some((device, _alone)) = device() else { return };
    let batch = Batch::new(device.clone(), [20, 40, 24], &[(10, 0..40)]);
    let narrow = Batch::new(device.clone(), [20, 32, 24], &[(10, 0..32)]);
    let x = Placed::copy_of(&device, &batch.x, Memory::default());
    let short = Placed::copy_of(&device, &normal(&mut rng(1), 19, 24, 1.0), Memory::default());
    let mut y = Placed::poisoned(&device, 20, 40, Memory::default());
    let mut workspace = Workspace::new(&device, workspace_size(20, 10)).unwrap();
    let rows = [(0..20, Some(0))];
    let segments = Segments::new(&batch.table, 20, &rows).unwrap();
    let of_narrow = Segments::new(&narrow.table, 20, &rows).unwrap();
    let mut refused = |x: &Placed, segments: &Segments| {
        let call = batch.layer.call(x.view()).segments(segments);
        call.run(y.view_mut(), &mut workspace, &batch.stream).unwrap_err()
    };
    let shape = |operand, axis, expected, found| {
        Error::Problem(fused_lora::Error::Shape { operand, axis, expected, found })
    };
    assert_eq!(refused(&x, &of_narrow), shape(Operand::B, "rows", 40, 32));
    assert_eq!(refused(&short, &segments), shape(Operand::X, "rows", 20, 19));
    assert!(y.is_poisoned());
    assert_eq!(
        Segments::new(&batch.table, 20, &[(0..21, Some(0))]).unwrap_err(),
        fused_lora::Error::SegmentRows { index: 0, rows: (0, 21), allowed: (0, 20) }.into()
    );
}

/// Some ranks, some columns, in a batch of 40 rows.
fn small(device: Device) -> Batch {
    Batch::new(device, [40, 40, 24], &[(10, 0..40), (33, 5..30), (16, 0..40), (1, 39..40), (0, 0..40)])
}

#[test]
fn tables_are_snapshots_that_share_their_adapters() {
    let Some((device, _alone)) = device() else { return };
    let batch = small(device.clone());
    let free = || device.free_memory().unwrap();
    let at_first = free();
    let table = batch.snapshot(&[0, 1, 2]);
    let with_table = free();

    // Room for one of the largest rank: nothing is allocated, and all of them hold what they held.
    let replaced = table.with(&batch, 1, 3);
    let emptied = Snapshot(replaced.0.without(0).unwrap(), vec![None, Some(3), Some(2)]);
    let refilled = emptied.with(&batch, 0, 2);
    assert_eq!(free(), with_table, "the others' memory is shared");
    for (snapshot, case) in
        [(&table, "first"), (&replaced, "with"), (&emptied, "without"), (&refilled, "again")]
    {
        batch.holds(snapshot, case);
    }
    let ranks = |Snapshot(table, _): &Snapshot| [0, 1, 2, 3].map(|slot| table.rank(slot));
    assert_eq!(ranks(&table), [Some(10), Some(33), Some(16), None]);
    assert_eq!(ranks(&emptied), [None, Some(1), Some(16), None]);
    assert_eq!([&table, &emptied].map(|of| of.0.max_rank()), [33, 16]);

    // More than there is room for, from the empty table on; the first one is as it was.
    let mut grown = vec![batch.snapshot(&[])];
    for i in 0..12 {
        let last: &Snapshot = grown.last().unwrap();
        grown.push(last.with(&batch, i, i % 5));
    }
    for snapshot in grown.iter().rev().step_by(5) {
        batch.holds(snapshot, "grown");
    }
    batch.holds(&table, "first, later");

    // What nobody holds any more is used again: a thousand swaps take no more than some.
    let mut swapped = grown.pop().unwrap();
    drop(grown);
    let after = |swapped: &mut Snapshot, count: usize| {
        (0..count).for_each(|i| *swapped = swapped.with(&batch, i % 12, (i + 1) % 5));
        free()
    };
    let settled = after(&mut swapped, 50);
    assert_eq!(after(&mut swapped, 200), settled);
    batch.holds(&swapped, "swapped");
    drop((table, replaced, emptied, refilled, swapped));
    assert_eq!(free(), at_first, "all of it is freed");
}

/// A region is not written while queued work may read it, though nothing else holds the adapter any more.
#[test]
fn work_that_is_queued_keeps_the_adapter_that_it_began_with() {
    let Some((device, _alone)) = device() else { return };
    let batch = small(device.clone());
    let mut table = batch.snapshot(&[0]);
    let x = Placed::copy_of(&device, &batch.x, Memory::default());
    let mut y = Placed::poisoned(&device, 40, 40, Memory::default());
    let mut workspace = Workspace::new(&device, workspace_size(40, 10)).unwrap();
    // On the device before anything is queued: freeing what they are copied from would wait for the work.
    let others = [2, 2, 2].map(|adapter| batch.adapters[adapter].on(&device, 40));
    // The table's adapter in a clone of the layer: dropping both frees no memory, and waits for nothing.
    let layer = batch.layer.clone().with_adapter(table.0.get(0).unwrap().clone()).unwrap();
    layer.call(x.view()).run(y.view_mut(), &mut workspace, &batch.stream).unwrap();
    drop(layer);
    let free = device.free_memory().unwrap();
    for other in &others {
        table = Snapshot(table.0.with(0, other.clone()).unwrap(), vec![Some(2)]);
    }
    assert_eq!(device.free_memory().unwrap(), free, "its ranks were used again");
    assert_agrees(&y, &batch.expected(&[(0..40, Some(0))], Strategy::Fused), "queued");
    batch.holds(&table, "swapped");
}

/// A table is swapped while others compute: each batch is of one table.
#[test]
fn a_table_is_swapped_from_several_threads() {
    let Some((device, _alone)) = device() else { return };
    let seconds = std::env::var("FUSED_LORA_SWAP_SECONDS").map_or(5.0, |text| text.parse().unwrap());
    let batch = small(device.clone());
    let expected = [0, 2].map(|adapter| batch.expected(&[(0..40, Some(adapter))], Strategy::Fused));
    let swaps = [0, 2].map(|adapter| batch.adapters[adapter].on(&device, 40));
    let table = Mutex::new(batch.snapshot(&[0]).0);
    let (over, seen) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (over, seen, table, swaps, expected, batch) =
                (&over, &seen, &table, &swaps, &expected, &batch);
            scope.spawn(move || {
                let stream = Stream::new(&batch.device).unwrap();
                let x = Placed::copy_of(&batch.device, &batch.x, Memory::default());
                let mut workspace = Workspace::new(&batch.device, workspace_size(40, 16)).unwrap();
                for count in thread.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    if thread < 4 {
                        let mut table = table.lock().unwrap();
                        *table = table.with(0, swaps[count % 2].clone()).unwrap();
                        continue;
                    }
                    let now = table.lock().unwrap().clone();
                    let segments = Segments::new(&now, 40, &[(0..40, Some(0))]).unwrap();
                    drop(now);
                    let mut y = Placed::poisoned(&batch.device, 40, 40, Memory::default());
                    let call = batch.layer.call(x.view()).segments(&segments);
                    call.run(y.view_mut(), &mut workspace, &stream).unwrap();
                    drop(segments);
                    let values = y.read().0;
                    let agrees = |expected| reference::check(expected, values.view()).is_ok();
                    let which = expected.iter().position(agrees).expect("y of one adapter or the other");
                    assert!(!agrees(&expected[1 - which]), "the two differ");
                    seen[which].fetch_add(1, Ordering::Relaxed);
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
fn what_does_not_fit_a_table_is_refused() {
    let Some((device, _alone)) = device() else { return };
    let batch = small(device.clone());
    let Snapshot(table, _) = batch.snapshot(&[0, 1]);
    let slot = |slot| Err(Error::from(fused_lora::Error::Slot { slot, count: 2 }));
    let adapter = |host: &Host, n| host.on(&device, n);
    let outcome = |table: Result<AdapterTable, Error>| table.map(|table| table.len());
    assert_eq!(outcome(table.with(3, adapter(&batch.adapters[0], 40))), slot(3));
    assert_eq!(outcome(table.without(2)), slot(2));
    let shape = |operand, axis, expected, found| {
        Err(Error::Problem(fused_lora::Error::Shape { operand, axis, expected, found }))
    };
    let wide = Host::random(1, 32, 10, 0..40);
    assert_eq!(outcome(table.with(0, adapter(&wide, 40))), shape(Operand::A, "columns", 24, 32));
    assert_eq!(outcome(table.with(2, adapter(&batch.adapters[1], 48))), shape(Operand::B, "rows", 40, 48));
    let gone = Segments::new(&table.without(1).unwrap(), 40, &[(0..4, Some(0)), (4..9, Some(1))]);
    let expected = fused_lora::Error::SegmentAdapter { index: 1, adapter: 1, count: 2 };
    assert_eq!(gone.map(|_| ()), Err(expected.into()));
}

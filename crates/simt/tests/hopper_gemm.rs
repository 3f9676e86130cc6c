//! A persistent, warp-specialised product on tensor copies, mbarriers and wgmma, two CTAs to a cluster: right
//! and clean under every schedule, and caught with any one thing of it wrong.

mod common {
    pub(crate) mod hopper;
    pub(crate) mod kinds;
}

use common::{
    hopper::{cluster_sync, descriptor, init, integers, matrix, product, wait},
    kinds::{deadlock, departed, early, not_started, not_waited, operand, poison, proxy},
};
use fused_lora_simt::{
    Action, Kind, Launch, Machine, Mutation, Op, Report, Schedule, Site, Stats, Swizzle, TensorMap, ops::*,
};
use half::f16;

const CLUSTER: u32 = 2;
const BLOCK_M: u32 = 128;
const BLOCK_N: u32 = 64;
const BLOCK_K: u32 = 64;
const STAGES: u32 = 2;
const WARPGROUP: u32 = 128;
const CONSUMERS: u32 = 2;
/// Rows of a consumer.
const CONSUMER_M: u32 = BLOCK_M / CONSUMERS;
const THREADS: u32 = (1 + CONSUMERS) * WARPGROUP;
/// 64 f16, the span of the swizzle: rows of all tiles.
const ROW_BYTES: u32 = 128;
const A_BYTES: u32 = BLOCK_M * ROW_BYTES;
const B_BYTES: u32 = BLOCK_N * ROW_BYTES;
const Y_BYTES: u32 = CONSUMER_M * ROW_BYTES;

const BARS: u32 = 0;
const A: u32 = 1024;
const B: u32 = A + STAGES * A_BYTES;
const Y: u32 = B + STAGES * B_BYTES;
const SHARED: u32 = Y + CONSUMERS * Y_BYTES;

/// y = x · wᵀ. CTA r of a cluster computes rows 128 r to 128 r + 127; clusters take tiles of 64 columns in
/// turn.
///
/// Shared memory: mbarriers (full by stage, then empty by stage), stages of x, stages of w, a tile of y for
/// each consumer. All rows are 128 bytes, swizzled. Each CTA loads half of a stage of w for both.
#[derive(Clone, Copy)]
struct Gemm {
    x: TensorMap,
    w: TensorMap,
    y: TensorMap,
    tiles: u32,
    steps: u32,
}

/// A stage of the ring, and the parity of the phase in which it is filled.
#[derive(Clone, Copy, Default)]
struct Slot {
    stage: u32,
    parity: u32,
}

impl Slot {
    fn next(self) -> Self {
        match self.stage + 1 {
            STAGES => Self { stage: 0, parity: self.parity ^ 1 },
            stage => Self { stage, ..self },
        }
    }

    fn full(self) -> u32 {
        dynamic_shared() + BARS + 8 * self.stage
    }

    fn empty(self) -> u32 {
        dynamic_shared() + BARS + 8 * (STAGES + self.stage)
    }

    fn a(self) -> u32 {
        dynamic_shared() + A + self.stage * A_BYTES
    }

    fn b(self) -> u32 {
        dynamic_shared() + B + self.stage * B_BYTES
    }
}

impl Gemm {
    fn tiles(self) -> impl Iterator<Item = u32> {
        (clusterid_x()..self.tiles).step_by(nclusterid_x() as usize)
    }

    fn produce(self) {
        let (x, w) = (self.x.encode(), self.w.encode());
        let rank = cluster_ctarank();
        let half = BLOCK_N / CLUSTER;
        let mut slot = Slot::default();
        for tile in self.tiles() {
            for step in 0..self.steps {
                let column = step * BLOCK_K;
                wait(slot.empty(), slot.parity ^ 1);
                mbarrier_arrive_expect_tx(slot.full(), A_BYTES + B_BYTES);
                cp_async_bulk_tensor_2d_load(slot.a(), &x, [column, tap("row", rank * BLOCK_M)], slot.full());
                cp_async_bulk_tensor_2d_load_multicast(
                    slot.b() + rank * half * ROW_BYTES,
                    &w,
                    [column, tile * BLOCK_N + rank * half],
                    slot.full(),
                    0b11,
                );
                slot = slot.next();
            }
        }
    }

    /// A consumer is done with a stage: tells the producers of both CTAs, each by a lane.
    fn release(slot: Slot) {
        let lane = thread_idx_x() % WARPGROUP;
        if lane < CLUSTER {
            mbarrier_arrive_cluster(mapa(slot.empty(), lane));
        }
    }

    fn consume(self, consumer: u32) {
        let y = self.y.encode();
        let (lane, warp) = (thread_idx_x() % 32, thread_idx_x() % WARPGROUP / 32);
        let leads = thread_idx_x().is_multiple_of(WARPGROUP);
        let staging = dynamic_shared() + Y + consumer * Y_BYTES;
        let mut slot = Slot::default();
        for tile in self.tiles() {
            let mut acc = [0f32; BLOCK_N as usize / 2];
            let mut before = None;
            for _ in 0..self.steps {
                wait(slot.full(), slot.parity);
                let a = descriptor(Swizzle::B128, slot.a() + consumer * Y_BYTES, 16);
                let b = descriptor(Swizzle::B128, slot.b(), 16);
                // 32 bytes, two granules, to the next 16 columns.
                let steps = [0, 2, 4, 6].map(|granules| [a + granules, b + granules]);
                wgmma_f16(&mut acc, &steps);
                wgmma_wait_group(1, &mut acc);
                if let Some(before) = before.replace(slot) {
                    Self::release(before);
                }
                slot = slot.next();
            }
            wgmma_wait_group(0, &mut acc);
            if let Some(last) = before {
                Self::release(last);
            }

            // The tile before has left the staging.
            if leads {
                cp_async_bulk_wait_group_read(0);
            }
            bar_sync_named(1 + consumer, WARPGROUP);
            // Matrices 0 and 1 are 8 columns of 16 rows, 2 and 3 the next 8.
            let row = 16 * warp + lane % 16;
            for (pair, values) in (0..).zip(acc.chunks_exact(8)) {
                let chunk = 2 * pair + lane / 16;
                let to = staging + row * ROW_BYTES + (chunk ^ (row % 8)) * 16;
                let packed = [0, 2, 4, 6].map(|i| pack_f16x2(values[i], values[i + 1]));
                stmatrix_x4(to, packed);
            }
            fence_proxy_async_shared();
            bar_sync_named(1 + consumer, WARPGROUP);
            if leads {
                let at = [tile * BLOCK_N, cluster_ctarank() * BLOCK_M + consumer * CONSUMER_M];
                cp_async_bulk_tensor_2d_store(&y, at, staging);
                cp_async_bulk_commit_group();
            }
        }
        if leads {
            cp_async_bulk_wait_group_read(0);
        }
    }

    fn kernel(self) {
        if thread_idx_x() == 0 {
            let empty = CONSUMERS * CLUSTER;
            init(dynamic_shared() + BARS, &[1, 1, empty, empty]);
        }
        // Before it, the peer's mbarriers may not be there.
        if tap("cluster barrier", 1) == 1 {
            cluster_sync();
        } else {
            bar_sync();
        }
        match thread_idx_x() / WARPGROUP {
            0 => {
                setmaxnreg_dec(40);
                if thread_idx_x() == 0 {
                    self.produce();
                }
            }
            warpgroup => {
                setmaxnreg_inc(232);
                self.consume(warpgroup - 1);
            }
        }
        // The peer may still copy to here, and arrive here.
        if tap("stays", 1) == 1 {
            cluster_sync();
        }
    }
}

struct Case {
    machine: Machine,
    gemm: Gemm,
    clusters: u32,
    expected: Vec<f64>,
}

impl Case {
    fn new([m, n, k]: [u32; 3], clusters: u32) -> Self {
        let (x, w) = (integers(m * k, 1), integers(n * k, 2));
        let expected = product(&x, &w, k as usize);
        let mut machine = Machine::new();
        let swizzle = Swizzle::B128;
        let gemm = Gemm {
            x: matrix(machine.input(&x), [k, m], [BLOCK_K, BLOCK_M], swizzle),
            w: matrix(machine.input(&w), [k, n], [BLOCK_K, BLOCK_N / CLUSTER], swizzle),
            y: matrix(machine.buffer((m * n * 2) as usize), [n, m], [BLOCK_N, CONSUMER_M], swizzle),
            tiles: n.div_ceil(BLOCK_N),
            steps: k.div_ceil(BLOCK_K),
        };
        machine.name(gemm.y.address, "y");
        Self { machine, gemm, clusters, expected }
    }

    fn run(&mut self, schedule: &Schedule) -> Result<Stats, Report> {
        let gemm = self.gemm;
        self.machine.poison(gemm.y.address, self.expected.len() * 2).unwrap();
        let launch = Launch::new("gemm", self.clusters * CLUSTER, THREADS, SHARED, move || gemm.kernel());
        self.machine.run(&[launch.cluster(CLUSTER)], schedule)
    }

    /// Whether y is what it should be, all of it: whole numbers, of which f16 and f32 hold all.
    fn is_right(&self) -> bool {
        let Ok(y) = self.machine.read::<f16>(self.gemm.y.address, self.expected.len()) else { return false };
        y.iter().zip(&self.expected).all(|(y, expected)| f64::from(*y) == *expected)
    }
}

/// Ragged in all dimensions; two clusters, the first with two tiles; three steps in two stages.
fn case() -> Case {
    Case::new([250, 136, 136], 2)
}

#[test]
fn is_right_and_clean_on_every_schedule() {
    let mut case = case();
    for schedule in Schedule::standard(20) {
        let stats = case.run(&schedule).unwrap_or_else(|report| panic!("{schedule:?}: {report}"));
        assert!(case.is_right(), "{schedule:?}");
        // 3 tiles of columns on 2 CTAs of 2 consumers: 3 steps of 4 products, then a store of 4 · 4 stmatrix.
        assert_eq!((stats.ctas, stats.wgmma, stats.stmatrix), (4, 3 * 2 * 2 * 3 * 4, 3 * 2 * 2 * 4 * 4));
        assert_eq!(stats.stmatrix_conflicts, 0);
        // A load of x and two halves of w for each CTA, tile and step; a store for each consumer.
        assert_eq!(stats.bulk_copies, 3 * 2 * 3 * 3 + 3 * 2 * 2);
        assert_eq!(stats.bulk_bytes, u64::from(3 * 2 * 3 * (A_BYTES + B_BYTES)) + 250 * 136 * 2);
        // Two for each cluster.
        assert_eq!(stats.cluster_barriers, 4);
    }
}

#[test]
fn a_long_ring_on_one_cluster() {
    let mut case = Case::new([256, 64, 64 * 7], 1);
    for schedule in Schedule::standard(20) {
        case.run(&schedule).unwrap_or_else(|report| panic!("{schedule:?}: {report}"));
        assert!(case.is_right(), "{schedule:?}");
    }
}

/// One thing wrong, and what it is reported as; `None`: nothing is, y is wrong.
struct Fault {
    what: &'static str,
    mutation: Mutation,
    is: Option<fn(&Kind) -> bool>,
}

/// Slots are filled too early, announced twice, or never filled again.
fn breaks_the_ring(kind: &Kind) -> bool {
    early(kind) || deadlock(kind) || operand(kind)
}

fn faults(case: &mut Case) -> Vec<Fault> {
    let sites = case.run(&Schedule::default()).unwrap().sites;
    // The n-th place in the source with this instruction.
    let at = |op: Op, n: usize| {
        let place = sites.iter().filter(|site| site.op == op).nth(n);
        Site::at(place.unwrap_or_else(|| panic!("there is no {op} number {n}")))
    };
    let mut faults = Vec::new();
    let mut add = |what, mutation, is| faults.push(Fault { what, mutation, is });

    use Action::{
        AddressXor, ByteDelta, CountDelta, DescriptorAdd, Drop, MaskXor, ParityFlip, Rank, WaitGroup, Weaken,
    };
    let (empty, full) = (at(Op::MbarrierTryWaitParity, 0), at(Op::MbarrierTryWaitParity, 1));
    add(
        "a full slot is waited for by the wrong parity",
        full.clone().does(ParityFlip),
        Some(|kind| early(kind) || deadlock(kind)),
    );
    add("an empty slot is waited for by the wrong parity", empty.clone().does(ParityFlip), Some(deadlock));
    add("a full slot is not waited for", full.clone().does(Drop), Some(early));
    add(
        "an empty slot is not waited for",
        empty.clone().does(Drop),
        Some(|kind| early(kind) || operand(kind)),
    );
    add("the wait for a full slot acquires nothing", full.does(Weaken), Some(early));
    add("the wait for an empty slot acquires nothing", empty.does(Weaken), Some(early));

    let expect = at(Op::MbarrierArriveExpectTx, 0);
    add("16 bytes too few are expected", expect.clone().does(ByteDelta(-16)), Some(deadlock));
    let half = -((B_BYTES / CLUSTER) as i32);
    add("the bytes of a copy are not expected", expect.clone().does(ByteDelta(half)), Some(early));
    add("16 bytes too many are expected", expect.clone().does(ByteDelta(16)), Some(deadlock));
    add("nothing is expected, and nobody arrives", expect.does(Drop), Some(deadlock));

    let init = at(Op::MbarrierInit, 0);
    add(
        "one arrival more at the full barrier",
        init.clone().occurrence(0).does(CountDelta(1)),
        Some(deadlock),
    );
    add(
        "one arrival more at the empty barrier",
        init.clone().occurrence(2).does(CountDelta(1)),
        Some(deadlock),
    );
    add(
        "one arrival fewer at the empty barrier",
        init.clone().occurrence(3).does(CountDelta(-1)),
        Some(early),
    );
    add("a barrier is not initialised", init.occurrence(1).does(Drop), Some(poison));
    add("the initialisation is not fenced", at(Op::FenceMbarrierInit, 0).does(Drop), Some(proxy));
    add(
        "no cluster barrier at the start",
        Site::tap("cluster barrier").does(Action::Tap(|_| 0)),
        Some(not_started),
    );
    add("a CTA leaves early", Site::tap("stays").does(Action::Tap(|_| 0)), Some(departed));

    let load = at(Op::CpAsyncBulkTensor2dLoad, 0);
    add("x is not loaded", load.clone().does(Drop), Some(deadlock));
    add("x is loaded to another stage", load.does(AddressXor(A_BYTES)), Some(early));
    add("x is loaded from the next row", Site::tap("row").does(Action::Tap(|row| row + 1)), None);
    let multicast = at(Op::CpAsyncBulkTensor2dLoadMulticast, 0);
    add("w is not loaded", multicast.clone().does(Drop), Some(deadlock));
    add("w does not reach one CTA", multicast.clone().does(MaskXor(0b10)), Some(deadlock));
    add("the halves of w are exchanged", multicast.does(AddressXor(B_BYTES / CLUSTER)), None);

    let wgmma = at(Op::WgmmaF16, 0);
    add("a of wgmma is one granule on", wgmma.clone().does(DescriptorAdd { a: 1, b: 0 }), Some(early));
    add("b of wgmma is one granule on", wgmma.clone().does(DescriptorAdd { a: 0, b: 1 }), Some(early));
    add("a of wgmma is one granule back", wgmma.clone().does(DescriptorAdd { a: -1, b: 0 }), Some(early));
    add("a of wgmma is 16 columns on", wgmma.clone().does(DescriptorAdd { a: 2, b: 0 }), Some(early));
    add("b of wgmma is the next stage's", wgmma.clone().does(DescriptorAdd { a: 0, b: 512 }), Some(early));
    add("wgmma is left out", wgmma.does(Drop), None);
    let (turn, last) = (at(Op::WgmmaWaitGroup, 0), at(Op::WgmmaWaitGroup, 1));
    add("a slot is released before its wgmma is done", turn.clone().does(WaitGroup(1)), Some(early));
    add("a slot is released without a wait", turn.does(Drop), Some(early));
    add(
        "the last wgmma is not waited for",
        last.clone().does(WaitGroup(1)),
        Some(|kind| early(kind) || not_waited(kind)),
    );
    add("the last wait is left out", last.does(Drop), Some(|kind| early(kind) || not_waited(kind)));

    let arrive = at(Op::MbarrierArriveCluster, 0);
    add("no slot is released", arrive.clone().does(Drop), Some(deadlock));
    add("a slot is released in the own CTA only", arrive.clone().lane(129).cta(0).does(Drop), Some(deadlock));
    add("the release of a slot publishes nothing", arrive.clone().does(Weaken), Some(early));
    add("another slot is released", arrive.clone().does(AddressXor(8)), Some(deadlock));
    add("a slot is released twice in one CTA", at(Op::Mapa, 0).does(Drop), Some(early));
    add("all release a slot in the first CTA", arrive.does(Rank(0)), Some(breaks_the_ring));
    add("all map a slot's barrier to the first CTA", at(Op::Mapa, 0).does(Rank(0)), Some(breaks_the_ring));

    let read = at(Op::CpAsyncBulkWaitGroupRead, 0);
    add("the staging is rewritten while it is stored", read.clone().does(Drop), Some(early));
    add("one store may still read the staging", read.does(WaitGroup(1)), Some(early));
    add("the last store is not waited for", at(Op::CpAsyncBulkWaitGroupRead, 1).does(Drop), Some(not_waited));
    let (before, after) = (at(Op::BarSyncNamed, 0), at(Op::BarSyncNamed, 1));
    add("others write the staging before its store is awaited", before.does(Drop), Some(early));
    add("the staging is stored before all have written", after.does(Drop), Some(early));
    add("no proxy fence before the store", at(Op::FenceProxyAsyncShared, 0).does(Drop), Some(proxy));
    let stmatrix = at(Op::Stmatrix, 0);
    add("stmatrix goes to the neighbouring chunk", stmatrix.clone().does(AddressXor(16)), None);
    add("stmatrix goes to the neighbouring row", stmatrix.clone().does(AddressXor(128)), None);
    add("stmatrix is left out", stmatrix.does(Drop), Some(poison));
    let store = at(Op::CpAsyncBulkTensor2dStore, 0);
    add("the other consumer's staging is stored", store.clone().does(AddressXor(Y_BYTES)), Some(early));
    add("nothing is stored", store.does(Drop), None);
    add("a store is not committed", at(Op::CpAsyncBulkCommitGroup, 0).does(Drop), Some(not_waited));

    add("nobody gives registers away", at(Op::SetmaxnregDec, 0).does(Drop), Some(deadlock));
    faults
}

#[test]
fn every_seeded_fault_is_caught() {
    let mut case = case();
    let faults = faults(&mut case);
    assert!(faults.len() >= 50);
    let mut missed = Vec::new();
    for Fault { what, mutation, is } in faults {
        for (number, schedule) in Schedule::standard(7).into_iter().enumerate() {
            let result = case.run(&schedule.with(mutation.clone()));
            assert!(case.machine.last_stats().mutated > 0, "{what}: it was never met");
            match (result, is) {
                (Err(report), Some(is)) if is(&report.kind) => {}
                (Ok(_), None) if !case.is_right() => {}
                (Err(report), _) => {
                    missed.push(format!("{what}, schedule {number}: another report: {report}"));
                }
                (Ok(_), _) => missed.push(format!("{what}, schedule {number}: not caught")),
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    // It is usable after all of that.
    case.run(&Schedule::default()).unwrap();
    assert!(case.is_right());
}

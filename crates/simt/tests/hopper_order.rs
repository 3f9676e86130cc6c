//! Each rule of ordering that Hopper adds, both ways: a program that keeps it is clean under 20 schedules and gives
//! the right values; with one seeded fault it is reported under every one of them.

mod common;

use common::kinds::{
    deadlock, departed, divergence, early, misaligned, not_started, not_waited, operand, out_of_bounds,
    poison, proxy, race,
};
use fused_lora_simt::{
    Action, Kind, Launch, Machine, Mutation, Op, Report, Schedule, Site, Stats, Swizzle, TensorMap, ops::*,
};
use half::f16;

const SCHEDULES: usize = 20;

type Build = Box<dyn Fn(&mut Machine) -> (Vec<Launch>, u64)>;
type Check = Box<dyn Fn(&Machine, u64)>;

/// A program on a machine of its own: builds it, and checks what it left.
struct Program<B, C> {
    build: B,
    check: C,
}

impl<T, B, C> Program<B, C>
where
    B: Fn(&mut Machine) -> (Vec<Launch>, T),
    C: Fn(&Machine, T),
{
    fn run(&self, schedule: &Schedule) -> (Result<Stats, Report>, Stats) {
        let mut machine = Machine::new();
        let (launches, memory) = (self.build)(&mut machine);
        let result = machine.run(&launches, schedule);
        if result.is_ok() && schedule.mutations.is_empty() {
            (self.check)(&machine, memory);
        }
        (result, machine.last_stats().clone())
    }

    /// Clean as it is.
    fn holds(&self) -> &Self {
        for schedule in Schedule::standard(SCHEDULES) {
            if let (Err(report), _) = self.run(&schedule) {
                panic!("{report}, under {schedule:?}");
            }
        }
        self
    }

    /// Reported with the fault, as `is` says.
    #[track_caller]
    fn fails(&self, fault: &Mutation, is: impl Fn(&Kind) -> bool) -> &Self {
        for schedule in Schedule::standard(SCHEDULES) {
            let (result, stats) = self.run(&schedule.clone().with(fault.clone()));
            let Err(report) = result else { panic!("{fault:?} goes unnoticed under {schedule:?}") };
            assert!(stats.mutated > 0, "{report}");
            assert!(is(&report.kind), "{fault:?}: {report}, under {schedule:?}");
        }
        self
    }
}

fn drop_all(op: Op) -> Mutation {
    Site::all(op).does(Action::Drop)
}
fn wait(bar: u32, parity: u32) {
    while !mbarrier_try_wait_parity(bar, parity) {}
}
/// A matrix of f16 with rows of `columns`, each a multiple of 8.
fn map(address: u64, rows: u64, columns: u64, box_dims: [u32; 2], swizzle: Swizzle) -> [u64; 16] {
    TensorMap { address, dims: [columns, rows], stride: 2 * columns, box_dims, swizzle }.encode()
}

/// Small integers, exact in every sum.
fn matrix(rows: usize, columns: usize, seed: usize) -> Vec<f16> {
    (0..rows * columns).map(|i| f16::from_f32(((i * 7 + i / columns * 3 + seed) % 5) as f32 - 2.0)).collect()
}

/// x · wᵀ of matrices with rows of k.
fn product(x: &[f16], w: &[f16], k: usize) -> Vec<f32> {
    let dot = |a: &[f16], b: &[f16]| a.iter().zip(b).map(|(a, b)| a.to_f32() * b.to_f32()).sum();
    x.chunks(k).flat_map(|a| w.chunks(k).map(move |b| dot(a, b))).collect()
}

/// The K-major descriptor with 128-byte swizzle.
fn descriptor(address: u32) -> u64 {
    u64::from(address >> 4) | 1 << 16 | 64 << 32 | 1 << 62
}

/// The four steps of a tile of 64 f16 of depth.
fn steps(a: u32, b: u32) -> [[u64; 2]; 4] {
    [0, 2, 4, 6].map(|i| [descriptor(a) + i, descriptor(b) + i])
}

/// Where value `i` of the current lane lies in its warpgroup's 64 rows: row and column.
fn place(i: usize) -> (u32, u32) {
    let lane = thread_idx_x() % 128;
    let i = i as u32;
    (16 * (lane / 32) + lane % 32 / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2)
}

const TILE: u32 = 64 * 128;

#[test]
fn a_tensor_load_is_for_whoever_has_waited_for_its_mbarrier() {
    // Two loads on one barrier; all lanes wait and read.
    let program = Program {
        build: |machine: &mut Machine| {
            let x = machine.input(&matrix(64, 128, 1));
            let y = machine.buffer(64 * 128 * 2);
            let map = map(x, 64, 128, [64, 64], Swizzle::None);
            let launch = Launch::new("load", 1, 64, 2 * TILE + 1024, move || {
                let (tiles, bar) = (dynamic_shared(), dynamic_shared() + 2 * TILE + 8);
                if thread_idx_x() == 0 {
                    mbarrier_init(bar, 1);
                    fence_mbarrier_init();
                }
                bar_sync();
                if thread_idx_x() == 0 {
                    mbarrier_arrive_expect_tx(bar, 2 * TILE);
                    cp_async_bulk_tensor_2d_load(tiles, &map, [0, 0], bar);
                    cp_async_bulk_tensor_2d_load(tiles + TILE, &map, [64, 0], bar);
                }
                wait(bar, 0);
                for i in 0..64u32 {
                    let at = 16 * (64 * (i % 16) + thread_idx_x());
                    if i < 16 {
                        st_global(y + u64::from(at), ld_shared::<[u32; 4]>(tiles + at));
                    }
                }
            });
            (vec![launch], (x, y))
        },
        check: |machine: &Machine, (x, y)| {
            let (x, y) =
                (machine.read::<f16>(x, 64 * 128).unwrap(), machine.read::<f16>(y, 64 * 128).unwrap());
            for (i, value) in y.iter().enumerate() {
                let (tile, row, column) = (i / 4096, i / 64 % 64, i % 64);
                assert_eq!(*value, x[128 * row + 64 * tile + column]);
            }
        },
    };
    let expect = Site::all(Op::MbarrierArriveExpectTx);
    program
        .holds()
        .fails(&drop_all(Op::MbarrierTryWaitParity), early)
        .fails(&Site::all(Op::MbarrierTryWaitParity).does(Action::ParityFlip), early)
        .fails(&Site::all(Op::MbarrierTryWaitParity).does(Action::Weaken), race)
        // The phase ends with the first of the loads, or never.
        .fails(&expect.clone().does(Action::ByteDelta(-(TILE as i32))), |kind| {
            early(kind) || not_waited(kind)
        })
        .fails(&expect.clone().does(Action::ByteDelta(16)), deadlock)
        .fails(&expect.does(Action::ByteDelta(1 << 20)), operand)
        .fails(&drop_all(Op::CpAsyncBulkTensor2dLoad), deadlock)
        .fails(&drop_all(Op::FenceMbarrierInit), proxy)
        .fails(&drop_all(Op::BarSync), early)
        .fails(&Site::all(Op::MbarrierInit).does(Action::CountDelta(1)), deadlock)
        // No longer the pattern that is read, or no longer aligned.
        .fails(&Site::all(Op::CpAsyncBulkTensor2dLoad).does(Action::AddressXor(64)), misaligned)
        .fails(&Site::all(Op::CpAsyncBulkTensor2dLoad).occurrence(1).does(Action::AddressXor(TILE)), race);
}

/// A ring of `STAGES` tiles of x and w: one warp loads, two warpgroups multiply, 128 × 64 of y for each CTA.
const STAGES: u32 = 2;
const N: u32 = 64;
const STAGE: u32 = 2 * TILE + N * 128;

/// Which lanes say that a slot is free.
#[derive(Clone, Copy, PartialEq)]
enum Release {
    EachWarp,
    /// One lane of the warpgroup.
    OneWarp,
}

fn ring(x: [u64; 16], w: [u64; 16], y: u64, depth: u32, release: Release) -> impl Fn() + Clone {
    move || {
        let full = |stage: u32| dynamic_shared() + STAGES * STAGE + 8 * stage;
        let empty = |stage: u32| full(STAGES) + 8 * stage;
        let tile = |stage: u32| dynamic_shared() + STAGE * stage;
        let lane = thread_idx_x();
        if lane == 0 {
            for stage in 0..STAGES {
                mbarrier_init(full(stage), 1);
                mbarrier_init(empty(stage), if release == Release::EachWarp { 8 } else { 2 });
            }
            fence_mbarrier_init();
        }
        bar_sync();
        if lane >= 256 {
            if lane == 256 {
                for k in 0..depth {
                    let (stage, round) = (k % STAGES, k / STAGES);
                    wait(empty(stage), round & 1 ^ 1);
                    mbarrier_arrive_expect_tx(full(stage), STAGE);
                    for half in 0..2 {
                        let to = tile(stage) + half * TILE;
                        cp_async_bulk_tensor_2d_load(
                            to,
                            &x,
                            [64 * k, 128 * block_idx_x() + 64 * half],
                            full(stage),
                        );
                    }
                    cp_async_bulk_tensor_2d_load(tile(stage) + 2 * TILE, &w, [64 * k, 0], full(stage));
                }
                // Nothing may arrive after the end.
                for k in depth.saturating_sub(STAGES)..depth {
                    wait(full(k % STAGES), k / STAGES % 2);
                }
            }
            return;
        }
        let warpgroup = lane / 128;
        let who = if release == Release::EachWarp { 32 } else { 128 };
        let release = |stage: u32| {
            if lane.is_multiple_of(who) {
                mbarrier_arrive(empty(stage));
            }
        };
        let mut acc = [0f32; N as usize / 2];
        for k in 0..depth {
            let stage = k % STAGES;
            wait(full(stage), k / STAGES % 2);
            wgmma_f16(&mut acc, &steps(tile(stage) + warpgroup * TILE, tile(stage) + 2 * TILE));
            if k > 0 {
                // The one before.
                wgmma_wait_group(1, &mut acc);
                release((k - 1) % STAGES);
            }
        }
        wgmma_wait_group(0, &mut acc);
        for (i, &value) in acc.iter().enumerate() {
            let (row, column) = place(i);
            let row = 128 * block_idx_x() + 64 * warpgroup + row;
            st_global(y + 4 * u64::from(row * N + column), value.to_bits());
        }
    }
}

fn ring_program(depth: u32, release: Release) -> Program<Build, Check> {
    let k = 64 * depth as usize;
    let (x, w) = (matrix(256, k, 1), matrix(N as usize, k, 2));
    let expected = product(&x, &w, k);
    Program {
        build: Box::new(move |machine: &mut Machine| {
            let y = machine.buffer(4 * 256 * N as usize);
            let x = map(machine.input(&x), 256, k as u64, [64, 64], Swizzle::B128);
            let w = map(machine.input(&w), u64::from(N), k as u64, [64, N], Swizzle::B128);
            let shared = STAGES * STAGE + 64;
            (vec![Launch::new("ring", 2, 288, shared, ring(x, w, y, depth, release))], y)
        }),
        check: Box::new(move |machine: &Machine, y| {
            assert_eq!(machine.read::<f32>(y, 256 * N as usize).unwrap(), expected);
        }),
    }
}

#[test]
fn a_ring_of_tensor_loads_and_wgmma() {
    let program = ring_program(5, Release::EachWarp);
    let wait = Site::all(Op::WgmmaWaitGroup);
    let load = Site::all(Op::CpAsyncBulkTensor2dLoad);
    let arrive = Site::all(Op::MbarrierArrive);
    let wgmma = Site::all(Op::WgmmaF16);
    program
        .holds()
        // A slot is released before its wgmma is done.
        .fails(&wait.clone().does(Action::WaitGroup(1)), |kind| race(kind) || not_waited(kind))
        .fails(&arrive.clone().does(Action::Weaken), race)
        .fails(&arrive.does(Action::Drop), deadlock)
        // The slots are not waited for by the producer; the data is not by the consumers.
        .fails(&Site::all(Op::MbarrierTryWaitParity).lane(256).does(Action::Drop), |kind| {
            race(kind) || operand(kind)
        })
        .fails(&Site::all(Op::MbarrierTryWaitParity).lane(256).does(Action::ParityFlip), |kind| {
            race(kind) || operand(kind) || deadlock(kind)
        })
        .fails(&Site::all(Op::MbarrierTryWaitParity).lane(77).does(Action::Drop), early)
        .fails(&Site::all(Op::MbarrierTryWaitParity).lane(77).does(Action::ParityFlip), |kind| {
            early(kind) || deadlock(kind)
        })
        .fails(&Site::all(Op::MbarrierTryWaitParity).lane(200).does(Action::Weaken), race)
        .fails(&load.occurrence(2).does(Action::Drop), deadlock)
        .fails(&Site::all(Op::FenceMbarrierInit).does(Action::Drop), proxy)
        .fails(&Site::all(Op::MbarrierInit).does(Action::CountDelta(-1)), |kind| operand(kind) || race(kind))
        .fails(&Site::all(Op::MbarrierInit).does(Action::CountDelta(1)), deadlock)
        // A whole tile further: the last stage's B would be read beyond its end.
        .fails(&wgmma.clone().does(Action::DescriptorAdd { a: 0, b: 1 << 14 }), operand)
        .fails(&wgmma.lane(5).does(Action::DescriptorAdd { a: 2, b: 0 }), operand)
        .fails(&Site::all(Op::WgmmaF16).lane(5).does(Action::Drop), divergence)
        .fails(&wait.does(Action::Drop), |kind| race(kind) || not_waited(kind));
}

#[test]
fn wgmma_is_done_for_whoever_hears_of_a_warp_that_has_waited() {
    // The groups are those of the warpgroup, so that one of its warps speaks for all.
    ring_program(5, Release::OneWarp)
        .holds()
        .fails(&Site::all(Op::WgmmaWaitGroup).occurrence(0).does(Action::WaitGroup(1)), race)
        .fails(&Site::all(Op::WgmmaWaitGroup).occurrence(2).does(Action::WaitGroup(1)), race);
}

#[test]
fn waiting_for_another_mbarrier_orders_nothing() {
    let program = |right: bool| Program {
        build: move |machine: &mut Machine| {
            let x = machine.input(&matrix(64, 128, 1));
            let map = map(x, 64, 128, [64, 64], Swizzle::B128);
            let launch = Launch::new("two", 1, 64, 2 * TILE + 64, move || {
                let (tiles, bar) = (dynamic_shared(), dynamic_shared() + 2 * TILE);
                if thread_idx_x() == 0 {
                    mbarrier_init(bar, 1);
                    mbarrier_init(bar + 8, 1);
                    fence_mbarrier_init();
                    for i in 0..2 {
                        mbarrier_arrive_expect_tx(bar + 8 * i, TILE);
                        cp_async_bulk_tensor_2d_load(tiles + TILE * i, &map, [64 * i, 0], bar + 8 * i);
                    }
                }
                bar_sync();
                wait(bar, 0);
                let _ = ld_shared::<u32>(tiles + if right { 0 } else { TILE });
                wait(bar + 8, 0);
            });
            (vec![launch], ())
        },
        check: |_: &Machine, ()| {},
    };
    program(true).holds();
    for schedule in Schedule::standard(SCHEDULES) {
        let kind = program(false).run(&schedule).0.unwrap_err().kind;
        assert!(early(&kind), "{kind}");
    }
}

#[test]
fn an_mbarrier_passes_what_was_done_before_its_arrivals() {
    // A message from the lanes of one warp to those of another, and the slot back.
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(4 * 32 * 4);
            let launch = Launch::new("message", 1, 64, 1024, move || {
                let (full, empty) = (dynamic_shared() + 512, dynamic_shared() + 520);
                let slot = dynamic_shared() + 4 * (thread_idx_x() % 32);
                if thread_idx_x() == 0 {
                    mbarrier_init(full, 32);
                    mbarrier_init(empty, 32);
                }
                bar_sync();
                for round in 0..4 {
                    if thread_idx_x() < 32 {
                        wait(empty, round & 1 ^ 1);
                        st_shared(slot, 100 * round + thread_idx_x());
                        mbarrier_arrive(full);
                    } else {
                        wait(full, round & 1);
                        let other = dynamic_shared() + 4 * (63 - thread_idx_x());
                        let at = y + u64::from(4 * (32 * round + thread_idx_x() - 32));
                        st_global(at, ld_shared::<u32>(other));
                        mbarrier_arrive(empty);
                    }
                }
            });
            (vec![launch], y)
        },
        check: |machine: &Machine, y| {
            let expected: Vec<u32> = (0..128).map(|i| 100 * (i / 32) + 31 - i % 32).collect();
            assert_eq!(machine.read::<u32>(y, 128).unwrap(), expected);
        },
    };
    let arrive = |lane: u32| Site::all(Op::MbarrierArrive).lane(lane);
    let wait = |lane: u32| Site::all(Op::MbarrierTryWaitParity).lane(lane);
    program
        .holds()
        .fails(&arrive(3).does(Action::Weaken), race)
        .fails(&arrive(40).does(Action::Weaken), race)
        .fails(&wait(3).does(Action::Weaken), race)
        .fails(&wait(40).does(Action::Weaken), race)
        .fails(&wait(40).does(Action::Drop), early)
        .fails(&arrive(3).does(Action::Drop), deadlock)
        .fails(&arrive(40).does(Action::AddressXor(8)), |kind| operand(kind) || deadlock(kind))
        .fails(&Site::all(Op::MbarrierInit).does(Action::CountDelta(-1)), |kind| early(kind) || operand(kind))
        .fails(&drop_all(Op::MbarrierInit), poison)
        .fails(&drop_all(Op::BarSync), |kind| early(kind) || operand(kind));
}

#[test]
fn what_is_done_after_an_arrival_is_not_published() {
    let program = |late: bool| Program {
        build: move |_: &mut Machine| {
            let launch = Launch::new("late", 1, 64, 1024, move || {
                let bar = dynamic_shared() + 512;
                if thread_idx_x() == 0 {
                    mbarrier_init(bar, 1);
                    st_shared(dynamic_shared(), 1u32);
                }
                bar_sync();
                match thread_idx_x() {
                    0 if late => {
                        mbarrier_arrive(bar);
                        st_shared(dynamic_shared(), 2u32);
                    }
                    0 => {
                        st_shared(dynamic_shared(), 2u32);
                        mbarrier_arrive(bar);
                    }
                    32 => {
                        wait(bar, 0);
                        let _ = ld_shared::<u32>(dynamic_shared());
                    }
                    _ => {}
                }
            });
            (vec![launch], ())
        },
        check: |_: &Machine, ()| {},
    };
    program(false).holds();
    for schedule in Schedule::standard(SCHEDULES) {
        let kind = program(true).run(&schedule).0.unwrap_err().kind;
        assert!(race(&kind), "{kind}");
    }
}

/// 64 × 64 of x through shared memory to y: loaded, doubled by ordinary instructions, stored.
fn through_shared(rounds: u32) -> Program<Build, Check> {
    Program {
        build: Box::new(move |machine: &mut Machine| {
            let x = machine.input(&matrix(64 * rounds as usize, 64, 1));
            let y = machine.buffer(64 * 64 * 2 * rounds as usize);
            let rows = u64::from(64 * rounds);
            let from = map(x, rows, 64, [64, 64], Swizzle::B128);
            let to = map(y, rows, 64, [64, 64], Swizzle::B128);
            let launch = Launch::new("through", 1, 64, TILE + 64, move || {
                let (tile, bar) = (dynamic_shared(), dynamic_shared() + TILE);
                let first = thread_idx_x() == 0;
                if first {
                    mbarrier_init(bar, 1);
                    fence_mbarrier_init();
                }
                bar_sync();
                for round in 0..rounds {
                    if first {
                        // The store of the round before has read.
                        cp_async_bulk_wait_group_read(0);
                        mbarrier_arrive_expect_tx(bar, TILE);
                        cp_async_bulk_tensor_2d_load(tile, &from, [0, 64 * round], bar);
                    }
                    wait(bar, round & 1);
                    for i in 0..32 {
                        let at = tile + 4 * (thread_idx_x() + 64 * i);
                        let pair = ld_shared::<u32>(at);
                        let doubled = |bits: u32| 2.0 * f16_to_f32(bits as u16);
                        st_shared(at, pack_f16x2(doubled(pair), doubled(pair >> 16)));
                    }
                    fence_proxy_async_shared();
                    bar_sync();
                    if first {
                        cp_async_bulk_tensor_2d_store(&to, [0, 64 * round], tile);
                        cp_async_bulk_commit_group();
                    }
                }
                if first {
                    cp_async_bulk_wait_group_read(0);
                }
            });
            (vec![launch], y)
        }),
        check: Box::new(move |machine: &Machine, y| {
            let expected: Vec<f32> =
                matrix(64 * rounds as usize, 64, 1).iter().map(|x| 2.0 * x.to_f32()).collect();
            let y = machine.read::<f16>(y, 64 * 64 * rounds as usize).unwrap();
            assert_eq!(y.iter().map(|y| y.to_f32()).collect::<Vec<_>>(), expected);
        }),
    }
}

#[test]
fn the_asynchronous_proxy_sees_ordinary_writes_across_a_fence() {
    let program = through_shared(3);
    let fence = Site::all(Op::FenceProxyAsyncShared);
    program
        .holds()
        .fails(&fence.clone().does(Action::Drop), proxy)
        // One lane of those that wrote.
        .fails(&fence.lane(50).does(Action::Drop), proxy)
        // The barrier between the fences and the store.
        .fails(&Site::all(Op::BarSync).occurrence(1).does(Action::Drop), race)
        // Groups.
        .fails(&Site::all(Op::CpAsyncBulkWaitGroupRead).does(Action::WaitGroup(1)), |kind| {
            race(kind) || not_waited(kind)
        })
        .fails(&Site::all(Op::CpAsyncBulkWaitGroupRead).occurrence(1).does(Action::Drop), race)
        .fails(&Site::all(Op::CpAsyncBulkWaitGroupRead).occurrence(3).does(Action::Drop), not_waited)
        .fails(&drop_all(Op::CpAsyncBulkCommitGroup), |kind| race(kind) || not_waited(kind));
    // The last round alone: without its commit the lane ends with a store that was not waited for.
    through_shared(1).holds().fails(&drop_all(Op::CpAsyncBulkCommitGroup), not_waited);
}

/// Lane 0 acts after a barrier on what lane 40 did before it.
fn pair(
    before: impl Fn(u64) + Clone + 'static,
    after: impl Fn(u64, u64) + Clone + 'static,
) -> impl Fn(&Schedule) -> Result<Stats, Report> {
    move |schedule| {
        let mut machine = Machine::new();
        let y = machine.buffer(TILE as usize);
        machine.write(y, &[0u8; TILE as usize]).unwrap();
        let map = map(y, 64, 64, [64, 64], Swizzle::B128);
        let (before, after) = (before.clone(), after.clone());
        let launch = Launch::new("pair", 1, 64, TILE + 64, move || {
            let bar = dynamic_shared() + TILE;
            if thread_idx_x() == 0 {
                mbarrier_init(bar, 1);
                fence_mbarrier_init();
            }
            if thread_idx_x() < 32 {
                for i in 0..16 {
                    st_shared(dynamic_shared() + 16 * (thread_idx_x() + 32 * i), [0u32; 4]);
                }
            }
            fence_proxy_async_shared();
            bar_sync();
            if thread_idx_x() == 40 {
                before(y);
            }
            bar_sync();
            if thread_idx_x() == 0 {
                // What it needs of `map` is passed by its address, so that closures stay small.
                after(y, std::ptr::from_ref(&map) as u64);
                mbarrier_arrive_expect_tx(bar, TILE);
                cp_async_bulk_tensor_2d_load(dynamic_shared(), &map, [0, 0], bar);
                wait(bar, 0);
            }
        });
        machine.run(&[launch], schedule)
    }
}

#[test]
fn each_direction_and_space_has_its_own_fence() {
    let check = |run: &dyn Fn(&Schedule) -> Result<Stats, Report>, is: Option<fn(&Kind) -> bool>| {
        for schedule in Schedule::standard(SCHEDULES) {
            match (run(&schedule), is) {
                (Ok(_), None) => {}
                (Ok(_), Some(_)) => panic!("nothing is reported under {schedule:?}"),
                (Err(report), None) => panic!("{report}"),
                (Err(report), Some(is)) => assert!(is(&report.kind), "{report}"),
            }
        }
    };
    let nothing = |_: u64, _: u64| {};
    let read = |_| {
        let _ = ld_shared::<u32>(dynamic_shared() + 64);
    };
    // A tensor load over what an ordinary instruction read, or wrote.
    check(&pair(|_| {}, nothing), None);
    check(&pair(read, nothing), Some(proxy));
    check(&pair(|_| st_shared(dynamic_shared() + 64, 1u32), nothing), Some(proxy));
    let fenced = move |y| {
        read(y);
        fence_proxy_async_shared();
    };
    check(&pair(fenced, nothing), None);
    // A fence by the issuer, after the barrier, does as well.
    check(&pair(read, |_, _| fence_proxy_async_shared()), None);
    // That of the other space does not; nor one before the access.
    check(&pair(read, |_, _| fence_proxy_async_global()), Some(proxy));
    let too_early = move |y| {
        fence_proxy_async_shared();
        read(y);
    };
    check(&pair(too_early, nothing), Some(proxy));
    // Global memory that the load reads.
    let write = |y| st_global(y + 64, 1u32);
    check(&pair(write, nothing), Some(proxy));
    check(&pair(write, |_, _| fence_proxy_async_shared()), Some(proxy));
    check(&pair(write, |_, _| fence_proxy_async_global()), None);
    let fenced = move |y| {
        write(y);
        fence_proxy_async_global();
    };
    check(&pair(fenced, nothing), None);
    // cp.async acts in the generic proxy.
    let copy = |y| {
        cp_async_16(dynamic_shared(), y, 16);
        cp_async_commit_group();
        cp_async_wait_group(0);
    };
    check(&pair(copy, nothing), Some(proxy));
    check(&pair(copy, |_, _| fence_proxy_async_shared()), None);
    // ldmatrix, stmatrix are covered by `wgmma_reads_what_was_fenced`.
}

#[test]
fn stores_are_seen_after_the_full_wait() {
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(TILE as usize);
            let map = map(y, 64, 64, [64, 64], Swizzle::None);
            let launch = Launch::new("store", 1, 64, TILE, move || {
                for i in 0..8 {
                    st_shared(dynamic_shared() + 16 * (thread_idx_x() + 64 * i), [i; 4]);
                }
                fence_proxy_async_shared();
                bar_sync();
                if thread_idx_x() == 0 {
                    cp_async_bulk_tensor_2d_store(&map, [0, 0], dynamic_shared());
                    cp_async_bulk_commit_group();
                    cp_async_bulk_wait_group_read(0);
                    cp_async_bulk_wait_group(0);
                }
                bar_sync();
                let at = y + u64::from(16 * thread_idx_x());
                let [value, ..] = ld_global::<[u32; 4]>(at);
                st_global(at, [value + 1; 4]);
            });
            (vec![launch], y)
        },
        check: |machine: &Machine, y| {
            let y = machine.read::<u32>(y, 2048).unwrap();
            assert!(y.iter().enumerate().all(|(i, &y)| y == i as u32 / 256 + u32::from(i < 256)), "{y:?}");
        },
    };
    program
        .holds()
        .fails(&drop_all(Op::CpAsyncBulkWaitGroup), early)
        .fails(&Site::all(Op::CpAsyncBulkWaitGroup).does(Action::WaitGroup(1)), early)
        .fails(&Site::all(Op::BarSync).occurrence(1).does(Action::Drop), early)
        .fails(&Site::all(Op::CpAsyncBulkTensor2dStore).does(Action::AddressXor(128)), out_of_bounds)
        .fails(&drop_all(Op::CpAsyncBulkTensor2dStore), poison);
}

/// Two CTAs, each writes a part of global memory that the other one reads after the cluster's barrier.
#[test]
fn a_cluster_barrier_orders_its_ctas() {
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(4 * 4 * 64 * 2);
            let launch = Launch::new("cluster", 4, 64, 0, move || {
                let own = 64 * block_idx_x() + thread_idx_x();
                let other = 64 * (block_idx_x() ^ 1) + 63 - thread_idx_x();
                st_global(y + u64::from(4 * own), own);
                barrier_cluster_arrive();
                barrier_cluster_wait();
                let value = ld_global::<u32>(y + u64::from(4 * other));
                st_global(y + u64::from(4 * (256 + own)), value + 1000 * cluster_ctarank());
                barrier_cluster_arrive();
                barrier_cluster_wait();
                st_global(y + u64::from(4 * own), 7u32);
                assert_eq!((cluster_nctarank(), nclusterid_x(), clusterid_x()), (2, 2, block_idx_x() / 2));
            });
            (vec![launch.cluster(2)], y)
        },
        check: |machine: &Machine, y| {
            let y = machine.read::<u32>(y, 512).unwrap();
            for i in 0..256 {
                let other = 64 * ((i / 64) ^ 1) + 63 - i % 64;
                assert_eq!((y[i as usize], y[256 + i as usize]), (7, other + 1000 * (i / 64 % 2)));
            }
        },
    };
    let (arrive, wait) = (Site::all(Op::BarrierClusterArrive), Site::all(Op::BarrierClusterWait));
    program
        .holds()
        .fails(&arrive.clone().cta(1).does(Action::Weaken), race)
        .fails(&wait.clone().cta(2).does(Action::Weaken), race)
        .fails(&arrive.clone().lane(33).does(Action::Weaken), race)
        .fails(&arrive.clone().does(Action::Drop), operand)
        .fails(&wait.clone().does(Action::Drop), |kind| early(kind) || operand(kind))
        .fails(&wait.occurrence(1).cta(3).does(Action::Drop), race)
        .fails(&arrive.lane(3).does(Action::Drop), divergence);
}

/// Each CTA of a cluster of four sends 256 bytes to the next one.
#[test]
fn a_copy_to_a_peer_s_shared_memory() {
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(8 * 256);
            let launch = Launch::new("ring", 8, 64, 1024, move || {
                let (from, to, bar) = (dynamic_shared(), dynamic_shared() + 256, dynamic_shared() + 512);
                let lane = thread_idx_x();
                if lane == 0 {
                    mbarrier_init(bar, 1);
                    fence_mbarrier_init();
                    mbarrier_arrive_expect_tx(bar, 256);
                }
                st_shared(from + 4 * lane, 100 * block_idx_x() + lane);
                fence_proxy_async_shared();
                // Also a barrier of this CTA.
                barrier_cluster_arrive();
                barrier_cluster_wait();
                if lane == 0 {
                    let next = (cluster_ctarank() + 1) % cluster_nctarank();
                    cp_async_bulk_shared_cluster(mapa(to, next), from, 256, mapa(bar, next));
                }
                wait(bar, 0);
                st_global(y + u64::from(256 * block_idx_x() + 4 * lane), ld_shared::<u32>(to + 4 * lane));
                // Its own data has arrived: nobody uses this CTA's memory any longer.
                barrier_cluster_arrive();
                barrier_cluster_wait();
            });
            (vec![launch.cluster(4)], y)
        },
        check: |machine: &Machine, y| {
            let y = machine.read::<u32>(y, 512).unwrap();
            for (i, &value) in y.iter().enumerate() {
                let cta = i / 64;
                let before = cta / 4 * 4 + (cta + 3) % 4;
                assert_eq!(value as usize, 100 * before + i % 64);
            }
        },
    };
    let (arrive, wait) = (Site::all(Op::BarrierClusterArrive), Site::all(Op::BarrierClusterWait));
    let copy = Site::all(Op::CpAsyncBulkSharedCluster);
    program
        .holds()
        // It may not have started: of the lane that copies, and of all.
        .fails(&wait.clone().occurrence(0).lane(0).does(Action::Weaken), |kind| {
            race(kind) || not_started(kind)
        })
        .fails(&wait.clone().occurrence(0).does(Action::Weaken), |kind| race(kind) || not_started(kind))
        // It may have ended.
        .fails(&wait.occurrence(1).does(Action::Weaken), |kind| departed(kind) || not_waited(kind))
        .fails(&arrive.occurrence(1).does(Action::Weaken), |kind| departed(kind) || not_waited(kind))
        .fails(&drop_all(Op::FenceProxyAsyncShared), proxy)
        .fails(&drop_all(Op::FenceMbarrierInit), proxy)
        .fails(&drop_all(Op::MbarrierTryWaitParity), early)
        .fails(&copy.clone().does(Action::ByteDelta(-16)), deadlock)
        .fails(&copy.clone().does(Action::ByteDelta(-4)), operand)
        .fails(&copy.clone().does(Action::AddressXor(1 << 24)), operand)
        // To the first CTA, to one that is not there.
        .fails(&copy.clone().does(Action::Rank(0)), |kind| early(kind) || deadlock(kind))
        .fails(&copy.does(Action::Rank(4)), operand)
        .fails(&Site::all(Op::Mapa).cta(2).does(Action::Drop), |kind| {
            race(kind) || deadlock(kind) || departed(kind) || not_waited(kind)
        });
}

/// Each CTA of a cluster of two counts its own lanes. An arrival that goes to the first CTA instead is missing in the other
/// one, and too many where it goes.
#[test]
fn an_arrival_in_the_wrong_cta() {
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(4 * 128);
            let launch = Launch::new("own barriers", 2, 64, 1024, move || {
                let (bar, lane) = (dynamic_shared() + 512, thread_idx_x());
                if lane == 0 {
                    mbarrier_init(bar, 64);
                    fence_mbarrier_init();
                }
                st_shared(dynamic_shared() + 4 * lane, 64 * block_idx_x() + lane);
                barrier_cluster_arrive();
                barrier_cluster_wait();
                mbarrier_arrive(bar);
                wait(bar, 0);
                let other = ld_shared::<u32>(dynamic_shared() + 4 * (63 - lane));
                st_global(y + u64::from(4 * (64 * block_idx_x() + lane)), other);
                barrier_cluster_arrive();
                barrier_cluster_wait();
            });
            (vec![launch.cluster(2)], y)
        },
        check: |machine: &Machine, y| {
            let expected: Vec<u32> = (0..128).map(|i| 64 * (i / 64) + 63 - i % 64).collect();
            assert_eq!(machine.read::<u32>(y, 128).unwrap(), expected);
        },
    };
    let arrive = Site::all(Op::MbarrierArrive);
    program
        .holds()
        .fails(&arrive.clone().cta(1).does(Action::Rank(0)), deadlock)
        .fails(&arrive.clone().cta(1).lane(40).does(Action::Rank(0)), |kind| operand(kind) || deadlock(kind))
        .fails(&arrive.does(Action::Rank(2)), operand);
}

#[test]
fn a_peer_that_may_not_have_started_is_left_alone() {
    let run = |barrier: bool, schedule: &Schedule| {
        let launch = Launch::new("early", 2, 32, 64, move || {
            let bar = dynamic_shared();
            if thread_idx_x() == 0 {
                mbarrier_init(bar, 1);
                fence_mbarrier_init();
            }
            if barrier {
                barrier_cluster_arrive();
                barrier_cluster_wait();
            }
            if thread_idx_x() == 0 && cluster_ctarank() == 0 {
                mbarrier_arrive_cluster(mapa(bar, 1));
            }
            if cluster_ctarank() == 1 && barrier {
                wait(bar, 0);
            }
        });
        Machine::new().run(&[launch.cluster(2)], schedule)
    };
    for schedule in Schedule::standard(SCHEDULES) {
        run(true, &schedule).unwrap();
        let kind = run(false, &schedule).unwrap_err().kind;
        assert!(matches!(kind, Kind::NotStarted { peer: 1, .. }), "{kind}");
    }
}

/// Rank 1 tells rank 0 by an arrival that something is over, and rank 0 overwrites it.
#[test]
fn arrivals_at_a_peer_tell_of_asynchronous_operations_alone() {
    #[derive(Clone, Copy)]
    enum Reader {
        Wgmma { waits: bool },
        Lanes,
    }
    let run = |reader: Reader, fault: Option<Mutation>, is: Option<fn(&Kind) -> bool>| {
        for mut schedule in Schedule::standard(SCHEDULES) {
            schedule.mutations.extend(fault.clone());
            let mut machine = Machine::new();
            let map = map(machine.input(&matrix(64, 64, 1)), 64, 64, [64, 64], Swizzle::B128);
            let launch = Launch::new("remote", 2, 128, TILE + 64, move || {
                let (tile, full, empty) =
                    (dynamic_shared(), dynamic_shared() + TILE, dynamic_shared() + TILE + 8);
                let lane = thread_idx_x();
                for i in 0..4 {
                    st_shared(tile + 16 * (lane + 128 * i), [0u32; 4]);
                }
                fence_proxy_async_shared();
                if lane == 0 {
                    mbarrier_init(full, 1);
                    mbarrier_init(empty, 4);
                    fence_mbarrier_init();
                }
                barrier_cluster_arrive();
                barrier_cluster_wait();
                if cluster_ctarank() == 1 {
                    let mut acc = [0f32; 4];
                    match reader {
                        Reader::Wgmma { waits } => {
                            wgmma_f16(&mut acc, &[[descriptor(tile); 2]]);
                            wgmma_wait_group(u32::from(!waits), &mut acc);
                        }
                        Reader::Lanes => {
                            let _ = ld_shared::<u32>(tile + 4 * lane);
                            fence_proxy_async_shared();
                            bar_warp_sync();
                        }
                    }
                    if lane == 0 {
                        mbarrier_arrive_expect_tx(full, TILE);
                    }
                    if lane.is_multiple_of(32) {
                        mbarrier_arrive_cluster(mapa(empty, 0));
                    }
                    wait(full, 0);
                    wgmma_wait_group(0, &mut acc);
                } else if lane == 0 {
                    wait(empty, 0);
                    cp_async_bulk_tensor_2d_load_multicast(tile, &map, [0, 0], full, 0b10);
                }
                barrier_cluster_arrive();
                barrier_cluster_wait();
            });
            match (machine.run(&[launch.cluster(2)], &schedule), is) {
                (Ok(_), None) => {}
                (Ok(_), Some(_)) => panic!("nothing is reported"),
                (Err(report), None) => panic!("{report}"),
                (Err(report), Some(is)) => assert!(is(&report.kind), "{report}"),
            }
        }
    };
    let arrive = Site::all(Op::MbarrierArriveCluster);
    run(Reader::Wgmma { waits: true }, None, None);
    run(Reader::Wgmma { waits: false }, None, Some(race));
    run(Reader::Lanes, None, Some(race));
    run(Reader::Wgmma { waits: true }, Some(arrive.clone().does(Action::Weaken)), Some(race));
    run(Reader::Wgmma { waits: true }, Some(arrive.clone().lane(32).does(Action::Drop)), Some(deadlock));
    run(Reader::Wgmma { waits: true }, Some(arrive.lane(32).does(Action::AddressXor(16))), Some(early));
    let wait = Site::all(Op::MbarrierTryWaitParity).cta(0);
    run(Reader::Wgmma { waits: true }, Some(wait.clone().does(Action::Weaken)), Some(race));
    run(
        Reader::Wgmma { waits: true },
        Some(wait.does(Action::Drop)),
        Some(|kind| race(kind) || departed(kind)),
    );
    let fence = Site::all(Op::FenceMbarrierInit).cta(0);
    run(Reader::Wgmma { waits: true }, Some(fence.does(Action::Drop)), Some(proxy));
}

/// Rank 0 of a cluster of two loads w for both, in rounds.
#[test]
fn a_multicast_is_for_whoever_waits_at_its_own_mbarrier() {
    const ROUNDS: u32 = 3;
    let program = Program {
        build: |machine: &mut Machine| {
            let w = machine.input(&matrix(64 * ROUNDS as usize, 64, 3));
            let y = machine.buffer(2 * 2 * TILE as usize);
            let map = map(w, u64::from(64 * ROUNDS), 64, [64, 64], Swizzle::None);
            let launch = Launch::new("multicast", 2, 64, TILE + 64, move || {
                let (tile, full) = (dynamic_shared(), dynamic_shared() + TILE);
                let lane = thread_idx_x();
                if lane == 0 {
                    mbarrier_init(full, 1);
                    fence_mbarrier_init();
                }
                for round in 0..ROUNDS {
                    // Both have read the round before, and the barriers are there.
                    fence_proxy_async_shared();
                    barrier_cluster_arrive();
                    barrier_cluster_wait();
                    if lane == 32 {
                        mbarrier_arrive_expect_tx(full, TILE);
                        if cluster_ctarank() == 0 {
                            cp_async_bulk_tensor_2d_load_multicast(tile, &map, [0, 64 * round], full, 0b11);
                        }
                    }
                    wait(full, round & 1);
                    let at = u64::from(TILE * cluster_ctarank() + 4 * lane);
                    st_global(y + at, ld_shared::<u32>(tile + 4 * lane));
                }
            });
            (vec![launch.cluster(2)], (w, y))
        },
        check: |machine: &Machine, (w, y)| {
            let last = u64::from(TILE * (ROUNDS - 1));
            let expected = machine.read::<u32>(w + last, 64).unwrap();
            for rank in 0..2 {
                assert_eq!(machine.read::<u32>(y + u64::from(TILE) * rank, 64).unwrap(), expected);
            }
        },
    };
    let load = Site::all(Op::CpAsyncBulkTensor2dLoadMulticast);
    let (arrive, wait) = (Site::all(Op::BarrierClusterArrive), Site::all(Op::BarrierClusterWait));
    program
        .holds()
        .fails(&load.clone().does(Action::MaskXor(0b10)), deadlock)
        .fails(&load.clone().does(Action::MaskXor(0b11)), operand)
        .fails(&load.clone().does(Action::MaskXor(0b100)), operand)
        .fails(&load.does(Action::AddressXor(64)), misaligned)
        .fails(&arrive.occurrence(1).cta(1).does(Action::Weaken), race)
        .fails(&wait.clone().occurrence(1).cta(0).does(Action::Weaken), race)
        .fails(&wait.occurrence(0).cta(0).does(Action::Weaken), |kind| race(kind) || not_started(kind))
        .fails(&Site::all(Op::FenceProxyAsyncShared).cta(1).does(Action::Drop), proxy)
        .fails(&Site::all(Op::MbarrierTryWaitParity).cta(1).does(Action::Drop), |kind| {
            early(kind) || departed(kind)
        })
        .fails(&Site::all(Op::MbarrierArriveExpectTx).cta(1).does(Action::Drop), deadlock)
        .fails(&drop_all(Op::FenceMbarrierInit), proxy);
}

/// One warpgroup: rows by stmatrix, or from a tensor load, then wgmma.
#[test]
fn wgmma_reads_what_was_fenced() {
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(4 * 64 * 8);
            let launch = Launch::new("wgmma", 1, 128, 2 * TILE, move || {
                let (a, b) = (dynamic_shared(), dynamic_shared() + TILE);
                let lane = thread_idx_x();
                // 64 rows of 16 ones, at 32 bytes each; 8 rows of b.
                let one = 0x3c00_3c00;
                stmatrix_x4(a + 16 * lane, [one; 4]);
                if lane < 16 {
                    st_shared(b + 16 * lane, [one; 4]);
                }
                fence_proxy_async_shared();
                bar_sync();
                // No swizzle: core matrices of 128 bytes, two of them side by side.
                let plain = |at: u32| u64::from(at >> 4) | 8 << 16 | 16 << 32;
                let mut acc = [1f32; 4];
                wgmma_f16(&mut acc, &[[plain(a), plain(b)]]);
                assert!(acc.iter().all(|sum| sum.is_nan()));
                wgmma_f16(&mut acc, &[[plain(a), plain(b)], [plain(a), plain(b)]]);
                wgmma_wait_group(1, &mut acc);
                assert!(acc.iter().all(|sum| sum.is_nan()));
                wgmma_wait_group(0, &mut acc);
                for (i, value) in acc.into_iter().enumerate() {
                    let (row, column) = place(i);
                    st_global(y + u64::from(4 * (8 * row + column)), value.to_bits());
                }
                stmatrix_x4(a + 16 * lane, [0; 4]);
            });
            (vec![launch], y)
        },
        check: |machine: &Machine, y| {
            assert_eq!(machine.read::<f32>(y, 512).unwrap(), [49.0; 512]);
        },
    };
    let (wait, fence) = (Site::all(Op::WgmmaWaitGroup), Site::all(Op::FenceProxyAsyncShared));
    program
        .holds()
        .fails(&fence.clone().does(Action::Drop), proxy)
        .fails(&fence.lane(9).does(Action::Drop), proxy)
        .fails(&drop_all(Op::BarSync), early)
        .fails(&wait.clone().does(Action::WaitGroup(1)), race)
        .fails(&wait.occurrence(1).does(Action::Drop), race)
        .fails(&drop_all(Op::Stmatrix), poison)
        .fails(&Site::all(Op::WgmmaF16).does(Action::DescriptorAdd { a: 0, b: 1 }), poison)
        .fails(&Site::all(Op::WgmmaF16).occurrence(1).lane(3).does(Action::Drop), divergence);
}

/// Runs a warpgroup over 8 KiB of written and fenced shared memory.
fn warpgroup(kernel: impl Fn() + Clone + 'static, is: Option<fn(&Kind) -> bool>) {
    for schedule in Schedule::standard(SCHEDULES) {
        let kernel = kernel.clone();
        let launch = Launch::new("warpgroup", 1, 256, TILE, move || {
            for i in 0..2 {
                st_shared(dynamic_shared() + 16 * (thread_idx_x() + 256 * i), [0u32; 4]);
            }
            fence_proxy_async_shared();
            bar_sync();
            if thread_idx_x() < 128 {
                kernel();
            }
        });
        match (Machine::new().run(&[launch], &schedule), is) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => panic!("nothing is reported"),
            (Err(report), None) => panic!("{report}"),
            (Err(report), Some(is)) => assert!(is(&report.kind), "{report}"),
        }
    }
}

#[test]
fn accumulators_under_way_are_not_touched() {
    let tile = || [[descriptor(dynamic_shared()); 2]];
    let issue = move |acc: &mut [f32]| wgmma_f16(acc, &tile());
    // Several groups, several accumulators, waited for in turn.
    warpgroup(
        move || {
            let (mut a, mut b) = ([1f32; 32], [2f32; 4]);
            issue(&mut a);
            issue(&mut b);
            issue(&mut a);
            wgmma_wait_group(1, &mut b);
            assert_eq!(b, [2.0; 4]);
            assert!(a.iter().all(|sum| sum.is_nan()));
            wgmma_wait_group(0, &mut a);
            assert_eq!(a, [1.0; 32]);
            // Again, and of what is not under way.
            wgmma_wait_group(0, &mut a);
            issue(&mut b);
            wgmma_wait_group(0, &mut []);
            wgmma_wait_group(0, &mut b);
            assert_eq!(b, [2.0; 4]);
        },
        None,
    );
    // One value changed in between; a copy of what went on; a part; used in arithmetic.
    warpgroup(
        move || {
            let mut acc = [0f32; 32];
            issue(&mut acc);
            acc[3] = 0.0;
            issue(&mut acc);
        },
        Some(operand),
    );
    warpgroup(
        move || {
            let mut acc = [0f32; 32];
            issue(&mut acc);
            let mut copy = acc;
            issue(&mut acc);
            issue(&mut copy);
        },
        Some(operand),
    );
    warpgroup(
        move || {
            let mut acc = [0f32; 32];
            issue(&mut acc);
            wgmma_wait_group(0, &mut acc[..16]);
        },
        Some(operand),
    );
    warpgroup(
        move || {
            let mut acc = [0f32; 32];
            issue(&mut acc);
            let sums = acc.map(|sum| sum + 1.0);
            assert!(sums.iter().all(|sum| sum.is_nan()));
            wgmma_wait_group(0, &mut acc);
        },
        None,
    );
    // Never waited for; by a part of the warpgroup.
    warpgroup(move || issue(&mut [0f32; 32]), Some(not_waited));
    warpgroup(
        move || {
            if thread_idx_x() < 96 {
                issue(&mut [0f32; 32]);
            }
        },
        Some(deadlock),
    );
    // Operands: N, a base offset, different descriptors in different warps.
    warpgroup(move || issue(&mut [0f32; 6]), Some(operand));
    warpgroup(move || issue(&mut [0f32; 132]), Some(operand));
    warpgroup(|| wgmma_f16(&mut [0f32; 4], &[[descriptor(dynamic_shared()) | 1 << 49; 2]]), Some(operand));
    warpgroup(
        || {
            let at = dynamic_shared() + if thread_idx_x() < 32 { 0 } else { 1024 };
            wgmma_f16(&mut [0f32; 4], &[[descriptor(at); 2]]);
        },
        Some(operand),
    );
}

#[test]
fn mbarriers_are_used_as_such() {
    let alone = |kernel: fn(u32), is: Option<fn(&Kind) -> bool>| {
        warpgroup(
            move || {
                if thread_idx_x() == 0 {
                    kernel(dynamic_shared() + 128);
                }
            },
            is,
        );
    };
    alone(
        |bar| {
            mbarrier_init(bar, 2);
            mbarrier_arrive(bar);
            mbarrier_arrive(bar);
            wait(bar, 0);
            // Parity alone: this is the phase before.
            wait(bar, 0);
        },
        None,
    );
    alone(
        |bar| {
            mbarrier_init(bar, 1);
            wait(bar, 0);
        },
        Some(deadlock),
    );
    // Data on it, by ordinary instructions and by a wgmma.
    alone(
        |bar| {
            mbarrier_init(bar, 1);
            let _ = ld_shared::<u32>(bar + 4);
        },
        Some(operand),
    );
    alone(
        |bar| {
            mbarrier_init(bar, 1);
            st_shared(bar, 0u32);
        },
        Some(operand),
    );
    alone(
        |bar| {
            mbarrier_init(bar, 1);
            mbarrier_init(bar, 1);
        },
        Some(operand),
    );
    // More arrivals than its count while data is missing.
    alone(
        |bar| {
            mbarrier_init(bar, 1);
            mbarrier_arrive_expect_tx(bar, 16);
            mbarrier_arrive(bar);
        },
        Some(operand),
    );
    alone(|bar| mbarrier_init(bar, 0), Some(operand));
    alone(|bar| mbarrier_init(bar + 4, 1), Some(misaligned));
    alone(|bar| mbarrier_arrive(bar), Some(operand));
    alone(
        |bar| {
            mbarrier_init(bar, 1);
            let _ = mbarrier_try_wait_parity(bar, 2);
        },
        Some(operand),
    );
    warpgroup(
        || {
            if thread_idx_x() == 0 {
                mbarrier_init(dynamic_shared() + 16, 1);
            }
            bar_sync_named(3, 128);
            wgmma_f16(&mut [0f32; 4], &[[descriptor(dynamic_shared()); 2]]);
        },
        Some(operand),
    );
}

#[test]
fn a_deadlock_says_what_the_mbarrier_lacks() {
    let launch = Launch::new("stuck", 1, 32, 64, || {
        let bar = dynamic_shared() + 8;
        if thread_idx_x() == 0 {
            mbarrier_init(bar, 2);
        }
        bar_warp_sync();
        if thread_idx_x() == 5 {
            mbarrier_arrive_expect_tx(bar, 48);
        }
        wait(bar, 0);
    });
    for schedule in Schedule::standard(SCHEDULES) {
        let report = Machine::new().run(std::slice::from_ref(&launch), &schedule).unwrap_err();
        let Kind::Deadlock { waiting } = &report.kind else { panic!("{report}") };
        assert_eq!(waiting.len(), 1, "{report}");
        assert_eq!(waiting[0].lanes, (0..32).collect::<Vec<_>>());
        let address = waiting[0].address.as_deref().unwrap();
        assert!(address.contains("0x8, parity 0; phase 0 lacks 1 arrivals and 48 bytes"), "{address}");
    }
}

#[test]
fn named_barriers_order_those_that_take_part() {
    let program = Program {
        build: |_: &mut Machine| {
            let launch = Launch::new("named", 1, 128, 1024, || {
                let warp = thread_idx_x() / 32;
                let own = dynamic_shared() + 4 * thread_idx_x();
                st_shared(own, warp);
                // Warps 0 and 2, 1 and 3.
                bar_sync_named(1 + warp % 2, 64);
                let other = dynamic_shared() + 4 * ((thread_idx_x() + 64) % 128);
                assert_eq!(ld_shared::<u32>(other), (warp + 2) % 4);
            });
            (vec![launch], ())
        },
        check: |_: &Machine, ()| {},
    };
    program.holds().fails(&drop_all(Op::BarSyncNamed), early);
    // Across them there is no order; a count that is not agreed on, and one that nobody completes.
    let kernel = |count: fn(u32) -> u32, id: fn(u32) -> u32, n: u32| {
        move |schedule: &Schedule| {
            let launch = Launch::new("named", 1, 128, 1024, move || {
                let warp = thread_idx_x() / 32;
                st_shared(dynamic_shared() + 4 * thread_idx_x(), warp);
                bar_sync_named(id(warp), count(warp));
                let _ = ld_shared::<u32>(dynamic_shared() + 4 * ((thread_idx_x() + n) % 128));
            });
            Machine::new().run(&[launch], schedule).unwrap_err().kind
        }
    };
    for schedule in Schedule::standard(SCHEDULES) {
        let kind = kernel(|_| 64, |warp| 1 + warp % 2, 32)(&schedule);
        assert!(early(&kind), "{kind}");
        let kind = kernel(|warp| 64 + 32 * (warp / 3), |_| 1, 0)(&schedule);
        assert!(operand(&kind) || deadlock(&kind), "{kind}");
        let kind = kernel(|_| 96, |_| 1, 0)(&schedule);
        assert!(deadlock(&kind), "{kind}");
        let kind = kernel(|_| 128, |_| 16, 0)(&schedule);
        assert!(operand(&kind), "{kind}");
        let kind = kernel(|_| 100, |_| 1, 0)(&schedule);
        assert!(operand(&kind), "{kind}");
    }
}

#[test]
fn warpgroups_share_out_registers() {
    let run = |kernel: fn(u32), registers: u32, fault: Option<Mutation>, is: Option<fn(&Kind) -> bool>| {
        for mut schedule in Schedule::standard(SCHEDULES) {
            schedule.mutations.extend(fault.clone());
            let launch = Launch::new("registers", 1, 384, 0, move || kernel(thread_idx_x() / 128));
            match (Machine::new().run(&[launch.registers(registers)], &schedule), is) {
                (Ok(_), None) => {}
                (Ok(_), Some(_)) => panic!("nothing is reported"),
                (Err(report), None) => panic!("{report}"),
                (Err(report), Some(is)) => assert!(is(&report.kind), "{report}"),
            }
        }
    };
    let kernel = |warpgroup| if warpgroup == 0 { setmaxnreg_dec(40) } else { setmaxnreg_inc(232) };
    run(kernel, 168, None, None);
    run(kernel, 168, Some(drop_all(Op::SetmaxnregDec)), Some(deadlock));
    // 8 registers too few are given back; the CTA holds more than there are; beyond a lane's own.
    run(
        |warpgroup| if warpgroup == 0 { setmaxnreg_dec(48) } else { setmaxnreg_inc(232) },
        168,
        None,
        Some(deadlock),
    );
    run(kernel, 176, None, Some(operand));
    run(|_| setmaxnreg_dec(176), 168, None, Some(operand));
    run(|_| setmaxnreg_inc(160), 168, None, Some(operand));
    run(|_| setmaxnreg_dec(20), 168, None, Some(operand));
    run(|_| setmaxnreg_dec(36), 168, None, Some(operand));
    run(|_| setmaxnreg_inc(264), 168, None, Some(operand));
    // All warps of a warpgroup.
    run(
        |_| {
            if thread_idx_x() >= 32 {
                setmaxnreg_dec(40);
            }
        },
        168,
        None,
        Some(deadlock),
    );
}

#[test]
fn a_dependent_launch_waits_for_those_before() {
    let program = Program {
        build: |machine: &mut Machine| {
            let (x, y) = (machine.buffer(TILE as usize), machine.buffer(TILE as usize));
            // What ordinary instructions write, a tensor copy loads.
            let row = map(y, 1, 64, [64, 1], Swizzle::None);
            let (to, from) =
                (map(x, 64, 64, [64, 64], Swizzle::None), map(x, 64, 64, [64, 64], Swizzle::None));
            // Stores by a tensor copy that nobody waits for, and by ordinary instructions.
            let first = Launch::new("first", 1, 32, TILE, move || {
                griddepcontrol_wait();
                griddepcontrol_launch_dependents();
                for i in 0..16 {
                    st_shared(dynamic_shared() + 16 * (thread_idx_x() + 32 * i), [i; 4]);
                }
                fence_proxy_async_shared();
                bar_sync();
                if thread_idx_x() == 0 {
                    cp_async_bulk_tensor_2d_store(&to, [0, 0], dynamic_shared());
                    cp_async_bulk_commit_group();
                    cp_async_bulk_wait_group_read(0);
                }
                st_global(y + u64::from(4 * thread_idx_x()), 5u32);
            });
            let second = Launch::new("second", 1, 32, TILE + 256, move || {
                let bar = dynamic_shared() + TILE + 128;
                if thread_idx_x() == 0 {
                    mbarrier_init(bar, 1);
                    fence_mbarrier_init();
                }
                bar_sync();
                griddepcontrol_wait();
                if thread_idx_x() == 0 {
                    mbarrier_arrive_expect_tx(bar, TILE + 128);
                    cp_async_bulk_tensor_2d_load(dynamic_shared(), &from, [0, 0], bar);
                    cp_async_bulk_tensor_2d_load(dynamic_shared() + TILE, &row, [0, 0], bar);
                }
                wait(bar, 0);
                let sum = ld_shared::<u32>(dynamic_shared() + 1024 + 4 * thread_idx_x())
                    + ld_shared::<u32>(dynamic_shared() + TILE + 4 * (31 - thread_idx_x()));
                st_global(y + 1024 + u64::from(4 * thread_idx_x()), sum);
            });
            let third = Launch::new("third", 1, 32, 0, move || {
                griddepcontrol_wait();
                let at = y + 1024 + u64::from(4 * (31 - thread_idx_x()));
                st_global(at, ld_global::<u32>(at) * 2);
            });
            (vec![first, second.programmatic(), third.programmatic()], y)
        },
        check: |machine: &Machine, y| {
            assert_eq!(machine.read::<u32>(y + 1024, 32).unwrap(), [14; 32]);
        },
    };
    program
        .holds()
        .fails(&drop_all(Op::GriddepcontrolWait), early)
        .fails(&Site::all(Op::GriddepcontrolWait).does(Action::Weaken), early)
        .fails(&Site::all(Op::GriddepcontrolWait).lane(0).does(Action::Drop), early);
}

#[test]
fn launches_in_clusters_are_checked() {
    let launch = |grid: u32, cluster: u32| Launch::new("cluster", grid, 32, 0, || {}).cluster(cluster);
    let run = |launch: Launch| Machine::new().run(&[launch], &Schedule::default());
    assert_eq!(run(launch(24, 8)).unwrap().ctas, 24);
    assert_eq!(run(launch(32, 16).nonportable()).unwrap().ctas, 32);
    for bad in [launch(24, 0), launch(24, 16), launch(32, 16), launch(34, 17).nonportable()] {
        assert!(matches!(run(bad).unwrap_err().kind, Kind::Launch { .. }));
    }
}

//! Each rule of ordering that Hopper adds, both ways: a program that keeps it is clean under 20 schedules and
//! gives the right values; with one seeded fault it is reported under every one of them.

mod common {
    pub(crate) mod hopper;
    pub(crate) mod kinds;
}

use common::{
    hopper::{accumulator_place, cluster_sync, descriptor, init, integers, matrix, wait},
    kinds::{
        deadlock, departed, divergence, early, misaligned, not_started, not_waited, operand, out_of_bounds,
        poison, proxy, race,
    },
};
use fused_lora_simt::{
    Action, Kind, Launch, Machine, Mutation, Op, Report, Schedule, Site, Stats, Swizzle, ops::*,
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

/// The map of a matrix in one piece, as a kernel takes it.
fn map(address: u64, rows: u32, columns: u32, box_dims: [u32; 2], swizzle: Swizzle) -> [u64; 16] {
    matrix(address, [columns, rows], box_dims, swizzle).encode()
}

const TILE: u32 = 64 * 128;

/// Nothing is reported, or something that `is` accepts.
#[track_caller]
fn expect(result: Result<Stats, Report>, is: Option<fn(&Kind) -> bool>, what: &dyn std::fmt::Debug) {
    match (result, is) {
        (Ok(_), None) => {}
        (Err(report), Some(is)) => assert!(is(&report.kind), "{what:?}: {report}"),
        (result, _) => panic!("{what:?}: {result:?}"),
    }
}

#[test]
fn a_tensor_load_is_for_whoever_has_waited_for_its_mbarrier() {
    // Two loads on one barrier; all lanes wait and read.
    let program = Program {
        build: |machine: &mut Machine| {
            let x = machine.input(&integers(64 * 128, 1));
            let y = machine.buffer(64 * 128 * 2);
            let map = map(x, 64, 128, [64, 64], Swizzle::None);
            let launch = Launch::new("load", 1, 64, 2 * TILE + 1024, move || {
                let (tiles, bar) = (dynamic_shared(), dynamic_shared() + 2 * TILE + 8);
                if thread_idx_x() == 0 {
                    init(bar, &[1]);
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

/// 64 × 64 of x through shared memory to y: loaded, doubled by ordinary instructions, stored.
fn through_shared(rounds: u32) -> Program<Build, Check> {
    Program {
        build: Box::new(move |machine: &mut Machine| {
            let x = machine.input(&integers(64 * rounds * 64, 1));
            let y = machine.buffer(64 * 64 * 2 * rounds as usize);
            let rows = 64 * rounds;
            let from = map(x, rows, 64, [64, 64], Swizzle::B128);
            let to = map(y, rows, 64, [64, 64], Swizzle::B128);
            let launch = Launch::new("through", 1, 64, TILE + 64, move || {
                let (tile, bar) = (dynamic_shared(), dynamic_shared() + TILE);
                let first = thread_idx_x() == 0;
                if first {
                    init(bar, &[1]);
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
            let expected: Vec<f32> = integers(64 * rounds * 64, 1).iter().map(|x| 2.0 * x.to_f32()).collect();
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
                cluster_sync();
                let value = ld_global::<u32>(y + u64::from(4 * other));
                st_global(y + u64::from(4 * (256 + own)), value + 1000 * cluster_ctarank());
                cluster_sync();
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
                    init(bar, &[1]);
                    mbarrier_arrive_expect_tx(bar, 256);
                }
                st_shared(from + 4 * lane, 100 * block_idx_x() + lane);
                fence_proxy_async_shared();
                // Also a barrier of this CTA.
                cluster_sync();
                if lane == 0 {
                    let next = (cluster_ctarank() + 1) % cluster_nctarank();
                    cp_async_bulk_shared_cluster(mapa(to, next), from, 256, mapa(bar, next));
                }
                wait(bar, 0);
                st_global(y + u64::from(256 * block_idx_x() + 4 * lane), ld_shared::<u32>(to + 4 * lane));
                // Its own data has arrived: nobody uses this CTA's memory any longer.
                cluster_sync();
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

/// Each CTA of a cluster of two counts its own lanes. An arrival that goes to the first CTA instead is
/// missing in the other one, and too many where it goes.
#[test]
fn an_arrival_in_the_wrong_cta() {
    let program = Program {
        build: |machine: &mut Machine| {
            let y = machine.buffer(4 * 128);
            let launch = Launch::new("own barriers", 2, 64, 1024, move || {
                let (bar, lane) = (dynamic_shared() + 512, thread_idx_x());
                if lane == 0 {
                    init(bar, &[64]);
                }
                st_shared(dynamic_shared() + 4 * lane, 64 * block_idx_x() + lane);
                cluster_sync();
                mbarrier_arrive(bar);
                wait(bar, 0);
                let other = ld_shared::<u32>(dynamic_shared() + 4 * (63 - lane));
                st_global(y + u64::from(4 * (64 * block_idx_x() + lane)), other);
                cluster_sync();
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
            let map = map(machine.input(&integers(64 * 64, 1)), 64, 64, [64, 64], Swizzle::B128);
            let launch = Launch::new("remote", 2, 128, TILE + 64, move || {
                let (tile, full, empty) =
                    (dynamic_shared(), dynamic_shared() + TILE, dynamic_shared() + TILE + 8);
                let lane = thread_idx_x();
                for i in 0..4 {
                    st_shared(tile + 16 * (lane + 128 * i), [0u32; 4]);
                }
                fence_proxy_async_shared();
                if lane == 0 {
                    init(full, &[1, 4]);
                }
                cluster_sync();
                if cluster_ctarank() == 1 {
                    let mut acc = [0f32; 4];
                    match reader {
                        Reader::Wgmma { waits } => {
                            wgmma_f16(&mut acc, &[[descriptor(Swizzle::B128, tile, 16); 2]]);
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
                cluster_sync();
            });
            expect(machine.run(&[launch.cluster(2)], &schedule), is, &fault);
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
            let w = machine.input(&integers(64 * ROUNDS * 64, 3));
            let y = machine.buffer(2 * 2 * TILE as usize);
            let map = map(w, 64 * ROUNDS, 64, [64, 64], Swizzle::None);
            let launch = Launch::new("multicast", 2, 64, TILE + 64, move || {
                let (tile, full) = (dynamic_shared(), dynamic_shared() + TILE);
                let lane = thread_idx_x();
                if lane == 0 {
                    init(full, &[1]);
                }
                for round in 0..ROUNDS {
                    // Both have read the round before, and the barriers are there.
                    fence_proxy_async_shared();
                    cluster_sync();
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
                    let (row, column) = accumulator_place(i);
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
    /// Number of the barrier and of the lanes, by warp.
    type Barrier = fn(u32) -> (u32, u32);
    let program = |barrier: Barrier, distance: u32| Program {
        build: move |_: &mut Machine| {
            let launch = Launch::new("named", 1, 128, 1024, move || {
                let (warp, lane) = (thread_idx_x() / 32, thread_idx_x());
                st_shared(dynamic_shared() + 4 * lane, lane);
                let (id, lanes) = barrier(warp);
                bar_sync_named(id, lanes);
                let other = (lane + distance) % 128;
                assert_eq!(ld_shared::<u32>(dynamic_shared() + 4 * other), other);
            });
            (vec![launch], ())
        },
        check: |_: &Machine, ()| {},
    };
    // Warps 0 and 2, 1 and 3. Across them there is no order.
    let pairs: Barrier = |warp| (1 + warp % 2, 64);
    program(pairs, 64).holds().fails(&drop_all(Op::BarSyncNamed), early);
    program(|_| (7, 128), 32).holds();
    // A count that is not agreed on, one that nobody completes; numbers and counts that there are not.
    let refused = |kind: &Kind| operand(kind) || deadlock(kind);
    type Case = (Barrier, u32, fn(&Kind) -> bool);
    let cases: [Case; 10] = [
        (pairs, 32, early),
        (|warp| (1, 64 + 32 * (warp / 3)), 0, refused),
        (|_| (1, 96), 0, deadlock),
        (|_| (16, 128), 0, operand),
        (|_| (1, 100), 0, operand),
        (|warp| (1, if warp == 0 { 64 } else { 128 }), 0, operand),
        (|warp| (1, if warp == 0 { 64 } else { 48 }), 0, operand),
        (|warp| (if warp == 0 { 1 } else { 17 }, 64), 0, operand),
        (|warp| (if warp == 0 { 1 } else { 16 }, 64), 0, operand),
        (|warp| (1, if warp == 0 { 64 } else { 160 }), 0, operand),
    ];
    for (barrier, distance, is) in cases {
        for schedule in Schedule::standard(SCHEDULES) {
            let kind = program(barrier, distance).run(&schedule).0.unwrap_err().kind;
            assert!(is(&kind), "{kind}");
        }
    }
}

#[test]
fn warpgroups_share_out_registers() {
    type Case = (fn(u32), u32, Option<Op>, Option<fn(&Kind) -> bool>);
    let kernel = |warpgroup| if warpgroup == 0 { setmaxnreg_dec(40) } else { setmaxnreg_inc(232) };
    let some_warps = |_| {
        if thread_idx_x() >= 32 {
            setmaxnreg_dec(40);
        }
    };
    let cases: [Case; 14] = [
        (kernel, 168, None, None),
        (|_| setmaxnreg_dec(24), 168, None, None),
        (kernel, 168, Some(Op::SetmaxnregDec), Some(deadlock)),
        // 8 registers too few are given back, or none; the CTA holds more than there are.
        (
            |group| if group == 0 { setmaxnreg_dec(48) } else { setmaxnreg_inc(232) },
            168,
            None,
            Some(deadlock),
        ),
        (|_| setmaxnreg_inc(176), 168, None, Some(deadlock)),
        (kernel, 176, None, Some(operand)),
        // Beyond a lane's own, too few or too many, no multiple of 8.
        (|_| setmaxnreg_dec(176), 168, None, Some(operand)),
        (|_| setmaxnreg_inc(160), 168, None, Some(operand)),
        (|_| setmaxnreg_dec(16), 168, None, Some(operand)),
        (|_| setmaxnreg_dec(20), 168, None, Some(operand)),
        (|_| setmaxnreg_dec(36), 168, None, Some(operand)),
        (|_| setmaxnreg_inc(264), 168, None, Some(operand)),
        (|_| setmaxnreg_inc(172), 168, None, Some(operand)),
        // All warps of a warpgroup.
        (some_warps, 168, None, Some(deadlock)),
    ];
    for (number, (kernel, registers, left_out, is)) in cases.into_iter().enumerate() {
        for mut schedule in Schedule::standard(SCHEDULES) {
            schedule.mutations.extend(left_out.map(drop_all));
            let launch = Launch::new("registers", 1, 384, 0, move || kernel(thread_idx_x() / 128));
            expect(Machine::new().run(&[launch.registers(registers)], &schedule), is, &number);
        }
    }
}

#[test]
fn a_dependent_launch_waits_for_those_before() {
    let program = Program {
        build: |machine: &mut Machine| {
            let (x, y) = (machine.buffer(TILE as usize), machine.buffer(TILE as usize));
            let input = machine.input(&[5u32; 32]);
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
                // What nobody writes may be read before the wait.
                assert_eq!(ld_global::<u32>(input + u64::from(4 * thread_idx_x())), 5);
                if thread_idx_x() == 0 {
                    init(bar, &[1]);
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
    for good in [launch(24, 8), launch(9, 3), launch(1, 1), launch(32, 16).nonportable()] {
        run(good).unwrap();
    }
    let bad = [
        launch(24, 0),
        launch(3, 2),
        launch(4, 8),
        launch(24, 16),
        launch(32, 16),
        launch(34, 17).nonportable(),
    ];
    for launch in bad {
        assert!(matches!(run(launch).unwrap_err().kind, Kind::Launch { .. }));
    }
}

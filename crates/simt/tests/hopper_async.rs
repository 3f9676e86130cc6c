//! What asynchronous copies and products read and write, across proxies too, and how their misuse is
//! reported, under every schedule. (What they compute and where they put it: `tests/instructions` of the
//! workspace.)

mod common {
    pub(crate) mod hopper;
    pub(crate) mod kinds;
}

use common::{
    hopper::{descriptor, init, matrix, on_every_schedule, wait},
    kinds::{deadlock, not_waited, operand, out_of_bounds, proxy, race},
};
use fused_lora_simt::{Kind, Launch, Machine, Report, Schedule, Swizzle, TensorMap, ops::*};

/// Bytes from the first shared byte, where kernels of these tests keep their mbarriers. Tiles begin at 1024.
const BARS: u32 = 0;
const TILE: u32 = 1024;

/// What nobody wrote in global memory is not written in shared memory, either; zeros beyond an edge are.
#[test]
fn tensor_loads_carry_along_what_nobody_wrote() {
    for read in [0, 16] {
        on_every_schedule(
            |machine| {
                let x = machine.buffer(2 * 8 * 2);
                machine.write(x, &[1u16; 8]).unwrap();
                let map = matrix(x, [8, 2], [8, 3], Swizzle::None);
                let kernel = move || {
                    let (bar, tile) = (dynamic_shared() + BARS, dynamic_shared() + TILE);
                    if thread_idx_x() == 0 {
                        init(bar, &[1]);
                        mbarrier_arrive_expect_tx(bar, 48);
                        cp_async_bulk_tensor_2d_load(tile, &map.encode(), [0, 0], bar);
                        wait(bar, 0);
                        // Beyond the edge, always zero.
                        assert_eq!(ld_shared::<[u32; 4]>(tile + 32), [0; 4]);
                        let _ = ld_shared::<u16>(tile + read);
                    }
                };
                ((), vec![Launch::new("load", 1, 32, TILE + 48, kernel)])
            },
            |result, _, ()| {
                let poisoned = matches!(&result, Err(report) if matches!(report.kind, Kind::Poison { .. }));
                assert_eq!(poisoned, read == 16, "{result:?}");
            },
        );
    }
}

/// Nobody has written what lies beyond the matrix, and nobody needs to.
#[test]
fn tensor_stores_read_only_what_they_write() {
    on_every_schedule(
        |machine| {
            let y = machine.buffer(13 * 2 * 8);
            // Of the box 3 columns are before the matrix, and 7 rows below it.
            let map = TensorMap {
                address: y,
                dims: [13, 1],
                stride: 32,
                box_dims: [16, 8],
                swizzle: Swizzle::None,
            };
            let kernel = move || {
                let tile = dynamic_shared() + TILE;
                if thread_idx_x() < 13 {
                    st_shared(tile + 2 * (3 + thread_idx_x()), thread_idx_x() as u16);
                }
                fence_proxy_async_shared();
                bar_sync();
                if thread_idx_x() == 0 {
                    cp_async_bulk_tensor_2d_store(&map.encode(), [-3i32 as u32, 0], tile);
                    cp_async_bulk_commit_group();
                    cp_async_bulk_wait_group(0);
                }
            };
            (y, vec![Launch::new("store", 1, 32, TILE + 256, kernel)])
        },
        |result, machine, &y| {
            result.unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(machine.read::<u16>(y, 13).unwrap(), (0..13).collect::<Vec<_>>());
            assert!(machine.read::<u16>(y + 26, 1).is_err());
        },
    );
}

/// Two warpgroups that multiply the same shared memory, which generic stores have filled.
fn generic_operands(
    use_it: impl Fn(&mut [f32; 4], [u64; 2]) + Copy + 'static,
) -> impl Fn() + Clone + 'static {
    move || {
        let tile = dynamic_shared() + TILE;
        // Ones everywhere: 64 rows of A and 8 of B, core matrices of 128 bytes, two of them a step.
        for at in (16 * thread_idx_x()..(64 + 8) * 32).step_by(16 * block_dim_x() as usize) {
            st_shared(tile + at, [0x3c00_3c00u32; 4]);
        }
        fence_proxy_async_shared();
        bar_sync();
        let operand = |start: u32| descriptor(Swizzle::None, start, 128) & !(0x3fff << 32) | 16 << 32;
        let mut acc = [0f32; 4];
        use_it(&mut acc, [operand(tile), operand(tile + 64 * 32)]);
    }
}

#[test]
fn accumulators_and_operands_of_wgmma() {
    type Case = (Option<fn(&Kind) -> bool>, fn(&mut [f32; 4], [u64; 2]));
    let cases: &[Case] = &[
        (None, |acc, operands| {
            wgmma_f16(acc, &[operands]);
            // Too early: not numbers, whatever one makes of them.
            assert!(acc.iter().all(|value| value.is_nan() && (value + 1.0).is_nan()));
            assert!(acc.iter().all(|value| f16_to_f32(pack_f16x2(*value, 0.0) as u16).is_nan()));
            wgmma_f16(acc, &[operands, operands]);
            wgmma_wait_group(1, acc);
            // The group that wrote last is the one under way.
            assert!(acc.iter().all(|value| value.is_nan()));
            wgmma_wait_group(0, acc);
            assert_eq!(*acc, [48.0; 4]);
            // Waited for, they are ordinary numbers. Another wait, and one for none of them, changes nothing.
            wgmma_wait_group(0, acc);
            acc[0] += 1.0;
            wgmma_f16(acc, &[operands]);
            wgmma_wait_group(0, &mut []);
            wgmma_wait_group(0, acc);
            assert_eq!(*acc, [65.0, 64.0, 64.0, 64.0]);
        }),
        // Two sets in flight.
        (None, |acc, operands| {
            let mut other = [1f32; 4];
            wgmma_f16(acc, &[operands]);
            wgmma_f16(&mut other, &[operands]);
            wgmma_wait_group(1, acc);
            assert_eq!(*acc, [16.0; 4]);
            assert!(other.iter().all(|value| value.is_nan()));
            wgmma_wait_group(0, &mut other);
            assert_eq!(other, [17.0; 4]);
        }),
        // Touched while pending.
        (Some(operand), |acc, operands| {
            wgmma_f16(acc, &[operands]);
            acc[1] = 0.0;
            wgmma_wait_group(0, acc);
        }),
        (Some(operand), |acc, operands| {
            wgmma_f16(acc, &[operands]);
            acc[3] += 1.0;
            wgmma_f16(acc, &[operands]);
            wgmma_wait_group(0, acc);
        }),
        // A copy of values that another product has gone on with; a part; values of two groups in one set.
        (Some(operand), |acc, operands| {
            wgmma_f16(acc, &[operands]);
            let mut copy = *acc;
            wgmma_f16(acc, &[operands]);
            wgmma_f16(&mut copy, &[operands]);
        }),
        (Some(operand), |acc, operands| {
            wgmma_f16(acc, &[operands]);
            wgmma_wait_group(0, &mut acc[..2]);
        }),
        (Some(operand), |acc, operands| {
            let mut other = [0f32; 4];
            wgmma_f16(acc, &[operands]);
            wgmma_f16(&mut other, &[operands]);
            std::mem::swap(&mut acc[0], &mut other[0]);
            wgmma_wait_group(0, acc);
        }),
        // Under way at the lane's end.
        (Some(not_waited), |acc, operands| {
            wgmma_f16(acc, &[operands]);
            wgmma_f16(acc, &[operands]);
            wgmma_wait_group(1, acc);
        }),
        // By a part of the warpgroup.
        (Some(deadlock), |acc, operands| {
            if thread_idx_x() % 128 < 96 {
                wgmma_f16(acc, &[operands]);
            }
        }),
        // The wait is one warpgroup's, the other still reads.
        (Some(|kind| race(kind) || proxy(kind)), |acc, operands| {
            wgmma_f16(acc, &[operands]);
            wgmma_wait_group(0, acc);
            if thread_idx_x() == 0 {
                st_shared(((operands[0] & 0x3fff) as u32) << 4, 0u32);
            }
        }),
        // Operands: a base offset, N, different descriptors in different warps, beyond shared memory.
        (Some(operand), |acc, [a, b]| wgmma_f16(acc, &[[a | 1 << 49, b]])),
        (Some(operand), |acc, operands| wgmma_f16(&mut acc[..3], &[operands])),
        (Some(operand), |_, operands| wgmma_f16(&mut [0f32; 6], &[operands])),
        (Some(operand), |_, operands| wgmma_f16(&mut [0f32; 132], &[operands])),
        (Some(operand), |acc, [a, b]| {
            wgmma_f16(acc, &[[a + u64::from(thread_idx_x() / 32 == 2), b]]);
            wgmma_wait_group(0, acc);
        }),
        (Some(out_of_bounds), |acc, [a, b]| wgmma_f16(acc, &[[a | 0x3fff, b]])),
        // An mbarrier among the data.
        (Some(operand), |acc, operands| {
            if thread_idx_x() == 0 {
                mbarrier_init(dynamic_shared() + TILE + 16, 1);
            }
            bar_sync();
            wgmma_f16(acc, &[operands]);
        }),
    ];
    for (number, &(is, kernel)) in cases.iter().enumerate() {
        let kernel = generic_operands(kernel);
        on_every_schedule(
            |_| ((), vec![Launch::new("kernel", 1, 256, TILE + (64 + 8) * 32, kernel.clone())]),
            |result, _, ()| match (result, is) {
                (Ok(_), None) => {}
                (Err(report), Some(is)) => assert!(is(&report.kind), "{number}: {report}"),
                (result, _) => panic!("{number}: {result:?}"),
            },
        );
    }
}

/// Where a proxy fence stands between a store and an asynchronous access that a barrier orders.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fence {
    Nowhere,
    /// In the lane that stores, which is enough.
    AfterStore,
    /// In the lane that issues, which is enough, too.
    BeforeIssue,
    BeforeStore,
    AfterIssue,
    /// After the store, of the other state space.
    OtherSpace,
}

/// What lanes do before a barrier to memory that a tensor copy accesses behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    StoreGlobal,
    StoreShared,
    LoadShared,
    /// By `cp.async`, which is of the generic proxy.
    CopyToShared,
}

#[test]
fn proxy_fences_between_accesses_and_tensor_copies() {
    use Access::{CopyToShared, LoadShared, StoreGlobal, StoreShared};
    use Fence::{AfterIssue, AfterStore, BeforeIssue, BeforeStore, Nowhere, OtherSpace};
    let (load, store) = (false, true);
    for (access, copy) in [
        (StoreGlobal, load),
        (StoreShared, store),
        (StoreShared, load),
        (LoadShared, load),
        (CopyToShared, load),
    ] {
        for fence in [Nowhere, AfterStore, BeforeIssue, BeforeStore, AfterIssue, OtherSpace] {
            on_every_schedule(
                |machine| {
                    let x = machine.buffer(16 * 8 * 2);
                    machine.write(x, &[0u32; 64]).unwrap();
                    let map = matrix(x, [16, 8], [16, 8], Swizzle::B32);
                    let kernel = move || {
                        let fenced = |global: bool| {
                            if global { fence_proxy_async_global() } else { fence_proxy_async_shared() }
                        };
                        let global = access == StoreGlobal;
                        let at = |place: Fence| {
                            if fence == place {
                                fenced(global);
                            }
                        };
                        let (bar, tile) = (dynamic_shared() + BARS, dynamic_shared() + TILE);
                        let i = thread_idx_x();
                        let (own, from) = (tile + 16 * i, x + u64::from(16 * i));
                        if i == 32 {
                            init(bar, &[1]);
                        }
                        if i < 16 {
                            st_shared(own, [0u32; 4]);
                            fence_proxy_async_shared();
                        }
                        bar_sync();
                        if i < 16 {
                            at(BeforeStore);
                            match access {
                                StoreGlobal => st_global(from, [i; 4]),
                                StoreShared => st_shared(own, [i; 4]),
                                LoadShared => drop(ld_shared::<[u32; 4]>(own)[0].to_string()),
                                CopyToShared => {
                                    cp_async_16(own, from, 16);
                                    cp_async_commit_group();
                                    cp_async_wait_group(0);
                                }
                            }
                            at(AfterStore);
                            if fence == OtherSpace {
                                fenced(!global);
                            }
                        }
                        bar_sync();
                        if i == 32 {
                            at(BeforeIssue);
                            if copy == load {
                                mbarrier_arrive_expect_tx(bar, 256);
                                cp_async_bulk_tensor_2d_load(tile, &map.encode(), [0, 0], bar);
                                at(AfterIssue);
                                wait(bar, 0);
                            } else {
                                cp_async_bulk_tensor_2d_store(&map.encode(), [0, 0], tile);
                                at(AfterIssue);
                                cp_async_bulk_commit_group();
                                cp_async_bulk_wait_group(0);
                            }
                        }
                    };
                    ((), vec![Launch::new("fence", 1, 64, TILE + 256, kernel)])
                },
                |result, _, ()| match (result, fence) {
                    (Ok(_), AfterStore | BeforeIssue) => {}
                    (Err(Report { kind: Kind::Proxy { .. }, .. }), other)
                        if !matches!(other, AfterStore | BeforeIssue) => {}
                    (result, _) => panic!("{access:?}, {fence:?}: {result:?}"),
                },
            );
        }
    }
}

/// CTA 0 writes a box of x, by lanes or by a tensor store, and tells CTA 1, which reads it, by lanes or by a
/// tensor load. `read_only`: waits only until the store has read its source.
fn handed_over(store: bool, load: bool, fence: Fence, read_only: bool) -> Vec<Result<(), Kind>> {
    let mut outcomes = Vec::new();
    for schedule in Schedule::standard(20) {
        let mut machine = Machine::new();
        let (x, flag, out) = (machine.buffer(256), machine.buffer(4), machine.buffer(256));
        machine.write(flag, &[0u32]).unwrap();
        let map = matrix(x, [8, 16], [8, 16], Swizzle::None);
        let kernel = move || {
            let (bar, tile) = (dynamic_shared() + BARS, dynamic_shared() + TILE);
            let i = thread_idx_x();
            if block_idx_x() == 0 {
                if store {
                    st_shared(tile + 8 * i, [i, i + 100]);
                    fence_proxy_async_shared();
                    bar_sync();
                    if i == 0 {
                        cp_async_bulk_tensor_2d_store(&map.encode(), [0, 0], tile);
                        cp_async_bulk_commit_group();
                        if read_only {
                            cp_async_bulk_wait_group_read(0);
                        } else {
                            cp_async_bulk_wait_group(0);
                        }
                    }
                } else {
                    st_global(x + u64::from(8 * i), [i, i + 100]);
                    if fence == Fence::AfterStore {
                        fence_proxy_async_global();
                    }
                    bar_sync();
                }
                if i == 0 {
                    red_add_release_gpu(flag, 1);
                }
            } else {
                if i == 0 {
                    init(bar, &[1]);
                    while ld_acquire_gpu(flag) == 0 {}
                    if fence == Fence::BeforeIssue {
                        fence_proxy_async_global();
                    }
                    if load {
                        mbarrier_arrive_expect_tx(bar, 256);
                        cp_async_bulk_tensor_2d_load(tile, &map.encode(), [0, 0], bar);
                        wait(bar, 0);
                    }
                }
                bar_sync();
                let value = if load {
                    ld_shared::<[u32; 2]>(tile + 8 * i)
                } else {
                    ld_global::<[u32; 2]>(x + u64::from(8 * i))
                };
                st_global(out + u64::from(8 * i), value);
            }
        };
        // Both at once, or in order.
        let slots = schedule.slots.max(2);
        let launch = Launch::new("hand over", 2, 32, TILE + 256, kernel);
        let result = machine.run(&[launch], &Schedule { slots, ..schedule });
        outcomes.push(result.map(|_| ()).map_err(|report| report.kind));
        if outcomes.last().is_some_and(Result::is_ok) {
            let expected: Vec<_> = (0..32).map(|i| [i, i + 100]).collect();
            assert_eq!(machine.read::<[u32; 2]>(out, 32).unwrap(), expected);
        }
    }
    outcomes
}

#[test]
fn global_memory_handed_over_across_proxies() {
    use Fence::{AfterStore, BeforeIssue, Nowhere};
    let clean = |outcomes: Vec<Result<(), Kind>>| assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let proxy = |outcomes: Vec<Result<(), Kind>>| {
        assert!(outcomes.iter().all(|result| matches!(result, Err(Kind::Proxy { .. }))), "{outcomes:?}");
    };
    let race = |outcomes: Vec<Result<(), Kind>>| {
        let raced = |result: &_| matches!(result, Err(Kind::Race { .. } | Kind::Poison { .. }));
        assert!(outcomes.iter().all(raced), "{outcomes:?}");
    };
    clean(handed_over(false, false, Nowhere, false));
    clean(handed_over(false, true, AfterStore, false));
    // In another CTA than that which stored it is too late.
    proxy(handed_over(false, true, BeforeIssue, false));
    proxy(handed_over(false, true, Nowhere, false));
    // What a tensor store wrote needs no fence, but its wait.
    clean(handed_over(true, false, Nowhere, false));
    clean(handed_over(true, true, Nowhere, false));
    race(handed_over(true, false, Nowhere, true));
    race(handed_over(true, true, Nowhere, true));
}

/// cp.async is of the generic proxy: wgmma reads what it copied behind a wait, a fence and a barrier, in this
/// order.
#[test]
fn wgmma_reads_what_cp_async_copied() {
    for (fence_first, fences) in [(false, true), (true, true), (false, false)] {
        on_every_schedule(
            |machine| {
                let ones = machine.input(&[0x3c00u16; (64 + 8) * 16]);
                let kernel = move || {
                    let tile = dynamic_shared() + TILE;
                    for at in (16 * thread_idx_x()..(64 + 8) * 32).step_by(16 * 128) {
                        cp_async_16(tile + at, ones + u64::from(at), 16);
                    }
                    cp_async_commit_group();
                    if fences && fence_first {
                        fence_proxy_async_shared();
                    }
                    cp_async_wait_group(0);
                    if fences && !fence_first {
                        fence_proxy_async_shared();
                    }
                    bar_sync();
                    let operand = |start: u32| descriptor(Swizzle::B32, start, 16);
                    let mut acc = [0f32; 4];
                    wgmma_f16(&mut acc, &[[operand(tile), operand(tile + 64 * 32)]]);
                    wgmma_wait_group(0, &mut acc);
                    assert_eq!(acc, [16.0; 4]);
                };
                ((), vec![Launch::new("cp.async", 1, 128, TILE + (64 + 8) * 32, kernel)])
            },
            |result, _, ()| match (result, fences && !fence_first) {
                (Ok(_), true) | (Err(Report { kind: Kind::Proxy { .. }, .. }), false) => {}
                (result, _) => panic!("fences: {fences}, before the wait: {fence_first}: {result:?}"),
            },
        );
    }
}

#[test]
fn bulk_groups_are_waited_for_in_order() {
    // Three stores of 128 bytes, each its own group, then the second's source or destination is touched.
    let outcome = |pending: u32, read: bool, source: bool| -> Vec<bool> {
        let run = |schedule: &Schedule| {
            let mut machine = Machine::new();
            let y = machine.buffer(3 * 128);
            let map = matrix(y, [8, 24], [8, 8], Swizzle::None);
            let kernel = move || {
                let tile = dynamic_shared() + TILE;
                if thread_idx_x() == 0 {
                    for i in 0..24 {
                        st_shared(tile + 16 * i, [i; 4]);
                    }
                    fence_proxy_async_shared();
                    for i in 0..3 {
                        cp_async_bulk_tensor_2d_store(&map.encode(), [0, 8 * i], tile + 128 * i);
                        cp_async_bulk_commit_group();
                    }
                    if read {
                        cp_async_bulk_wait_group_read(pending);
                    } else {
                        cp_async_bulk_wait_group(pending);
                    }
                    if source {
                        st_shared(tile + 128, 0u32);
                    } else {
                        assert_eq!(ld_global::<[u32; 4]>(y + 128), [8; 4]);
                    }
                    cp_async_bulk_wait_group_read(0);
                }
            };
            let result = machine.run(&[Launch::new("stores", 1, 32, TILE + 3 * 128, kernel)], schedule);
            match &result {
                Ok(_) => {}
                Err(Report { kind: Kind::Race { .. }, .. }) => return false,
                Err(report) => panic!("{report}"),
            }
            // All are written at the end of the launch, waited for or not.
            let expected: Vec<_> = (0..24).map(|i| [i; 4]).collect();
            assert_eq!(machine.read::<[u32; 4]>(y, 24).unwrap(), expected);
            true
        };
        Schedule::standard(20).iter().map(run).collect()
    };
    for (pending, read, source, is_clean) in [
        (1, true, true, true),
        (2, true, true, false),
        (1, false, true, true),
        (2, false, true, false),
        (1, false, false, true),
        (2, false, false, false),
        // To have read is not to have written.
        (0, true, false, false),
    ] {
        assert_eq!(outcome(pending, read, source), [is_clean; 20], "{pending}, read {read}, source {source}");
    }
}

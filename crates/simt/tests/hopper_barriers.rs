//! What mbarriers and clusters order, what they do not, and how their misuse is reported, under every
//! schedule.

mod common {
    pub(crate) mod hopper;
    pub(crate) mod kinds;
}

use common::{
    hopper::{cluster_sync, init, matrix, on_every_schedule, wait},
    kinds::{deadlock, departed, early, misaligned, not_waited, operand, out_of_bounds, proxy, race},
};
use fused_lora_simt::{Kind, Launch, Report, Swizzle, TensorMap, ops::*};

/// Bytes from the first shared byte: mbarriers, then two boxes of 256 bytes.
const TILE: u32 = 1024;
const BYTES: u32 = 256;
const SHARED: u32 = TILE + 2 * BYTES;

fn bar(number: u32) -> u32 {
    dynamic_shared() + 8 * number
}

fn tile(number: u32) -> u32 {
    dynamic_shared() + TILE + BYTES * number
}

/// Runs a kernel on CTAs of 32 lanes in clusters of `cluster`, with a box of 8 × 16 ones.
fn check(cluster: u32, kernel: impl Fn(TensorMap) + Clone + 'static, check: impl Fn(Result<(), Kind>)) {
    on_every_schedule(
        |machine| {
            let x = machine.input(&[1u16; 128]);
            let map = matrix(x, [8, 16], [8, 16], Swizzle::None);
            let kernel = kernel.clone();
            let launch = Launch::new("kernel", cluster, 32, SHARED, move || kernel(map));
            ((), vec![launch.cluster(cluster)])
        },
        |result, _, ()| check(result.map(|_| ()).map_err(|Report { kind, .. }| kind)),
    );
}

fn clean(cluster: u32, kernel: impl Fn(TensorMap) + Clone + 'static) {
    check(cluster, kernel, |result| result.unwrap_or_else(|kind| panic!("{kind}")));
}

fn caught(cluster: u32, is: impl Fn(&Kind) -> bool, kernel: impl Fn(TensorMap) + Clone + 'static) {
    check(cluster, kernel, |result| {
        let kind = result.expect_err("it must be caught under every schedule");
        assert!(is(&kind), "{kind}");
    });
}

/// Lane 0 alone runs it, after it initialised two mbarriers of one arrival.
fn alone(kernel: impl Fn(TensorMap) + Clone + 'static) -> impl Fn(TensorMap) + Clone + 'static {
    move |map| {
        if thread_idx_x() == 0 {
            init(bar(0), &[1, 1]);
            kernel(map);
        }
    }
}

fn load(map: TensorMap, to: u32, bar: u32) {
    cp_async_bulk_tensor_2d_load(to, &map.encode(), [0, 0], bar);
}

#[test]
fn phases_go_on_and_on() {
    let kernel = alone(|map| {
        // None has ended, so the phase before, of parity 1, has.
        assert!(mbarrier_try_wait_parity(bar(0), 1));
        for round in 0..5 {
            mbarrier_arrive_expect_tx(bar(0), BYTES);
            load(map, tile(0), bar(0));
            wait(bar(0), round % 2);
            // Parity alone: this is the phase before.
            wait(bar(0), round % 2);
            assert_eq!(ld_shared::<u32>(tile(0)), 0x0001_0001);
            fence_proxy_async_shared();
        }
    });
    clean(1, kernel);
}

#[test]
fn bytes_may_come_before_they_are_expected() {
    let kernel = alone(|map| {
        load(map, tile(0), bar(0));
        load(map, tile(1), bar(0));
        mbarrier_arrive_expect_tx(bar(0), 2 * BYTES);
        wait(bar(0), 0);
        assert_eq!(ld_shared::<u32>(tile(1)), 0x0001_0001);
    });
    clean(1, kernel);
}

#[test]
fn a_wait_orders_what_completed_at_its_own_barrier_only() {
    let kernel = |waited: u32| {
        alone(move |map| {
            mbarrier_arrive_expect_tx(bar(0), BYTES);
            mbarrier_arrive_expect_tx(bar(1), BYTES);
            load(map, tile(0), bar(0));
            load(map, tile(1), bar(1));
            wait(bar(waited), 0);
            let _ = ld_shared::<u32>(tile(0));
            // Neither is under way at the end.
            wait(bar(1 - waited), 0);
        })
    };
    clean(1, kernel(0));
    caught(1, early, kernel(1));
}

#[test]
fn a_wait_of_another_lane_orders_nothing() {
    let kernel = |order: bool| {
        move |map| {
            if thread_idx_x() == 0 {
                init(bar(0), &[1]);
                mbarrier_arrive_expect_tx(bar(0), BYTES);
                load(map, tile(0), bar(0));
                wait(bar(0), 0);
            }
            if order {
                bar_warp_sync();
            }
            if thread_idx_x() == 1 {
                let _ = ld_shared::<u32>(tile(0));
            }
        }
    };
    clean(1, kernel(true));
    caught(1, early, kernel(false));
}

#[test]
fn arrivals_publish_and_waits_acquire() {
    // Lanes 0 to 15 write and arrive, the others wait and read.
    let kernel = |before: bool, waits: bool| {
        move |_| {
            let i = thread_idx_x();
            if i == 0 {
                init(bar(0), &[16]);
                (0..16).for_each(|lane| st_shared(tile(0) + 4 * lane, 0u32));
            }
            bar_warp_sync();
            if i < 16 {
                if before {
                    st_shared(tile(0) + 4 * i, i);
                }
                mbarrier_arrive(bar(0));
                if !before {
                    st_shared(tile(0) + 4 * i, i);
                }
            } else {
                if waits {
                    wait(bar(0), 0);
                }
                let word = ld_shared::<u32>(tile(0) + 4 * (31 - i));
                assert!(word == 31 - i || !(before && waits));
            }
        }
    };
    clean(1, kernel(true, true));
    caught(1, race, kernel(false, true));
    caught(1, race, kernel(true, false));
}

#[test]
fn what_never_completes_is_a_deadlock() {
    caught(1, deadlock, alone(|_| wait(bar(0), 0)));
    caught(
        1,
        deadlock,
        alone(|map| {
            mbarrier_arrive_expect_tx(bar(0), BYTES + 16);
            load(map, tile(0), bar(0));
            wait(bar(0), 0);
        }),
    );
    // Bytes are there, the arrival is not.
    caught(
        1,
        deadlock,
        alone(|map| {
            load(map, tile(0), bar(0));
            wait(bar(0), 0);
        }),
    );
    // Too few are expected: the count of bytes passes zero without stopping there.
    caught(
        1,
        |kind| deadlock(kind) || operand(kind),
        alone(|map| {
            mbarrier_arrive_expect_tx(bar(0), BYTES - 16);
            load(map, tile(0), bar(0));
            wait(bar(0), 0);
        }),
    );
}

#[test]
fn misuse_of_mbarriers() {
    type Misuse = (fn(&Kind) -> bool, fn(TensorMap));
    let misuses: &[Misuse] = &[
        // More arrivals than the phase expects, by one that adds no bytes and so ends nothing.
        (operand, |map| {
            mbarrier_arrive_expect_tx(bar(0), BYTES + 16);
            load(map, tile(0), bar(0));
            mbarrier_arrive(bar(0));
        }),
        (operand, |_| mbarrier_init(bar(2), 0)),
        (operand, |_| mbarrier_init(bar(2), 1 << 20)),
        (operand, |_| mbarrier_arrive_expect_tx(bar(0), 1 << 20)),
        (operand, |_| drop(mbarrier_try_wait_parity(bar(0), 2).to_string())),
        (misaligned, |_| mbarrier_init(bar(2) + 4, 1)),
        // What is no mbarrier, or is one already; data on it.
        (operand, |_| {
            st_shared(bar(2), [0u32; 2]);
            mbarrier_arrive(bar(2));
        }),
        (operand, |_| mbarrier_init(bar(0), 1)),
        (operand, |_| st_shared(bar(0), 0u32)),
        (operand, |_| drop(ld_shared::<u32>(bar(0) + 4).to_string())),
    ];
    misuses.iter().for_each(|&(is, kernel)| caught(1, is, alone(kernel)));
    // Others must not use it before they know of it.
    caught(
        1,
        |kind| operand(kind) || early(kind),
        |_| {
            if thread_idx_x() == 0 {
                init(bar(0), &[32]);
            }
            mbarrier_arrive(bar(0));
        },
    );
}

#[test]
fn misuse_of_tensor_copies() {
    let misaligned = |kind: &Kind| matches!(kind, Kind::Misaligned { .. } | Kind::Operand { .. });
    caught(1, misaligned, alone(|map| load(map, tile(0) + 16, bar(0))));
    caught(1, operand, alone(|_| cp_async_bulk_tensor_2d_load(tile(0), &[0; 16], [0, 0], bar(0))));
    caught(1, operand, alone(|map| load(TensorMap { box_dims: [8, 257], ..map }, tile(0), bar(0))));
    caught(1, out_of_bounds, alone(|map| load(map, tile(2) - 128, bar(0))));
    // A map that promises more rows than there are.
    caught(
        1,
        out_of_bounds,
        alone(|map| {
            let map = TensorMap { dims: [8, 17], ..map };
            cp_async_bulk_tensor_2d_load(tile(0), &map.encode(), [0, 1], bar(0));
        }),
    );
    // A store to an input.
    caught(
        1,
        |kind| matches!(kind, Kind::ReadOnly { .. }),
        alone(|map| {
            for at in (0..BYTES).step_by(16) {
                st_shared(tile(0) + at, [0u32; 4]);
            }
            fence_proxy_async_shared();
            cp_async_bulk_tensor_2d_store(&map.encode(), [0, 0], tile(0));
            cp_async_bulk_commit_group();
            cp_async_bulk_wait_group(0);
        }),
    );
}

#[test]
fn initialisation_must_be_fenced_for_copies() {
    let kernel = |fence: u32| {
        move |map| {
            if thread_idx_x() == 0 {
                mbarrier_init(bar(0), 1);
                match fence {
                    0 => fence_mbarrier_init(),
                    1 => fence_proxy_async_shared(),
                    _ => {}
                }
                mbarrier_arrive_expect_tx(bar(0), BYTES);
                load(map, tile(0), bar(0));
                wait(bar(0), 0);
            }
        }
    };
    clean(1, kernel(0));
    clean(1, kernel(1));
    caught(1, proxy, kernel(2));
    // Without copies no fence is needed in the own CTA.
    clean(1, |_| {
        if thread_idx_x() == 0 {
            mbarrier_init(bar(0), 1);
            mbarrier_arrive(bar(0));
            wait(bar(0), 0);
        }
    });
}

/// CTA 1 arrives at a barrier of CTA 0, which waits for it.
fn arrives(fenced: bool, start: bool, stay: bool) -> impl Fn(TensorMap) + Clone + 'static {
    move |_| {
        if thread_idx_x() == 0 {
            mbarrier_init(bar(0), 1);
            if fenced {
                fence_mbarrier_init();
            }
        }
        if start {
            cluster_sync();
        } else {
            bar_sync();
        }
        if thread_idx_x() == 0 {
            if cluster_ctarank() == 1 {
                mbarrier_arrive_cluster(mapa(bar(0), 0));
            } else if stay {
                wait(bar(0), 0);
            }
        }
    }
}

#[test]
fn a_remote_arrival_needs_a_peer_that_has_begun_and_not_ended() {
    // The wait orders the arrival before the end of CTA 0.
    clean(2, arrives(true, true, true));
    caught(2, |kind| proxy(kind) || early(kind), arrives(false, true, true));
    caught(2, |kind| matches!(kind, Kind::NotStarted { peer: 0, .. }), arrives(true, false, true));
    caught(2, departed, arrives(true, true, false));
}

#[test]
fn a_copy_to_a_peer_that_may_have_left() {
    let kernel = |stays: u32| {
        move |_| {
            if thread_idx_x() == 0 {
                init(bar(0), &[1]);
            }
            st_shared(tile(0) + 8 * thread_idx_x(), [1u32, 2]);
            fence_proxy_async_shared();
            cluster_sync();
            if thread_idx_x() == 0 {
                if cluster_ctarank() == 1 {
                    cp_async_bulk_shared_cluster(mapa(tile(1), 0), tile(0), BYTES, mapa(bar(0), 0));
                } else {
                    mbarrier_arrive_expect_tx(bar(0), BYTES);
                    if stays > 0 {
                        wait(bar(0), 0);
                    }
                }
            }
            if stays > 1 {
                cluster_sync();
            }
        }
    };
    clean(2, kernel(2));
    // The receiver has it all, but the sender may have left while it was read there.
    caught(2, not_waited, kernel(1));
    caught(2, |kind| departed(kind) || not_waited(kind), kernel(0));
}

#[test]
fn a_multicast_that_a_peer_does_not_wait_for() {
    let kernel = |waits: bool| {
        move |map: TensorMap| {
            if thread_idx_x() == 0 {
                init(bar(0), &[1]);
            }
            cluster_sync();
            if thread_idx_x() == 0 {
                mbarrier_arrive_expect_tx(bar(0), BYTES);
                if cluster_ctarank() == 0 {
                    cp_async_bulk_tensor_2d_load_multicast(tile(0), &map.encode(), [0, 0], bar(0), 0b11);
                }
                if waits || cluster_ctarank() == 0 {
                    wait(bar(0), 0);
                }
            }
        }
    };
    clean(2, kernel(true));
    caught(2, departed, kernel(false));
}

/// Lane 0 of CTA 1 copies its tile 0 to tile 1 of CTA 0. What else happens to it, and where.
#[derive(Clone, Copy, PartialEq)]
enum Disturbance {
    None,
    /// The source is written without a fence before the copy.
    Unfenced,
    /// The source is written while it is read.
    Source,
    /// The destination is read while it is written.
    Destination,
    /// The destination is written by another copy.
    Twice,
    /// The initialisation of the mbarrier is fenced for the own CTA's copies only.
    InitForCopies,
}

#[test]
fn a_copy_to_a_peer_is_an_access_of_both() {
    let kernel = |disturbance: Disturbance| {
        move |_| {
            let leads = thread_idx_x() == 0;
            if leads {
                mbarrier_init(bar(0), 1);
                if disturbance == Disturbance::InitForCopies {
                    fence_proxy_async_shared();
                } else {
                    fence_mbarrier_init();
                }
            }
            st_shared(tile(0) + 8 * thread_idx_x(), [1u32, 2]);
            if disturbance != Disturbance::Unfenced {
                fence_proxy_async_shared();
            }
            cluster_sync();
            if leads && cluster_ctarank() == 1 {
                let copy = || cp_async_bulk_shared_cluster(mapa(tile(1), 0), tile(0), BYTES, mapa(bar(0), 0));
                copy();
                match disturbance {
                    Disturbance::Source => st_shared(tile(0), 7u32),
                    Disturbance::Twice => copy(),
                    _ => {}
                }
            }
            if leads && cluster_ctarank() == 0 {
                mbarrier_arrive_expect_tx(bar(0), BYTES);
                if disturbance == Disturbance::Destination {
                    let _ = ld_shared::<u32>(tile(1));
                }
                wait(bar(0), 0);
            }
            cluster_sync();
        }
    };
    clean(2, kernel(Disturbance::None));
    caught(2, proxy, kernel(Disturbance::Unfenced));
    caught(2, early, kernel(Disturbance::Source));
    caught(2, early, kernel(Disturbance::Destination));
    caught(2, early, kernel(Disturbance::Twice));
    caught(2, proxy, kernel(Disturbance::InitForCopies));
}

#[test]
fn copies_that_hit_an_mbarrier_or_tell_another_cta_s() {
    // CTA 0 copies to where CTA 1 alone has an mbarrier, or reports to its own what arrives at CTA 1.
    let kernel = |over: bool, multicast: bool| {
        move |map: TensorMap| {
            let leads = thread_idx_x() == 0;
            if leads {
                init(bar(0), &[1]);
                if over && cluster_ctarank() == 1 {
                    init(tile(1) + 8, &[1]);
                }
            }
            st_shared(tile(0) + 8 * thread_idx_x(), [1u32, 2]);
            fence_proxy_async_shared();
            cluster_sync();
            if leads && cluster_ctarank() == 0 {
                if multicast {
                    cp_async_bulk_tensor_2d_load_multicast(tile(1), &map.encode(), [0, 0], bar(0), 0b10);
                } else {
                    let told = mapa(bar(0), if over { 1 } else { 0 });
                    cp_async_bulk_shared_cluster(mapa(tile(1), 1), tile(0), BYTES, told);
                }
            }
            if leads && cluster_ctarank() == 1 {
                mbarrier_arrive_expect_tx(bar(0), BYTES);
                wait(bar(0), 0);
            }
            cluster_sync();
        }
    };
    clean(2, kernel(false, true));
    caught(2, operand, kernel(true, true));
    caught(2, operand, kernel(true, false));
    caught(2, operand, kernel(false, false));
    // In the own CTA.
    caught(1, operand, alone(|map| load(map, dynamic_shared(), bar(1))));
}

/// CTA 1 writes global memory that CTA 0 reads.
#[test]
fn what_does_not_order_the_ctas_of_a_cluster() {
    let write = |x: u64| {
        if cluster_ctarank() == 1 && thread_idx_x() == 0 {
            st_global(x, 1u32);
        }
    };
    for between in 0..3 {
        on_every_schedule(
            |machine| {
                let x = machine.buffer(4);
                let kernel = move || {
                    if thread_idx_x() == 0 {
                        init(bar(0), &[32]);
                    }
                    cluster_sync();
                    match (between, cluster_ctarank()) {
                        (0, _) => {
                            write(x);
                            bar_sync();
                        }
                        // An arrival publishes what comes before it only.
                        (1, _) => {
                            barrier_cluster_arrive();
                            write(x);
                            barrier_cluster_wait();
                        }
                        // A remote arrival publishes no ordinary access.
                        (_, 1) => {
                            write(x);
                            mbarrier_arrive_cluster(mapa(bar(0), 0));
                        }
                        _ => wait(bar(0), 0),
                    }
                    if cluster_ctarank() == 0 {
                        let _ = ld_global::<u32>(x);
                    }
                    cluster_sync();
                };
                ((), vec![Launch::new("kernel", 2, 32, SHARED, kernel).cluster(2)])
            },
            |result, _, ()| assert!(early(&result.unwrap_err().kind)),
        );
    }
}

/// What CTA 1 does with its tile before it says by a remote arrival that CTA 0 may overwrite it.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// A tensor load into it, awaited.
    Loads,
    /// The same, not awaited before the arrival.
    LoadsOn,
    /// The same, awaited, and then a lane reads it.
    Reads,
}

#[test]
fn a_remote_arrival_publishes_completed_asynchronous_operations_only() {
    let kernel = |usage: Use| {
        move |map: TensorMap| {
            let leads = thread_idx_x() == 0;
            if leads {
                init(bar(0), &[1, 1]);
            }
            cluster_sync();
            if leads && cluster_ctarank() == 1 {
                mbarrier_arrive_expect_tx(bar(0), BYTES);
                load(map, tile(0), bar(0));
                if usage != Use::LoadsOn {
                    wait(bar(0), 0);
                }
                if usage == Use::Reads {
                    let _ = ld_shared::<u32>(tile(0));
                    fence_proxy_async_shared();
                }
                mbarrier_arrive_expect_tx(bar(1), BYTES);
                mbarrier_arrive_cluster(mapa(bar(0), 0));
                wait(bar(0), 0);
                wait(bar(1), 0);
            }
            if leads && cluster_ctarank() == 0 {
                wait(bar(0), 0);
                cp_async_bulk_tensor_2d_load_multicast(tile(0), &map.encode(), [0, 0], bar(1), 0b10);
            }
            cluster_sync();
        }
    };
    clean(2, kernel(Use::Loads));
    caught(2, early, kernel(Use::LoadsOn));
    caught(2, early, kernel(Use::Reads));
}

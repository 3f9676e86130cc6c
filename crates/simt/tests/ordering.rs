//! Each rule of ordering both ways: with it a program is clean under every schedule, without it a race under
//! every schedule.

mod common;

use common::{
    caught, clean,
    kinds::{early, race},
    on_every_schedule, races,
};
use fused_lora_simt::{Kind, Launch, Machine, Order, Report, Schedule, ops::*};

/// The lane's own word of shared memory, and that of the lane `n` further in a CTA of `block`.
fn own() -> u32 {
    dynamic_shared() + 4 * thread_idx_x()
}
fn neighbour(n: u32) -> u32 {
    dynamic_shared() + 4 * ((thread_idx_x() + n) % block_dim_x())
}

#[test]
fn program_order() {
    clean(1, 64, |_| {
        st_shared(own(), 1u32);
        st_shared(own(), ld_shared::<u32>(own()) + 1);
    });
}

#[test]
fn bar_sync_orders_the_cta() {
    clean(2, 96, |_| {
        st_shared(own(), 1u32);
        bar_sync();
        let _ = ld_shared::<u32>(neighbour(37));
        bar_sync();
        st_shared(own(), 2u32);
    });
    // Write after read without the second one.
    races(1, 96, |_| {
        st_shared(own(), 1u32);
        bar_sync();
        let _ = ld_shared::<u32>(neighbour(37));
        st_shared(own(), 2u32);
        bar_sync();
        st_shared(own(), 3u32);
    });
    // Write after write, nobody reads.
    races(1, 64, |_| {
        st_shared(own(), 1u32);
        st_shared(neighbour(1), 1u32);
        bar_sync();
    });
}

#[test]
fn bar_sync_does_not_order_other_ctas() {
    races(2, 32, |y| {
        bar_sync();
        if thread_idx_x() == 0 {
            st_global(y, block_idx_x());
        }
        bar_sync();
    });
    clean(2, 32, |y| {
        if thread_idx_x() == 0 {
            st_global(y + 2 * u64::from(block_idx_x()), 1u16);
        }
    });
}

#[test]
fn bar_warp_sync_orders_its_warp_alone() {
    let kernel = |n: u32| {
        move |_: u64| {
            st_shared(own(), 1u32);
            bar_warp_sync();
            let warp = thread_idx_x() / 32 * 32;
            let other = (thread_idx_x() + n) % 32;
            // `n` of 32 and more goes to the next warp.
            let _ = ld_shared::<u32>(dynamic_shared() + 4 * ((warp + n / 32 * 32 + other) % 64));
        }
    };
    clean(1, 64, kernel(5));
    on_every_schedule(1, 64, kernel(32 + 5), |result, _, _| {
        // What the other warp has not written yet is poisoned, and else a race.
        let kind = result.unwrap_err().kind;
        assert!(early(&kind), "{kind}");
    });
}

#[test]
fn lockstep_orders_nothing() {
    // mma makes the lanes of a warp meet, and yet.
    races(1, 32, |_| {
        st_shared(own(), 1u32);
        let _ = mma_m16n8k16_f16([0; 4], [0; 2], [0.0; 4]);
        let _ = ld_shared::<u32>(neighbour(1));
    });
    races(1, 32, |_| {
        let cell = dynamic_shared() + 16 * thread_idx_x();
        st_shared(cell, [1u32; 4]);
        let _ = ldmatrix_x4(cell);
    });
    clean(1, 32, |_| {
        let cell = dynamic_shared() + 16 * thread_idx_x();
        st_shared(cell, [1u32; 4]);
        bar_warp_sync();
        let _ = ldmatrix_x4(cell);
        bar_warp_sync();
        st_shared(cell, [2u32; 4]);
    });
    // An overwrite while other lanes of the warp may still be at ldmatrix.
    races(1, 32, |_| {
        let cell = dynamic_shared() + 16 * thread_idx_x();
        st_shared(cell, [1u32; 4]);
        bar_warp_sync();
        let _ = ldmatrix_x4(cell);
        st_shared(cell, [2u32; 4]);
    });
}

#[test]
fn what_was_published_before_a_second_ldmatrix_does_not_cover_it() {
    let fill = || {
        st_shared(dynamic_shared() + 16 * thread_idx_x(), [1u32; 4]);
        bar_sync();
    };
    let load = || {
        let _ = ldmatrix_x4(dynamic_shared() + 16 * (thread_idx_x() % 32));
    };
    // Published to the other warp by bar.sync,
    races(1, 64, move |_| {
        fill();
        let first = thread_idx_x() < 32;
        if first {
            load();
        }
        bar_sync();
        if first {
            load();
        } else if thread_idx_x() == 40 {
            st_shared(dynamic_shared(), 2u32);
        }
    });
    // by the release of each lane,
    let kernel = |again: bool| {
        move |y: u64| {
            fill();
            if thread_idx_x() < 32 {
                load();
                red_add_release_gpu(y, 1);
                if again {
                    load();
                }
            } else if thread_idx_x() == 40 {
                while ld_acquire_gpu(y) < 32 {}
                st_shared(dynamic_shared(), 2u32);
            }
        }
    };
    clean(1, 64, kernel(false));
    races(1, 64, kernel(true));
    // to lanes of the same warp by bar.warp.sync.
    races(1, 32, move |_| {
        fill();
        load();
        bar_warp_sync();
        load();
        if thread_idx_x() == 3 {
            st_shared(dynamic_shared(), 2u32);
        }
    });
}

/// CTA 0 writes data, CTA 1 waits for a flag and reads it; what is missing is as said.
fn message(
    release: impl Fn(u64) + Copy + 'static,
    acquire: impl Fn(u64) + Copy + 'static,
) -> impl Fn(u64) + Clone {
    move |y| {
        if block_idx_x() == 0 {
            st_global(y + 64 + 4 * u64::from(thread_idx_x()), 5u32);
            bar_sync();
            if thread_idx_x() == 0 {
                release(y);
            }
        } else {
            if thread_idx_x() == 0 {
                acquire(y);
            }
            bar_sync();
            let data = ld_global::<u32>(y + 64 + 4 * u64::from(31 - thread_idx_x()));
            st_global(y + 256 + 4 * u64::from(thread_idx_x()), data);
        }
    }
}

fn poll(y: u64) {
    while ld_acquire_gpu(y) == 0 {}
}

/// Runs CTAs of a warp on a KiB of zeros, whose words from 256 on `check` gets. On fewer slots the waiting
/// CTA must not come first.
fn on_slots(ctas: u32, kernel: impl Fn(u64) + Clone + 'static, check: impl Fn(Result<Vec<u32>, Report>)) {
    for schedule in Schedule::standard(21) {
        let order = if schedule.slots < ctas as usize { Order::Ascending } else { schedule.order };
        let mut machine = Machine::new();
        let y = machine.buffer(1024);
        machine.write(y, &[0u8; 1024]).unwrap();
        let kernel = kernel.clone();
        let result = common::run(&mut machine, &Schedule { order, ..schedule }, ctas, 32, move || kernel(y));
        let data = machine.read(y + 256, 32).unwrap();
        check(result.map(|_| data));
    }
}

fn on_two_slots(kernel: impl Fn(u64) + Clone + 'static, check: impl Fn(Result<Vec<u32>, Kind>)) {
    on_slots(2, kernel, |result| check(result.map_err(|report| report.kind)));
}

fn is_race(result: Result<Vec<u32>, Kind>) {
    assert!(matches!(result, Err(Kind::Race { .. })), "{result:?}");
}

#[test]
fn release_and_acquire_pass_a_message() {
    on_two_slots(message(|y| red_add_release_gpu(y, 1), poll), |data| assert_eq!(data.unwrap(), [5; 32]));
}

#[test]
fn neither_alone_passes_it() {
    // A relaxed store in place of the release.
    on_two_slots(message(|y| st_relaxed_gpu(y, 1), poll), is_race);
    // A relaxed read-modify-write.
    on_two_slots(
        message(
            |y| {
                let _ = atom_inc_relaxed_gpu(y, 1);
            },
            poll,
        ),
        is_race,
    );
    // The release, but what reads it is relaxed.
    on_two_slots(
        message(|y| red_add_release_gpu(y, 1), |y| while atom_inc_relaxed_gpu(y, 0) == 0 {}),
        |result| {
            // The counter goes back to 0 with each look, so that it may be seen once.
            is_race(result);
        },
    );
    // A weak read races with the flag itself.
    on_two_slots(
        message(
            |y| red_add_release_gpu(y, 1),
            |y| {
                let _ = ld_global::<u32>(y);
            },
        ),
        is_race,
    );
}

#[test]
fn a_chain_of_read_modify_writes_passes_all_that_were_released() {
    let kernel = |relaxed: bool| {
        move |y: u64| {
            if block_idx_x() < 3 {
                if thread_idx_x() == 0 {
                    st_global(y + 64 + 4 * u64::from(block_idx_x()), 7u32);
                    if relaxed && block_idx_x() == 1 {
                        let _ = atom_inc_relaxed_gpu(y, u32::MAX);
                    } else {
                        red_add_release_gpu(y, 1);
                    }
                }
            } else if thread_idx_x() == 0 {
                while ld_acquire_gpu(y) < 3 {}
                for i in 0..3 {
                    assert_eq!(ld_global::<u32>(y + 64 + 4 * i), 7);
                }
            }
        }
    };
    for relaxed in [false, true] {
        on_slots(4, kernel(relaxed), |result| match result {
            Ok(_) => assert!(!relaxed),
            // CTA 1 alone did not release; its relaxed link hands on what the others did.
            Err(report) => {
                let Kind::Race { other, .. } = &report.kind else { panic!("{report}") };
                assert!(relaxed && other.cta == 1, "{report}");
            }
        });
    }
}

#[test]
fn a_relaxed_store_breaks_the_chain() {
    let kernel = |store: bool| {
        move |y: u64| match thread_idx_x() {
            0 => {
                st_global(y + 64, 7u32);
                red_add_release_gpu(y, 1);
            }
            32 => {
                // After it has seen the release, so that it certainly follows it.
                while ld_acquire_gpu(y) == 0 {}
                if store {
                    st_relaxed_gpu(y, 2);
                }
                st_relaxed_gpu(y + 4, 1);
            }
            33 => {
                // Seeing this orders nothing, but is later than the store.
                while ld_acquire_gpu(y + 4) == 0 {}
                let _ = ld_acquire_gpu(y);
                let _ = ld_global::<u32>(y + 64);
            }
            _ => {}
        }
    };
    clean(1, 64, kernel(false));
    races(1, 64, kernel(true));
}

#[test]
fn what_is_done_after_a_release_is_not_released() {
    on_two_slots(
        |y| {
            if thread_idx_x() == 0 {
                if block_idx_x() == 0 {
                    red_add_release_gpu(y, 1);
                    st_global(y + 64, 1u32);
                } else {
                    poll(y);
                    st_global(y + 64, 2u32);
                }
            }
        },
        is_race,
    );
}

#[test]
fn a_release_hands_on_what_was_acquired() {
    // 0 → 1 → 2, each with its own flag.
    let kernel = |y| {
        if thread_idx_x() == 0 {
            match block_idx_x() {
                0 => {
                    st_global(y + 64, 1u32);
                    red_add_release_gpu(y, 1);
                }
                1 => {
                    poll(y);
                    red_add_release_gpu(y + 4, 1);
                }
                _ => {
                    poll(y + 4);
                    assert_eq!(ld_global::<u32>(y + 64), 1);
                }
            }
        }
    };
    on_slots(3, kernel, |result| drop(result.unwrap()));
}

#[test]
fn releases_of_several_lanes_of_a_cta_add_up() {
    // Neither lane knows of the other. Through one flag, and through one each.
    for apart in [0, 4] {
        on_two_slots(
            move |y| {
                let lane = u64::from(thread_idx_x());
                if block_idx_x() == 0 {
                    if lane < 2 {
                        st_global(y + 64 + 4 * lane, 7u32);
                        red_add_release_gpu(y + apart * lane, 1);
                    }
                } else if lane == 0 {
                    while ld_acquire_gpu(y) + if apart > 0 { ld_acquire_gpu(y + apart) } else { 0 } < 2 {}
                    st_global(y + 256, ld_global::<u32>(y + 64) + ld_global::<u32>(y + 68));
                }
            },
            |data| assert_eq!(data.unwrap()[0], 14),
        );
    }
}

#[test]
fn strong_accesses_do_not_race_with_each_other_but_with_weak_ones() {
    clean(3, 32, |y| {
        let _ = ld_acquire_gpu(y);
        st_relaxed_gpu(y, 1);
        let _ = atom_inc_relaxed_gpu(y, 5);
        red_add_release_gpu(y, 1);
    });
    races(1, 32, |y| {
        if thread_idx_x() == 0 {
            st_relaxed_gpu(y, 1);
        } else {
            let _ = ld_global::<u32>(y);
        }
    });
    races(1, 32, |y| {
        if thread_idx_x() == 0 {
            st_global(y, 1u32);
        } else {
            let _ = ld_acquire_gpu(y);
        }
    });
    // A strong access does not hide an earlier weak one from another strong one that is ordered after
    // neither.
    let load = |y| drop(ld_acquire_gpu(y).to_string());
    let store = |y| st_relaxed_gpu(y, 1);
    let weak_load = |y| drop(ld_global::<u32>(y).to_string());
    let weak_store = |y| st_global(y, 1u32);
    let cases: [[fn(u64); 3]; 3] =
        [[weak_store, store, load], [weak_load, load, store], [weak_load, store, store]];
    for [weak, strong, other] in cases {
        races(2, 64, move |y| {
            if block_idx_x() == 1 {
                return other(y);
            }
            if thread_idx_x() == 0 {
                weak(y);
            }
            bar_sync();
            if thread_idx_x() == 32 {
                strong(y);
            }
        });
    }
    // A strong write does not hide an earlier one of somebody else from a weak read that is ordered after it
    // alone.
    races(1, 32, |y| match thread_idx_x() {
        0 => st_relaxed_gpu(y, 1),
        1 => {
            while ld_acquire_gpu(y) == 0 {}
            red_add_release_gpu(y, 1);
        }
        2 => {
            while ld_acquire_gpu(y) != 2 {}
            let _ = ld_global::<u32>(y);
        }
        _ => {}
    });
}

#[test]
fn races_are_found_byte_by_byte() {
    // Neighbouring halves of a word by different lanes, then whole words.
    clean(1, 64, |y| {
        st_global(y + 2 * u64::from(thread_idx_x()), 1u16);
        bar_sync();
        let _ = ld_global::<[u32; 4]>(y + 16 * u64::from(thread_idx_x() % 8));
    });
    races(1, 64, |y| {
        if thread_idx_x() == 0 {
            st_global(y + 6, 1u16);
        } else if thread_idx_x() == 40 {
            let _ = ld_global::<[u32; 4]>(y);
        }
    });
}

#[test]
fn a_copy_is_for_its_lane_after_the_wait_and_for_others_after_a_barrier() {
    let kernel = |wait: bool, barrier: bool, other: bool| {
        move |y: u64| {
            let cell = |lane: u32| dynamic_shared() + 16 * lane;
            st_shared(cell(thread_idx_x()), [0u32; 4]);
            bar_sync();
            cp_async_16(cell(thread_idx_x()), y, 16);
            cp_async_commit_group();
            if wait {
                cp_async_wait_group(0);
            }
            if barrier {
                bar_sync();
            }
            let lane = if other { (thread_idx_x() + 1) % 64 } else { thread_idx_x() };
            let _ = ld_shared::<u32>(cell(lane));
            cp_async_wait_group(0);
        }
    };
    clean(1, 64, kernel(true, false, false));
    clean(1, 64, kernel(true, true, true));
    races(1, 64, kernel(true, false, true));
    races(1, 64, kernel(false, true, false));
    races(1, 64, kernel(false, true, true));
}

#[test]
fn a_slot_is_not_overwritten_while_a_copy_or_a_reader_is_under_way() {
    // Two copies of one group, and of two groups under way, to the same bytes.
    for commits in [false, true] {
        races(1, 32, move |y| {
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), y, 16);
                if commits {
                    cp_async_commit_group();
                }
                cp_async_16(dynamic_shared(), y + 16, 16);
                cp_async_commit_group();
                cp_async_wait_group(0);
            }
        });
    }
    // A store into a copy's target.
    races(1, 32, |y| {
        if thread_idx_x() == 0 {
            cp_async_16(dynamic_shared(), y, 16);
            st_shared(dynamic_shared() + 4, 1u32);
            cp_async_commit_group();
            cp_async_wait_group(0);
        }
    });
    // A copy over what another lane reads, with a barrier before the read only.
    let kernel = |second: bool| {
        move |y: u64| {
            if thread_idx_x() == 0 {
                st_shared(dynamic_shared(), [1u32; 4]);
            }
            bar_sync();
            if thread_idx_x() == 33 {
                let _ = ld_shared::<u32>(dynamic_shared());
            }
            if second {
                bar_sync();
            }
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), y, 16);
                cp_async_commit_group();
                cp_async_wait_group(0);
            }
        }
    };
    clean(1, 64, kernel(true));
    // The read may come first or second; either way they race.
    races(1, 64, kernel(false));
}

#[test]
fn the_source_of_a_copy_must_not_change_under_it() {
    let kernel = |wait: bool| {
        move |y: u64| {
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), y, 16);
                cp_async_commit_group();
                if wait {
                    cp_async_wait_group(0);
                }
                st_global(y + 12, 1u32);
                cp_async_wait_group(0);
            }
        }
    };
    clean(1, 32, kernel(true));
    races(1, 32, kernel(false));
    // Beyond the bytes that it reads, it may.
    clean(1, 32, |y| {
        if thread_idx_x() == 0 {
            cp_async_16(dynamic_shared(), y, 12);
            cp_async_commit_group();
            st_global(y + 12, 1u32);
            cp_async_wait_group(0);
        }
    });
}

#[test]
fn a_release_after_the_wait_publishes_a_copy_s_end() {
    // The source is overwritten by another CTA, told by a flag that the copy is done.
    let kernel = |wait_first: bool| {
        move |y: u64| {
            if thread_idx_x() != 0 {
                return;
            }
            if block_idx_x() == 0 {
                cp_async_16(dynamic_shared(), y + 64, 16);
                cp_async_commit_group();
                if wait_first {
                    cp_async_wait_group(0);
                }
                red_add_release_gpu(y, 1);
                cp_async_wait_group(0);
            } else {
                poll(y);
                st_global(y + 64, 1u32);
            }
        }
    };
    on_two_slots(kernel(true), |result| assert!(result.is_ok(), "{result:?}"));
    on_two_slots(kernel(false), is_race);
}

#[test]
fn launches_beside_each_other_race_and_one_after_the_other_do_not() {
    for schedule in Schedule::standard(21) {
        let mut machine = Machine::new();
        let y = machine.buffer(128);
        let launch = |name: &str| {
            Launch::new(name, 2, 32, 0, move || {
                if block_idx_x() == 0 {
                    st_global(y + 4 * u64::from(thread_idx_x()), 1u32);
                }
            })
        };
        let report = machine.run(&[launch("one"), launch("two")], &schedule).unwrap_err();
        let Kind::Race { other, .. } = &report.kind else { panic!("{report}") };
        // The other's name is not this one's.
        assert_ne!(other.kernel.as_str(), &*report.kernel);
        machine.run(&[launch("one")], &schedule).unwrap();
        machine.run(&[launch("two")], &schedule).unwrap();
        assert_eq!(machine.read::<u32>(y, 32).unwrap(), [1; 32]);
    }
}

#[test]
fn launches_beside_each_other_with_their_own_memory_are_clean() {
    for schedule in Schedule::standard(21) {
        let mut machine = Machine::new();
        let x = machine.input(&(0..64u32).collect::<Vec<_>>());
        let mut launch = |block: u32| {
            let y = machine.buffer(256);
            let kernel = move || {
                let i = u64::from(block_idx_x() * block_dim_x() + thread_idx_x());
                if i < 64 {
                    st_shared(own(), ld_global::<u32>(x + 4 * i));
                    st_global(y + 4 * i, ld_shared::<u32>(own()));
                }
            };
            (y, Launch::new("copy", 4, block, 4096, kernel))
        };
        let ((y1, one), (y2, two)) = (launch(32), launch(96));
        machine.run(&[one, two], &schedule).unwrap();
        assert_eq!(machine.read::<u32>(y1, 64).unwrap(), machine.read::<u32>(y2, 64).unwrap());
    }
}

#[test]
fn a_race_that_the_schedule_hides_in_time_is_found() {
    // One slot, ascending: CTA 1 starts after CTA 0 has ended, and yet nothing orders them.
    let mut machine = Machine::new();
    let y = machine.buffer(4);
    let schedule = Schedule { slots: 1, order: Order::Ascending, preempt: 0.0, ..Schedule::default() };
    let result = common::run(&mut machine, &schedule, 2, 32, move || {
        if thread_idx_x() == 0 {
            st_global(y, block_idx_x());
        }
    });
    let report = result.unwrap_err();
    assert!(matches!(report.kind, Kind::Race { .. }) && report.cta == 1, "{report}");
    caught(1, 64, race, |y| {
        if thread_idx_x() == 0 || thread_idx_x() == 63 {
            st_global(y, 1u16);
        }
    });
}

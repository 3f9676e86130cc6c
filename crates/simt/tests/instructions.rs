//! What single instructions of `ops` do, besides giving the values that PTX does too. (For those see
//! `tests/instructions` of the workspace.)

mod common;

use common::{
    caught, clean,
    kinds::{divergence, early, race},
    on_every_schedule, run,
};
use fused_lora_simt::{Asynchrony, Kind, Machine, Schedule, ops::*};

#[test]
fn atom_inc_counts_up_to_last_and_back_to_zero() {
    on_every_schedule(
        1,
        32,
        |y| {
            if thread_idx_x() == 0 {
                for i in 0..8 {
                    st_global(y + 16 + 4 * i, atom_inc_relaxed_gpu(y, 2));
                }
                // Beyond `last` it goes back to 0, too.
                st_relaxed_gpu(y + 4, 9);
                st_global(y + 8, atom_inc_relaxed_gpu(y + 4, 2));
            }
        },
        |result, machine, y| {
            assert_eq!(result.unwrap().atomics, 9);
            assert_eq!(machine.read::<u32>(y, 12).unwrap(), [2, 0, 9, 0, 0, 1, 2, 0, 1, 2, 0, 1]);
        },
    );
}

#[test]
fn each_atom_inc_gives_another_ticket_and_red_adds_up() {
    on_every_schedule(
        4,
        32,
        |y| {
            let ticket = atom_inc_relaxed_gpu(y, 127);
            st_global(y + 16 + 4 * u64::from(ticket), 1u32);
            red_add_release_gpu(y + 4, ticket);
            red_add_release_gpu(y + 8, u32::MAX);
        },
        |result, machine, y| {
            result.unwrap();
            // 128 tickets: the counter is back at 0; 128 times −1 wraps.
            assert_eq!(machine.read::<u32>(y, 3).unwrap(), [0, 127 * 64, 0u32.wrapping_sub(128)]);
            assert_eq!(machine.read::<u32>(y + 16, 128).unwrap(), [1; 128]);
        },
    );
}

#[test]
fn values_that_a_warp_makes_together() {
    clean(1, 64, |_| {
        let lane = thread_idx_x();
        for mask in 0..32 {
            assert_eq!(shfl_bfly(lane, mask), lane ^ mask);
        }
        // Only five bits count, and each lane may have its own.
        assert_eq!(shfl_bfly(100 + lane, 32 + 1), 100 + (lane ^ 1));
        let mask = lane % 3;
        assert_eq!(shfl_bfly(lane, mask), lane ^ mask);
        // 16 products of 1 and 2, and 1.
        assert_eq!(mma_m16n8k16_f16([0x3c00_3c00; 4], [0x4000_4000; 2], [1.0; 4]), [33.0; 4]);
        let row = dynamic_shared() + 16 * lane;
        st_shared(row, [lane; 4]);
        bar_warp_sync();
        let own = lane % 32;
        assert_eq!(ldmatrix_x4(row), [0, 8, 16, 24].map(|first| lane - own + first + own / 4));
    });
}

#[test]
fn shfl_is_for_all_lanes_of_the_warp() {
    caught(1, 32, divergence, |_| {
        if thread_idx_x() != 7 {
            let _ = shfl_bfly(1, 1);
        }
    });
    // On another line is another instruction.
    caught(1, 32, divergence, |_| {
        if thread_idx_x() < 16 {
            let _ = shfl_bfly(1, 1);
        } else {
            let _ = shfl_bfly(1, 2);
        }
    });
}

#[test]
fn shfl_orders_nothing() {
    caught(1, 32, early, |_| {
        let at = dynamic_shared() + 4 * thread_idx_x();
        st_shared(at, 1u32);
        let _ = shfl_bfly(1, 1);
        let _ = ld_shared::<u32>(at ^ 4);
    });
}

/// What a schedule of this seed makes of some inputs.
fn approximated(seed: u64, function: fn(f32) -> f32, inputs: &'static [f32]) -> Vec<f32> {
    let mut machine = Machine::new();
    let y = machine.buffer(4 * inputs.len());
    let schedule = Schedule { seed, ..Schedule::default() };
    run(&mut machine, &schedule, 1, 32, move || {
        if thread_idx_x() == 0 {
            for (i, &x) in inputs.iter().enumerate() {
                st_global(y + 4 * i as u64, function(x).to_bits());
                assert_eq!(function(x).to_bits(), function(x).to_bits());
            }
        }
    })
    .unwrap();
    machine.read::<f32>(y, inputs.len()).unwrap()
}

#[test]
fn approximations_keep_to_the_tables_of_the_manual() {
    const INF: f32 = f32::INFINITY;
    const SMALL: f32 = 1e-40;
    for seed in 0..8 {
        let ex2 =
            approximated(seed, ex2_approx, &[-INF, -0.0, 0.0, SMALL, -SMALL, INF, f32::NAN, 128.0, -127.0]);
        assert_eq!(ex2[..6], [0.0, 1.0, 1.0, 1.0, 1.0, INF]);
        assert!(ex2[6].is_nan() && ex2[7..] == [INF, 0.0]);
        let rcp = approximated(seed, rcp_approx, &[-INF, -0.0, 0.0, SMALL, -SMALL, INF, f32::NAN, 1.5e38]);
        assert_eq!(rcp[..6], [0.0, -INF, INF, INF, -INF, 0.0]);
        assert!(rcp[0].is_sign_negative() && rcp[6].is_nan() && rcp[7] == 0.0);
        let rsqrt = approximated(seed, rsqrt_approx, &[-INF, -1.0, -0.0, 0.0, SMALL, INF, f32::NAN]);
        assert_eq!(rsqrt[2..6], [-INF, INF, INF, 0.0]);
        assert!([0, 1, 6].iter().all(|&i| rsqrt[i].is_nan()));
    }
}

#[test]
fn the_seed_decides_what_is_approximated() {
    const INPUTS: &[f32] = &[0.3, 0.7, 1.3, 2.9, 3.3, 11.2, 12.7, 100.1];
    type Approximation = (fn(f32) -> f32, fn(f64) -> f64, f64);
    let exact: [Approximation; 3] = [
        (ex2_approx, f64::exp2, 2.5),
        (rcp_approx, |x| 1.0 / x, 1.0),
        (rsqrt_approx, |x| 1.0 / x.sqrt(), 2.0 * 1.072),
    ];
    for (function, exact, ulps) in exact {
        let errors = |seed| -> Vec<f64> {
            let values = approximated(seed, function, INPUTS);
            let error = |(&x, &y): (&f32, &f32)| {
                let exact = exact(f64::from(x));
                let ulp = 2f64.powi(exact.log2().floor() as i32 - 23);
                (f64::from(y) - exact) / ulp
            };
            INPUTS.iter().zip(&values).map(error).collect()
        };
        assert!((0..24).all(|seed| errors(seed).iter().all(|error| error.abs() <= ulps)));
        assert!(errors(0).iter().all(|error| error.abs() <= 0.5));
        assert!(errors(1).iter().all(|&error| error < 0.0) && errors(2).iter().all(|&error| error > 0.0));
        assert!(errors(1).iter().chain(&errors(2)).any(|error| error.abs() > 0.75));
        assert_ne!(errors(3), errors(7));
    }
}

#[test]
fn ldmatrix_counts_bank_conflicts() {
    // Bytes between rows, and turns beyond the first for each of 4 matrices of 8 rows.
    for (stride, conflicts) in [(16, 0), (128, 4 * 7), (64, 4 * 3), (32, 4), (144, 0), (0, 0)] {
        let mut machine = Machine::new();
        let launch = fused_lora_simt::Launch::new("rows", 1, 32, 8192, move || {
            let lane = thread_idx_x();
            for i in 0..8 {
                st_shared(dynamic_shared() + 16 * (lane + 32 * i), [0u32; 4]);
                st_shared(dynamic_shared() + 4096 + 16 * (lane + 32 * i), [0u32; 4]);
            }
            bar_warp_sync();
            let _ = ldmatrix_x4(dynamic_shared() + stride * lane);
        });
        let stats = machine.run(&[launch], &Schedule::default()).unwrap();
        assert_eq!(stats.ldmatrix_conflicts, conflicts, "{stride}");
    }
}

#[test]
fn cp_async_reads_only_its_bytes_up_to_the_end_of_memory() {
    let copy = |bytes: u32| {
        let mut machine = Machine::new();
        let x = machine.input(&[1u8; 24]);
        // Nothing is read for 0 bytes, so that any address will do.
        let from = if bytes == 0 { 7 } else { x + 16 };
        run(&mut machine, &Schedule::default(), 1, 32, move || {
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), from, bytes);
                cp_async_commit_group();
                cp_async_wait_group(0);
            }
        })
    };
    copy(0).unwrap();
    copy(8).unwrap();
    assert!(matches!(copy(9).unwrap_err().kind, Kind::OutOfBounds { .. }));
    assert!(matches!(copy(17).unwrap_err().kind, Kind::Operand { .. }));
}

#[test]
fn wait_group_leaves_the_newest_groups_under_way() {
    // Three groups, the second empty, are under way: with 2 pending the first is complete, with 1 the second,
    // too.
    let kernel = |pending: u32, read: u32| {
        move |y: u64| {
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), y, 16);
                cp_async_commit_group();
                cp_async_commit_group();
                cp_async_16(dynamic_shared() + 16, y + 16, 16);
                cp_async_commit_group();
                cp_async_wait_group(pending);
                let _ = ld_shared::<u32>(dynamic_shared() + 16 * read);
                cp_async_wait_group(0);
            }
        }
    };
    clean(1, 32, kernel(0, 0));
    clean(1, 32, kernel(0, 1));
    clean(1, 32, kernel(1, 0));
    clean(1, 32, kernel(2, 0));
    caught(1, 32, race, kernel(3, 0));
    caught(1, 32, race, kernel(1, 1));
}

#[test]
fn copies_that_are_not_committed_are_in_no_group() {
    caught(1, 32, race, |y| {
        if thread_idx_x() == 0 {
            cp_async_16(dynamic_shared(), y, 16);
            cp_async_wait_group(0);
            let _ = ld_shared::<u32>(dynamic_shared());
        }
    });
    caught(
        1,
        32,
        |kind| matches!(kind, Kind::NotWaited { copies: 2 }),
        |y| {
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), y, 16);
                cp_async_commit_group();
                cp_async_wait_group(1);
                cp_async_16(dynamic_shared() + 16, y, 16);
            }
        },
    );
}

#[test]
fn cp_async_counts_bank_conflicts_by_quarter_warps() {
    // Bytes between targets, and turns beyond the first of two instructions with four quarters each.
    for (stride, conflicts) in [(16, 0), (32, 8), (64, 8 * 3), (128, 8 * 7), (48, 0)] {
        let mut machine = Machine::new();
        let x = machine.input(&[0u32; 4]);
        let stats = machine
            .run(
                &[fused_lora_simt::Launch::new("copies", 1, 64, 16384, move || {
                    if thread_idx_x() < 32 {
                        for i in 0..2 {
                            cp_async_16(dynamic_shared() + stride * thread_idx_x() + 8192 * i, x, 16);
                        }
                        cp_async_commit_group();
                        cp_async_wait_group(0);
                    }
                })],
                &Schedule { preempt: 0.5, ..Schedule::default() },
            )
            .unwrap();
        assert_eq!(stats.cp_async_conflicts, conflicts, "{stride}");
    }
}

#[test]
fn the_schedule_decides_when_copies_move_data() {
    let run_with = |asynchrony| {
        let mut machine = Machine::new();
        let x = machine.input(&(0..512u32).collect::<Vec<_>>());
        let schedule = Schedule { asynchrony, preempt: 0.5, ..Schedule::default() };
        let stats = run(&mut machine, &schedule, 1, 32, move || {
            let at = 64 * thread_idx_x();
            for i in 0..4 {
                cp_async_16(dynamic_shared() + at + 16 * i, x + u64::from(at + 16 * i), 16);
            }
            cp_async_commit_group();
            cp_async_wait_group(0);
            assert_eq!(ld_shared::<u32>(dynamic_shared() + at), at / 4);
        })
        .unwrap();
        assert_eq!(stats.cp_async, 128);
        (stats.copies_at_issue, stats.copies_at_wait)
    };
    assert_eq!(run_with(Asynchrony::Early), (128, 0));
    assert_eq!(run_with(Asynchrony::Late), (0, 128));
    // Late is as late as can be: a wait does not move the data of groups that it leaves under way.
    let mut machine = Machine::new();
    let x = machine.input(&[0u32; 8]);
    let schedule = Schedule { asynchrony: Asynchrony::Late, ..Schedule::default() }.abort_after(5);
    let result = run(&mut machine, &schedule, 1, 32, move || {
        if thread_idx_x() == 0 {
            for i in 0..2 {
                cp_async_16(dynamic_shared() + 16 * i, x, 16);
                cp_async_commit_group();
            }
            cp_async_wait_group(1);
            cp_async_wait_group(0);
        }
    });
    assert!(matches!(result.unwrap_err().kind, Kind::Aborted { instructions: 5 }));
    assert_eq!(machine.last_stats().copies_at_wait, 1);
    // Some when the lane waits, some before.
    let (at_issue, at_wait) = run_with(Asynchrony::Random);
    assert!(at_issue > 0 && at_wait > 0 && at_issue + at_wait < 128, "{at_issue}, {at_wait}");
}

#[test]
fn barriers_are_counted_once_for_all_lanes() {
    let mut machine = Machine::new();
    let stats = run(&mut machine, &Schedule::default(), 2, 64, || {
        bar_sync();
        bar_warp_sync();
    })
    .unwrap();
    assert_eq!(stats.barriers, 2 * (1 + 2));
}

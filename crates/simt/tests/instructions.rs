//! Each instruction against the PTX manual.

mod common;

use common::{
    caught, clean,
    kinds::{divergence, early, race},
    on_every_schedule, run,
};
use fused_lora_simt::{Asynchrony, Kind, Machine, Schedule, ops::*};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

#[test]
fn special_registers() {
    let mut machine = Machine::new();
    let y = machine.buffer(3 * 64 * 16);
    run(&mut machine, &Schedule::default(), 3, 64, move || {
        let i = block_idx_x() * block_dim_x() + thread_idx_x();
        let registers = [thread_idx_x(), block_idx_x(), block_dim_x(), grid_dim_x()];
        st_global(y + 16 * u64::from(i), registers);
    })
    .unwrap();
    let expected: Vec<_> = (0..3 * 64).map(|i| [i % 64, i / 64, 64, 3]).collect();
    assert_eq!(machine.read::<[u32; 4]>(y, 3 * 64).unwrap(), expected);
}

#[test]
fn cvt_rounds_to_nearest_even_overflows_to_infinity_and_keeps_nan() {
    let halves = |packed: u32| [packed as u16, (packed >> 16) as u16].map(f16_to_f32);
    assert_eq!(pack_f16x2(1.0, -2.0), 0xc000_3c00);
    // Ties: 1 + 2⁻¹¹ is halfway to 1 + 2⁻¹⁰, 1 + 3 · 2⁻¹¹ halfway to 1 + 2⁻⁹.
    assert_eq!(halves(pack_f16x2(1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0)), [1.0, 1.0 + 1.0 / 512.0]);
    assert_eq!(halves(pack_f16x2(65519.99, 65520.0)), [65504.0, f32::INFINITY]);
    assert_eq!(halves(pack_f16x2(f32::NEG_INFINITY, -1e30)), [f32::NEG_INFINITY; 2]);
    assert!(halves(pack_f16x2(f32::NAN, -f32::NAN)).iter().all(|value| value.is_nan()));
    // Subnormals, down to half of the smallest, which is even 0.
    assert_eq!(halves(pack_f16x2(2f32.powi(-24), 2f32.powi(-25))), [2f32.powi(-24), 0.0]);
    assert!((0..=u16::MAX).all(|bits| {
        let value = f16_to_f32(bits);
        value.is_nan() || pack_f16x2(value, 0.0) as u16 == bits
    }));
}

#[test]
fn loads_and_stores_of_each_width() {
    on_every_schedule(
        1,
        32,
        |y| {
            let shared = dynamic_shared();
            assert!(shared != 0 && shared.is_multiple_of(1024));
            if thread_idx_x() == 0 {
                st_global(y, [1u32, 2, 3, 4]);
                st_global(y + 8, 0x1234u16);
                st_shared(shared, ld_global::<[u32; 4]>(y));
                st_shared(shared + 4, 7u32);
                st_global(y + 16, ld_shared::<[u32; 4]>(shared));
                st_global(y + 32, u32::from(ld_global::<u16>(y + 24)) + ld_shared::<u32>(shared + 12));
            }
        },
        |result, machine, y| {
            result.unwrap();
            assert_eq!(machine.read::<u32>(y, 9).unwrap(), [1, 2, 0x1234, 4, 1, 7, 0x1234, 4, 0x1238]);
        },
    );
}

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
fn ldmatrix_gives_each_lane_two_neighbours_of_a_row_of_each_matrix() {
    on_every_schedule(
        1,
        64,
        |y| {
            // Element e of row r is 16 r + e, as u16; matrix i, row r lies anywhere: here at row 5 (8 i + r) mod 32.
            let (thread, lane) = (thread_idx_x(), thread_idx_x() % 32);
            let row = |r: u32| dynamic_shared() + 16 * (5 * r % 32);
            if thread < 32 {
                let pair = |e: u32| (16 * lane + 2 * e) | (16 * lane + 2 * e + 1) << 16;
                st_shared(row(lane), [pair(0), pair(1), pair(2), pair(3)]);
            }
            bar_sync();
            let registers = ldmatrix_x4(row(lane));
            for (i, register) in (0..).zip(registers) {
                let first = 16 * (8 * i + lane / 4) + 2 * (lane % 4);
                assert_eq!(register, first | (first + 1) << 16);
            }
            st_global(y + 16 * u64::from(thread), registers);
        },
        |result, _, _| {
            let stats = result.unwrap();
            assert_eq!(stats.ldmatrix, 2);
            // Rows of 16 bytes one after the other, in some order of 8 that differ mod 8.
            assert_eq!(stats.ldmatrix_conflicts, 0);
        },
    );
}

#[test]
fn ldmatrix_trans_gives_each_lane_two_neighbours_of_a_column_of_each_matrix() {
    on_every_schedule(
        1,
        32,
        |_| {
            // Element e of row r is 16 r + e, as u16.
            let lane = thread_idx_x();
            let pair = |e: u32| (16 * lane + 2 * e) | (16 * lane + 2 * e + 1) << 16;
            st_shared(dynamic_shared() + 16 * lane, [pair(0), pair(1), pair(2), pair(3)]);
            bar_warp_sync();
            for (i, register) in (0..).zip(ldmatrix_x4_trans(dynamic_shared() + 16 * lane)) {
                let first = 16 * (8 * i + 2 * (lane % 4)) + lane / 4;
                assert_eq!(register, first | (first + 16) << 16);
            }
        },
        |result, _, _| {
            let stats = result.unwrap();
            assert_eq!((stats.ldmatrix, stats.ldmatrix_conflicts), (1, 0));
        },
    );
}

#[test]
fn shfl_bfly_gives_the_value_of_the_lane_across() {
    clean(1, 64, |_| {
        let lane = thread_idx_x();
        for mask in 0..32 {
            assert_eq!(shfl_bfly(lane, mask), lane ^ mask);
        }
        // Only five bits count, and each lane may have its own.
        assert_eq!(shfl_bfly(100 + lane, 32 + 1), 100 + (lane ^ 1));
        let mask = lane % 3;
        assert_eq!(shfl_bfly(lane, mask), lane ^ mask);
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

/// Fragments as the manual draws them: (row, column) of half j of register i of lane l.
fn a_element(lane: u32, i: u32, j: u32) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane & 3);
    let row = if i == 0 || i == 2 { group } else { group + 8 };
    let column = thread * 2 + j + if i >= 2 { 8 } else { 0 };
    (row as usize, column as usize)
}

fn b_element(lane: u32, i: u32, j: u32) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane & 3);
    let row = thread * 2 + j + if i >= 1 { 8 } else { 0 };
    (row as usize, group as usize)
}

fn c_element(lane: u32, i: u32) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane & 3);
    let row = if i < 2 { group } else { group + 8 };
    (row as usize, (thread * 2 + (i & 1)) as usize)
}

/// What mma gives for matrices of f16 and f32.
fn mma(a: [[f32; 16]; 16], b: [[f32; 8]; 16], c: [[f32; 8]; 16]) -> [[f32; 8]; 16] {
    let mut machine = Machine::new();
    let y = machine.buffer(512);
    run(&mut machine, &Schedule::default(), 1, 32, move || {
        let lane = thread_idx_x();
        let pack = |f: &dyn Fn(u32) -> f32| pack_f16x2(f(0), f(1));
        let a = std::array::from_fn(|i| {
            pack(&|j| {
                let (r, k) = a_element(lane, i as u32, j);
                a[r][k]
            })
        });
        let b = std::array::from_fn(|i| {
            pack(&|j| {
                let (k, n) = b_element(lane, i as u32, j);
                b[k][n]
            })
        });
        let c = std::array::from_fn(|i| {
            let (r, n) = c_element(lane, i as u32);
            c[r][n]
        });
        let d = mma_m16n8k16_f16(a, b, c);
        st_global(y + 16 * u64::from(lane), d.map(f32::to_bits));
    })
    .unwrap();
    let values = machine.read::<f32>(y, 128).unwrap();
    let mut d = [[0.0; 8]; 16];
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = c_element(lane, i);
            d[row][column] = values[(4 * lane + i) as usize];
        }
    }
    d
}

#[test]
fn mma_multiplies_whole_matrices() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(0);
    for _ in 0..8 {
        // Small integers: everything is exact.
        let mut random = |_| rng.random_range(-64i32..64) as f32;
        let a: [[f32; 16]; 16] = std::array::from_fn(|_| std::array::from_fn(&mut random));
        let b: [[f32; 8]; 16] = std::array::from_fn(|_| std::array::from_fn(&mut random));
        let c: [[f32; 8]; 16] = std::array::from_fn(|_| std::array::from_fn(&mut random));
        let expected: [[f32; 8]; 16] = std::array::from_fn(|i| {
            std::array::from_fn(|j| c[i][j] + (0..16).map(|k| a[i][k] * b[k][j]).sum::<f32>())
        });
        assert_eq!(mma(a, b, c), expected);
    }
}

#[test]
fn mma_truncates_and_keeps_ieee_specials() {
    let (mut a, mut b, mut c) = ([[0.0; 16]; 16], [[0.0; 8]; 16], [[0.0; 8]; 16]);
    // Row 0: 1 + 0.75 ulp and -(1 + 0.75 ulp) go towards zero.
    let ulp = f32::EPSILON;
    a[0][0] = 2f32.powi(-12);
    b[0][0] = 2f32.powi(-12) * 1.5; // 2⁻²⁴ · 1.5 = 0.75 ulp
    b[0][1] = -b[0][0];
    (c[0][0], c[0][1]) = (1.0, -1.0);
    assert_eq!(a[0][0] * b[0][0], 0.75 * ulp);
    // Row 1: the products cancel exactly, though each is large and c small.
    (a[1][0], a[1][1]) = (60000.0, -60000.0);
    (b[0][2], b[1][2]) = (60000.0, 60000.0);
    c[1][2] = 2f32.powi(-20);
    // Row 2: inf; row 3: inf · 0; row 4: NaN in c stays in its element.
    a[2][3] = f32::INFINITY;
    b[3] = [1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    a[3][4] = f32::INFINITY;
    c[4][5] = f32::NAN;
    let d = mma(a, b, c);
    assert_eq!((d[0][0], d[0][1]), (1.0, -1.0));
    assert_eq!(d[1][2], 2f32.powi(-20));
    assert_eq!((d[2][0], d[2][1]), (f32::INFINITY, f32::NEG_INFINITY));
    assert!(d[3].iter().all(|value| value.is_nan()));
    assert_eq!(d[4].map(f32::is_nan), [false, false, false, false, false, true, false, false]);
}

#[test]
fn cp_async_copies_bytes_and_fills_up_with_zeros() {
    for asynchrony in [Asynchrony::Early, Asynchrony::Late, Asynchrony::Random] {
        let mut machine = Machine::new();
        let x = machine.input(&(1..=64).collect::<Vec<u8>>());
        let y = machine.buffer(17 * 16);
        let schedule = Schedule { asynchrony, ..Schedule::default() };
        run(&mut machine, &schedule, 1, 32, move || {
            let lane = thread_idx_x();
            if lane <= 16 {
                let to = dynamic_shared() + 16 * lane;
                st_shared(to, [u32::MAX; 4]);
                // Nothing is read for 0 bytes, so that any address will do.
                let from = if lane == 0 { 7 } else { x + 16 * u64::from(lane % 4) };
                cp_async_16(to, from, lane);
                cp_async_commit_group();
                cp_async_wait_group(0);
                st_global(y + 16 * u64::from(lane), ld_shared::<[u32; 4]>(to));
            }
        })
        .unwrap();
        let bytes = machine.read::<u8>(y, 17 * 16).unwrap();
        for (n, copied) in bytes.chunks(16).enumerate() {
            let expected: Vec<u8> =
                (0..16).map(|i| if i < n { (16 * (n % 4) + i + 1) as u8 } else { 0 }).collect();
            assert_eq!(copied, expected);
        }
    }
}

#[test]
fn cp_async_reads_only_its_bytes_up_to_the_end_of_memory() {
    let copy = |bytes: u32| {
        let mut machine = Machine::new();
        let x = machine.input(&[1u8; 24]);
        run(&mut machine, &Schedule::default(), 1, 32, move || {
            if thread_idx_x() == 0 {
                cp_async_16(dynamic_shared(), x + 16, bytes);
                cp_async_commit_group();
                cp_async_wait_group(0);
            }
        })
    };
    copy(8).unwrap();
    assert!(matches!(copy(9).unwrap_err().kind, Kind::OutOfBounds { .. }));
    assert!(matches!(copy(17).unwrap_err().kind, Kind::Operand { .. }));
}

#[test]
fn wait_group_leaves_the_newest_groups_under_way() {
    // Three groups, the second empty, are under way: with 2 pending the first is complete, with 1 the second, too.
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

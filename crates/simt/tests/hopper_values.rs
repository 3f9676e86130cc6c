//! What Hopper's instructions compute and move, by the figures of the PTX manual and against products in f64,
//! under every schedule.

mod common {
    pub(crate) mod hopper;
    pub(crate) mod kinds;
}

use common::{
    hopper::{
        SWIZZLES, accumulator_place, cluster_sync, columns, descriptor, init, integers, matrix,
        on_every_schedule, place, product, wait,
    },
    kinds::{deadlock, not_waited, operand, out_of_bounds, proxy, race},
};
use fused_lora_simt::{
    Action, Kind, Launch, Machine, Op, Report, Schedule, Site, Swizzle, TensorMap, ops::*,
};

/// Bytes from the first shared byte, where kernels of these tests keep their mbarriers. Tiles begin at 1024.
const BARS: u32 = 0;
const TILE: u32 = 1024;

/// Copies `bytes` from shared memory at `from` to global memory, by all lanes.
fn dump(from: u32, to: u64, bytes: u32) {
    for at in (16 * thread_idx_x()..bytes).step_by(16 * block_dim_x() as usize) {
        st_global(to + u64::from(at), ld_shared::<[u32; 4]>(from + at));
    }
}

/// Element (column, row) of a matrix of `columns` columns in the tests of copies: it says where it is from.
fn element(columns: u32, column: u32, row: u32) -> u16 {
    (row * columns + column + 1) as u16
}

fn elements(columns: u32, rows: u32) -> Vec<u16> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| element(columns, column, row))).collect()
}

/// One CTA of 64 lanes loads the box at `at` and dumps it.
fn load(map: TensorMap, at: [i32; 2], out: u64) {
    let (bar, tile) = (dynamic_shared() + BARS, dynamic_shared() + TILE);
    let map_words = map.encode();
    if thread_idx_x() == 0 {
        prefetch_tensormap(&map_words);
        init(bar, &[1]);
        mbarrier_arrive_expect_tx(bar, map.box_bytes());
        cp_async_bulk_tensor_2d_load(tile, &map_words, at.map(|i| i as u32), bar);
    }
    bar_sync();
    wait(bar, 0);
    dump(tile, out, map.box_bytes());
}

/// What a load of the box at `at` leaves in shared memory: zeros beyond the matrix.
fn loaded(map: &TensorMap, at: [i32; 2]) -> Vec<u16> {
    let [width, height] = map.dims.map(|dim| dim as i64);
    let [box_columns, box_rows] = map.box_dims;
    let mut tile = vec![0; (box_columns * box_rows) as usize];
    for row in 0..box_rows {
        for column in 0..box_columns {
            let (x, y) = (i64::from(at[0]) + i64::from(column), i64::from(at[1]) + i64::from(row));
            let number = row * box_columns + column;
            let to = place(map.swizzle, number / 8) / 2 + number % 8;
            if (0..width).contains(&x) && (0..height).contains(&y) {
                tile[to as usize] = element(width as u32, x as u32, y as u32);
            }
        }
    }
    tile
}

fn loads(swizzle: Swizzle, dims: [u32; 2], box_rows: u32, at: [i32; 2]) {
    on_every_schedule(
        |machine| {
            let x = machine.input(&elements(dims[0], dims[1]));
            let map = matrix(x, dims, [columns(swizzle), box_rows], swizzle);
            let out = machine.buffer(map.box_bytes() as usize);
            let launch = Launch::new("load", 1, 64, TILE + map.box_bytes(), move || load(map, at, out));
            ((map, out), vec![launch])
        },
        |result, machine, (map, out)| {
            let stats = result.unwrap_or_else(|report| panic!("{swizzle:?} at {at:?}: {report}"));
            assert_eq!(stats.ctas, 1);
            let tile = machine.read::<u16>(*out, map.box_bytes() as usize / 2).unwrap();
            assert_eq!(tile, loaded(map, at), "{swizzle:?} at {at:?}");
        },
    );
}

#[test]
fn tensor_loads_place_the_box_with_every_swizzle() {
    for swizzle in SWIZZLES {
        loads(swizzle, [136, 40], 32, [0, 0]);
        // Columns need not be a multiple of a chunk, in the tensor at least.
        loads(swizzle, [136, 40], 20, [13, 7]);
    }
}

#[test]
fn tensor_loads_fill_with_zeros_beyond_every_edge() {
    for swizzle in [Swizzle::None, Swizzle::B128] {
        let span = columns(swizzle) as i32;
        for at in [
            [-3, 0],
            [0, -5],
            [-span, 3],
            [3, -16],
            [72 - 3, 0],
            [72 - span, 24 - 3],
            [72, 0],
            [0, 24],
            [-1, 20],
            [i32::MIN, i32::MAX],
        ] {
            loads(swizzle, [72, 24], 16, at);
        }
    }
}

#[test]
fn a_matrix_smaller_than_its_box() {
    loads(Swizzle::B64, [8, 3], 8, [0, 0]);
    loads(Swizzle::B64, [8, 3], 8, [-4, -4]);
}

/// What nobody wrote in global memory is not written in shared memory, either; zeros beyond an edge are.
#[test]
fn tensor_loads_carry_along_what_nobody_wrote() {
    for read in [0, 16] {
        on_every_schedule(
            |machine| {
                let x = machine.buffer(2 * 8 * 2);
                machine.write(x, &elements(8, 1)).unwrap();
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

#[test]
fn multicast_loads_reach_the_ctas_of_the_mask() {
    const SENT: [(u32, u16, [u32; 2]); 3] = [(0, 0b1111, [0, 0]), (2, 0b1010, [0, 16]), (3, 0b0001, [16, 8])];
    const BYTES: u32 = 16 * 8 * 2;
    on_every_schedule(
        |machine| {
            let x = machine.input(&elements(32, 32));
            let map = matrix(x, [32, 32], [16, 8], Swizzle::B32);
            let out = machine.buffer(8 * 3 * BYTES as usize);
            machine.write(out, &[0u16; 8 * 3 * BYTES as usize / 2]).unwrap();
            let kernel = move || {
                let (bar, tile) = (dynamic_shared() + BARS, dynamic_shared() + TILE);
                let rank = cluster_ctarank();
                assert_eq!((cluster_nctarank(), nclusterid_x()), (4, 2));
                assert_eq!((clusterid_x(), rank), (block_idx_x() / 4, block_idx_x() % 4));
                if thread_idx_x() == 0 {
                    init(bar, &[1]);
                }
                cluster_sync();
                let gets = |&(_, mask, _): &(u32, u16, [u32; 2])| mask >> rank & 1 == 1;
                if thread_idx_x() == 0 {
                    let copies = SENT.iter().filter(|sent| gets(sent)).count() as u32;
                    mbarrier_arrive_expect_tx(bar, copies * BYTES);
                    for (i, &(_, ctas, at)) in SENT.iter().enumerate().filter(|(_, sent)| sent.0 == rank) {
                        let to = tile + i as u32 * BYTES;
                        cp_async_bulk_tensor_2d_load_multicast(to, &map.encode(), at, bar, ctas);
                    }
                }
                wait(bar, 0);
                for (i, _) in SENT.iter().enumerate().filter(|(_, sent)| gets(sent)) {
                    let at = i as u32 * BYTES;
                    dump(tile + at, out + u64::from(block_idx_x() * 3 * BYTES + at), BYTES);
                }
                cluster_sync();
            };
            let launch = Launch::new("multicast", 8, 32, TILE + 3 * BYTES, kernel).cluster(4);
            ((map, out), vec![launch])
        },
        |result, machine, (map, out)| {
            result.unwrap_or_else(|report| panic!("{report}"));
            for cta in 0..8 {
                for (i, (_, mask, at)) in SENT.into_iter().enumerate() {
                    let tile = *out + u64::from((cta * 3 + i as u32) * BYTES);
                    let tile = machine.read::<u16>(tile, BYTES as usize / 2).unwrap();
                    let expected = loaded(map, at.map(|i| i as i32));
                    let got = mask >> (cta % 4) & 1 == 1;
                    assert_eq!(tile, if got { expected } else { vec![0; tile.len()] }, "CTA {cta}, copy {i}");
                }
            }
        },
    );
}

/// One CTA of 64 lanes writes a box to shared memory and stores it at `at`.
fn store(map: TensorMap, at: [i32; 2]) {
    let tile = dynamic_shared() + TILE;
    for number in (thread_idx_x()..map.box_bytes() / 16).step_by(block_dim_x() as usize) {
        let first = 8 * number + 0x100;
        let pair = |i: u32| (first + 2 * i + 1) << 16 | (first + 2 * i);
        st_shared(tile + place(map.swizzle, number), [pair(0), pair(1), pair(2), pair(3)]);
    }
    fence_proxy_async_shared();
    bar_sync();
    if thread_idx_x() == 0 {
        cp_async_bulk_tensor_2d_store(&map.encode(), at.map(|i| i as u32), tile);
        cp_async_bulk_commit_group();
        cp_async_bulk_wait_group(0);
    }
}

#[test]
fn tensor_stores_write_the_box_clipped_at_every_edge() {
    for swizzle in SWIZZLES {
        let span = columns(swizzle) as i32;
        for at in
            [[0, 0], [3, 5], [-3, 0], [0, -5], [72 - 3, 24 - 3], [-span, 0], [72, 0], [0, 24], [-1, -16]]
        {
            on_every_schedule(
                |machine| {
                    let y = machine.buffer(72 * 24 * 2);
                    machine.write(y, &[7u16; 72 * 24]).unwrap();
                    let map = matrix(y, [72, 24], [columns(swizzle), 16], swizzle);
                    let kernel = move || store(map, at);
                    (map, vec![Launch::new("store", 1, 64, TILE + map.box_bytes(), kernel)])
                },
                |result, machine, map| {
                    result.unwrap_or_else(|report| panic!("{swizzle:?} at {at:?}: {report}"));
                    let y = machine.read::<u16>(map.address, 72 * 24).unwrap();
                    for (i, value) in (0..).zip(y) {
                        let (column, row) = (i % 72 - at[0], i / 72 - at[1]);
                        let inside = (0..span).contains(&column) && (0..16).contains(&row);
                        let expected = if inside { (row * span + column) as u16 + 0x100 } else { 7 };
                        assert_eq!(value, expected, "{swizzle:?} at {at:?}, element {i}");
                    }
                },
            );
        }
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

/// d = c + a · bᵀ with a: 64 × 64, b: 2 · VALUES × 64, in commit groups of `steps` steps.
#[derive(Clone, Copy)]
struct Product<const VALUES: usize> {
    a: TensorMap,
    b: TensorMap,
    d: u64,
    steps_per_group: usize,
    in_flight: u32,
}

const DEPTH: u32 = 64;

/// The initial accumulators: whole numbers, other ones for each element.
fn initial(row: u32, column: u32) -> f32 {
    (row * 3 + column * 5) as f32 - 100.0
}

impl<const VALUES: usize> Product<VALUES> {
    const N: u32 = 2 * VALUES as u32;
    const SHARED: u32 = TILE + (64 + Self::N) * DEPTH * 2;

    fn kernel(self) {
        let (bar, tile) = (dynamic_shared() + BARS, dynamic_shared() + TILE);
        let swizzle = self.a.swizzle;
        let (a, b) = (tile, tile + 64 * DEPTH * 2);
        if thread_idx_x() == 0 {
            init(bar, &[1]);
            mbarrier_arrive_expect_tx(bar, (64 + Self::N) * DEPTH * 2);
            for panel in 0..DEPTH / columns(swizzle) {
                let at = [panel * columns(swizzle), 0];
                cp_async_bulk_tensor_2d_load(a + panel * self.a.box_bytes(), &self.a.encode(), at, bar);
                cp_async_bulk_tensor_2d_load(b + panel * self.b.box_bytes(), &self.b.encode(), at, bar);
            }
        }
        bar_sync();
        let mut acc: [f32; VALUES] = std::array::from_fn(|i| {
            let (row, column) = accumulator_place(i);
            initial(row, column)
        });
        wait(bar, 0);

        let operand = |start: u32, map: &TensorMap, step: u32| {
            let (panel, within) = (step * 32 / swizzle.span(), step * 32 % swizzle.span());
            descriptor(swizzle, start + panel * map.box_bytes() + within, map.box_bytes())
        };
        let steps: [_; DEPTH as usize / 16] =
            std::array::from_fn(|step| [operand(a, &self.a, step as u32), operand(b, &self.b, step as u32)]);
        for group in steps.chunks(self.steps_per_group) {
            wgmma_f16(&mut acc, group);
            wgmma_wait_group(self.in_flight, &mut acc);
        }
        wgmma_wait_group(0, &mut acc);
        for (i, value) in acc.into_iter().enumerate() {
            let (row, column) = accumulator_place(i);
            st_global(self.d + 4 * u64::from(row * Self::N + column), value.to_bits());
        }
    }

    fn is_right(swizzle: Swizzle, steps_per_group: usize, in_flight: u32) {
        let (a, b) = (integers(64 * DEPTH, 1), integers(Self::N * DEPTH, 2));
        let expected: Vec<_> = product(&a, &b, DEPTH as usize)
            .into_iter()
            .zip(0..)
            .map(|(sum, i)| sum + f64::from(initial(i / Self::N, i % Self::N)))
            .collect();
        on_every_schedule(
            |machine| {
                let (a, b) = (machine.input(&a), machine.input(&b));
                let product = Self {
                    a: matrix(a, [DEPTH, 64], [columns(swizzle), 64], swizzle),
                    b: matrix(b, [DEPTH, Self::N], [columns(swizzle), Self::N], swizzle),
                    d: machine.buffer(64 * Self::N as usize * 4),
                    steps_per_group,
                    in_flight,
                };
                (product.d, vec![Launch::new("product", 1, 128, Self::SHARED, move || product.kernel())])
            },
            |result, machine, &d| {
                let what =
                    format!("N {}, {swizzle:?}, {steps_per_group} steps, {in_flight} in flight", Self::N);
                let stats = result.unwrap_or_else(|report| panic!("{what}: {report}"));
                assert_eq!(stats.ctas, 1);
                let d = machine.read::<f32>(d, expected.len()).unwrap();
                assert!(d.iter().zip(&expected).all(|(d, expected)| f64::from(*d) == *expected), "{what}");
            },
        );
    }
}

#[test]
fn a_descriptor_one_granule_off_gives_another_product() {
    for (a, b) in [(1, 0), (0, 1), (-1, 0), (0, 2)] {
        for swizzle in SWIZZLES {
            let (values_a, values_b) = (integers(64 * DEPTH, 1), integers(64 * DEPTH, 2));
            for schedule in Schedule::standard(20) {
                let mut machine = Machine::new();
                let (values_a, values_b) = (machine.input(&values_a), machine.input(&values_b));
                let dims = [DEPTH, 64];
                let product = Product::<32> {
                    a: matrix(values_a, dims, [columns(swizzle), 64], swizzle),
                    b: matrix(values_b, dims, [columns(swizzle), 64], swizzle),
                    d: machine.buffer(64 * 64 * 4),
                    steps_per_group: 4,
                    in_flight: 0,
                };
                let launch =
                    || [Launch::new("product", 1, 128, Product::<32>::SHARED, move || product.kernel())];
                machine.run(&launch(), &schedule).unwrap_or_else(|report| panic!("{report}"));
                let right = machine.read::<u32>(product.d, 64 * 64).unwrap();
                let off = schedule.with(Site::all(Op::WgmmaF16).does(Action::DescriptorAdd { a, b }));
                match machine.run(&launch(), &off) {
                    Ok(_) => {
                        let wrong = machine.read::<u32>(product.d, 64 * 64).unwrap();
                        assert_ne!(wrong, right, "{swizzle:?}, a {a}, b {b}");
                    }
                    Err(Report { kind: Kind::Poison { .. } | Kind::OutOfBounds { .. }, .. }) => {}
                    Err(report) => panic!("{swizzle:?}, a {a}, b {b}: {report}"),
                }
            }
        }
    }
}

#[test]
fn wgmma_products_of_every_swizzle() {
    for swizzle in SWIZZLES {
        Product::<4>::is_right(swizzle, 4, 0);
        Product::<12>::is_right(swizzle, 1, 1);
    }
}

#[test]
fn wgmma_products_of_many_n_with_and_without_a_group_in_flight() {
    for (steps_per_group, in_flight) in [(4, 0), (1, 0), (2, 1)] {
        Product::<4>::is_right(Swizzle::B128, steps_per_group, in_flight);
        Product::<8>::is_right(Swizzle::B128, steps_per_group, in_flight);
        Product::<12>::is_right(Swizzle::B128, steps_per_group, in_flight);
        Product::<32>::is_right(Swizzle::B128, steps_per_group, in_flight);
        Product::<72>::is_right(Swizzle::B128, steps_per_group, in_flight);
        Product::<128>::is_right(Swizzle::B128, steps_per_group, in_flight);
    }
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

#[test]
fn stmatrix_stores_what_ldmatrix_loads() {
    on_every_schedule(
        |machine| {
            let out = machine.buffer(2 * 512 + 2 * 512);
            let kernel = move || {
                let (lane, warp) = (thread_idx_x() % 32, thread_idx_x() / 32);
                let tile = dynamic_shared() + TILE + warp * 512;
                let values = [0, 1, 2, 3].map(|i| thread_idx_x() << 16 | i);
                // Row r of matrix i at 16 (4 r + i).
                let row = tile + (lane % 8 * 4 + lane / 8) * 16;
                stmatrix_x4(row, values);
                bar_warp_sync();
                let at = u64::from(thread_idx_x() * 16);
                st_global(out + at, ld_shared::<[u32; 4]>(tile + lane * 16));
                st_global(out + 1024 + at, ldmatrix_x4(row));
            };
            (out, vec![Launch::new("stmatrix", 1, 64, TILE + 1024, kernel)])
        },
        |result, machine, &out| {
            result.unwrap_or_else(|report| panic!("{report}"));
            let chunks = machine.read::<[u32; 4]>(out, 128).unwrap();
            for (i, chunk) in (0..64).zip(&chunks) {
                // Word t of row r of matrix i is register i of lane 4 r + t.
                let (warp, row, matrix) = (i / 32, i % 32 / 4, i % 4);
                let expected = [0, 1, 2, 3].map(|t| (32 * warp + 4 * row + t) << 16 | matrix);
                assert_eq!(*chunk, expected, "chunk {i}");
            }
            for (thread, registers) in (0..64u32).zip(&chunks[64..]) {
                assert_eq!(*registers, [0, 1, 2, 3].map(|i| thread << 16 | i));
            }
        },
    );
}

#[test]
fn stmatrix_is_a_write_of_the_warp() {
    let kernel = |sync: bool| {
        move || {
            let lane = thread_idx_x() % 32;
            stmatrix_x4(dynamic_shared() + lane * 16, [lane; 4]);
            if sync {
                bar_warp_sync();
            }
            let _ = ld_shared::<u32>(dynamic_shared() + lane * 16);
        }
    };
    for sync in [true, false] {
        on_every_schedule(
            |_| ((), vec![Launch::new("stmatrix", 1, 32, TILE, kernel(sync))]),
            |result, _, ()| {
                let raced = matches!(&result, Err(report) if matches!(report.kind, Kind::Race { .. }));
                assert_eq!(raced, !sync, "{result:?}");
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

/// CTA 0 writes a box of x, by lanes or by a tensor store, and tells CTA 1, which reads it, by lanes or by a tensor
/// load. `read_only`: waits only until the store has read its source.
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

/// cp.async is of the generic proxy: wgmma reads what it copied behind a wait, a fence and a barrier, in this order.
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

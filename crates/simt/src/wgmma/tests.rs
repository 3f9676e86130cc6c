use half::f16;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use super::*;
use crate::tensor_map::TensorMap;

const BASE: u32 = 0x400;
/// Lanes of a warpgroup.
const WARPGROUP: usize = 128;

fn descriptor(start: u32, leading: u32, stride: u32, mode: u64) -> Descriptor {
    let bits =
        u64::from(start >> 4) | u64::from(leading >> 4) << 16 | u64::from(stride >> 4) << 32 | mode << 62;
    Descriptor::decode(bits).unwrap()
}

#[test]
fn fields_lie_where_the_manual_has_them() {
    // The descriptor of a tile of 64 f16 per row with 128-byte swizzle, as kernels write it.
    let bits = 0x12340 >> 4 | 1 << 16 | 64 << 32 | 1 << 62;
    let expected = Descriptor { start: 0x12340, leading: 16, stride: 1024, swizzle: Swizzle::B128 };
    assert_eq!(Descriptor::decode(bits), Ok(expected));
    let extreme = Descriptor::decode(0x3fff | 0x3fff << 16 | 0x3fff << 32 | 3 << 62).unwrap();
    let most = 0x3fff0;
    let expected = Descriptor { start: most, leading: most, stride: most, swizzle: Swizzle::B32 };
    assert_eq!(extreme, expected);
    assert_eq!(Descriptor::decode(2 << 62).unwrap().swizzle, Swizzle::B64);
    assert_eq!(Descriptor::decode(0).unwrap().swizzle, Swizzle::None);
    for bit in [14, 15, 30, 31, 46, 47, 48, 52, 61] {
        assert!(Descriptor::decode(1 << bit).unwrap_err().contains("no field"), "bit {bit}");
    }
    for bit in [49, 50, 51] {
        assert!(Descriptor::decode(1 << bit).unwrap_err().contains("base offset"), "bit {bit}");
    }
}

/// What a machine without AVX2 computes, and one with it.
#[test]
fn vectors_change_no_bit() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let types = Types::F16;
    let mut row = || -> Row {
        let halves: [u16; K] =
            std::array::from_fn(|_| f16::from_f32(random.random_range(-4.0..4.0)).to_bits());
        bytemuck::cast(halves)
    };
    let (a, b): (Vec<Row>, Vec<Row>) = ((0..64).map(|_| row()).collect(), (0..24).map(|_| row()).collect());
    let mut found = vec![0.1; WARPGROUP * 12];
    let mut expected = found.clone();
    multiply_of::<K>(types, true, &a, &b, &mut found);
    multiply_with::<K>(types, true, &a, &b, &mut expected);
    assert_eq!(found, expected);
    assert!(found.iter().any(|&value| value != 0.1));
}

/// "K major 128B swizzling", Figure 157 of PTX ISA, "Shared Memory Matrix Layout": rows are lines of eight
/// chunks, chunk c of row r lies at place c ^ r.
#[test]
fn rows_of_a_128_byte_swizzle_as_drawn() {
    let rows = descriptor(BASE, 16, 1024, 1).rows(16);
    let place = |address: u32| ((address - BASE) / 128, (address - BASE) % 128 / 16);
    let chunks: Vec<_> = rows.iter().map(|row| row.map(place)).collect();
    for (row, [first, second]) in chunks.iter().enumerate() {
        let places = [(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4), (6, 7), (7, 6)][row % 8];
        assert_eq!((*first, *second), ((row as u32, places.0), (row as u32, places.1)));
    }
    // Chunks 2 and 3, one step of K on.
    let third = descriptor(BASE + 32, 16, 1024, 1).rows(8)[5].map(place);
    assert_eq!(third, [(5, 7), (5, 6)]);
}

/// Without a swizzle a core matrix is 8 rows of 16 bytes in one piece.
#[test]
fn rows_of_core_matrices() {
    let rows = descriptor(BASE, 0x100, 0x800, 0).rows(64);
    assert_eq!(rows[0], [BASE, BASE + 0x100]);
    assert_eq!(rows[7], [BASE + 0x70, BASE + 0x170]);
    assert_eq!(rows[8], [BASE + 0x800, BASE + 0x900]);
    assert_eq!(rows[63], [BASE + 7 * 0x800 + 0x70, BASE + 7 * 0x800 + 0x170]);
}

/// A matrix of 128 rows and 64 columns, copied by boxes of one span and all rows, read by descriptors.
#[test]
fn descriptors_find_what_tensor_copies_place() {
    const ROWS: u32 = 128;
    const COLUMNS: u32 = 64;
    let element = |row: u32, column: u32| (row * COLUMNS + column) as u16;
    for (swizzle, mode) in [(Swizzle::None, 0), (Swizzle::B128, 1), (Swizzle::B64, 2), (Swizzle::B32, 3)] {
        let span = swizzle.span();
        let columns = span / 2;
        let map = TensorMap {
            address: 0,
            dims: [u64::from(COLUMNS), u64::from(ROWS)],
            stride: u64::from(COLUMNS) * 2,
            box_dims: [columns, ROWS],
            swizzle,
        };
        map.check().unwrap();
        let mut shared = vec![None; (BASE + ROWS * COLUMNS * 2) as usize];
        for panel in 0..COLUMNS / columns {
            let at = [(panel * columns) as i32, 0];
            for chunk in map.tensor().chunks(&at, BASE + panel * map.box_bytes()) {
                let first = (chunk.global.unwrap() / 2) as u16;
                assert_eq!((chunk.skip, chunk.bytes), (0, 16));
                let place = &mut shared[chunk.shared as usize];
                assert_eq!(place.replace(first), None, "two chunks at one place");
            }
        }
        for step in 0..COLUMNS / 16 {
            // Which panel a step lies in, and where in it; without a swizzle it takes two panels.
            let (panel, within) = (step * 32 / span, step * 32 % span);
            let start = BASE + panel * map.box_bytes() + within;
            for (first_row, rows) in [(0, ROWS), (64, 64), (8, 8)] {
                let start = start + first_row * span;
                let rows = descriptor(start, map.box_bytes(), 8 * span, mode).rows(rows);
                for (row, chunks) in rows.into_iter().enumerate() {
                    let expected = [0, 8].map(|i| Some(element(first_row + row as u32, 16 * step + i)));
                    let found = chunks.map(|address| shared[address as usize]);
                    assert_eq!(found, expected, "{swizzle:?}, step {step}, row {row} from {first_row}");
                }
            }
        }
    }
}

#[test]
fn a_descriptor_one_granule_off_reads_other_bytes() {
    for mode in 0..4 {
        let right = descriptor(BASE, 0x100, 0x400, mode).rows(64);
        let wrong = descriptor(BASE + 16, 0x100, 0x400, mode).rows(64);
        assert!(right.iter().zip(&wrong).all(|(right, wrong)| right != wrong), "mode {mode}");
    }
}

/// Figure 149 of PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16", some of its cells: lane, number
/// of the value, row, column.
const FIGURE: [(usize, usize, usize, usize); 14] = [
    (0, 0, 0, 0),
    (0, 1, 0, 1),
    (1, 0, 0, 2),
    (3, 1, 0, 7),
    (0, 4, 0, 8),
    (0, 2, 8, 0),
    (0, 6, 8, 8),
    (4, 0, 1, 0),
    (31, 3, 15, 7),
    (32, 0, 16, 0),
    (63, 3, 31, 7),
    (64, 1, 32, 1),
    (96, 2, 56, 0),
    (127, 7, 63, 15),
];

fn bytes(row: [f16; K]) -> [u8; 2 * K] {
    bytemuck::cast(row)
}

#[test]
fn values_lie_where_the_manual_draws_them() {
    // Row r of a is (r, 1, 0, …), column c of b is (1, 64 c, 0, …): element (r, c) is r + 64 c.
    let row = |first: usize, second: usize| {
        let mut row = [f16::ZERO; K];
        row[0] = f16::from_f32(first as f32);
        row[1] = f16::from_f32(second as f32);
        bytes(row)
    };
    let a: [_; M] = std::array::from_fn(|r| row(r, 1));
    for n in [16, 24, 256] {
        let b: Vec<_> = (0..n).map(|c| row(1, 64 * c)).collect();
        let mut d = vec![0f32; WARPGROUP * n / 2];
        multiply(Types::F16, false, &a, &b, &mut d);
        for (lane, i, r, c) in FIGURE {
            assert_eq!(d[lane * n / 2 + i], (r + 64 * c) as f32, "n {n}, lane {lane}, value {i}");
        }
        let (last_row, last_column) = (63, n - 1);
        assert_eq!(d[WARPGROUP * n / 2 - 1], (last_row + 64 * last_column) as f32);
        // Each element is somewhere.
        let mut all: Vec<_> = d.iter().map(|&value| value as usize).collect();
        all.sort_unstable();
        assert_eq!(all, (0..64 * n).collect::<Vec<_>>());
    }
}

#[test]
fn a_random_product_of_every_n() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    let mut random = || -> [f16; K] { std::array::from_fn(|_| f16::from_f32(rng.random_range(-2.0..2.0))) };
    let a: [_; M] = std::array::from_fn(|_| random());
    for n in (8..=256).step_by(8) {
        let b: Vec<_> = (0..n).map(|_| random()).collect();
        let c = |row: usize, column: usize| ((row * 31 + column * 17) % 101) as f32 / 8.0 - 6.0;
        let places = (0..WARPGROUP)
            .flat_map(|l| (0..n / 2).map(move |i| (l, i)))
            .map(|(l, i)| (16 * (l / 32) + l / 4 % 8 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (l % 4) + i % 2));
        let mut d: Vec<f32> = places.clone().map(|(row, column)| c(row, column)).collect();
        multiply(Types::F16, false, &a.map(bytes), &b.iter().copied().map(bytes).collect::<Vec<_>>(), &mut d);
        for ((row, column), value) in places.zip(d) {
            let product: f64 =
                a[row].iter().zip(&b[column]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let exact = f64::from(c(row, column)) + product;
            let error = (f64::from(value) - exact).abs();
            assert!(error <= exact.abs() * 2f64.powi(-23), "n {n}, ({row}, {column}): {value}, not {exact}");
            assert!(f64::from(value).abs() <= exact.abs() + 1e-12, "not towards zero");
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let mut a = [[f16::ZERO; K]; M];
    a[0][0] = f16::INFINITY;
    a[1][0] = f16::NAN;
    a[2][0] = f16::MAX;
    let b = [bytes(std::array::from_fn(|_| f16::ONE)); 8];
    let mut d = [0f32; WARPGROUP * 4];
    d[8 * 4] = f32::MAX;
    multiply(Types::F16, false, &a.map(bytes), &b, &mut d);
    assert_eq!(d[0], f32::INFINITY);
    assert!(d[4 * 4].is_nan());
    // Beyond f32 it is truncated, not infinite.
    assert_eq!(d[8 * 4], f32::MAX);
    assert_eq!(d[8 * 4 + 1], 65504.0);
}

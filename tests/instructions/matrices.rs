//! `ldmatrix` and `mma`. Fragments as in PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix": an
//! entry has two warps, each with operands of its own.

use half::f16;
use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom as _};
use rand_distr::{Distribution as _, StandardNormal};

use crate::{
    inputs,
    launch::{check, run},
};

const ITEMS: usize = 12;
const LANES: usize = 32;

/// Holds `name` to the word that `register` finds in the rows of a warp, four words each: by matrix, and
/// lane.
#[track_caller]
fn loads(name: &str, register: impl Fn(&dyn Fn(usize, usize) -> u32, usize, usize) -> u32) {
    let mut rng = inputs::generator(1);
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for number in 0..ITEMS {
        let data = inputs::words(2 * LANES * 4, number as u64);
        let mut rows = Vec::new();
        for _ in 0..2 {
            // Any order of the rows; every third time with some twice.
            let mut warp: Vec<u32> = (0..LANES as u32).collect();
            warp.shuffle(&mut rng);
            if number % 3 == 2 {
                warp.iter_mut().for_each(|row| *row = rng.random_range(0..LANES as u32));
            }
            rows.extend(warp);
        }
        for (data, rows) in data.chunks(4 * LANES).zip(rows.chunks(LANES)) {
            // Lane 8i + j names row j of matrix i.
            let word = |row: usize, word: usize| data[4 * rows[row] as usize + word];
            expected.extend(
                (0..LANES)
                    .flat_map(|lane| (0..4).map(move |i| (lane, i)))
                    .map(|(lane, i)| register(&word, i, lane)),
            );
        }
        input.extend(data);
        input.extend(rows);
    }
    check(name, ITEMS, &input, &expected);
}

#[test]
fn ldmatrix_x4() {
    // Lane l gets, in register i, elements 2 (l mod 4) and the next, which are one word, of row l / 4 of
    // matrix i.
    loads("ldmatrix_x4", |word, i, lane| word(8 * i + lane / 4, lane % 4));
}

#[test]
fn ldmatrix_x4_trans() {
    // Lane l gets, in register i, element l / 4 of rows 2 (l mod 4) and the next of matrix i.
    loads("ldmatrix_x4_trans", |word, i, lane| {
        let element = |row: usize| word(8 * i + row, lane / 8) >> (lane / 4 % 2 * 16) & 0xffff;
        element(2 * (lane % 4)) | element(2 * (lane % 4) + 1) << 16
    });
}

/// The operands of a warp: a is 16 × 16, b 16 × 8, c 16 × 8.
struct Operands {
    a: [[f16; 16]; 16],
    b: [[f16; 8]; 16],
    c: [[f32; 8]; 16],
}

impl Operands {
    /// From functions of row and column.
    fn new(
        rng: &mut StdRng,
        a: impl Fn(&mut StdRng, usize, usize) -> f64,
        b: impl Fn(&mut StdRng, usize, usize) -> f64,
        c: impl Fn(&mut StdRng, usize, usize) -> f64,
    ) -> Self {
        Self {
            a: std::array::from_fn(|i| std::array::from_fn(|j| f16::from_f64(a(rng, i, j)))),
            b: std::array::from_fn(|i| std::array::from_fn(|j| f16::from_f64(b(rng, i, j)))),
            c: std::array::from_fn(|i| std::array::from_fn(|j| c(rng, i, j) as f32)),
        }
    }

    /// The words of all lanes, as the entry wants them.
    fn fragments(&self) -> Vec<u32> {
        let mut words = vec![0; 12 * LANES];
        // Two f16 in a word, the lower column of a or row of b in the lower half.
        let mut put = |lane: usize, register: usize, half: usize, value: f16| {
            words[12 * lane + register] |= u32::from(value.to_bits()) << (16 * half);
        };
        for k in 0..16 {
            for row in 0..16 {
                put(row % 8 * 4 + k % 8 / 2, row / 8 + 2 * (k / 8), k % 2, self.a[row][k]);
            }
            for column in 0..8 {
                put(column * 4 + k % 8 / 2, 4 + k / 8, k % 2, self.b[k][column]);
            }
        }
        for row in 0..16 {
            for column in 0..8 {
                let (lane, value) = result(row, column);
                words[12 * lane + 6 + value] = self.c[row][column].to_bits();
            }
        }
        words
    }

    /// The exact sum, unless f64 rounds it, and the sum of magnitudes: of the products, and of c.
    fn sum(&self, row: usize, column: usize) -> (f64, f64, f64) {
        let products = (0..16).map(|k| self.a[row][k].to_f64() * self.b[k][column].to_f64());
        let c = f64::from(self.c[row][column]);
        (products.clone().sum::<f64>() + c, products.map(f64::abs).sum(), c.abs())
    }
}

/// Lane and number of the value of c and d at a place.
fn result(row: usize, column: usize) -> (usize, usize) {
    (row % 8 * 4 + column / 2, row / 8 * 2 + column % 2)
}

/// Runs products, two of them in an item, and gives each sum to `check`: where it was made, operands, row,
/// column, what came out.
#[track_caller]
fn products(operands: &[Operands], check: impl Fn(bool, &Operands, usize, usize, f32) -> Result<(), String>) {
    let input: Vec<u32> = operands.iter().flat_map(Operands::fragments).collect();
    for outcome in run("mma_m16n8k16_f16", operands.len() / 2, &input) {
        for (warp, (operands, d)) in operands.iter().zip(outcome.output.chunks(4 * LANES)).enumerate() {
            for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
                let (lane, value) = result(row, column);
                let d = f32::from_bits(d[4 * lane + value]);
                if let Err(what) = check(outcome.on_device, operands, row, column, d) {
                    panic!("by {}, product {warp}: d[{row}, {column}] {what}", outcome.by);
                }
            }
        }
    }
}

fn normal(rng: &mut StdRng, _: usize, _: usize) -> f64 {
    StandardNormal.sample(rng)
}

/// Whole numbers, so small that every sum on the way is exact: any order and any rounding give the same bits.
#[test]
fn mma_of_whole_numbers_is_exact() {
    let mut rng = inputs::generator(2);
    let whole = |rng: &mut StdRng, _: usize, _: usize| f64::from(rng.random_range(-64..=64));
    let large = |rng: &mut StdRng, _: usize, _: usize| f64::from(rng.random_range(-100_000..=100_000));
    let operands: Vec<_> = (0..2 * ITEMS).map(|_| Operands::new(&mut rng, whole, whole, large)).collect();
    products(&operands, |_, operands, row, column, d| {
        let (expected, ..) = operands.sum(row, column);
        (f64::from(d).to_bits() == expected.to_bits() || d == 0.0 && expected == 0.0)
            .then_some(())
            .ok_or_else(|| format!("is {d}, not {expected}"))
    });
}

/// Holds a sum to the exact one.
///
/// The strict machine rounds once, towards zero. Tensor cores align the products and c to the largest of them
/// and cut off what is below 24 bits, which is at most 2⁻²³ of that one for each of the 17; they may do so in
/// two steps, with a sum in between.
fn close(on_device: bool, operands: &Operands, row: usize, column: usize, d: f32) -> Result<(), String> {
    let (expected, products, c) = operands.sum(row, column);
    let bound = if on_device { 20.0 * (products + c) } else { expected.abs() } * 2f64.powi(-23);
    // f64 rounds, too.
    let bound = bound + 20.0 * f64::EPSILON * (products + c);
    let error = (f64::from(d) - expected).abs();
    (error <= bound)
        .then_some(())
        .ok_or_else(|| format!("is {d:e}: {error:e} from {expected:e}, at most {bound:e}"))
}

#[test]
fn mma_of_normal_numbers() {
    let mut rng = inputs::generator(3);
    let operands: Vec<_> = (0..2 * ITEMS).map(|_| Operands::new(&mut rng, normal, normal, normal)).collect();
    products(&operands, close);
}

/// Magnitudes from the smallest subnormal f16 to the largest.
#[test]
fn mma_of_all_magnitudes() {
    let mut rng = inputs::generator(4);
    let any = |rng: &mut StdRng, _: usize, _: usize| {
        let bits = rng.random_range(0..0x7c00u16) | u16::from(rng.random::<bool>()) << 15;
        f16::from_bits(bits).to_f64()
    };
    let subnormal =
        |rng: &mut StdRng, _: usize, _: usize| f16::from_bits(rng.random_range(0..0x400)).to_f64();
    let tiny = |rng: &mut StdRng, i: usize, j: usize| normal(rng, i, j) * 2f64.powi(-40);
    let mut operands: Vec<_> = (0..ITEMS).map(|_| Operands::new(&mut rng, any, any, normal)).collect();
    operands.extend((0..ITEMS).map(|_| Operands::new(&mut rng, subnormal, subnormal, tiny)));
    products(&operands, close);
}

/// Infinities and NaN: where they go, and where they do not.
#[test]
fn mma_of_what_is_not_finite() {
    let mut rng = inputs::generator(5);
    let a = |rng: &mut StdRng, row: usize, k: usize| match (row, k) {
        (3, 5) => f64::NAN,
        (4, 9) => f64::INFINITY,
        (7, 0) => f64::NEG_INFINITY,
        // Both signs meet in some columns.
        (12, 1 | 14) => f64::INFINITY,
        _ => normal(rng, row, k),
    };
    // ∞ · 0 is NaN.
    let b = |rng: &mut StdRng, k: usize, column: usize| {
        if (k, column) == (9, 2) { 0.0 } else { normal(rng, k, column) }
    };
    let c = |rng: &mut StdRng, row: usize, column: usize| match (row, column) {
        (8, 1) => f64::NAN,
        (9, 6) => f64::INFINITY,
        _ => normal(rng, row, column),
    };
    let operands: Vec<_> = (0..2 * ITEMS).map(|_| Operands::new(&mut rng, a, b, c)).collect();
    products(&operands, |on_device, operands, row, column, d| {
        let (expected, ..) = operands.sum(row, column);
        match expected {
            _ if expected.is_finite() => close(on_device, operands, row, column, d),
            _ if expected.is_nan() && d.is_nan() || f64::from(d) == expected => Ok(()),
            _ => Err(format!("is {d}, not {expected}")),
        }
    });
}

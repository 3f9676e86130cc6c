//! `wgmma` for every number of registers that there is, K-major operands in swizzles of 128 and 32 bytes, or
//! the first one in registers (PTX ISA, "Asynchronous wgmma.mma_async").

use fused_lora_kernels::instructions::SM90_INSTRUCTIONS;
use half::f16;
use rand::{RngExt as _, rngs::StdRng};
use rand_distr::{Distribution as _, StandardNormal};

use super::swizzle::Swizzle;
use crate::{inputs, launch::run};

const LANES: usize = 128;
const ITEMS: usize = 2;

/// Rows of f16.
type Rows = Vec<Vec<f16>>;

/// What a group adds: a, `[64, K]`, times b, `[N, K]`, transposed.
struct Group {
    a: Rows,
    b: Rows,
}

/// An item: the words of its input, and what it adds.
struct Item {
    words: Vec<u32>,
    groups: Vec<Group>,
}

fn draw(rng: &mut StdRng, rows: usize, columns: usize, value: fn(&mut StdRng) -> f64) -> Rows {
    (0..rows).map(|_| (0..columns).map(|_| f16::from_f64(value(rng))).collect()).collect()
}

/// Some columns of all rows.
fn columns(of: &Rows, first: usize, count: usize) -> Rows {
    of.iter().map(|row| row[first..first + count].to_vec()).collect()
}

/// An operand's shared memory, in rows as they are.
fn image(rows: &Rows, swizzle: Swizzle) -> Vec<u32> {
    let bits: Vec<Vec<u16>> =
        rows.iter().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect();
    swizzle.image(&bits)
}

/// In panels of 16 columns each.
fn panels(rows: &Rows) -> Vec<u32> {
    (0..rows[0].len()).step_by(16).flat_map(|first| image(&columns(rows, first, 16), Swizzle::B32)).collect()
}

/// The kinds of entries.
const KINDS: [&str; 4] = ["multiply_64", "multiply_64_of", "multiply_16", "chain"];

impl Item {
    fn new(kind: &str, n: usize, rng: &mut StdRng, value: fn(&mut StdRng) -> f64) -> Self {
        let mut draw = |rows, columns| draw(rng, rows, columns, value);
        match kind {
            "multiply_64" | "multiply_64_of" => {
                let (a, b) = (draw(64, 64), draw(n, 64));
                let words = [image(&a, Swizzle::B128), image(&b, Swizzle::B128)].concat();
                Self { words, groups: vec![Group { a, b }] }
            }
            "multiply_16" => {
                let (a, b) = (draw(64, 16), draw(n, 16));
                let words = [image(&a, Swizzle::B32), image(&b, Swizzle::B32)].concat();
                Self { words, groups: vec![Group { a, b }] }
            }
            _ => {
                let (first, second, b, third) = (draw(64, 64), draw(64, 16), draw(n, 64), draw(64, 64));
                let words =
                    [panels(&first), panels(&second), image(&b, Swizzle::B128), image(&third, Swizzle::B128)]
                        .concat();
                let groups = vec![
                    Group { a: first, b: b.clone() },
                    Group { a: second, b: columns(&b, 16, 16) },
                    Group { a: third, b },
                ];
                Self { words, groups }
            }
        }
    }

    /// The exact sum, unless f64 rounds it; the sum of magnitudes; how many products of 16 columns it is made
    /// of.
    fn sum(&self, row: usize, column: usize) -> (f64, f64, usize) {
        let (mut sum, mut magnitude, mut columns) = (0.0, 0.0, 0);
        for Group { a, b } in &self.groups {
            for (a, b) in a[row].iter().zip(&b[column]) {
                let product = a.to_f64() * b.to_f64();
                (sum, magnitude, columns) = (sum + product, magnitude + product.abs(), columns + 1);
            }
        }
        (sum, magnitude, columns / 16)
    }
}

/// Register and lane of a sum: register 4 j + i of lane l of warp w is row 16 w + l / 4 + 8 (i / 2), column
/// 8 j + 2 (l mod 4) + i mod 2 (figure *WGMMA .m64nNk16 register fragment layout for accumulator matrix D*).
fn place(row: usize, column: usize) -> (usize, usize) {
    let (warp, within) = (row / 16, row % 16);
    let lane = 32 * warp + within % 8 * 4 + column % 8 / 2;
    (4 * (column / 8) + within / 8 * 2 + column % 2, lane)
}

/// Register counts that there are entries for.
fn counts() -> Vec<usize> {
    let count = |name: &str| name.strip_prefix("instruction_wgmma_chain_r")?.parse().ok();
    SM90_INSTRUCTIONS.iter().filter_map(|row| count(row.name)).collect()
}

/// Runs all entries and gives each sum to `check`: who made it, the item, row, column, what came out.
#[track_caller]
fn products(
    seed: u64,
    value: fn(&mut StdRng) -> f64,
    check: impl Fn(bool, &Item, usize, usize, f64) -> Result<(), String>,
) {
    let counts = counts();
    assert!(counts.len() >= 11, "{counts:?}");
    for registers in counts {
        for kind in KINDS {
            let name = format!("wgmma_{kind}_r{registers}");
            let mut rng = inputs::generator(seed + registers as u64);
            let items: Vec<_> = (0..ITEMS).map(|_| Item::new(kind, 2 * registers, &mut rng, value)).collect();
            let input: Vec<u32> = items.iter().flat_map(|item| item.words.iter().copied()).collect();
            for outcome in run(&name, ITEMS, &input) {
                for (item, sums) in items.iter().zip(outcome.output.chunks(LANES * registers)) {
                    for (row, column) in
                        (0..64).flat_map(|row| (0..2 * registers).map(move |column| (row, column)))
                    {
                        let (register, lane) = place(row, column);
                        let d = f64::from(f32::from_bits(sums[registers * lane + register]));
                        if let Err(what) = check(outcome.on_device, item, row, column, d) {
                            panic!("{name} by {}: d[{row}, {column}] {what}", outcome.by);
                        }
                    }
                }
            }
        }
    }
}

/// Whole numbers, so small that every sum on the way is exact: any order and any rounding give the same bits.
#[test]
fn products_of_whole_numbers_are_exact() {
    products(
        1,
        |rng| f64::from(rng.random_range(-64..=64)),
        |_, item, row, column, d| {
            let (expected, ..) = item.sum(row, column);
            (d == expected).then_some(()).ok_or_else(|| format!("is {d}, not {expected}"))
        },
    );
}

/// Normally distributed numbers.
///
/// The strict machine rounds once for 16 columns, towards zero. Tensor cores align 16 products and the sum so
/// far to the largest of them and cut off what is below 24 bits, which is at most 2⁻²³ of that one for each
/// of the 17; they may do so in two steps, with a sum in between.
#[test]
fn products_of_normal_numbers() {
    products(
        100,
        |rng| StandardNormal.sample(rng),
        |on_device, item, row, column, d| {
            let (expected, magnitude, steps) = item.sum(row, column);
            let roundings = if on_device { 20.0 } else { 1.0 } * steps as f64;
            let bound = roundings * magnitude * 2f64.powi(-23);
            let error = (d - expected).abs();
            (error <= bound)
                .then_some(())
                .ok_or_else(|| format!("is {d:e}: {error:e} from {expected:e}, at most {bound:e}"))
        },
    );
}

//! Causal attention, held to its formula in f64.
//!
//! With u = 2⁻¹¹ and ε = 2⁻²³, a row of n visible keys with scores s, weights w and values v must satisfy
//!
//! ```text
//! |y − ref| ≤ u·|ref| + 2⁻²⁴ + (u + E + (n/16 + 32)·ε) · Σ w|v| + 2⁻²⁴ · Σ |v|
//! E = 2 · max over keys of ((d/16 + 32)·ε·Σ|q||k|/√d + 2ε·|s|) + (blocks + 2)·4ε
//! ```
//!
//! - y is rounded once: u·|ref|, and 2⁻²⁴ where it is subnormal; a weight once, to f16, relative to the
//!   largest weight so far, which is 1: u·w, and 2⁻²⁴ where it is subnormal, whose sum over |v| is divided by
//!   a sum of weights of at least 1.
//! - An error of e in an exponent is a relative one of e in a weight. A score has that of its d/16 `mma`, as
//!   of any product here, and that of two roundings in f32 (its scale, the difference to the maximum). Weight
//!   and sum of weights have both: twice. `ex2` errs by 2 ulp, once a block for the factors and once for the
//!   weight, `rcp` by 1 ulp.
//! - Sums of weight times v are those of n/16 `mma`.

use fused_lora_kernels::{
    Global, layer_params::AttentionParams, layer_table::LayerKernel, tile::ATTENTION_BLOCK,
};
use fused_lora_simt::{Machine, Order, Report, Schedule, Stats};
use half::f16;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rand_distr::{Distribution as _, StandardNormal};

use crate::{
    layer::{self, EPSILON, Subject, U},
    suite::schedules,
};

const BLOCK: usize = ATTENTION_BLOCK as usize;

/// An attention.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) sequences: usize,
    pub(crate) seq_len: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    /// Row stride of qkv beyond its columns, a multiple of 8; of y; elements before y.
    pub(crate) pad_qkv: usize,
    pub(crate) pad_y: usize,
    pub(crate) shift_y: usize,
    /// Standard deviation of q and k.
    pub(crate) spread: f64,
    /// Values at row, column of qkv.
    pub(crate) planted: Vec<(usize, usize, f32)>,
    pub(crate) seed: u64,
}

impl Case {
    pub(crate) fn new(sequences: usize, seq_len: usize, heads: usize, head_dim: usize) -> Self {
        Self { sequences, seq_len, heads, head_dim, spread: 1.0, seed: 1, ..Self::default() }
    }

    fn rows(&self) -> usize {
        self.sequences * self.seq_len
    }

    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The kernel with the smallest tiles that hold a head.
    fn kernel(&self) -> &'static LayerKernel {
        LayerKernel::attention(self.head_dim as u32).expect("a kernel for this head_dim")
    }
}

/// A case in a machine's memory.
pub(crate) struct Setup {
    case: Case,
    /// `[rows, 3 · width]`.
    qkv: Vec<f16>,
    params: AttentionParams,
    y: u64,
    y_elements: usize,
}

impl Setup {
    pub(crate) fn new(machine: &mut Machine, case: &Case) -> Self {
        let (rows, columns) = (case.rows(), 3 * case.width());
        let mut rng = StdRng::seed_from_u64(case.seed);
        let mut qkv: Vec<f16> = (0..rows * columns)
            .map(|i| {
                let normal: f64 = StandardNormal.sample(&mut rng);
                f16::from_f64(if i % columns < 2 * case.width() { normal * case.spread } else { normal })
            })
            .collect();
        for &(row, column, value) in &case.planted {
            qkv[row * columns + column] = f16::from_f32(value);
        }
        let ld_qkv = columns + case.pad_qkv;
        // Nothing behind the last row; what lies between rows is NaN.
        let mut laid_out = vec![f16::NAN.to_bits(); (rows - 1) * ld_qkv + columns];
        for (row, values) in qkv.chunks(columns).enumerate() {
            laid_out[row * ld_qkv..][..columns].iter_mut().zip(values).for_each(|(to, v)| *to = v.to_bits());
        }
        let address = machine.input(&laid_out);
        machine.name(address, "qkv");
        let ldy = case.width() + case.pad_y;
        let y_elements = case.shift_y + (rows - 1) * ldy + case.width();
        let y = machine.buffer(2 * y_elements);
        machine.name(y, "y");
        let params = AttentionParams {
            qkv: Global::from_address(address),
            y: Global::from_address(y).offset(case.shift_y as u64),
            sequences: case.sequences as u32,
            seq_len: case.seq_len as u32,
            heads: case.heads as u32,
            head_dim: case.head_dim as u32,
            ld_qkv: ld_qkv as u32,
            ldy: ldy as u32,
            scale: (std::f64::consts::LOG2_E / (case.head_dim as f64).sqrt()) as f32,
        };
        Self { case: case.clone(), qkv, params, y, y_elements }
    }

    fn value(&self, row: usize, part: usize, head: usize, column: usize) -> f64 {
        let width = self.case.width();
        self.qkv[row * 3 * width + part * width + head * self.case.head_dim + column].to_f64()
    }

    /// What a head gives for a row, and the bound.
    fn expected(&self, row: usize, head: usize) -> Vec<(f64, f64)> {
        let d = self.case.head_dim;
        let first = row / self.case.seq_len * self.case.seq_len;
        let keys = first..=row;
        let root = (d as f64).sqrt();
        let (mut scores, mut exponent_error) = (Vec::new(), 0f64);
        for key in keys.clone() {
            let products: Vec<f64> =
                (0..d).map(|c| self.value(row, 0, head, c) * self.value(key, 1, head, c)).collect();
            let score = products.iter().sum::<f64>() / root;
            let magnitudes = products.iter().map(|p| p.abs()).sum::<f64>() / root;
            let error = (d as f64 / 16.0 + 32.0) * EPSILON * magnitudes + 2.0 * EPSILON * score.abs();
            exponent_error = exponent_error.max(error);
            scores.push(score);
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let n = scores.len() as f64;
        let blocks = (n / BLOCK as f64).ceil();
        let e = 2.0 * exponent_error + (blocks + 2.0) * 4.0 * EPSILON;
        let relative = U + e + (n / 16.0 + 32.0) * EPSILON;
        (0..d)
            .map(|column| {
                let (mut reference, mut weighed, mut magnitudes) = (0.0, 0.0, 0.0);
                for (weight, key) in weights.iter().zip(keys.clone()) {
                    let v = self.value(key, 2, head, column);
                    reference += weight / sum * v;
                    weighed += weight / sum * v.abs();
                    magnitudes += v.abs();
                }
                let subnormal = 2f64.powi(-24);
                (reference, U * reference.abs() + subnormal + relative * weighed + subnormal * magnitudes)
            })
            .collect()
    }
}

impl Subject for Setup {
    fn launch(&self, machine: &mut Machine, schedule: &Schedule) -> Result<Stats, Report> {
        machine.poison(self.y, 2 * self.y_elements).unwrap();
        let kernel = self.case.kernel();
        let blocks = self.case.seq_len.div_ceil(BLOCK);
        let grid = (blocks * self.case.heads * self.case.sequences) as u32;
        let shape = [grid, kernel.threads, kernel.shared_bytes];
        let launch = fused_lora_tests::shipped::launch(kernel.name, &self.params, shape);
        machine.run(&[launch], schedule)
    }

    fn check(&self, machine: &Machine) -> Result<(), String> {
        let (width, ldy) = (self.case.width(), self.params.ldy as usize);
        let is_y =
            |element: usize| element >= self.case.shift_y && (element - self.case.shift_y) % ldy < width;
        for element in (0..self.y_elements).filter(|&element| !is_y(element)) {
            if machine.read::<u16>(self.y + 2 * element as u64, 1).is_ok() {
                return Err(format!("element {element} of y's buffer is written, outside of y"));
            }
        }
        for row in 0..self.case.rows() {
            let bits: Vec<u16> = machine
                .read(self.y + 2 * (self.case.shift_y + row * ldy) as u64, width)
                .map_err(|report| format!("row {row}: {report}"))?;
            for head in 0..self.case.heads {
                let expected = self.expected(row, head);
                let columns = head * self.case.head_dim..;
                for (column, (reference, bound)) in columns.zip(expected) {
                    let y = f16::from_bits(bits[column]).to_f64();
                    let right = if reference.is_nan() {
                        y.is_nan()
                    } else if reference.is_infinite() {
                        y == reference || y.is_nan()
                    } else {
                        (y - reference).abs() <= bound
                    };
                    if !right {
                        return Err(format!("y[{row}, {column}] is {y}, not {reference} ± {bound:e}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Runs a case over schedules, and holds it to the formula.
pub(crate) fn hold(case: &Case, schedules: &[Schedule]) -> Stats {
    let mut machine = Machine::new();
    let setup = Setup::new(&mut machine, case);
    layer::hold(&mut machine, &setup, case, schedules)
}

#[test]
fn lengths() {
    for (turn, seq_len) in
        [1, 2, 7, 15, 16, 17, 63, 64, 65, 80, 127, 128, 129, 130, 193].into_iter().enumerate()
    {
        hold(&Case { seed: turn as u64, ..Case::new(1, seq_len, 1, 64) }, &schedules(turn, 3));
    }
}

#[test]
fn head_dims() {
    for (turn, head_dim) in [8, 16, 24, 32, 40, 56, 64, 72, 120, 128].into_iter().enumerate() {
        for seq_len in [7, 65] {
            hold(&Case { seed: 2, ..Case::new(1, seq_len, 1, head_dim) }, &schedules(turn, 2));
        }
    }
}

#[test]
fn sequences_and_heads() {
    for (turn, (sequences, seq_len, heads, head_dim)) in
        [(3, 1, 2, 8), (2, 7, 3, 16), (2, 65, 2, 64), (3, 70, 1, 40), (1, 66, 2, 128), (5, 33, 4, 16)]
            .into_iter()
            .enumerate()
    {
        hold(&Case { seed: 3, ..Case::new(sequences, seq_len, heads, head_dim) }, &schedules(turn, 2));
    }
}

#[test]
fn strides() {
    let pads = [(8, 0, 0), (0, 8, 8), (16, 1, 0), (0, 0, 1), (24, 5, 3), (8, 2, 4)];
    for (turn, (pad_qkv, pad_y, shift_y)) in pads.into_iter().enumerate() {
        let case = Case { pad_qkv, pad_y, shift_y, seed: 4, ..Case::new(2, 37, 2, 24) };
        hold(&case, &schedules(turn, 2));
    }
}

/// Scores that a few keys dominate, and maxima that move from block to block.
#[test]
fn large_scores() {
    for (turn, spread) in [3.0, 10.0, 0.01].into_iter().enumerate() {
        hold(&Case { spread, seed: 5, ..Case::new(1, 200, 1, 64) }, &schedules(turn, 2));
    }
}

#[test]
fn random() {
    let mut rng = StdRng::seed_from_u64(6);
    for turn in 0..12 {
        let case = Case {
            pad_qkv: 8 * rng.random_range(0..3),
            pad_y: rng.random_range(0..9),
            shift_y: rng.random_range(0..9),
            spread: [0.3, 1.0, 4.0][turn % 3],
            seed: rng.random(),
            ..Case::new(
                rng.random_range(1..4),
                rng.random_range(1..140),
                rng.random_range(1..4),
                8 * rng.random_range(1..=16),
            )
        };
        hold(&case, &schedules(turn, 1));
    }
}

/// What is not finite reaches the rows that see it, and no other. Every query is somewhere in a block before
/// it, in the same 16 or not.
#[test]
fn what_is_not_finite_is_seen_by_those_alone_that_may() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    // Columns of head 1 of q, k, v, with two heads of 16 columns.
    let [q, k, v] = [16 + 3, 32 + 16 + 5, 64 + 16 + 9];
    for (turn, value) in [nan, inf, -inf].into_iter().enumerate() {
        for (part, column) in [q, k, v].into_iter().enumerate() {
            for row in [0, 5, 15, 16, 40, 63, 64, 90] {
                let case = Case { planted: vec![(row, column, value)], seed: 7, ..Case::new(1, 92, 2, 16) };
                hold(&case, &schedules(turn + part + row, 1));
            }
        }
    }
    // Several in the same 16 keys, of both signs; and the last row of a sequence before the first of the
    // next.
    let planted = vec![(3, v, inf), (7, v, -inf), (7, v + 1, nan), (9, v, nan), (36, v, inf), (36, k, nan)];
    hold(&Case { planted, seed: 8, ..Case::new(2, 37, 2, 16) }, &schedules(0, 4));
    for head_dim in [64, 128] {
        let planted = vec![(10, 2 * head_dim, inf), (30, 3 * head_dim - 1, nan)];
        hold(&Case { planted, seed: 8, ..Case::new(1, 40, 1, head_dim) }, &schedules(3, 2));
    }
}

/// A score of −∞ is a weight of 0; where all scores are, y is NaN, as the softmax has it.
#[test]
fn keys_of_score_minus_infinity() {
    // k is +∞ where q is negative: rows from 70 on, and row 3, see a block of nothing else first.
    let mut planted: Vec<_> = (0..64).map(|row| (row, 8, f32::INFINITY)).collect();
    planted.extend((0..100).map(|row| (row, 0, if row < 3 { 1.0 } else { -1.0 })));
    hold(&Case { planted, seed: 9, ..Case::new(1, 100, 1, 8) }, &schedules(0, 3));
}

/// Keys behind a warp's queries are left out of its products, and blocks behind a query altogether.
#[test]
fn products() {
    let blocks = |seq_len: usize| (seq_len as u64).div_ceil(64);
    for (seq_len, head_dim) in [(64, 64), (130, 64), (100, 128), (70, 32)] {
        let stats = hold(&Case::new(1, seq_len, 1, head_dim), &schedules(0, 1));
        let d = head_dim as u64;
        // Per warp: 8 fragments of keys by d/16 steps, 4 steps of keys by d/8 fragments.
        let whole = 4 * (8 * (d / 16) + 4 * (d / 8));
        // 2, 4, 6, 8 fragments; 1, 2, 3, 4 steps.
        let diagonal = 20 * (d / 16) + 10 * (d / 8);
        let b = blocks(seq_len);
        assert_eq!(stats.mma, b * diagonal + b * (b - 1) / 2 * whole, "{seq_len}, {head_dim}");
    }
}

/// The longest work items come first.
#[test]
fn the_last_queries_come_first() {
    let mut machine = Machine::new();
    let setup = Setup::new(&mut machine, &Case::new(1, 130, 2, 8));
    let schedule = Schedule { slots: 1, order: Order::Ascending, ..Schedule::default() };
    let written = |machine: &Machine, row: u64| machine.read::<u16>(setup.y + 2 * 16 * row, 16).is_ok();
    let first_rows = (1..400u64).find_map(|step| {
        setup.launch(&mut machine, &schedule.clone().abort_after(step * 2000)).err()?;
        let rows: Vec<_> = (0..130).filter(|&row| written(&machine, row)).collect();
        (!rows.is_empty()).then_some(rows)
    });
    // Both heads of the third block, which has two queries.
    assert_eq!(first_rows.expect("a row was written"), [128, 129]);
}

//! LayerNorm, held to its formula in f64.
//!
//! With u = 2⁻¹¹, ε = 2⁻²³, x̂ the normalised row and σ the root of variance + ε₀, an element must satisfy
//!
//! ```text
//! |y − ref| ≤ u·|ref| + 2⁻²⁴ + |γ|·δ/σ + (|γ·x̂| + |β|) · ρ
//! δ = (n/64 + 10)·ε·mean |x|                       the error of the mean
//! ρ = (n/64 + 10)·ε + δ²/(2σ²) + 4ε                that of the scale, and three roundings
//! ```
//!
//! A lane adds n/32 elements and the warp its 32 sums: n/32 + 5 roundings of ε/2, and two more for 1/n. An
//! error of the mean changes the variance by its square alone, and `rsqrt` errs by 2^-22.9.

use fused_lora_kernels::{
    Global, layer_params::LayerNormParams, layer_table::LayerKernel, tile::LAYER_NORM_ROWS,
};
use fused_lora_simt::{Machine, Report, Schedule, Stats};
use half::f16;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rand_distr::{Distribution as _, StandardNormal};

use crate::{
    layer::{self, EPSILON, Subject, U},
    suite::schedules,
};

/// A LayerNorm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Row strides beyond the columns, and elements before the first row.
    pub(crate) pad_x: usize,
    pub(crate) pad_y: usize,
    pub(crate) shift_x: usize,
    pub(crate) shift_y: usize,
    /// Mean and standard deviation of x.
    pub(crate) mean: f64,
    pub(crate) spread: f64,
    /// Whether y is x.
    pub(crate) in_place: bool,
    /// Values at row, column of x.
    pub(crate) planted: Vec<(usize, usize, f32)>,
}

impl Case {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, mean: 0.3, spread: 1.5, ..Self::default() }
    }
}

/// A case in a machine's memory.
pub(crate) struct Setup {
    case: Case,
    x: Vec<f16>,
    /// x as it is laid out.
    laid_out: Vec<u16>,
    gamma: Vec<f16>,
    beta: Vec<f16>,
    params: LayerNormParams,
    y: u64,
    y_elements: usize,
}

impl Setup {
    pub(crate) fn new(machine: &mut Machine, case: &Case) -> Self {
        let Case { rows, columns, .. } = *case;
        let mut rng = StdRng::seed_from_u64(columns as u64);
        let mut normal = |mean: f64, spread: f64| {
            let sample: f64 = StandardNormal.sample(&mut rng);
            f16::from_f64(mean + spread * sample)
        };
        let mut x: Vec<f16> = (0..rows * columns).map(|_| normal(case.mean, case.spread)).collect();
        for &(row, column, value) in &case.planted {
            x[row * columns + column] = f16::from_f32(value);
        }
        let gamma: Vec<f16> = (0..columns).map(|_| normal(1.0, 0.5)).collect();
        let beta: Vec<f16> = (0..columns).map(|_| normal(0.0, 0.5)).collect();

        let ldx = columns + case.pad_x;
        // Nothing behind the last row; what lies between rows, and before the first, is NaN.
        let mut laid_out = vec![f16::NAN.to_bits(); case.shift_x + (rows - 1) * ldx + columns];
        for (row, values) in x.chunks(columns).enumerate() {
            let to = &mut laid_out[case.shift_x + row * ldx..][..columns];
            to.iter_mut().zip(values).for_each(|(to, v)| *to = v.to_bits());
        }
        let mut vector = |name: &str, values: &[f16]| {
            let mut bits: Vec<u16> = values.iter().map(|v| v.to_bits()).collect();
            bits.resize(columns.next_multiple_of(8), f16::NAN.to_bits());
            let address = machine.input(&bits);
            machine.name(address, name);
            Global::from_address(address)
        };
        let (of_gamma, of_beta) = (vector("gamma", &gamma), vector("beta", &beta));
        let ldy = if case.in_place { ldx } else { columns + case.pad_y };
        let shift_y = if case.in_place { case.shift_x } else { case.shift_y };
        let y_elements = shift_y + (rows - 1) * ldy + columns;
        let y = machine.buffer(2 * y_elements);
        machine.name(y, "y");
        let of_x = if case.in_place { y } else { machine.input(&laid_out) };
        machine.name(of_x, "x");
        let params = LayerNormParams {
            x: Global::from_address(of_x).offset(case.shift_x as u64),
            y: Global::from_address(y).offset(shift_y as u64),
            gamma: of_gamma,
            beta: of_beta,
            rows: rows as u32,
            columns: columns as u32,
            ldx: ldx as u32,
            ldy: ldy as u32,
            reciprocal: (1.0 / columns as f64) as f32,
            epsilon: 1e-5,
        };
        Self { case: case.clone(), x, laid_out, gamma, beta, params, y, y_elements }
    }

    /// What a row must be, and the bound.
    fn expected(&self, row: usize) -> Vec<(f64, f64)> {
        let n = self.case.columns as f64;
        let x: Vec<f64> =
            self.x[row * self.case.columns..][..self.case.columns].iter().map(|v| v.to_f64()).collect();
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let sigma = (variance + f64::from(self.params.epsilon)).sqrt();
        let roundings = (n / 64.0 + 10.0) * EPSILON;
        let delta = roundings * x.iter().map(|v| v.abs()).sum::<f64>() / n;
        let rho = roundings + delta.powi(2) / (2.0 * sigma * sigma) + 4.0 * EPSILON;
        (x.iter().zip(self.gamma.iter().zip(&self.beta)))
            .map(|(x, (gamma, beta))| {
                let (gamma, beta) = (gamma.to_f64(), beta.to_f64());
                let normal = (x - mean) / sigma;
                let reference = normal * gamma + beta;
                let bound = U * reference.abs()
                    + 2f64.powi(-24)
                    + gamma.abs() * delta / sigma
                    + ((gamma * normal).abs() + beta.abs()) * rho;
                (reference, bound)
            })
            .collect()
    }
}

impl Subject for Setup {
    fn launch(&self, machine: &mut Machine, schedule: &Schedule) -> Result<Stats, Report> {
        machine.poison(self.y, 2 * self.y_elements).unwrap();
        if self.case.in_place {
            machine.write(self.y, &self.laid_out).unwrap();
        }
        let kernel = LayerKernel::layer_norm();
        let grid = (self.case.rows as u32).div_ceil(LAYER_NORM_ROWS);
        let shape = [grid, kernel.threads, kernel.shared_bytes];
        let launch = fused_lora_tests::shipped::launch(kernel.name, &self.params, shape);
        machine.run(&[launch], schedule)
    }

    fn check(&self, machine: &Machine) -> Result<(), String> {
        let Case { columns, .. } = self.case;
        let (ldy, shift) = (self.params.ldy as usize, (self.params.y.address() - self.y) as usize / 2);
        let is_y = |element: usize| element >= shift && (element - shift) % ldy < columns;
        for element in (0..self.y_elements).filter(|&element| !is_y(element)) {
            let now = machine.read::<u16>(self.y + 2 * element as u64, 1).ok();
            if now != self.case.in_place.then(|| vec![self.laid_out[element]]) {
                return Err(format!("element {element} of y's buffer is written, outside of y"));
            }
        }
        for row in 0..self.case.rows {
            let bits: Vec<u16> = machine
                .read(self.params.y.address() + 2 * (row * ldy) as u64, columns)
                .map_err(|report| format!("row {row}: {report}"))?;
            for (column, (reference, bound)) in self.expected(row).into_iter().enumerate() {
                let y = f16::from_bits(bits[column]).to_f64();
                let right = if reference.is_nan() { y.is_nan() } else { (y - reference).abs() <= bound };
                if !right {
                    return Err(format!("y[{row}, {column}] is {y}, not {reference} ± {bound:e}"));
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
fn columns() {
    let all = [
        1, 2, 7, 8, 9, 31, 32, 33, 64, 100, 255, 256, 257, 768, 1000, 1023, 1024, 1025, 1032, 2048, 2053,
        4096,
    ];
    for (turn, columns) in all.into_iter().enumerate() {
        hold(&Case::new(3, columns), &schedules(turn, 4));
    }
}

#[test]
fn rows() {
    for (turn, rows) in [1, 2, 3, 4, 5, 8, 9, 31].into_iter().enumerate() {
        hold(&Case::new(rows, 72), &schedules(turn, 4));
    }
}

#[test]
fn strides() {
    let pads =
        [(8, 0, 0, 0), (0, 8, 8, 16), (1, 0, 0, 0), (0, 3, 0, 0), (0, 0, 1, 0), (0, 0, 0, 5), (3, 5, 7, 2)];
    for (turn, (pad_x, pad_y, shift_x, shift_y)) in pads.into_iter().enumerate() {
        for columns in [40, 1100] {
            let case = Case { pad_x, pad_y, shift_x, shift_y, ..Case::new(5, columns) };
            hold(&case, &schedules(turn, 2));
            hold(&Case { in_place: true, ..case }, &schedules(turn, 2));
        }
    }
}

/// In the mean of squares less the square of the mean nothing would be left of the variance.
#[test]
fn a_mean_far_above_the_spread() {
    for (mean, spread) in [(1000.0, 1.0), (-20000.0, 30.0), (0.0, 1e-3), (3e-5, 1e-6), (0.0, 8000.0)] {
        hold(&Case { mean, spread, ..Case::new(4, 1024) }, &schedules(0, 4));
    }
    // Equal elements: β alone.
    hold(&Case { mean: 1234.0, spread: 0.0, ..Case::new(4, 513) }, &schedules(0, 4));
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (row, column) in [(0, 0), (2, 99), (4, 1100)] {
            let case = Case { planted: vec![(row, column, value)], ..Case::new(6, 1101) };
            hold(&case, &schedules(row, 2));
        }
    }
}

/// A row of up to 1,024 columns is read once, in 16 bytes a lane.
#[test]
fn loads() {
    let stats = hold(&Case::new(8, 1024), &schedules(0, 1));
    // x, and γ and β for each row.
    assert_eq!(stats.global_loaded, 8 * 1024 * 2 * 3);
    let loads = stats.sites.iter().filter(|site| site.op == fused_lora_simt::Op::LdGlobal);
    assert_eq!(loads.map(|site| site.count).sum::<u64>(), 8 * 1024 * 3 / 8);
}

#[test]
fn random() {
    let mut rng = StdRng::seed_from_u64(2);
    for turn in 0..30 {
        let case = Case {
            pad_x: rng.random_range(0..9),
            pad_y: rng.random_range(0..9),
            shift_x: rng.random_range(0..9),
            shift_y: rng.random_range(0..9),
            mean: rng.random_range(-3.0..3.0),
            in_place: turn % 5 == 4,
            ..Case::new(rng.random_range(1..9), rng.random_range(1..1500))
        };
        hold(&case, &schedules(turn, 2));
    }
}

//! Where the model stands beside what is asked of the kernels for Hopper.

use std::{collections::BTreeMap, fmt};

use fused_lora_records::Workload;

use crate::{
    cell::{Estimate, LABEL},
    set::Set,
};

/// Tokens from which on the time is that of the multiplications, and below which that of the launch.
const MANY_TOKENS: usize = 2048;
/// Points over the floor that a cell may have, and how many cells must.
const OVER_FLOOR: (f64, usize) = (2.0, 27);
/// Points over the floor that no cell may exceed.
const MOST_OVER_FLOOR: f64 = 8.0;
/// TFLOP/s of the base product with M = N = K = 4096.
const SQUARE: (usize, f64) = (4096, 700.0);
/// How near to its limit a product is.
const NEAR: f64 = 1.1;
/// Seconds that an adapter may cost beside its floor where there are few tokens.
const FEW_TOKENS: f64 = 1.5e-6;

/// What is asked by one set of constants, and what the model expects: of all workloads of linear layers, each
/// cell once for the same number of tokens and rank, cells without an adapter aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    set: Set,
    /// TFLOP/s of the base product with M = N = K = 4096.
    pub square_tflops: f64,
    /// Cells of many tokens: those near the floor, and all.
    pub near_floor: (usize, usize),
    /// The most points over the floor among them.
    pub most_over_floor: f64,
    /// Of those whose base is near its limit: those whose fused product is near its own, and all.
    pub near_limit: (usize, usize),
    /// Cells of few tokens: those that cost little beside the floor, and all.
    pub few_tokens: (usize, usize),
}

impl Standing {
    /// By one set; none where an estimate of a workload is missing.
    #[must_use]
    pub fn of(estimates: &[Estimate], set: Set) -> Option<Standing> {
        let is_there = |workload| estimates.iter().any(|estimate| estimate.workload == workload);
        if !Workload::LINEARS.iter().all(is_there) {
            return None;
        }
        let key = |of: &Estimate| (of.workload.name(), of.cell.m(), of.cell.rank);
        let distinct: BTreeMap<_, &Estimate> = estimates.iter().map(|of| (key(of), of)).collect();
        let square =
            distinct.iter().find(|((workload, m, _), _)| (*workload, *m) == ("linear-4096x4096", SQUARE.0));
        let square = set.of(square?.1.base);
        let adapted = |are_many: bool| -> Vec<&Estimate> {
            let is_one = |of: &&Estimate| of.cell.rank > 0 && (of.cell.m() >= MANY_TOKENS) == are_many;
            distinct.values().copied().filter(is_one).collect()
        };
        let (many, few) = (adapted(true), adapted(false));
        let over_floor = |of: &Estimate| of.slowdown_pct(of.fused, set) - of.floor_pad_pct;
        let is_near = |seconds, limit| set.of(seconds) <= NEAR * set.of(limit);
        let near_bases: Vec<&Estimate> =
            many.iter().copied().filter(|of| is_near(of.base, of.base_limit)).collect();
        let costs_little = |of: &Estimate| {
            set.of(of.fused) <= set.of(of.base) * (1.0 + of.floor_pad_pct / 100.0) + FEW_TOKENS
        };
        let all = |cells: &[&Estimate], is_so: &dyn Fn(&Estimate) -> bool| {
            (cells.iter().filter(|of| is_so(of)).count(), cells.len())
        };
        Some(Standing {
            set,
            square_tflops: 2.0 * (SQUARE.0 as f64).powi(3) / square / 1e12,
            near_floor: all(&many, &|of| over_floor(of) <= OVER_FLOOR.0),
            most_over_floor: many.iter().map(|of| over_floor(of)).fold(f64::NEG_INFINITY, f64::max),
            near_limit: all(&near_bases, &|of| is_near(of.fused, of.fused_limit)),
            few_tokens: all(&few, &costs_little),
        })
    }
}

/// A line for each goal: what is asked, and what is expected.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, square_tflops, near_floor, most_over_floor, near_limit, few_tokens } = self;
        writeln!(f, "{LABEL}: the goals for Hopper by the {set} constants, asked | expected")?;
        let (size, least) = SQUARE;
        writeln!(f, "base at M = N = K = {size}, TFLOP/s: at least {least} | {square_tflops:.0}")?;
        let (many, (points, cells)) = (format!("M >= {MANY_TOKENS}, "), OVER_FLOOR);
        let (near, all) = near_floor;
        writeln!(f, "{many}fused at most {points} points over floor_pad: {cells} of {all} cells | {near}")?;
        writeln!(f, "{many}points over floor_pad: at most {MOST_OVER_FLOOR} | {most_over_floor:.1}")?;
        let (near, all) = near_limit;
        writeln!(f, "{many}fused within {NEAR} of its limit where base is: all {all} | {near}")?;
        let ((near, all), us) = (few_tokens, FEW_TOKENS * 1e6);
        write!(f, "M < {MANY_TOKENS}, fused at most base · (1 + floor_pad) + {us} µs: ")?;
        writeln!(f, "all {all} cells | {near}")
    }
}

#[cfg(test)]
mod tests {
    use fused_lora::plan::Gpu;

    use super::*;
    use crate::model::estimate;

    fn all() -> Vec<&'static Workload> {
        Workload::LINEARS.iter().collect()
    }

    /// What the model expects of the kernels as they are: far from the goals, which need new designs.
    #[test]
    fn where_the_model_stands() {
        let estimates = estimate(&Gpu::from_data_sheet("h200").unwrap(), &all()).unwrap();
        let standing = Standing::of(&estimates, Set::Pessimistic).unwrap();
        let rounded = |number: f64| (10.0 * number).round() / 10.0;
        let Standing { near_floor, near_limit, few_tokens, .. } = standing;
        assert_eq!((rounded(standing.square_tflops), rounded(standing.most_over_floor)), (879.1, 41.8));
        assert_eq!((near_floor, near_limit, few_tokens), ((8, 36), (0, 12), (21, 36)));
    }

    #[test]
    fn a_part_of_the_workloads_has_no_standing() {
        let estimates = estimate(&Gpu::from_data_sheet("h200").unwrap(), &all()[1..]).unwrap();
        assert_eq!(Standing::of(&estimates, Set::Pessimistic), None);
    }
}

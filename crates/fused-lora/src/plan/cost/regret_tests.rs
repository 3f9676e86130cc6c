//! What a choice costs if one set of constants is right, over the published calls.

use std::fmt::Write as _;

use super::tests::request;
use crate::{
    Strategy,
    plan::{Gpu, choice::Plan},
};

/// M of the published grids, and of few tokens.
const ROWS: [u32; 20] =
    [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
/// N and K of the published workloads.
const SHAPES: [[u32; 2]; 6] =
    [[1024, 1024], [4096, 4096], [3072, 1024], [4096, 1024], [1024, 4096], [11008, 4096]];
/// Ranks of both.
const RANKS: [u32; 6] = [0, 10, 16, 64, 100, 250];
/// What was asked for: 3 percent.
const ALLOWED: f64 = 1.03;

/// How many times as long a choice takes as the fastest by the set that likes it less.
fn over(gpu: &Gpu, [m, n, k]: [u32; 3], rank: u32, aligned: bool, strategy: Strategy) -> f64 {
    let request = request(m, n, k, rank, aligned, strategy);
    let chosen = Plan::among(&request, gpu, &|_| true).unwrap();
    chosen.seconds().over(Plan::fastest(&request, gpu).unwrap())
}

/// 3 % at most, but for calls on Hopper that the copy engine serves, which `regrets.txt` lists.
#[test]
fn a_choice_costs_3_percent_at_most_by_either_set_but_for_a_list() {
    let all: Vec<Gpu> = Gpu::data_sheets().map(|name| Gpu::from_data_sheet(name).unwrap()).collect();
    let mut table = String::new();
    for strategy in [Strategy::Unfused, Strategy::Fused] {
        for [n, k] in SHAPES {
            for m in ROWS {
                let mut line = String::new();
                for rank in RANKS {
                    let mut most = 1.0f64;
                    for gpu in &all {
                        let of = |aligned| over(gpu, [m, n, k], rank, aligned, strategy);
                        if gpu.properties().compute_capability == (9, 0) {
                            most = most.max(of(true));
                        } else {
                            assert!(of(true) <= ALLOWED, "{gpu:?}: m {m} n {n} k {k} r {rank}");
                        }
                        assert!(of(false) <= ALLOWED, "{gpu:?}: m {m} n {n} k {k} r {rank}, any x");
                    }
                    // Rank 0 is the base, whatever the strategy; it is listed once.
                    let is_listed = most > ALLOWED && (rank > 0 || strategy == Strategy::Fused);
                    let text = if is_listed { format!("{:.1}", 100.0 * (most - 1.0)) } else { "-".into() };
                    write!(line, " {text:>5}").unwrap();
                }
                if line.contains('.') {
                    writeln!(table, "{:7} {k:4} {n:5} {m:5} {line}", strategy.to_string()).unwrap();
                }
            }
        }
    }
    let expected = include_str!("regrets.txt");
    let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    let found: Vec<_> = table.lines().collect();
    assert!(found == expected, "regrets.txt is not\n{table}");
}

//! The choices on compute capability 9.0.

use std::fmt::Write as _;

use fused_lora_kernels::{
    params::Lora,
    sm90_tile::{OTHER_REGISTERS, PRODUCER_REGISTERS},
    table::SM90_KERNELS,
};

use super::*;
use crate::{
    Problem, Strategy,
    plan::{
        Error, Gpu,
        adapters::Adapters,
        assignment::Assignment,
        choice::{Plan, Request},
        layout::workspace_size,
    },
};

/// N and K of the benches' projections.
const SHAPES: [[usize; 2]; 5] = [[1024, 1024], [4096, 4096], [3072, 1024], [4096, 1024], [1024, 4096]];
const RANKS: [usize; 4] = [0, 10, 100, 250];

fn h200() -> Gpu {
    Gpu::from_data_sheet("h200").unwrap()
}

fn plan(gpu: &Gpu, [m, n, k]: [usize; 3], rank: usize, strategy: Strategy) -> Plan {
    gpu.plan(&Problem::new(m, n, k, rank), strategy).unwrap()
}

/// `gemm_128x256/2`: the kernel without `sm90_`, and the CTAs of its clusters.
fn short(plan: &Plan) -> String {
    let launch = plan.launches()[0];
    let name = launch.kernel.name.strip_prefix("sm90_").unwrap_or_else(|| panic!("{plan} on an H200"));
    format!("{name}/{}", launch.cluster)
}

/// What the model decides over the grid of the benches, as `sm90_choices.txt` has it:
///
/// - Tiles as large as fill the chip, and the smallest for a few tokens, where the SM that loads the least is
///   the fastest.
/// - K is split where it is long and the tiles are few.
/// - Of the fused kernels cooperative h, in clusters that at least hold the rank: they share x, which counts
///   where L2 is slow. Shared h for many tokens at large ranks, where a shrink beside every tile costs more.
#[test]
fn choices() {
    let gpu = h200();
    let mut table = String::new();
    for [n, k] in SHAPES {
        for m in [128, 256, 512, 1024, 2048, 4096, 8192, 16384] {
            let chosen = RANKS.map(|rank| short(&plan(&gpu, [m, n, k], rank, Strategy::Fused)));
            let [r0, r10, r100, r250] = chosen;
            writeln!(table, "{k:4} {n:4} {m:5}  {r0:22} {r10:34} {r100:34} {r250}").unwrap();
        }
    }
    let expected = include_str!("sm90_choices.txt");
    let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    let found: Vec<_> = table.lines().collect();
    assert_eq!(found, expected, "\n{table}");
}

/// The time of this kernel in clusters of this size.
fn forced([m, n, k]: [u32; 3], name: &str, cluster: u32) -> Seconds {
    let request = Request::uniform(m, n, k, 0, Strategy::Base);
    let is_it = |launch: &crate::plan::Launch| (launch.kernel.name, launch.cluster) == (name, cluster);
    Plan::among(&request, &h200(), &is_it).unwrap().seconds()
}

/// M = N = K = 4096 by hand: 512 tiles of 128 × 256, four for each SM, 64 steps in each.
#[test]
fn a_large_product_is_what_its_arithmetic_says() {
    let seconds = forced([4096; 3], "sm90_gemm_128x256", 2);
    // 1024 cycles a step, 300 + 640 a tail, 1500 a launch.
    let optimistic = (4.0 * (64.0 * 1024.0 + 940.0) + 1500.0) / 1.98e9 + 0.5e-6;
    // x for two, W, and y through L2; then the last step's products, and a tail.
    let l2 = 512.0 * (64.0 * (64.0 + 256.0) * 128.0 + 128.0 * 256.0 * 2.0) / (34.0 * 132.0);
    let pessimistic = (l2 + 1024.0 + 1000.0 + 2500.0) / 1.755e9;
    let memory = 3.0 * 2.0 * 4096.0 * 4096.0 / 4.8e12;
    assert!((seconds.optimistic - optimistic - 0.1 * memory).abs() < 1e-12, "{seconds:?}");
    assert!((seconds.pessimistic - pessimistic - 0.1 * memory).abs() < 1e-12, "{seconds:?}");
}

/// One tile of 128 × 256 and its y, which is read from shared memory again: 8 · 10 KiB for the products, 48
/// KiB for the slot, and 1 KiB of y a step.
#[test]
fn shared_memory_is_charged_as_built() {
    let seconds = forced([128, 256, 4096], "sm90_gemm_128x256", 1);
    let memory = 2.0 * (128.0 * 4096.0 + 256.0 * 4096.0 + 128.0 * 256.0) / 4.8e12;
    let of = |cycles: f64, clock| cycles / clock + 0.1 * memory;
    let optimistic = of(64.0 * 1024.0 + 940.0 + 1500.0, 1.98e9) + 0.5e-6;
    let pessimistic = of(64.0 * (80.0 + 48.0 + 1.0) * 1024.0 / 128.0 + 1000.0 + 2500.0, 1.755e9);
    assert!((seconds.optimistic - optimistic).abs() < 1e-12, "{seconds:?} {optimistic:e}");
    assert!((seconds.pessimistic - pessimistic).abs() < 1e-12, "{seconds:?} {pessimistic:e}");
}

/// More arithmetic, more bytes, never less time; and the three launches of `unfused` beat one by a
/// trifle at most. Of whatever is fastest by one set: what is chosen is a little off either.
#[test]
fn fused_is_never_faster_than_base_nor_slower_than_unfused() {
    for gpu in ["h100", "h200"].map(|name| Gpu::from_data_sheet(name).unwrap()) {
        for [n, k] in SHAPES.into_iter().chain([[96, 8192], [8192, 96], [40, 40], [12288, 4096]]) {
            for m in [1, 64, 65, 128, 200, 512, 1000, 1024, 2048, 4000, 4096, 8192, 16384] {
                let of = |strategy, rank| {
                    let [n, k] = [n, k].map(|size| size as u32);
                    Plan::fastest(&Request::uniform(m, n, k, rank, strategy), &gpu).unwrap()
                };
                let base = of(Strategy::Base, 0);
                for rank in [1, 16, 17, 32, 100, 250, 1000] {
                    let (fused, unfused) = (of(Strategy::Fused, rank), of(Strategy::Unfused, rank));
                    let case = format!("m {m} n {n} k {k} r {rank}: {base:?} {fused:?} {unfused:?}");
                    let is_slower =
                        base.optimistic < fused.optimistic && base.pessimistic < fused.pessimistic;
                    assert!(is_slower, "{case}");
                    // Where N or K are small beside the rank, the adapter is most of the work.
                    if rank <= 250 && n >= 1024 && k >= 1024 {
                        assert!(fused.optimistic < unfused.optimistic, "{case}");
                        // Half a percent more at N = 12288 and rank 16, where x is read twice.
                        assert!(fused.pessimistic < 1.006 * unfused.pessimistic, "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_estimate_is_above_what_the_chip_can_do() {
    let gpu = h200();
    let over_limit = |[m, n, k]: [usize; 3], rank| {
        let fused = plan(&gpu, [m, n, k], rank, Strategy::Fused).seconds();
        let limit = limit(&Problem::new(m, n, k, rank), gpu.properties());
        [fused.optimistic / limit.optimistic, fused.pessimistic / limit.pessimistic]
    };
    for [n, k] in SHAPES {
        for m in [128, 1024, 16384] {
            for rank in RANKS {
                let over = over_limit([m, n, k], rank);
                assert!(over.iter().all(|over| *over > 1.0), "m {m} n {n} k {k} r {rank}: {over:?}");
            }
        }
    }
    // And not far above the limit where there is most to do.
    let [optimistic, pessimistic] = over_limit([16384, 4096, 4096], 0);
    assert!(optimistic < 1.1 && pessimistic < 1.3, "{optimistic} {pessimistic}");
}

/// Tiles are those of the name. Sums of y and h together beside everything else, in what `setmaxnreg` leaves
/// a consumer. ptxas has the last word; `kernels/src/sm90_tile.rs` asserts the same when it is compiled.
#[test]
fn sums_of_y_and_h_fit_the_registers_of_a_consumer() {
    for kernel in SM90_KERNELS {
        let name = kernel.name;
        let parts = || name.split('_');
        let tile = parts().find_map(|part| part.split_once('x'));
        let tile = tile.map(|(m, n)| [m, n].map(|size| size.parse().unwrap()));
        let h = parts().find_map(|part| part.strip_prefix(['h', 'k'])?.parse().ok()).unwrap_or(0);
        assert_eq!((tile, h), (Some([kernel.block_m, kernel.block_n]), kernel.h), "{name}");
        let (consumers, sums) = (kernel.threads / 128 - 1, (kernel.block_n + kernel.h) / 2);
        assert_eq!(consumers, kernel.block_m / 64, "{name}");
        let at_launch = (65536 / kernel.threads / 8 * 8).min(248);
        let consumer = (((consumers + 1) * at_launch - PRODUCER_REGISTERS) / consumers / 8 * 8).min(240);
        assert!(sums + OTHER_REGISTERS <= consumer, "{name}: {sums} of {consumer}");
        assert!(kernel.max_registers <= at_launch.next_multiple_of(255), "{name}");
    }
}

#[test]
fn what_the_copy_engine_cannot_address_takes_the_kernels_for_8_0() {
    let gpu = h200();
    for strategy in Strategy::ALL {
        let boxed = Request::uniform(1000, 1024, 1024, 10, strategy);
        let target = |request: &Request<'_>| {
            Plan::among(request, &gpu, &|_| true).unwrap().launches()[0].kernel.target
        };
        assert_eq!(target(&boxed), Target::Sm90a, "{strategy}");
        assert_eq!(target(&Request { boxed: false, ..boxed }), Target::Sm80, "{strategy}");
        // Any number of columns in rows that are apart enough: 77 in 80.
        let odd = Request { k: 77, aligned: false, ..boxed };
        assert_eq!(target(&odd), Target::Sm90a, "{strategy}");
    }
}

#[test]
fn adapters_that_meet_in_a_row_tile_need_room_together() {
    let gpu = h200();
    let chosen = |rows: &[_], m: u32, ranks: &[u32], workspace: usize, name: &str| {
        let assignment = Assignment::new(m as usize, rows, ranks).unwrap();
        let request = Request {
            adapters: Adapters::batch(Lora::default(), &assignment),
            workspace,
            ..Request::uniform(m, 1024, 1024, 1, Strategy::Fused)
        };
        Plan::among(&request, &gpu, &|launch| launch.kernel.name.starts_with(name))
            .map(|plan| plan.launches()[0])
    };
    let none = Error::NoKernel { strategy: Strategy::Fused, operation: Operation::Fused };
    // Three of 112 in 64 rows, and in 256.
    let rows = [(0..20, 0), (20..40, 0), (50..64, 0)];
    let (least, enough) = (workspace_size(256, 100), workspace_size(256, 3 * 112));
    for (workspace, found) in [(least, false), (enough - 1, false), (enough, true)] {
        let launch = chosen(&rows, 256, &[100], workspace, "sm90_fused_64x64");
        assert_eq!(launch.is_ok(), found, "{workspace}");
        // Three times 112 are more than cooperative h has room for, whatever the workspace.
        let refused = chosen(&rows, 256, &[100], workspace, "sm90_fused_cooperative");
        assert_eq!(refused.unwrap_err(), none);
        // And the kernels for 8.0 serve in any case.
        assert!(chosen(&rows, 256, &[100], workspace, "fused_64x64").is_ok());
        assert!(chosen(&rows, 256, &[100], workspace, "").is_ok());
    }
    // Two of 112 fit 256 columns in clusters of 8 by 32, not of 16, and need no workspace.
    let launch = chosen(&rows[..2], 256, &[100], 0, "sm90_fused_cooperative").unwrap();
    assert_eq!((launch.kernel.h, launch.cluster), (32, 8));
    assert!(chosen(&rows[..2], 256, &[100], 0, "sm90_fused_cooperative_64x64_h16").is_err());
    // 70 segments of one row are 70 steps of the expand, of which a kernel keeps 64; spread over two tiles of
    // 64 rows they are less.
    let single: Vec<_> = (0..70).map(|row| (row..row + 1, 0)).collect();
    let room = workspace_size(128, 70 * 16);
    assert_eq!(chosen(&single, 128, &[1], room, "sm90_fused_128x128").unwrap_err(), none);
    assert!(chosen(&single, 128, &[1], room, "sm90_fused_64x64").is_ok());
}

#[test]
fn programmatic_launches_cost_less() {
    let gpu = h200();
    let old = Properties { driver_version: (12, 2), ..gpu.properties().clone() };
    let old = crate::plan::data_sheet::gpu(old);
    let of = |gpu: &Gpu| plan(gpu, [128, 1024, 1024], 0, Strategy::Base).seconds();
    let (old, gpu) = (of(&old), of(&gpu));
    let gap = |set: Constants| set.launch_gap - set.programmatic_gap;
    assert!((old.optimistic - gpu.optimistic - gap(OPTIMISTIC)).abs() < 1e-12);
    assert!((old.pessimistic - gpu.pessimistic - gap(PESSIMISTIC)).abs() < 1e-12);
}

#[test]
fn a_plan_tells_its_clusters() {
    let text = plan(&h200(), [16384, 4096, 4096], 0, Strategy::Base).to_string();
    assert_eq!(text, "sm90_gemm_128x256 × 128 CTAs in clusters of 8 (2048 items)");
}

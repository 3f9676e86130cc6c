//! What holds for every GPU, and the choices among the kernels for compute capability 8.0. Those for 9.0:
//! `sm90_tests`.

use fused_lora_kernels::params::Lora;

use super::*;
use crate::{
    Strategy,
    plan::{
        Error, Gpu, KERNELS,
        adapters::Adapters,
        assignment::Assignment,
        choice::{Launch, Plan, Request},
        clusters::CLUSTER_SIZES,
        data_sheet,
    },
};

fn sheet(name: &str) -> Properties {
    Gpu::from_data_sheet(name).unwrap().properties().clone()
}

fn a100() -> Properties {
    sheet("a100")
}

/// With a driver that does not load the kernels for 9.0.
fn h100_of_old() -> Properties {
    Properties { driver_version: (11, 8), ..sheet("h100") }
}

fn rtx_3090() -> Properties {
    Properties {
        name: "NVIDIA GeForce RTX 3090".into(),
        compute_capability: (8, 6),
        multiprocessors: 82,
        l2_bytes: 6 << 20,
        clock_khz: 1_695_000,
        memory_clock_khz: 9_751_000,
        ..sheet("rtx4090")
    }
}

fn rtx_4090() -> Properties {
    sheet("rtx4090")
}

/// One adapter for all rows; x, and with it y, as aligned as it says.
pub(crate) fn request(
    m: u32,
    n: u32,
    k: u32,
    rank: u32,
    aligned: bool,
    strategy: Strategy,
) -> Request<'static> {
    let request = Request::uniform(m, n, k, rank, strategy);
    Request { aligned, boxed: aligned && request.boxed, ..request }
}

fn plan(gpu: &Gpu, m: u32, n: u32, k: u32, rank: u32, aligned: bool, strategy: Strategy) -> Plan {
    Plan::among(&request(m, n, k, rank, aligned, strategy), gpu, &|_| true).unwrap()
}

/// The kernel of a fused call.
fn chosen(gpu: &Properties, [m, n, k]: [u32; 3], rank: u32) -> &'static str {
    plan(&data_sheet::gpu(gpu.clone()), m, n, k, rank, true, Strategy::Fused).launches()[0].kernel.name
}

/// What the model decides, and why.
#[test]
fn choices() {
    // Few tokens leave SMs idle: the smallest tiles, as many CTAs as there can be. The few more columns of a
    // small rank hide behind the latency of the loads; h of a larger one is made by SMs that would be idle.
    for gpu in [a100(), h100_of_old()] {
        assert_eq!(chosen(&gpu, [1, 1024, 1024], 0), "gemm_64x64");
        assert_eq!(chosen(&gpu, [128, 1024, 1024], 0), "gemm_64x64");
        assert_eq!(chosen(&gpu, [128, 1024, 1024], 10), "fused_recompute_64x64_h16");
        assert_eq!(chosen(&gpu, [128, 1024, 1024], 100), "fused_64x64");
        assert_eq!(chosen(&gpu, [1, 4096, 4096], 250), "fused_64x64");
    }
    // 512 × 1024: 128 tiles of 64 × 64 are one a SM on H100, and their h would be a second one for some. On
    // A100, 108 SMs, they are two for some in any case; 64 of 64 × 128 are one.
    assert_eq!(chosen(&h100_of_old(), [512, 1024, 1024], 0), "gemm_64x64");
    assert_eq!(chosen(&h100_of_old(), [512, 1024, 1024], 10), "fused_recompute_64x64_h16");
    assert_eq!(chosen(&h100_of_old(), [512, 1024, 1024], 17), "fused_recompute_64x64_h32");
    assert_eq!(chosen(&h100_of_old(), [512, 1024, 1024], 250), "fused_64x128");
    assert_eq!(chosen(&a100(), [512, 1024, 1024], 0), "gemm_64x128");
    assert_eq!(chosen(&a100(), [512, 1024, 1024], 10), "fused_recompute_64x128_h16");
    assert_eq!(chosen(&a100(), [512, 1024, 1024], 250), "fused_64x128");
    // Many tokens: the most arithmetic per byte, in as many waves as it takes.
    for gpu in [a100(), h100_of_old()] {
        assert_eq!(chosen(&gpu, [16384, 1024, 1024], 0), "gemm_128x256");
        assert_eq!(chosen(&gpu, [16384, 1024, 1024], 10), "fused_128x256");
        assert_eq!(chosen(&gpu, [16384, 4096, 4096], 10), "fused_128x256");
        assert_eq!(chosen(&gpu, [1024, 3072, 1024], 0), "gemm_128x256");
    }
    // 32 × 4 tiles of 128 × 256 are one for each of H100's SMs. The tiles of h would be a second wave, for
    // which only the recomputed h does without; at rank 100 it is worth one.
    assert_eq!(chosen(&h100_of_old(), [4096, 1024, 1024], 0), "gemm_128x256");
    assert_eq!(chosen(&h100_of_old(), [4096, 1024, 1024], 10), "fused_recompute_128x128_h16");
    assert_eq!(chosen(&h100_of_old(), [4096, 1024, 1024], 100), "fused_128x256");
    // GeForce sums f32 at half rate: tensor cores are the limit whatever the tile, and small ones leave the
    // least of a last wave.
    assert_eq!(chosen(&rtx_3090(), [128, 1024, 1024], 0), "gemm_64x64");
    assert_eq!(chosen(&rtx_3090(), [512, 4096, 4096], 10), "fused_64x64");
    assert_eq!(chosen(&rtx_3090(), [16384, 1024, 1024], 250), "fused_64x64");
    assert_eq!(chosen(&rtx_4090(), [128, 4096, 4096], 10), "fused_recompute_64x64_h16");
    assert_eq!(chosen(&rtx_4090(), [16384, 4096, 4096], 10), "fused_128x256");
}

fn name(gpu: &Gpu) -> &str {
    &gpu.properties().name
}

const SIZES: [u32; 5] = [1, 40, 1000, 1024, 4096];

fn gpus() -> [Gpu; 5] {
    [a100(), h100_of_old(), sheet("h200"), rtx_3090(), rtx_4090()].map(data_sheet::gpu)
}

#[test]
fn what_is_chosen_can_run_and_computes_what_is_asked_for() {
    for gpu in gpus() {
        for m in [1, 63, 64, 65, 128, 4097] {
            for (n, k, rank) in SIZES
                .iter()
                .flat_map(|&n| SIZES.map(|k| (n, k)))
                .flat_map(|(n, k)| [0, 1, 16, 17, 32, 33, 250, 1000].map(|rank| (n, k, rank)))
            {
                for (strategy, aligned) in Strategy::ALL.iter().flat_map(|&s| [(s, true), (s, false)]) {
                    let plan = plan(&gpu, m, n, k, rank, aligned, strategy);
                    let operations: Vec<_> =
                        plan.launches().iter().map(|launch| launch.kernel.operation).collect();
                    let is_base = |operation| matches!(operation, Operation::Gemm | Operation::GemmSplitK);
                    match (strategy, &operations[..]) {
                        (Strategy::Fused, [only]) if rank > 0 => assert!(matches!(
                            only,
                            Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative
                        )),
                        (Strategy::Unfused, [base, Operation::Shrink, Operation::Expand]) if rank > 0 => {
                            assert!(is_base(*base));
                        }
                        (_, [base]) => assert!(is_base(*base)),
                        _ => panic!("{plan}"),
                    }
                    for launch in plan.launches() {
                        can_run(launch, &gpu, [m, n, k, rank], aligned);
                    }
                }
            }
        }
    }
}

fn can_run(launch: &Launch, gpu: &Gpu, [m, n, k, rank]: [u32; 4], aligned: bool) {
    let Launch { kernel, grid, cluster, items, .. } = *launch;
    let entry = gpu.entries()[launch.index];
    assert!(std::ptr::eq(kernel, entry.kernel));
    assert!(entry.occupancy.resident > 0 && kernel.shared_bytes <= gpu.properties().shared_bytes_per_cta);
    assert!(aligned || !kernel.aligned || kernel.operation == Operation::Expand, "{launch}");
    if kernel.target == Target::Sm90a {
        // TMA reads x of any width that lies apart enough, but `aligned` is about x of this width.
        assert!(k.is_multiple_of(8) && n.is_multiple_of(8), "{launch}");
    }
    let rank16 = rank.next_multiple_of(16);
    match kernel.operation {
        Operation::FusedRecompute => assert!(rank16 <= kernel.h),
        Operation::FusedCooperative => assert!(rank16 <= kernel.max_rank && rank16 <= kernel.h * cluster),
        _ => {}
    }
    let (rows, columns) = (m.div_ceil(kernel.block_m), n.div_ceil(kernel.block_n));
    let chunks = rank16.div_ceil(kernel.h_columns);
    let expected = match kernel.operation {
        Operation::Shrink => rows * chunks,
        Operation::Fused => rows * (columns + chunks),
        _ => rows * columns,
    };
    assert_eq!(items, expected, "{launch}");
    // Whole clusters, no more than run at once, and none without work.
    assert!(grid >= 1 && grid.is_multiple_of(cluster), "{launch}");
    let held = CLUSTER_SIZES.iter().position(|&size| size == cluster).map(|i| entry.occupancy.clusters[i]);
    match kernel.operation {
        Operation::GemmSplitK => {
            assert!(cluster > 1 && grid == items * cluster && cluster <= k.div_ceil(64), "{launch}");
        }
        _ => assert!(
            grid / cluster <= held.unwrap()
                && grid / cluster <= rows * columns.div_ceil(cluster) + rows * chunks,
            "{launch}"
        ),
    }
    let Seconds { optimistic, pessimistic } = launch.seconds;
    assert!(optimistic > 0.0 && pessimistic >= optimistic && pessimistic.is_finite(), "{launch}");
}

/// Of whatever is fastest by one set: what is chosen is a little off either.
#[test]
fn more_rows_never_take_less_time() {
    for gpu in gpus() {
        for (n, k, rank) in [(1024, 1024, 0), (1024, 1024, 10), (4096, 1024, 250), (40, 4096, 100)] {
            for strategy in Strategy::ALL {
                let mut before = Seconds::default();
                for m in (1..200).chain((200..9000).step_by(61)) {
                    let seconds = Plan::fastest(&request(m, n, k, rank, true, strategy), &gpu).unwrap();
                    let is_more = seconds.min(before) == before;
                    assert!(is_more, "{}: m {m} n {n} k {k} rank {rank} {strategy}", name(&gpu));
                    before = seconds;
                }
            }
        }
    }
}

#[test]
fn no_adapter_is_free_and_three_launches_do_not_beat_one_by_much() {
    for gpu in gpus() {
        for m in [1, 128, 1024, 4096] {
            let of = |strategy, rank| plan(&gpu, m, 1024, 1024, rank, true, strategy).seconds();
            for strategy in Strategy::ALL {
                assert_eq!(of(strategy, 0), of(Strategy::Base, 250));
            }
            for rank in [10, 100, 250] {
                let (base, fused) = (of(Strategy::Base, rank), of(Strategy::Fused, rank));
                assert!(base.optimistic < fused.optimistic && base.pessimistic < fused.pessimistic);
                // By a wave at most, where the tiles of h are just too many for one.
                let unfused = of(Strategy::Unfused, rank);
                assert!(fused.over(unfused) < 1.1, "{}: m {m} r {rank}: {fused:?}", name(&gpu));
            }
        }
    }
}

#[test]
fn a_kernel_that_does_not_fit_is_left_out_and_others_take_its_place() {
    // The most that 8.6 allows, and less than the largest tiles take.
    let mut properties = a100();
    for kibibytes in [163, 99, 64, 40] {
        properties.shared_bytes_per_cta = kibibytes << 10;
        let gpu = data_sheet::gpu(properties.clone());
        let plan = plan(&gpu, 16384, 4096, 4096, 250, true, Strategy::Fused);
        assert!(plan.launches()[0].kernel.shared_bytes <= kibibytes << 10, "{kibibytes}: {plan}");
    }
    properties.shared_bytes_per_cta = 8 << 10;
    let none = Plan::among(
        &request(1, 8, 8, 10, true, Strategy::Fused),
        &data_sheet::gpu(properties.clone()),
        &|_| true,
    );
    let expected = Error::NoKernel { strategy: Strategy::Fused, operation: Operation::Fused };
    assert_eq!(none.unwrap_err(), expected);
    let work = Work { m: 1, n: 1, k: 1, rank: 0.0, h_items: 0, h_columns: 0 };
    let nowhere = Placement { cluster: 1, clusters: 0, resident: 0 };
    assert_eq!(seconds(&KERNELS[0], nowhere, &work, &properties), Seconds::INFINITE);
}

#[test]
fn every_operation_runs_within_99_kibibytes() {
    for operation in
        [Operation::Gemm, Operation::Fused, Operation::FusedRecompute, Operation::Shrink, Operation::Expand]
    {
        let fits = KERNELS.iter().any(|k| k.operation == operation && k.shared_bytes <= 99 << 10);
        assert!(fits, "{operation:?}");
    }
}

#[test]
fn a_driver_that_says_little_still_gets_a_plan() {
    for gpu in [a100(), sheet("h200")] {
        let silent =
            Properties { clock_khz: 0, memory_clock_khz: 0, memory_bus_bits: 0, multiprocessors: 0, ..gpu };
        let plan = plan(&data_sheet::gpu(silent), 100, 100, 100, 10, true, Strategy::Unfused);
        assert!(plan.seconds().pessimistic.is_finite());
        assert!(plan.launches().iter().all(|launch| launch.grid >= 1));
    }
}

#[test]
fn what_the_kernels_cannot_count_is_refused() {
    for gpu in [a100(), sheet("h200")] {
        let huge = request(i32::MAX as u32, i32::MAX as u32, 8, 0, true, Strategy::Base);
        let refused = Plan::among(&huge, &data_sheet::gpu(gpu), &|_| true);
        assert!(matches!(refused, Err(Error::TooLarge { what: "work items", .. })), "{refused:?}");
    }
}

#[test]
fn a_plan_reads_as_what_is_launched() {
    let plan = plan(&data_sheet::gpu(a100()), 128, 1024, 1024, 10, true, Strategy::Unfused);
    assert_eq!(
        plan.to_string(),
        "gemm_64x64 × 32 CTAs (32 items) + shrink_64x64 × 2 CTAs (2 items) + \
         expand_64x64 × 32 CTAs (32 items)"
    );
}

#[test]
fn recomputed_h_is_for_one_small_adapter_in_a_row_tile() {
    let gpu = data_sheet::gpu(h100_of_old());
    let recompute = |rows: &[_], m: u32| {
        let assignment = Assignment::new(m as usize, rows, &[10, 16, 17, 40]).unwrap();
        let adapters = Adapters::batch(Lora::default(), &assignment);
        let request = Request { adapters, ..request(m, 1024, 1024, 10, true, Strategy::Fused) };
        let recomputes = |launch: &Launch| launch.kernel.operation == Operation::FusedRecompute;
        let plan = Plan::among(&request, &gpu, &recomputes);
        plan.map(|plan| plan.launches()[0].kernel).ok()
    };
    let block_m = |rows: &[_], m| recompute(rows, m).map(|kernel| kernel.block_m);
    // One a row tile of 64, two in one of 128.
    assert_eq!(block_m(&[(0..64, 0), (64..128, 1)], 128), Some(64));
    assert_eq!(block_m(&[(0..64, 0), (64..64, 1)], 8192), Some(128));
    // Two meet.
    assert!(recompute(&[(0..63, 0), (63..128, 1)], 128).is_none());
    assert!(recompute(&[(0..10, 0), (20..30, 0)], 128).is_none());
    // Too large a rank, even if it is elsewhere.
    assert_eq!(recompute(&[(0..64, 0), (64..128, 2)], 128).map(|kernel| kernel.h), Some(32));
    assert!(recompute(&[(0..64, 0), (640..650, 3)], 1280).is_none());
}

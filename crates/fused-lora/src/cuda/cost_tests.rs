use fused_lora_kernels::params::{Adapter, Lora};

use super::*;
use crate::{
    Strategy,
    cuda::{
        Error, KERNELS,
        adapters::Adapters,
        assignment::Assignment,
        plan::{Gpu, Plan, Request},
    },
};

fn gpu(name: &str, compute_capability: (u32, u32), multiprocessors: u32) -> Properties {
    Properties {
        ordinal: 0,
        name: name.into(),
        uuid: [0; 16],
        compute_capability,
        multiprocessors,
        shared_bytes_per_cta: 99 << 10,
        shared_bytes_per_sm: 100 << 10,
        registers_per_sm: 65536,
        threads_per_sm: 1536,
        memory_bytes: 24 << 30,
        l2_bytes: 6 << 20,
        clock_khz: 1_695_000,
        memory_clock_khz: 9_751_000,
        memory_bus_bits: 384,
        driver_version: (12, 4),
    }
}

pub(crate) fn a100() -> Properties {
    Properties {
        shared_bytes_per_cta: 163 << 10,
        shared_bytes_per_sm: 164 << 10,
        threads_per_sm: 2048,
        l2_bytes: 40 << 20,
        clock_khz: 1_410_000,
        memory_clock_khz: 1_215_000,
        memory_bus_bits: 5120,
        ..gpu("NVIDIA A100-SXM4-40GB", (8, 0), 108)
    }
}

pub(crate) fn h100() -> Properties {
    Properties {
        shared_bytes_per_cta: 227 << 10,
        shared_bytes_per_sm: 228 << 10,
        threads_per_sm: 2048,
        l2_bytes: 50 << 20,
        clock_khz: 1_980_000,
        memory_clock_khz: 2_619_000,
        memory_bus_bits: 5120,
        ..gpu("NVIDIA H100 80GB HBM3", (9, 0), 132)
    }
}

pub(crate) fn rtx_3090() -> Properties {
    gpu("NVIDIA GeForce RTX 3090", (8, 6), 82)
}

pub(crate) fn rtx_4090() -> Properties {
    Properties {
        l2_bytes: 72 << 20,
        clock_khz: 2_520_000,
        memory_clock_khz: 10_501_000,
        ..gpu("NVIDIA GeForce RTX 4090", (8, 9), 128)
    }
}

/// CTAs of each kernel that an SM holds, as the driver counts them: by registers (allocated to a warp in
/// units of 256), shared memory (1 KiB of it the system's for each CTA) and threads. With every kernel at the
/// registers that the build allows.
pub(crate) fn resident(gpu: &Properties) -> Vec<u32> {
    let of = |kernel: &Kernel| {
        if kernel.shared_bytes > gpu.shared_bytes_per_cta {
            return 0;
        }
        let registers = (kernel.max_registers * 32).next_multiple_of(256) * (kernel.threads / 32);
        (gpu.registers_per_sm / registers)
            .min(gpu.shared_bytes_per_sm / (kernel.shared_bytes + 1024))
            .min(gpu.threads_per_sm / kernel.threads)
    };
    KERNELS.iter().map(of).collect()
}

/// One adapter for all rows, wherever it lies.
fn of_rank(rank: u32) -> Adapters<'static> {
    Adapters::uniform(Lora { uniform: Adapter { rank, ..Adapter::default() }, ..Lora::default() })
}

fn plan(gpu: &Properties, m: u32, n: u32, k: u32, rank: u32, aligned: bool, strategy: Strategy) -> Plan {
    let request = Request { m, n, k, aligned, strategy, adapters: of_rank(rank) };
    Plan::new(&request, Gpu { properties: gpu, resident: &resident(gpu) }, &|_| true).unwrap()
}

/// The kernel of a fused call.
fn chosen(gpu: &Properties, [m, n, k]: [u32; 3], rank: u32) -> &'static str {
    plan(gpu, m, n, k, rank, true, Strategy::Fused).launches()[0].kernel.name
}

/// What the model decides, and why.
#[test]
fn choices() {
    // Few tokens leave SMs idle: the smallest tiles, as many CTAs as there can be. The few more columns of a
    // small rank hide behind the latency of the loads; h of a larger one is made by SMs that would be idle.
    for gpu in [a100(), h100()] {
        assert_eq!(chosen(&gpu, [1, 1024, 1024], 0), "gemm_64x64");
        assert_eq!(chosen(&gpu, [128, 1024, 1024], 0), "gemm_64x64");
        assert_eq!(chosen(&gpu, [128, 1024, 1024], 10), "fused_recompute_64x64_h16");
        assert_eq!(chosen(&gpu, [128, 1024, 1024], 100), "fused_64x64");
        assert_eq!(chosen(&gpu, [1, 4096, 4096], 250), "fused_64x64");
    }
    // 512 × 1024: 128 tiles of 64 × 64 are one a SM on H100, and their h would be a second one for some. On
    // A100, 108 SMs, they are two for some in any case; 64 of 64 × 128 are one.
    assert_eq!(chosen(&h100(), [512, 1024, 1024], 0), "gemm_64x64");
    assert_eq!(chosen(&h100(), [512, 1024, 1024], 10), "fused_recompute_64x64_h16");
    assert_eq!(chosen(&h100(), [512, 1024, 1024], 17), "fused_recompute_64x64_h32");
    assert_eq!(chosen(&h100(), [512, 1024, 1024], 250), "fused_64x128");
    assert_eq!(chosen(&a100(), [512, 1024, 1024], 0), "gemm_64x128");
    assert_eq!(chosen(&a100(), [512, 1024, 1024], 10), "fused_recompute_64x128_h16");
    assert_eq!(chosen(&a100(), [512, 1024, 1024], 250), "fused_64x128");
    // Many tokens: the most arithmetic per byte, in as many waves as it takes.
    for gpu in [a100(), h100()] {
        assert_eq!(chosen(&gpu, [16384, 1024, 1024], 0), "gemm_128x256");
        assert_eq!(chosen(&gpu, [16384, 1024, 1024], 10), "fused_128x256");
        assert_eq!(chosen(&gpu, [16384, 4096, 4096], 10), "fused_128x256");
        assert_eq!(chosen(&gpu, [1024, 3072, 1024], 0), "gemm_128x256");
    }
    // 32 × 4 tiles of 128 × 256 are one for each of H100's SMs. The tiles of h would be a second wave, for
    // which only the recomputed h does without; at rank 100 it is worth one.
    assert_eq!(chosen(&h100(), [4096, 1024, 1024], 0), "gemm_128x256");
    assert_eq!(chosen(&h100(), [4096, 1024, 1024], 10), "fused_recompute_128x128_h16");
    assert_eq!(chosen(&h100(), [4096, 1024, 1024], 100), "fused_128x256");
    // GeForce sums f32 at half rate: tensor cores are the limit whatever the tile, and small ones leave the
    // least of a last wave.
    assert_eq!(chosen(&rtx_3090(), [128, 1024, 1024], 0), "gemm_64x64");
    assert_eq!(chosen(&rtx_3090(), [512, 4096, 4096], 10), "fused_64x64");
    assert_eq!(chosen(&rtx_3090(), [16384, 1024, 1024], 250), "fused_64x64");
    assert_eq!(chosen(&rtx_4090(), [128, 4096, 4096], 10), "fused_recompute_64x64_h16");
    assert_eq!(chosen(&rtx_4090(), [16384, 4096, 4096], 10), "fused_128x256");
}

const SIZES: [u32; 5] = [1, 40, 1000, 1024, 4096];

fn gpus() -> [Properties; 4] {
    [a100(), h100(), rtx_3090(), rtx_4090()]
}

#[test]
fn what_is_chosen_can_run_and_computes_what_is_asked_for() {
    for gpu in gpus() {
        let resident = resident(&gpu);
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
                    match strategy {
                        Strategy::Fused if rank > 0 => {
                            assert!(matches!(operations[..], [Operation::Fused | Operation::FusedRecompute]));
                        }
                        Strategy::Unfused if rank > 0 => {
                            assert_eq!(operations, [Operation::Gemm, Operation::Shrink, Operation::Expand]);
                        }
                        _ => assert_eq!(operations, [Operation::Gemm]),
                    }
                    for launch in plan.launches() {
                        let kernel = launch.kernel;
                        assert!(std::ptr::eq(kernel, &KERNELS[launch.index]));
                        assert!(
                            resident[launch.index] > 0 && kernel.shared_bytes <= gpu.shared_bytes_per_cta
                        );
                        assert!(
                            aligned || !kernel.aligned || kernel.operation == Operation::Expand,
                            "{plan}"
                        );
                        assert!(
                            kernel.operation != Operation::FusedRecompute
                                || rank.next_multiple_of(16) <= kernel.h
                        );
                        assert!(launch.grid >= 1 && launch.grid <= launch.items);
                        assert!(launch.grid <= gpu.multiprocessors * resident[launch.index]);
                        assert!(launch.seconds.is_finite() && launch.seconds > 0.0);
                        let (rows, columns) = (m.div_ceil(kernel.block_m), n.div_ceil(kernel.block_n));
                        let chunks = rank.next_multiple_of(16).div_ceil(kernel.block_n);
                        let items = match kernel.operation {
                            Operation::Shrink => rows * chunks,
                            Operation::Fused => rows * (columns + chunks),
                            _ => rows * columns,
                        };
                        assert_eq!(launch.items, items, "{plan}");
                    }
                }
            }
        }
    }
}

#[test]
fn more_rows_never_take_less_time() {
    for gpu in gpus() {
        for (n, k, rank) in [(1024, 1024, 0), (1024, 1024, 10), (4096, 1024, 250), (40, 4096, 100)] {
            for strategy in Strategy::ALL {
                let mut before = 0.0;
                for m in (1..200).chain((200..9000).step_by(61)) {
                    let seconds = plan(&gpu, m, n, k, rank, true, strategy).seconds();
                    assert!(seconds >= before, "{}: m {m} n {n} k {k} rank {rank} {strategy}", gpu.name);
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
                assert!(of(Strategy::Base, rank) < of(Strategy::Fused, rank));
                // By a wave at most, where the tiles of h are just too many for one.
                let (fused, unfused) = (of(Strategy::Fused, rank), of(Strategy::Unfused, rank));
                assert!(fused < 1.1 * unfused, "{}: m {m} r {rank}: {fused:e}, {unfused:e}", gpu.name);
            }
        }
    }
}

#[test]
fn a_kernel_that_does_not_fit_is_left_out_and_others_take_its_place() {
    // The most that 8.6 allows, and less than the largest tiles take.
    let mut gpu = a100();
    for kibibytes in [163, 99, 64, 40] {
        gpu.shared_bytes_per_cta = kibibytes << 10;
        let plan = plan(&gpu, 16384, 4096, 4096, 250, true, Strategy::Fused);
        assert!(plan.launches()[0].kernel.shared_bytes <= kibibytes << 10, "{kibibytes}: {plan}");
    }
    gpu.shared_bytes_per_cta = 8 << 10;
    let request =
        Request { m: 1, n: 8, k: 8, aligned: true, strategy: Strategy::Fused, adapters: of_rank(10) };
    let none = Plan::new(&request, Gpu { properties: &gpu, resident: &resident(&gpu) }, &|_| true);
    let expected = Error::NoKernel { strategy: Strategy::Fused, operation: Operation::Fused };
    assert_eq!(none.unwrap_err(), expected);
    assert_eq!(
        seconds(&KERNELS[0], 0, &Work { m: 1, n: 1, k: 1, rank: 0.0, h_items: 0, h_columns: 0 }, &gpu),
        f64::INFINITY
    );
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
    let gpu =
        Properties { clock_khz: 0, memory_clock_khz: 0, memory_bus_bits: 0, multiprocessors: 0, ..a100() };
    let plan = plan(&gpu, 100, 100, 100, 10, true, Strategy::Unfused);
    assert!(plan.seconds().is_finite());
    assert!(plan.launches().iter().all(|launch| launch.grid >= 1));
}

#[test]
fn what_the_kernels_cannot_count_is_refused() {
    let gpu = a100();
    let request = Request {
        m: i32::MAX as u32,
        n: i32::MAX as u32,
        k: 8,
        aligned: true,
        strategy: Strategy::Base,
        adapters: Adapters::None,
    };
    let refused = Plan::new(&request, Gpu { properties: &gpu, resident: &resident(&gpu) }, &|_| true);
    assert!(matches!(refused, Err(Error::TooLarge { what: "work items", .. })), "{refused:?}");
}

#[test]
fn a_plan_reads_as_what_is_launched() {
    let plan = plan(&a100(), 128, 1024, 1024, 10, true, Strategy::Unfused);
    assert_eq!(
        plan.to_string(),
        "gemm_64x64 × 32 CTAs (32 items) + shrink_64x64 × 2 CTAs (2 items) + expand_64x64 × 32 CTAs (32 items)"
    );
}

#[test]
fn recomputed_h_is_for_one_small_adapter_in_a_row_tile() {
    let gpu = h100();
    let resident = resident(&gpu);
    let recompute = |rows: &[_], m: u32| {
        let assignment = Assignment::new(m as usize, rows, &[10, 16, 17, 40]).unwrap();
        let adapters = Adapters::batch(Lora::default(), &assignment);
        let request = Request { m, n: 1024, k: 1024, aligned: true, strategy: Strategy::Fused, adapters };
        let recomputes = |kernel: &Kernel| kernel.operation == Operation::FusedRecompute;
        let plan = Plan::new(&request, Gpu { properties: &gpu, resident: &resident }, &recomputes);
        plan.map(|plan| plan.launches()[0].kernel).ok()
    };
    let block_m = |rows: &[_], m| recompute(rows, m).map(|kernel| kernel.block_m);
    // One a row tile of 64, two in one of 128.
    assert_eq!(block_m(&[(0..64, Some(0)), (64..128, Some(1))], 128), Some(64));
    assert_eq!(block_m(&[(0..64, Some(0)), (64..64, Some(1)), (64..128, None)], 8192), Some(128));
    // Two meet.
    assert!(recompute(&[(0..63, Some(0)), (63..128, Some(1))], 128).is_none());
    assert!(recompute(&[(0..10, Some(0)), (20..30, Some(0))], 128).is_none());
    // Too large a rank, even if it is elsewhere.
    assert_eq!(recompute(&[(0..64, Some(0)), (64..128, Some(2))], 128).map(|kernel| kernel.h), Some(32));
    assert!(recompute(&[(0..64, Some(0)), (640..650, Some(3))], 1280).is_none());
}

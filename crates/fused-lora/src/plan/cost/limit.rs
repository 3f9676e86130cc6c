//! What no kernel can beat.

use fused_lora_kernels::{table::Target, tile::RANK_GRANULE};

use super::{
    chip::{bandwidth, clock, rates},
    constants::{Constants, OPTIMISTIC, PESSIMISTIC},
    seconds::Seconds,
};
use crate::{Problem, plan::properties::Properties};

/// The seconds that no call of this size can beat with a rank of 0 (the base) or more (fused): every operand
/// crosses the memory's bus once, and the tensor cores multiply at their peak all the time, whichever takes
/// longer. The rank counts as the tensor cores take it, in sixteens.
pub fn limit(problem: &Problem, gpu: &Properties) -> Seconds {
    let Problem { m, n, k, rank } = *problem;
    let [m, n, k, rank] = [m, n, k, rank.next_multiple_of(RANK_GRANULE as usize)].map(|size| size as f64);
    let bytes = 2.0 * (m * k + n * k + m * n + rank * (n + k));
    let products = m * (n * k + rank * (n + k));
    let by = |constants: &Constants| {
        let fma = if gpu.target() == Target::Sm90a { constants.fma } else { rates(gpu).fma };
        let peak = fma * f64::from(gpu.multiprocessors.max(1)) * clock(constants, gpu);
        (bytes / bandwidth(gpu)).max(products / peak)
    };
    Seconds { optimistic: by(&OPTIMISTIC), pessimistic: by(&PESSIMISTIC) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Gpu;

    #[test]
    fn the_limit_is_that_of_the_memory_or_of_the_tensor_cores() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        let of = |m, n, k, rank| limit(&Problem::new(m, n, k, rank), gpu.properties());
        // One row: W's bytes at 4.8 TB/s, whatever the clock.
        let few = of(1, 4096, 4096, 0);
        assert!((few.optimistic / (2.0 * (4096.0 * 4096.0 + 8192.0) / 4.8e12) - 1.0).abs() < 1e-9);
        assert_eq!(few.optimistic, few.pessimistic);
        // 949 TFLOP/s at 1.755 GHz.
        let base = of(8192, 8192, 8192, 0);
        assert!((2.0 * 8192f64.powi(3) / base.pessimistic / 948.9e12 - 1.0).abs() < 1e-4, "{base:?}");
        // 250 columns are 256.
        let ratio = of(8192, 8192, 8192, 250).pessimistic / base.pessimistic;
        assert!((ratio - (1.0 + 2.0 * 256.0 / 8192.0)).abs() < 1e-9, "{ratio}");
    }
}

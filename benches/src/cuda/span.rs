//! How many forward passes one graph holds.

/// A launch of a graph costs what a few kernels cost; with so many passes in it that does not show.
pub const FEWEST: usize = 20;
/// A small pass takes microseconds, whatever the arithmetic says: so many of them take a millisecond.
const MOST: usize = 256;
/// Seconds that a call is to take, or more: two thousand steps of the clock that events read.
const CALL: f64 = 1e-3;

/// Passes of so many operations, on a ring of so many slots, that make one call. `peak_flops` are about the
/// operations that the device can do in a second; a pass is slower than that, so a call takes a millisecond
/// or more. One slot is a test's: it takes one pass.
pub fn passes(slots: usize, flops: f64, peak_flops: f64) -> usize {
    if slots == 1 {
        return 1;
    }
    let passes = (CALL * peak_flops / flops).ceil() as usize;
    // A round of the ring that is not finished would leave its first slots warm.
    passes.clamp(FEWEST, MOST).next_multiple_of(slots)
}

#[cfg(test)]
mod tests {
    use fused_lora_records::{Workload, grid};

    use super::*;
    use crate::linear::work;
    use crate::method::slots_apart;
    use crate::settings::Cache;

    const L2: usize = 50 << 20;
    /// Dense f16 on 132 SMs at 1.98 GHz.
    const PEAK: f64 = 535e12;

    fn span(workload: &Workload, m: usize, cache: Cache) -> (usize, usize) {
        let slots = slots_apart(work(workload, cache, m, 0).bytes as usize, 3 * L2);
        (slots, passes(slots, workload.flops_base(m), PEAK))
    }

    #[test]
    fn spans_by_hand() {
        let linear = Workload::by_name("linear-1024x1024").unwrap();
        // 2 MiB of W and 0.5 MiB of x and y: 60 slots between two uses, and the one itself.
        assert_eq!(span(linear, 128, Cache::Cold), (61, 305));
        // 0.5 MiB: 300 and one.
        assert_eq!(span(linear, 128, Cache::WarmW), (301, 301));
        // 535 GFLOP in passes of 8.6; 18 MiB: nine slots and one.
        assert_eq!(span(linear, 4096, Cache::Cold), (10, 70));
        // 66 MiB: three and one. A pass has 34 GFLOP, so 16 would do.
        assert_eq!(span(linear, 16_384, Cache::Cold), (4, 20));
        assert_eq!(passes(1, 1.0, 1e12), 1, "a test run");
    }

    #[test]
    fn every_call_is_long_enough_and_ends_where_it_began() {
        for (workload, cell) in Workload::LINEARS.iter().flat_map(|w| grid().map(move |cell| (w, cell))) {
            for cache in [Cache::Cold, Cache::WarmW] {
                let (slots, passes) = span(workload, cell.m(), cache);
                assert!(passes >= FEWEST && passes.is_multiple_of(slots), "{cell} {cache:?}");
                let shortest = passes as f64 * workload.flops_base(cell.m()) / PEAK;
                assert!(passes >= MOST || shortest >= CALL, "{cell} {cache:?}: {shortest} s");
            }
        }
    }
}

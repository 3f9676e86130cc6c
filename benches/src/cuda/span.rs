//! How many slots a ring in device memory has, and how many forward passes one graph holds.

use crate::engine::Size;
use crate::ring::Ring;
use crate::stage::rotating_bytes;

/// A launch of a graph costs what a few kernels cost; with so many passes in it that does not show.
pub const FEWEST: usize = 20;
/// A small pass takes microseconds, whatever the arithmetic says: so many of them take a millisecond.
const MOST: usize = 256;
/// Seconds that a call is to take, or more: two thousand steps of the clock that events read.
const CALL: f64 = 1e-3;

/// The extent of one call: a number of passes, on a ring of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    slots: usize,
    passes: usize,
}

impl Span {
    /// For a size: `distance` bytes are touched between two uses of a slot, or there is one slot and one pass
    /// where that is 0. `peak_flops` are about the operations that the device can do in a second; a pass is
    /// slower than that, so a call takes a millisecond or more.
    #[must_use]
    pub fn new(size: Size, distance: usize, peak_flops: f64) -> Span {
        let Size { workload, m, cache, .. } = size;
        Span::of_pass(rotating_bytes(workload, m, cache), workload.flops_base(m), distance, peak_flops)
    }

    /// As [`new`](Self::new), for passes of so many operations, on slots of so many bytes that rotate.
    #[must_use]
    pub fn of_pass(slot_bytes: usize, flops: f64, distance: usize, peak_flops: f64) -> Span {
        // Each call goes round the whole ring from its first slot on, as if it were the only method.
        let slots = Ring::cold(1, slot_bytes, distance).slots();
        if distance == 0 {
            return Span { slots, passes: 1 };
        }
        let passes = (CALL * peak_flops / flops).ceil() as usize;
        // A round of the ring that is not finished would leave its first slots warm.
        Span { slots, passes: passes.clamp(FEWEST, MOST).next_multiple_of(slots) }
    }

    #[cfg(test)]
    pub(super) fn of(slots: usize, passes: usize) -> Span {
        Span { slots, passes }
    }

    /// Slots of the ring.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Forward passes of a call.
    #[must_use]
    pub fn passes(&self) -> usize {
        self.passes
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_records::{Workload, grid};

    use super::*;
    use crate::settings::Cache;

    const L2: usize = 50 << 20;
    /// Dense f16 on 132 SMs at 1.98 GHz.
    const PEAK: f64 = 535e12;

    fn size(name: &str, m: usize, cache: Cache) -> Size {
        Size { workload: Workload::by_name(name).unwrap(), m, cache, last_level_cache: L2 }
    }

    fn span(m: usize, cache: Cache) -> Span {
        Span::new(size("linear-1024x1024", m, cache), 3 * L2, PEAK)
    }

    #[test]
    fn spans_by_hand() {
        // 2 MiB of W and 0.5 MiB of x and y: 60 slots between two uses, and the one itself.
        assert_eq!(span(128, Cache::Cold), Span { slots: 61, passes: 305 });
        // 0.5 MiB: 300 and one.
        assert_eq!(span(128, Cache::WarmW), Span { slots: 301, passes: 301 });
        // 535 GFLOP in passes of 8.6; 18 MiB: nine slots and one.
        assert_eq!(span(4096, Cache::Cold), Span { slots: 10, passes: 70 });
        // 66 MiB: three and one. A pass has 34 GFLOP, so 16 would do.
        assert_eq!(span(16_384, Cache::Cold), Span { slots: 4, passes: 20 });
    }

    #[test]
    fn every_call_is_long_enough_and_ends_where_it_began() {
        for workload in Workload::LINEARS {
            for cell in grid() {
                for cache in [Cache::Cold, Cache::WarmW] {
                    let size = size(workload.name(), cell.m(), cache);
                    let Span { slots, passes } = Span::new(size, 3 * L2, PEAK);
                    assert!(passes >= FEWEST && passes.is_multiple_of(slots), "{size:?}");
                    let touched = (slots - 1) * rotating_bytes(workload, cell.m(), cache);
                    assert!(touched >= 3 * L2, "{size:?}: {touched} bytes between two uses");
                    let shortest = passes as f64 * workload.flops_base(cell.m()) / PEAK;
                    assert!(passes >= MOST || shortest >= CALL, "{size:?}: {shortest} s");
                }
            }
        }
    }

    #[test]
    fn a_rehearsal_is_one_pass() {
        let span = Span::new(size("linear-4096x4096", 128, Cache::Cold), 0, PEAK);
        assert_eq!(span, Span { slots: 1, passes: 1 });
    }
}

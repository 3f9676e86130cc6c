//! How a workspace is laid out, and how large it must be.

use fused_lora_kernels::{
    Global, counters,
    table::{KERNELS, Operation, SM90_KERNELS},
    tile::RANK_GRANULE,
};

/// A workspace is a head, the ticket, and as many units as fit it. A unit is so many bytes of h, and counters
/// for all row tiles that those can be of. How many counters there are depends on nothing else: h of one call
/// must not lie where another, of more rows, expects its counters to be zero.
const UNIT_H_BYTES: usize = 64 << 10;
/// The least that a row of h takes in bytes: one granule of columns.
const LEAST_ROW_BYTES: usize = RANK_GRANULE as usize * 2;
/// What counters are rounded up to, so that h, behind them, starts at a multiple of it.
const ALIGNMENT: usize = 256;
/// Bytes of the head.
const HEAD_BYTES: usize = (4 * counters::FIRST_ROW_TILE as usize).next_multiple_of(ALIGNMENT);

/// Bytes of a unit's counters.
fn unit_counter_bytes() -> usize {
    let fused = KERNELS.iter().chain(SM90_KERNELS).filter(|kernel| kernel.operation == Operation::Fused);
    let least_block_m = fused.map(|kernel| kernel.block_m as usize).min().unwrap_or(1);
    let row_tiles = UNIT_H_BYTES.div_ceil(LEAST_ROW_BYTES * least_block_m);
    // As many words as these row tiles take beside the ticket.
    (4 * (counters::words(row_tiles as u32) - counters::words(0)) as usize).next_multiple_of(ALIGNMENT)
}

/// Bytes that calls with up to `m_max` rows and adapters of ranks up to `rank_max` need. 0 for rank 0.
///
/// This is enough for every call. On compute capability 9.0, some batches with several adapters in one row
/// tile are faster with more: if `rank_max` is the largest sum of the ranks that meet in 256 rows, each
/// rounded up to 16, such batches can use the kernels for 9.0 whatever the ranks are.
pub fn workspace_size(m_max: usize, rank_max: usize) -> usize {
    let h = m_max.saturating_mul(rank_max.next_multiple_of(RANK_GRANULE as usize).saturating_mul(2));
    if h == 0 {
        return 0;
    }
    h.div_ceil(UNIT_H_BYTES).saturating_mul(UNIT_H_BYTES + unit_counter_bytes()).saturating_add(HEAD_BYTES)
}

/// How many bytes of a workspace are counters, the head among them. h is behind them.
fn counter_bytes(bytes: usize) -> usize {
    let unit_counters = unit_counter_bytes();
    HEAD_BYTES + bytes.saturating_sub(HEAD_BYTES) / (UNIT_H_BYTES + unit_counters) * unit_counters
}

/// Where things are in a workspace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) counters: Global<u32>,
    pub(crate) h: Global<u16>,
}

impl Layout {
    /// The layout of a workspace of `bytes` at `address`.
    pub(crate) fn of(address: u64, bytes: usize) -> Self {
        let h = address + counter_bytes(bytes) as u64;
        Self { counters: Global::from_address(address), h: Global::from_address(h) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of h and row tiles of 64 that a workspace has room for.
    fn room(bytes: usize) -> (usize, usize) {
        let counted = counter_bytes(bytes);
        assert!(counted.is_multiple_of(256));
        (bytes.saturating_sub(counted), (counted / 4 - counters::FIRST_ROW_TILE as usize) / 2)
    }

    #[test]
    fn a_workspace_of_the_size_said_has_room_for_counters_and_h() {
        for m in [1, 2, 63, 64, 65, 127, 1000, 4096, 16384, 1 << 20] {
            for rank in [1, 7, 15, 16, 17, 100, 250, 1024] {
                let bytes = workspace_size(m, rank);
                let h = m * rank.next_multiple_of(16) * 2;
                let (h_room, row_tiles) = room(bytes);
                assert!(
                    h_room >= h && row_tiles >= m.div_ceil(64),
                    "m {m} rank {rank}: {h_room} of {h}, {row_tiles}"
                );
                assert!(bytes < h + h / 128 + (66 << 10), "m {m} rank {rank}: {bytes} bytes for {h} of h");
            }
        }
    }

    #[test]
    fn a_larger_workspace_serves_every_smaller_call() {
        for (m, rank) in
            [(1, 1), (64, 16), (65, 16), (2048, 1), (2049, 1), (500, 33), (4096, 16), (9000, 250)]
        {
            let least = workspace_size(m, rank);
            let mut before = room(least);
            for bytes in (least..least + 300_000).step_by(64) {
                let now = room(bytes);
                assert!(
                    now.0 >= before.0.min(m * rank.next_multiple_of(16) * 2) && now.1 >= before.1,
                    "{bytes}"
                );
                assert!(now.1 >= m.div_ceil(64));
                before = (before.0.min(now.0), now.1);
            }
        }
    }

    #[test]
    fn h_lies_behind_the_counters_of_all_row_tiles_and_within_the_workspace() {
        for (m, rank) in [(1, 1), (1025, 16), (5000, 16), (16384, 250), (1 << 20, 1)] {
            let bytes = workspace_size(m, rank);
            let Layout { counters, h } = Layout::of(0x1000, bytes);
            assert_eq!(counters.address(), 0x1000);
            let words = counters::words(m.div_ceil(64) as u32);
            assert!(h.address() >= 0x1000 + 4 * u64::from(words), "m {m} rank {rank}: {h:?}");
            let end = h.address() + (m * rank.next_multiple_of(16) * 2) as u64;
            assert!(end <= 0x1000 + bytes as u64 && h.address().is_multiple_of(256), "m {m} rank {rank}");
        }
    }

    #[test]
    fn rank_0_and_no_rows_need_nothing_and_nothing_overflows() {
        assert_eq!(workspace_size(4096, 0), 0);
        assert_eq!(workspace_size(0, 16), 0);
        assert_eq!(workspace_size(usize::MAX, 16), usize::MAX);
    }
}

//! The sizes of the grid: tokens, without a rank; and the ranks.

pub use fused_lora_measure::size::Size;
use fused_lora_records::{BATCHES, DECODE_BATCHES, DECODE_RANKS, RANKS, SEQ_LENS};

use crate::settings::{GridPart, Settings};

/// Batches of [`GridPart::Reduced`].
const REDUCED: [usize; 3] = [1, 4, 16];
/// The sizes of [`GridPart::Sizes`]: M = 128, 512, 4096 and 16384.
const SIZES: [(usize, usize); 4] = [(128, 1), (128, 4), (128, 32), (512, 32)];

/// The sizes of this host's shard, in the grid's order. A shard is made of whole sizes: all ranks of one are
/// measured in the same rounds.
pub fn sizes(settings: &Settings) -> Vec<Size> {
    let selected = |size: &Size| match settings.grid {
        GridPart::Reduced => REDUCED.contains(&size.batch),
        GridPart::Sizes => SIZES.contains(&(size.seq_len, size.batch)),
        GridPart::Full | GridPart::Decode => true,
    };
    let (seq_lens, batches) = match settings.grid {
        GridPart::Decode => (&[1][..], &DECODE_BATCHES[..]),
        _ => (&SEQ_LENS[..], &BATCHES[..]),
    };
    let all = seq_lens.iter().flat_map(|&seq_len| batches.iter().map(move |&batch| Size { seq_len, batch }));
    let numbered = all.filter(selected).enumerate();
    numbered.filter(|&(ordinal, _)| settings.shard.holds(ordinal)).map(|(_, size)| size).collect()
}

/// The ranks of adapters at these sizes.
pub fn ranks(grid: GridPart) -> &'static [usize] {
    if grid == GridPart::Decode { &DECODE_RANKS } else { &RANKS }
}

#[cfg(test)]
mod tests {
    use fused_lora_records::{Cell, grid};

    use super::*;

    fn of(grid: GridPart, shard: &str) -> Vec<Size> {
        sizes(&Settings { grid, shard: shard.parse().unwrap(), ..Settings::default() })
    }

    #[test]
    fn sizes_are_the_grids() {
        let mut of_grid: Vec<Size> =
            grid().map(|Cell { seq_len, batch, .. }| Size { seq_len, batch }).collect();
        of_grid.dedup();
        assert_eq!(of(GridPart::Full, "1/1"), of_grid);
        assert_eq!((of_grid[17].m(), of_grid[17].to_string()), (16_384, "seq512/batch32".to_owned()));
        assert_eq!(of_grid[0].cell(10).to_string(), "seq128/batch1/r10");
        let reduced = of(GridPart::Reduced, "1/1");
        let names: Vec<String> = reduced.iter().map(Size::to_string).collect();
        assert_eq!(names.len(), 9);
        assert_eq!(names[..4], ["seq128/batch1", "seq128/batch4", "seq128/batch16", "seq256/batch1"]);
        let ms: Vec<usize> = of(GridPart::Sizes, "1/1").iter().map(Size::m).collect();
        assert_eq!(ms, [128, 512, 4096, 16_384]);
        let few = of(GridPart::Decode, "1/1");
        assert_eq!(few.iter().map(Size::m).collect::<Vec<_>>(), DECODE_BATCHES);
        assert!(few.iter().all(|size| size.seq_len == 1) && ranks(GridPart::Decode).contains(&16));
        assert_eq!(ranks(GridPart::Full), RANKS);
    }

    #[test]
    fn shards_part_the_sizes() {
        let mut all = ["1/4", "2/4", "3/4", "4/4"].map(|shard| of(GridPart::Full, shard)).concat();
        assert_eq!((all.len(), of(GridPart::Full, "1/4").len()), (18, 5));
        all.sort_unstable();
        assert_eq!(all, of(GridPart::Full, "1/1"));
    }
}

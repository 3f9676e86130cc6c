//! The ids of `grid`: what it measures, in which order, and under which names.

use fused_lora::Strategy;
use fused_lora_records::{Cell, grid};

use crate::budget::Job;
use crate::records::flops;
use crate::session::Id;
use crate::settings::Settings;

/// The cells of this host's shard, one list for each size.
#[must_use]
pub fn sizes(settings: &Settings) -> Vec<Vec<Cell>> {
    let cells =
        grid().enumerate().filter(|&(ordinal, _)| settings.shard.holds(ordinal)).map(|(_, cell)| cell);
    let cells: Vec<Cell> = cells.collect();
    cells.chunk_by(|a, b| (a.seq_len, a.batch) == (b.seq_len, b.batch)).map(<[Cell]>::to_vec).collect()
}

/// What is measured in a cell. The base does not depend on the rank, and belongs to the cell at r = 0.
#[must_use]
pub fn strategies(cell: Cell) -> &'static [Strategy] {
    if cell.rank == 0 { &Strategy::ALL } else { &[Strategy::Unfused, Strategy::Fused] }
}

/// The name of one strategy in one cell; ids of one size form a group.
#[must_use]
pub fn id(settings: &Settings, cell: Cell, strategy: Strategy) -> Id {
    let Cell { seq_len, batch, rank } = cell;
    Id {
        group: format!("{}/seq{seq_len}/batch{batch}", settings.workload.name()),
        in_group: format!("r{rank}/{strategy}"),
    }
}

/// All ids, with what a round of each costs: one call of its strategy, and one of the base beside it.
#[must_use]
pub fn jobs(settings: &Settings) -> Vec<Job> {
    let of_round = |cell, strategy| {
        let base = flops(settings, cell, Strategy::Base);
        if strategy == Strategy::Base { base } else { base + flops(settings, cell, strategy) }
    };
    let cells = sizes(settings).into_iter().flatten();
    let ids = cells.flat_map(|cell| strategies(cell).iter().map(move |&strategy| (cell, strategy)));
    let job = |(cell, strategy)| Job {
        id: id(settings, cell, strategy).full(),
        cell,
        methods: vec![strategy.to_string()],
        flops: of_round(cell, strategy),
    };
    ids.map(job).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_whole_grid_is_162_ids() {
        let jobs = jobs(&Settings::default());
        assert_eq!(jobs.len(), 18 * (1 + 4 * 2));
        assert_eq!(jobs[0].id, "linear-1024x1024/seq128/batch1/r0/base");
        assert_eq!(jobs[4].id, "linear-1024x1024/seq128/batch1/r10/fused");
        assert_eq!(jobs[161].id, "linear-1024x1024/seq512/batch32/r250/fused");
        let ids: BTreeSet<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(ids.len(), jobs.len(), "every id has a name of its own");
        let records: BTreeSet<_> = jobs.iter().map(|job| (job.cell, &job.methods)).collect();
        assert_eq!(records.len(), jobs.len(), "and a record of its own");
    }

    #[test]
    fn shards_part_the_ids_and_keep_cells_whole() {
        let of_shard = |shard: &str| jobs(&Settings { shard: shard.parse().unwrap(), ..Settings::default() });
        let parts: Vec<_> = ["1/3", "2/3", "3/3"].map(of_shard).into_iter().collect();
        let cells = |jobs: &[Job]| jobs.iter().map(|job| job.cell).collect::<BTreeSet<_>>();
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 162);
        for (i, part) in parts.iter().enumerate() {
            assert_eq!(cells(part).len(), 24);
            assert!(parts[..i].iter().all(|other| cells(other).is_disjoint(&cells(part))));
        }
    }

    #[test]
    fn a_round_costs_the_base_too() {
        let jobs = jobs(&Settings::default());
        let base = 2.0 * 128.0 * 1024.0 * 1024.0;
        assert_eq!([jobs[0].flops, jobs[1].flops, jobs[2].flops], [base, 2.0 * base, 2.0 * base]);
        assert_eq!(jobs[4].flops, 2.0 * base + 2.0 * 128.0 * 10.0 * 2048.0);
    }
}

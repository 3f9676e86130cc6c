//! Who runs in a round, under which names, and which ids there are.

use fused_lora::Strategy;
use fused_lora_records::Cell;

use crate::budget::Job;
use crate::gpu_peers::cublaslt::name;
use crate::peers::cells;
use crate::records::flops;
use crate::session::Id;
use crate::settings::Settings;
use crate::table::{Contender, Role};

/// Place of this library's base in every round.
pub const BASE: usize = 0;

/// This library's strategies in a round of that cell. All of them take the base path at rank 0.
#[must_use]
pub fn ours(cell: Cell) -> &'static [Strategy] {
    if cell.rank == 0 { &[Strategy::Base] } else { &[Strategy::Base, Strategy::Fused, Strategy::Unfused] }
}

/// What cuBLASLt computes in a round of that cell: the base product, or all in three calls.
#[must_use]
pub fn theirs(cell: Cell) -> Strategy {
    if cell.rank == 0 { Strategy::Base } else { Strategy::Unfused }
}

/// All that run in a round of that cell, in its order; cuBLASLt comes last if it is there.
#[must_use]
pub fn contenders(settings: &Settings, cell: Cell, cublaslt: bool) -> Vec<Contender> {
    let contender = |name: String, strategy, role| Contender {
        name,
        flops: flops(settings, cell, strategy),
        role,
        inexact: false,
    };
    let role = |strategy| match strategy {
        Strategy::Base => Role::OurBase,
        Strategy::Fused => Role::OurFused,
        Strategy::Unfused => Role::OurUnfused,
    };
    let ours = ours(cell).iter();
    let mut all: Vec<Contender> =
        ours.map(|&ours| contender(format!("fused-lora/{ours}"), ours, role(ours))).collect();
    if cublaslt {
        all.push(contender(name(theirs(cell)), theirs(cell), Role::Peer));
    }
    all
}

/// The name of a cell's rounds.
#[must_use]
pub fn id(settings: &Settings, cell: Cell) -> Id {
    let Cell { seq_len, batch, rank } = cell;
    Id {
        group: format!("gpu_peers/{}/seq{seq_len}/batch{batch}", settings.workload.name()),
        in_group: format!("r{rank}"),
    }
}

/// All ids, with what a round of each costs.
#[must_use]
pub fn jobs(settings: &Settings, cublaslt: bool) -> Vec<Job> {
    let job = |cell| {
        let contenders = contenders(settings, cell, cublaslt);
        Job {
            id: id(settings, cell).full(),
            cell,
            flops: contenders.iter().map(|contender| contender.flops).sum(),
            methods: contenders.into_iter().map(|contender| contender.name).collect(),
        }
    };
    cells(settings).into_iter().map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Selection;

    fn names(rank: usize, cublaslt: bool) -> Vec<String> {
        let cell = Cell { seq_len: 128, batch: 4, rank };
        contenders(&Settings::default(), cell, cublaslt).into_iter().map(|contender| contender.name).collect()
    }

    #[test]
    fn a_round_holds_what_is_compared() {
        assert_eq!(names(0, true), ["fused-lora/base", "cublaslt/base"]);
        assert_eq!(
            names(10, true),
            ["fused-lora/base", "fused-lora/fused", "fused-lora/unfused", "cublaslt/three-calls"]
        );
        assert_eq!(names(10, false), ["fused-lora/base", "fused-lora/fused", "fused-lora/unfused"]);
    }

    #[test]
    fn the_whole_grid_is_72_ids_and_the_sizes_are_16() {
        let jobs = |selection| jobs(&Settings { selection, ..Settings::default() }, true);
        assert_eq!((jobs(Selection::Full).len(), jobs(Selection::Sizes).len()), (72, 16));
        assert_eq!(jobs(Selection::Sizes)[1].id, "gpu_peers/linear-1024x1024/seq128/batch1/r10");
        let base = 2.0 * 128.0 * 1024.0 * 1024.0;
        let all = base + 2.0 * 128.0 * 10.0 * 2048.0;
        assert_eq!(jobs(Selection::Full)[1].flops, base + 3.0 * all);
    }
}

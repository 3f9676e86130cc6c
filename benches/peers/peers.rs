//! The same cells on other libraries: the base product alone, and base, shrink and expand as three calls.
//!
//! ```text
//! cargo bench --bench peers                               # four sizes at every rank
//! FUSED_LORA_GRID=full FUSED_LORA_BUDGET_S=660 cargo bench --bench peers
//! ```
//!
//! An id is `peers/<workload>/seq<seq_len>/batch<batch>/r<rank>`. One round of it runs everything that is
//! compared, the machine's f32 multiply-add peak too: at r = 0 the base products, above it this library's base
//! and fused and each peer's three calls. Criterion gets the times of this library. The records, named
//! `<library>/<strategy>`, hold the slow-down against this library's base in the same rounds; the tables on
//! stdout hold the rest.
//!
//! All are checked against the reference first. A peer that breaks its tolerance is named with how far it is
//! off, timed all the same, and marked.
//!
//! All of them run on the CPU; `FUSED_LORA_BACKEND=cuda` is refused, and is what `gpu_peers` is for. The environment is else that of `grid`, and
//! `FUSED_LORA_GRID`: `sizes` for a few sizes, `full` for all cells.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use criterion::Criterion;
use fused_lora::Strategy;
use fused_lora_benches::budget::Job;
use fused_lora_benches::check::Wrong;
use fused_lora_benches::lineup::Lineup;
use fused_lora_benches::method::{Method, Ours};
use fused_lora_benches::model::Model;
use fused_lora_benches::peak::Peak;
use fused_lora_benches::peers::{Inexact, Peer, cells};
use fused_lora_benches::records::{Subject, flops};
use fused_lora_benches::session::{self, Bench, Id, Session};
use fused_lora_benches::settings::{Backend, Selection, Settings};
use fused_lora_benches::stage::Stage;
use fused_lora_benches::table::{self, Contender, Entry, Role};
use fused_lora_records::{Cell, Workload};

/// Place of our base in every round.
const BASE: usize = 0;

const PEERS: Bench = Bench {
    name: "peers",
    budget: |_| Duration::from_secs(170),
    backends: &[Backend::Cpu],
    workloads: Workload::LINEARS,
    selections: &[Selection::Sizes, Selection::Full],
};

fn main() -> ExitCode {
    session::main(PEERS, jobs, measure)
}

fn id(settings: &Settings, cell: Cell) -> Id {
    let Cell { seq_len, batch, rank } = cell;
    Id {
        group: format!("peers/{}/seq{seq_len}/batch{batch}", settings.workload.name()),
        in_group: format!("r{rank}"),
    }
}

/// Who runs in a round of this cell, in the order of the line-up: the peak computes nothing and comes last.
fn contenders(settings: &Settings, cell: Cell) -> Vec<Contender> {
    let contender = |library: &str, strategy: Strategy, role| Contender {
        name: format!("{library}/{strategy}"),
        flops: flops(settings, cell, strategy),
        role,
        inexact: false,
    };
    let mut all = vec![contender("fused-lora", Strategy::Base, Role::OurBase)];
    let theirs = if cell.rank == 0 { Strategy::Base } else { Strategy::Unfused };
    if cell.rank > 0 {
        all.push(contender("fused-lora", Strategy::Fused, Role::OurFused));
    }
    all.extend(Peer::ALL.map(|peer| contender(peer.name(), theirs, Role::Peer)));
    let peak = Peak::new(flops(settings, cell, Strategy::Base));
    all.push(Contender {
        name: peak.name().to_owned(),
        flops: peak.flops(),
        role: Role::Peak,
        inexact: false,
    });
    all
}

fn jobs(settings: &Settings) -> Vec<Job> {
    let job = |cell| {
        let contenders = contenders(settings, cell);
        Job {
            id: id(settings, cell).full(),
            cell,
            flops: contenders.iter().map(|contender| contender.flops).sum(),
            methods: contenders.into_iter().map(|contender| contender.name).collect(),
        }
    };
    cells(settings).into_iter().map(job).collect()
}

fn measure(session: &mut Session, criterion: &mut Criterion) -> anyhow::Result<()> {
    let settings = session.settings().clone();
    let simd = session.target().simd().context("the peers run on a CPU")?;
    let mut model = Model::new(settings.workload, simd);
    let mut inexact = Inexact::default();
    let mut entries = Vec::new();
    for cells in cells(&settings).chunk_by(|a, b| (a.seq_len, a.batch) == (b.seq_len, b.batch)) {
        let mut stage = session.rig(&simd, cells[0].m());
        let mut group = criterion.benchmark_group(id(&settings, cells[0]).group);
        for &cell in cells {
            let mut methods = contenders(&settings, cell);
            if methods.iter().all(|method| session.has(cell, &method.name)) || session.drops(cell) {
                continue;
            }
            let timed = methods.iter().position(|method| method.role == Role::OurFused).unwrap_or(BASE);
            let (stage, model, inexact) = (&mut stage, &mut model, &mut inexact);
            let flops = methods[timed].flops;
            let rounds = session.measure(&mut group, &id(&settings, cell), timed, flops, || {
                prepare(stage, model, inexact, &settings, cell)
            });
            let Some(rounds) = rounds else { continue };
            for (place, method) in methods.iter_mut().enumerate() {
                method.inexact = inexact.holds(&method.name);
                // The base does not depend on the rank, and is recorded at 0.
                if place == BASE && cell.rank > 0 {
                    continue;
                }
                let base = (place != BASE && method.role != Role::Peak).then_some(BASE);
                let ours = matches!(method.role, Role::OurBase | Role::OurFused);
                session.record(
                    &Subject { cell, method: &method.name, place, base, flops: method.flops, ours },
                    &rounds,
                )?;
            }
            let floor_pad_pct = session.template.floor_pad_pct(cell);
            entries.push(Entry { cell, methods, rounds, floor_pad_pct });
        }
        group.finish();
    }
    print!("{}", table::render(&entries));
    Ok(())
}

/// Everything of one round, checked.
fn prepare<'a>(
    stage: &'a mut Stage,
    model: &'a mut Model,
    inexact: &mut Inexact,
    settings: &Settings,
    cell: Cell,
) -> anyhow::Result<Lineup<'a>> {
    let ours = if cell.rank == 0 { vec![Strategy::Base] } else { vec![Strategy::Base, Strategy::Fused] };
    let slots = stage.furnish(model, cell.rank, ours.len() + Peer::ALL.len())?;
    let mut methods: Vec<Box<dyn Method + 'a>> = Vec::new();
    for strategy in ours {
        let mut ours = Ours::new(format!("fused-lora/{strategy}"), strategy, slots, cell.rank);
        stage.check(&mut ours, slots, cell.rank)?;
        methods.push(Box::new(ours));
    }
    for peer in Peer::ALL {
        let mut method = if cell.rank == 0 { peer.base(slots) } else { peer.unfused(slots, cell.rank) };
        match stage.check(&mut *method, slots, cell.rank) {
            Ok(()) => (),
            Err(Wrong::Mismatch { method, deviation, .. }) => inexact.note(method, deviation),
            Err(error) => return Err(error.into()),
        }
        methods.push(method);
    }
    methods.push(Box::new(Peak::new(flops(settings, cell, Strategy::Base))));
    Ok(stage.line_up(methods))
}

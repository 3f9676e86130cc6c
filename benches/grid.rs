//! The grid: base, unfused and fused at every size and rank, for the figure.
//!
//! ```text
//! cargo bench --bench grid                                    # all of linear-1024x1024
//! cargo bench --bench grid -- 'seq128/batch4/r(10|250)/fused' # some ids of it
//! FUSED_LORA_WORKLOAD=gpt2-medium-linears FUSED_LORA_BUDGET_S=3600 cargo bench --bench grid
//! ```
//!
//! An id is `<workload>/seq<seq_len>/batch<batch>/r<rank>/<strategy>`. The base does not depend on the rank and
//! has one id a size, at r = 0. Every other id times its strategy against the base, call by call in turn; that
//! is where a record's slow-down comes from. Criterion gets the strategy's own times.
//!
//! Criterion's elements are operations, so its "Gelem/s" are GFLOP/s. It warns of large cells that ten samples do
//! not fit its time: they get one round a sample, by design.
//!
//! Settings are environment variables, since Criterion rejects flags that it does not know:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FUSED_LORA_WORKLOAD` | `linear-1024x1024`, `linear-4096x4096`, `gpt2-medium-linears` | the first |
//! | `FUSED_LORA_BACKEND` | `cpu`, or `cuda`: an NVIDIA GPU | `cpu` |
//! | `FUSED_LORA_DEVICE` | for `cuda`: the GPU's number, from 0 on | `0` |
//! | `FUSED_LORA_CACHE` | `cold`: all operands have left the caches; `warm-w`: the weights have not | `cold` |
//! | `FUSED_LORA_BUDGET_S` | seconds for everything; what does not fit is dropped by name, largest first | 320 |
//! | `FUSED_LORA_RESUME` | `1`: go on with the newest run of the same configuration and code | `0` |
//! | `FUSED_LORA_MEASUREMENTS` | the folder of the records; if relative, below the workspace's root | `measurements` |
//! | `FUSED_LORA_SHARD` | `i/n`: every n-th cell, from the i-th | `1/1` |
//! | `FUSED_LORA_SIMD` | `avx512`, `avx2`, `portable` | the best there is |
//! | `FUSED_LORA_REVISION` | the commit that is recorded, `-dirty` behind it, where git cannot tell | git's |
//!
//! On a GPU a call is one launch of a CUDA graph that holds at least 20 forward passes, and as many as take a
//! millisecond; its time, between two events, is divided by their number. `cold` and `warm-w` mean the L2.

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use fused_lora::Strategy;
use fused_lora_benches::arguments::Mode;
use fused_lora_benches::engine::{Engine, Rig};
use fused_lora_benches::ids::{id, jobs, sizes, strategies};
use fused_lora_benches::lineup::Lineup;
use fused_lora_benches::model::Model;
use fused_lora_benches::records::{Subject, flops};
use fused_lora_benches::session::{self, Bench, Session};
use fused_lora_benches::settings::{Backend, Selection};
use fused_lora_benches::target::Target;
use fused_lora_records::{Cell, Workload};

const GRID: Bench = Bench {
    name: "grid",
    budget: |_| Duration::from_secs(320),
    backends: &[Backend::Cpu, Backend::Cuda],
    workloads: Workload::LINEARS,
    selections: &Selection::ALL,
};

fn main() -> ExitCode {
    session::main(GRID, jobs, measure)
}

fn measure(session: &mut Session, criterion: &mut Criterion) -> anyhow::Result<()> {
    match session.target().clone() {
        Target::Cpu(simd) => measure_on(simd, session, criterion),
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        Target::Cuda(gpu) => {
            if session.arguments.mode == Mode::Measure {
                println!("{}", gpu.overhead()?);
            }
            measure_on(gpu, session, criterion)
        }
    }
}

fn measure_on<E: Engine + Clone>(
    engine: E,
    session: &mut Session,
    criterion: &mut Criterion,
) -> anyhow::Result<()> {
    let settings = session.settings().clone();
    let mut model = Model::new(settings.workload, engine.clone());
    for cells in sizes(&settings) {
        let mut rig = session.rig(&engine, cells[0].m());
        let mut group = criterion.benchmark_group(id(&settings, cells[0], Strategy::Base).group);
        let mut base_checked = false;
        for cell in cells {
            if session.drops(cell) {
                continue;
            }
            for &strategy in strategies(cell) {
                if session.has(cell, strategy.name()) {
                    continue;
                }
                let flops = flops(&settings, cell, strategy);
                let timed = usize::from(strategy != Strategy::Base);
                let (rig, model, base_checked) = (&mut rig, &mut model, &mut base_checked);
                let rounds =
                    session.measure(&mut group, &id(&settings, cell, strategy), timed, flops, move || {
                        prepare(rig, model, base_checked, cell, strategy)
                    });
                if let Some(rounds) = rounds {
                    let base = (strategy != Strategy::Base).then_some(0);
                    let method = strategy.name();
                    session
                        .record(&Subject { cell, method, place: timed, base, flops, ours: true }, &rounds)?;
                }
            }
        }
        group.finish();
    }
    Ok(())
}

/// The base, and the strategy that is timed against it; both checked, the base once a size.
fn prepare<'a, E: Engine>(
    rig: &'a mut E::Rig,
    model: &mut Model<E>,
    base_checked: &mut bool,
    cell: Cell,
    strategy: Strategy,
) -> anyhow::Result<Lineup<'a>> {
    let strategies = if strategy == Strategy::Base { vec![strategy] } else { vec![Strategy::Base, strategy] };
    let slots = rig.furnish(model, cell.rank, strategies.len())?;
    let mut methods = Vec::new();
    for strategy in strategies {
        let mut ours = rig.ours(strategy, slots, cell.rank)?;
        if strategy != Strategy::Base || !*base_checked {
            rig.check(&mut ours, slots, cell.rank)?;
        }
        *base_checked |= strategy == Strategy::Base;
        methods.push(ours);
    }
    Ok(rig.line_up(methods)?)
}

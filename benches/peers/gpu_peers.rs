//! The same cells on a GPU: this library beside cuBLASLt, the base product alone and with an adapter.
//!
//! ```text
//! cargo bench --bench gpu_peers                               # four sizes at every rank
//! FUSED_LORA_GRID=full FUSED_LORA_BUDGET_S=300 cargo bench --bench gpu_peers
//! ```
//!
//! An id is `gpu_peers/<workload>/seq<seq_len>/batch<batch>/r<rank>`. One round of it runs everything that is
//! compared: at r = 0 both base products, above it this library's base, fused and unfused, and cuBLASLt's three
//! calls (x Wᵀ; h = s·x Aᵀ; y += h Bᵀ). Each call of a round is one launch of a CUDA graph of at least 20 forward
//! passes over rotating buffers, all methods on the same x and y. Criterion gets the times of this library. The
//! records, `fused-lora/<strategy>`, `cublaslt/base` and `cublaslt/three-calls`, hold the slow-down against this
//! library's base in the same rounds.
//!
//! cuBLASLt runs the fastest of the algorithms that its heuristics offer (up to 32, timed on the real operands),
//! with 32 MiB of workspace. The library is loaded where it is there, under the name that the dynamic loader
//! knows (`libcublasLt.so.12`, or CUDA 13's); where it is not, that is said and this library runs alone.
//!
//! All are checked against the reference first. A peer that breaks its tolerance is named with how far it is
//! off, timed all the same, and marked.
//!
//! The environment is that of `peers`, with `FUSED_LORA_DEVICE` as in `grid`; the backend is `cuda` unless
//! `FUSED_LORA_BACKEND` names another, which is refused. Without a GPU there is nothing to run, which is no
//! error unless the variable asks for `cuda`.

use std::process::ExitCode;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() -> ExitCode {
    on_linux::main()
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn main() -> ExitCode {
    println!("gpu_peers skipped: it needs Linux on x86-64 or aarch64");
    ExitCode::SUCCESS
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod on_linux {
    use std::process::ExitCode;
    use std::time::Duration;

    use criterion::Criterion;
    use fused_lora::Strategy;
    use fused_lora::cuda::{Device, Error};
    use fused_lora_benches::check::Wrong;
    use fused_lora_benches::cuda::{Bed, Gpu, Replay};
    use fused_lora_benches::engine::Rig as _;
    use fused_lora_benches::gpu_peers::contenders::{BASE, contenders, id, jobs, ours, theirs};
    use fused_lora_benches::gpu_peers::{CublasLt, library};
    use fused_lora_benches::lineup::Lineup;
    use fused_lora_benches::model::Model;
    use fused_lora_benches::peers::{Inexact, cells};
    use fused_lora_benches::records::Subject;
    use fused_lora_benches::session::{self, Bench, Session};
    use fused_lora_benches::settings::{Backend, Selection};
    use fused_lora_benches::table::{self, Entry, Role};
    use fused_lora_benches::target::Target;
    use fused_lora_records::{Cell, Workload};

    const GPU_PEERS: Bench = Bench {
        name: "gpu_peers",
        budget: |_| Duration::from_secs(120),
        backends: &[Backend::Cuda],
        workloads: Workload::LINEARS,
        selections: &[Selection::Sizes, Selection::Full],
    };

    pub(super) fn main() -> ExitCode {
        if let Some(missing) = nothing_to_run_on() {
            println!("gpu_peers skipped: {missing}");
            return ExitCode::SUCCESS;
        }
        session::main(GPU_PEERS, |settings| jobs(settings, library::is_present()), measure)
    }

    /// Why there is no GPU; None where there is one, or where one is asked for, so that its lack is an error.
    fn nothing_to_run_on() -> Option<Error> {
        if std::env::var_os("FUSED_LORA_BACKEND").is_some_and(|backend| !backend.is_empty()) {
            return None;
        }
        Device::count().err().filter(|error| matches!(error, Error::NoDriver(_) | Error::NoDevice))
    }

    fn measure(session: &mut Session, criterion: &mut Criterion) -> anyhow::Result<()> {
        let Target::Cuda(gpu) = session.target().clone() else {
            anyhow::bail!("the peers of this bench run on a GPU");
        };
        let cublaslt = match CublasLt::new(&gpu)? {
            Ok(cublaslt) => {
                println!("cublasLt: version {}", cublaslt.version());
                Some(cublaslt)
            }
            Err(missing) => {
                println!("cublasLt: {missing}, skipped");
                None
            }
        };
        measure_beside(cublaslt.as_ref(), &gpu, session, criterion)
    }

    fn measure_beside(
        cublaslt: Option<&CublasLt>,
        gpu: &Gpu,
        session: &mut Session,
        criterion: &mut Criterion,
    ) -> anyhow::Result<()> {
        let settings = session.settings().clone();
        let mut model = Model::new(settings.workload, gpu.clone());
        let mut inexact = Inexact::default();
        let mut entries = Vec::new();
        for cells in cells(&settings).chunk_by(|a, b| (a.seq_len, a.batch) == (b.seq_len, b.batch)) {
            let mut bed = session.rig(gpu, cells[0].m());
            let mut group = criterion.benchmark_group(id(&settings, cells[0]).group);
            for &cell in cells {
                let mut methods = contenders(&settings, cell, cublaslt.is_some());
                if methods.iter().all(|method| session.has(cell, &method.name)) || session.drops(cell) {
                    continue;
                }
                let timed = methods.iter().position(|method| method.role == Role::OurFused).unwrap_or(BASE);
                let flops = methods[timed].flops;
                let (bed, model, inexact) = (&mut bed, &mut model, &mut inexact);
                let rounds = session.measure(&mut group, &id(&settings, cell), timed, flops, || {
                    prepare(bed, model, cublaslt, inexact, cell)
                });
                let Some(rounds) = rounds else { continue };
                for (place, method) in methods.iter_mut().enumerate() {
                    method.inexact = inexact.holds(&method.name);
                    // The base does not depend on the rank, and is recorded at 0.
                    if place == BASE && cell.rank > 0 {
                        continue;
                    }
                    let base = (place != BASE).then_some(BASE);
                    let ours = method.role != Role::Peer;
                    let flops = method.flops;
                    session
                        .record(&Subject { cell, method: &method.name, place, base, flops, ours }, &rounds)?;
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
        bed: &'a mut Bed,
        model: &mut Model<Gpu>,
        cublaslt: Option<&CublasLt>,
        inexact: &mut Inexact,
        cell: Cell,
    ) -> anyhow::Result<Lineup<'a>> {
        let ours: &[Strategy] = ours(cell);
        let slots = bed.furnish(model, cell.rank, ours.len() + usize::from(cublaslt.is_some()))?;
        let mut methods: Vec<Box<dyn Replay>> = Vec::new();
        for &strategy in ours {
            let mut ours = bed.ours(strategy, slots, cell.rank)?;
            bed.check_method(&mut ours, slots, cell.rank)?;
            methods.push(Box::new(ours));
        }
        if let Some(cublaslt) = cublaslt {
            let mut calls = cublaslt.method(theirs(cell), slots, cell.rank, bed.ground())?;
            match bed.check_method(&mut calls, slots, cell.rank) {
                Ok(()) => (),
                Err(Wrong::Mismatch { method, deviation, .. }) => inexact.note(method, deviation),
                Err(error) => return Err(error.into()),
            }
            methods.push(Box::new(calls));
        }
        Ok(bed.line_up_graphs(methods)?)
    }
}

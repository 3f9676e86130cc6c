//! A layer of GPT-2 medium: bare, with sequential adapters, and with LoRA un-merged, for the six panels as published.
//!
//! ```text
//! cargo bench --bench layer                                                # 18 sizes, 20 minutes at most
//! FUSED_LORA_GRID=reduced cargo bench --bench layer                        # batches of 1, 4 and 16, 5 minutes at most
//! cargo bench --bench layer -- 'seq128/batch4/r(10|250)/lora-fused'        # some ids, and the bare layer beside them
//! FUSED_LORA_GRID=reduced FUSED_LORA_TORCH=.venv/bin/python cargo bench --bench layer
//! ```
//!
//! An id is `<workload>/seq<seq_len>/batch<batch>/r<rank>/<method>`, with the methods `none` (r = 0 alone), `adapter-h`, `adapter-l`,
//! `lora-unfused` and `lora-fused`; `-qv` behind LoRA's where it is on q and v alone.
//!
//! **A round** of a size is 14 calls in alternating order: each of the four methods at ranks 10, 100 and 250, the bare layer, and the bare
//! layer once more. Every slow-down is paired with the bare layer of its round. The second bare call is what each method is at r = 0,
//! without an adapter: it is recorded under each method's name, and shows the noise. (Criterion gets it once, as `r0/none-again`.)
//! One base for twelve, instead of one for each: that is what makes 20 minutes enough.
//!
//! **Rounds are run here, not by Criterion.** Criterion then gets each id's own times, in ten samples (or `--sample-size`), none twice. A
//! size that had time for fewer rounds than that is in the records alone; that is said. At least 6 rounds are run of a size, or none:
//! where time is short, the largest sizes are dropped by name. The time is everything's: set-up, checks, Criterion's analysis. Criterion
//! warns of each id that its samples do not fit its time: it has none, by design.
//!
//! **Checked** is every method of every size in its first round, right after it was timed: x is two sequences again and again, and every row
//! of y is compared with a plain f32 computation of the layer on those two.
//!
//! **PyTorch** joins the rounds where `FUSED_LORA_TORCH` names a Python interpreter that has it: a child process computes the same layer
//! in fp32 on the same numbers, on as many threads, and sleeps while this library computes. Its records, `torch-fp32/<method>`, are
//! compared with its own bare layer; the table at the end compares times. Its y is checked at the first size.
//!
//! At the end stand the verdicts: how far `lora-fused` is from its floor, and whether slow-downs rise with r and fall with batch and
//! seq_len. They are printed, not asserted.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FUSED_LORA_WORKLOAD` | `gpt2-medium-layer`, or `gpt2-medium`: 24 of them, the whole model without its embeddings | the first |
//! | `FUSED_LORA_GRID` | `full`, or `reduced`: batches of 1, 4 and 16 | `full` |
//! | `FUSED_LORA_TARGETS` | which projections LoRA is on: `all`, or `q,v` | `all` |
//! | `FUSED_LORA_TORCH` | a Python interpreter with PyTorch and safetensors | none |
//! | `FUSED_LORA_BUDGET_S` | seconds for everything | 1200, `reduced` 300; twice that with PyTorch |
//! | `FUSED_LORA_SHARD` | `i/n`: every n-th size, from the i-th; all ranks of a size stay together | `1/1` |
//!
//! The others are those of `grid`. With `FUSED_LORA_BACKEND=cuda` a call is one launch of a CUDA graph of at least 20 forward passes,
//! round and round over the slots, timed between two events; a record has the time of one pass.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use criterion::Criterion;
use fused_lora_benches::arguments::Mode;
use fused_lora_benches::layer::backend::Backend as LayerBackend;
use fused_lora_benches::layer::check::References;
use fused_lora_benches::layer::cpu::Cpu;
use fused_lora_benches::layer::plan::{Job, Plan};
use fused_lora_benches::layer::replay::replay;
use fused_lora_benches::layer::report::{self, Peer};
use fused_lora_benches::layer::round::{Call, Round};
use fused_lora_benches::layer::rounds::Players;
use fused_lora_benches::layer::sequences::Sequences;
use fused_lora_benches::layer::size::{Size, sizes};
use fused_lora_benches::layer::torch::{Options, Torch};
use fused_lora_benches::layer::variant::{Variant, config};
use fused_lora_benches::layer::weights::Weights;
use fused_lora_benches::layer::{verdict, versus};
use fused_lora_benches::progress;
use fused_lora_benches::session::{self, Bench, Session};
use fused_lora_benches::settings::{Backend, Selection, Settings};
use fused_lora_benches::target::Target;
use fused_lora_records::{SEQ_LENS, Workload};
use fused_lora_transformer::Config;

const LAYER: Bench = Bench {
    name: "layer",
    budget,
    backends: &[Backend::Cpu, Backend::Cuda],
    workloads: Workload::LAYERS,
    selections: &[Selection::Full, Selection::Reduced],
};

fn main() -> ExitCode {
    // The time is planned by size and not by id: the session has no jobs of its own.
    session::main(LAYER, |_| Vec::new(), measure)
}

/// With PyTorch a round takes about twice as long.
fn budget(settings: &Settings) -> Duration {
    let seconds = if settings.selection == Selection::Reduced { 300 } else { 1200 };
    Duration::from_secs(if settings.torch.is_some() { 2 * seconds } else { seconds })
}

fn measure(session: &mut Session, criterion: &mut Criterion) -> anyhow::Result<()> {
    let settings = session.settings().clone();
    let rounds: Vec<Round> = sizes(&settings)
        .into_iter()
        .filter_map(|size| Round::of(&settings, &session.arguments, size))
        .filter(|round| !round.records().iter().all(|(name, rank)| session.has(round.size.cell(*rank), name)))
        .collect();
    match session.arguments.mode {
        Mode::List => list(&rounds, &settings, criterion),
        // One size is enough to see that everything runs.
        Mode::Test => Stage::new(session, &rounds[..rounds.len().min(1)])?.run_live(session, criterion)?,
        Mode::NoRecord => Stage::new(session, &rounds)?.run_live(session, criterion)?,
        Mode::Measure => {
            Stage::new(session, &rounds)?.run(session, criterion)?;
            conclude(session)?;
        }
    }
    Ok(())
}

fn list(rounds: &[Round], settings: &Settings, criterion: &mut Criterion) {
    for (id, _) in rounds.iter().flat_map(|round| round.ids(settings)) {
        criterion.benchmark_group(id.group).bench_function(id.in_group, |_| ());
    }
}

/// All that is measured, and what it is measured with.
struct Stage<'r> {
    rounds: &'r [Round],
    config: Config,
    weights: Weights,
    sequences: Sequences,
    references: References,
    ours: Box<dyn LayerBackend>,
    torch: Option<Torch>,
    torch_is_checked: bool,
}

impl<'r> Stage<'r> {
    fn new(session: &Session, rounds: &'r [Round]) -> anyhow::Result<Stage<'r>> {
        let settings = session.settings();
        let config = config(settings.workload).context("the workload is no transformer's layer")?;
        let machine = &session.template.machine;
        let last_level_cache =
            if session.arguments.mode == Mode::Test { 0 } else { machine.last_level_cache };

        let ours: Box<dyn LayerBackend> = match session.target().clone() {
            Target::Cpu(simd) => Box::new(Cpu::new(simd, settings.cache, last_level_cache)),
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Target::Cuda(_) if settings.torch.is_some() => {
                anyhow::bail!(
                    "FUSED_LORA_TORCH: PyTorch joins the rounds on the CPU alone; on a GPU, leave it out"
                )
            }
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Target::Cuda(gpu) => {
                Box::new(fused_lora_benches::layer::cuda::Cuda::new(gpu, settings.cache, last_level_cache)?)
            }
        };

        let mut weights = Weights::new(config)?;
        for variant in rounds.iter().flat_map(Round::variants) {
            weights.ensure(variant)?;
        }
        let longest = rounds.iter().map(|round| round.size.seq_len).max().unwrap_or(1);
        let sequences = Sequences::new(longest, config.d);
        let torch = settings.torch.as_ref().filter(|_| !rounds.is_empty());
        let torch = torch.map(|python| -> anyhow::Result<Torch> {
            let threads = machine.threads.unwrap_or(1);
            let options = Options { config, threads, cache: settings.cache, last_level_cache };
            let mut torch = Torch::start(python, options)?;
            torch.load(&weights, &sequences)?;
            Ok(torch)
        });
        Ok(Stage {
            rounds,
            config,
            weights,
            sequences,
            references: References::new(config.layers),
            ours,
            torch: torch.transpose()?,
            torch_is_checked: false,
        })
    }

    /// Buffers and references of a size. Returns the seconds that a row of the references took, where some were computed.
    fn furnish(&mut self, round: &Round) -> anyhow::Result<Option<f64>> {
        let Stage { weights, sequences, references, ours, torch, .. } = self;
        let started = Instant::now();
        let size = round.size;
        let computed = references.ensure(size.seq_len, round.variants(), weights, sequences);
        let of_row = started.elapsed().as_secs_f64() / size.seq_len as f64;
        let variants: Vec<Variant> = round.ours().map(|(_, variant)| variant).collect();
        ours.furnish(size, &variants, weights, sequences)?;
        if let Some(torch) = torch {
            torch.prepare(size)?;
            if !self.torch_is_checked {
                self.players(size).check_torch(round)?;
                self.torch_is_checked = true;
            }
        }
        Ok((computed > 0).then_some(of_row))
    }

    fn players(&mut self, size: Size) -> Players<'_> {
        let passes = self.ours.passes(size, self.config);
        Players { ours: &mut *self.ours, torch: self.torch.as_mut(), references: &self.references, passes }
    }

    /// Operations of one round, all calls together.
    fn flops(&self, round: &Round) -> f64 {
        let of = |variant: Variant| variant.flops(&self.config, round.size.m(), round.size.seq_len);
        let torch = round.calls.iter().filter_map(|call| match call {
            Call::Torch(method, rank) => Some(method.variant(*rank)),
            _ => None,
        });
        let passes = self.ours.passes(round.size, self.config) as f64;
        round
            .ours()
            .map(|(_, variant)| variant)
            .map(|variant| passes * of(variant))
            .chain(torch.map(of))
            .sum()
    }

    /// Measures every size in rounds, records it, and gives Criterion its share.
    fn run(&mut self, session: &mut Session, criterion: &mut Criterion) -> anyhow::Result<()> {
        let settings = session.settings().clone();
        let samples = session.samples();
        let peer = self.torch.as_ref().map(Peer::of).unwrap_or_default();
        let jobs = self.rounds.iter().map(|round| Job {
            size: round.size,
            flops: self.flops(round),
            ids: round.ids(&settings).len(),
        });
        let mut plan = Plan::new(session.time(), samples, jobs.collect());
        let mut left_out = LeftOut::default();
        for round in self.rounds {
            let size = round.size;
            if let Some(needs) = plan.drops() {
                eprintln!(
                    "dropped {size}: it takes {needs:.1} s or more, and larger sizes go first when time is short"
                );
                left_out.dropped.push(size);
                left_out.needs += needs;
                plan.skip();
                continue;
            }
            progress::announce(plan.position(), &size.to_string(), plan.time_left());
            if let Some(of_row) = self.furnish(round)? {
                plan.reserve(of_row * longer(size, self.rounds) as f64);
            }
            let measured = self.players(size).run(round, &mut plan)?;
            session.note_clock();
            for record in report::records(&session.template, &self.config, round, &measured, &peer) {
                session.append(&record)?;
            }

            let started = Instant::now();
            let mut analysed = 0;
            let variants: Vec<(usize, Variant)> = round.ours().collect();
            for (id, place) in round.ids(&settings) {
                let variant =
                    variants.iter().find(|(other, _)| *other == place).map_or(Variant::NONE, |&(_, v)| v);
                let flops = variant.flops(&self.config, size.m(), size.seq_len);
                let mut group = criterion.benchmark_group(id.group);
                analysed +=
                    usize::from(replay(&mut group, &id.in_group, flops, samples, &measured.nanos(place)));
                group.finish();
            }
            if measured.len() < samples {
                let nanos: f64 = (0..round.calls.len()).flat_map(|place| measured.nanos(place)).sum();
                let seconds = nanos * 1e-9 * self.ours.passes(size, self.config) as f64;
                let missing = samples - measured.len();
                left_out.not_criterions.push(format!("{size} ({} rounds)", measured.len()));
                left_out.needs += missing as f64 * seconds / measured.len() as f64;
            }
            plan.finish(analysed, started.elapsed());
        }
        left_out.say(plan.total(), samples);
        Ok(())
    }

    /// Lets Criterion call each method as often as it likes, for a test or a profile. The first call of each is checked.
    fn run_live(&mut self, session: &Session, criterion: &mut Criterion) -> anyhow::Result<()> {
        for round in self.rounds {
            self.furnish(round)?;
            let (ours, references) = (&mut *self.ours, &self.references);
            let variants: Vec<(usize, Variant)> = round.ours().collect();
            for (id, place) in round.ids(session.settings()) {
                let found = variants.iter().position(|(other, _)| *other == place);
                let backend_place = found.context("Criterion gets ours alone")?;
                let variant = variants[backend_place].1;
                let mut failed = None;
                let mut checked = false;
                let mut call = || -> anyhow::Result<Duration> {
                    let time = ours.call(backend_place)?;
                    if !checked {
                        let mut check = |y: ndarray::ArrayView2<'_, half::f16>| {
                            Ok(references.check(&variant.name(), round.size, variant, y)?)
                        };
                        ours.inspect(&mut check)?;
                        checked = true;
                    }
                    Ok(time)
                };
                criterion.benchmark_group(id.group).bench_function(id.in_group, |bencher| {
                    bencher.iter_custom(|iterations| {
                        let times = (0..iterations).map(|_| call()).collect::<anyhow::Result<Vec<_>>>();
                        times.map(|times| times.iter().sum()).unwrap_or_else(|error| {
                            failed.get_or_insert(error);
                            // Criterion has no way to be told, but takes no time for a time.
                            Duration::from_nanos(iterations)
                        })
                    });
                });
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Tokens of the sequences that are longer than this size's, each length once: their references are still to be computed.
fn longer(size: Size, rounds: &[Round]) -> usize {
    let is_there = |seq_len: &usize| rounds.iter().any(|round| round.size.seq_len == *seq_len);
    SEQ_LENS.into_iter().filter(|&seq_len| seq_len > size.seq_len).filter(is_there).sum()
}

/// What there was no time for.
#[derive(Default)]
struct LeftOut {
    dropped: Vec<Size>,
    /// Sizes of which Criterion has nothing.
    not_criterions: Vec<String>,
    /// Seconds that all of it would take.
    needs: f64,
}

impl LeftOut {
    fn say(&self, total: Duration, samples: usize) {
        if !self.not_criterions.is_empty() {
            eprintln!(
                "{} sizes had fewer than {samples} rounds, and are in the records, not in Criterion's reports: {}",
                self.not_criterions.len(),
                self.not_criterions.join(", ")
            );
        }
        if !self.dropped.is_empty() {
            let names: Vec<String> = self.dropped.iter().map(Size::to_string).collect();
            eprintln!(
                "{} sizes were dropped: {}; FUSED_LORA_RESUME=1 measures them now",
                names.len(),
                names.join(", ")
            );
        }
        if self.needs > 0.0 {
            let enough = (total.as_secs_f64() + 1.2 * self.needs).ceil();
            eprintln!(
                "the budget is {:.0} s; FUSED_LORA_BUDGET_S={enough:.0} would do for all",
                total.as_secs_f64()
            );
        }
    }
}

/// What the records of the run say, those of before it was resumed too.
fn conclude(session: &Session) -> anyhow::Result<()> {
    if !session.path().exists() {
        return Ok(());
    }
    let found = fused_lora_records::read(&[session.path()]).context("the records of this run")?;
    print!("{}{}", verdict::render(&found.records), versus::render(&found.records));
    Ok(())
}

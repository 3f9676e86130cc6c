//! One run of a bench: what was asked for, what is done of it, and how long the rest may take.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use fused_lora_records::{Cell, Record, Timestamp, Workload};

use crate::arguments::{Arguments, Mode};
use crate::budget::{Budget, Job, WARM_UP};
use crate::calls::{Calls, Rounds};
use crate::engine::{Engine, Size};
use crate::fingerprint::Fingerprint;
use crate::lineup::Lineup;
use crate::machine::Machine;
use crate::progress;
use crate::records::{Subject, Template};
use crate::revision::Revision;
use crate::run::Run;
use crate::settings::{self, Backend, BadSetting, Selection, Settings};
use crate::target::{NoTarget, Target};

/// Samples of an id unless `--sample-size` says otherwise: the fewest that Criterion takes. Intervals rest on
/// the rounds within the samples, of which there are as many as the time allows.
const SAMPLES: usize = 10;
/// With Criterion's 100,000 its analysis and plots take 1.9 s an id, with these 0.25 s.
const RESAMPLES: usize = 2000;

/// A bench, as `cargo bench` knows it.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Its name, which begins those of its runs.
    pub name: &'static str,
    /// Its time where `FUSED_LORA_BUDGET_S` does not set one.
    pub budget: fn(&Settings) -> Duration,
    /// The backends that it measures; the first where `FUSED_LORA_BACKEND` names none.
    pub backends: &'static [Backend],
    /// The workloads that it measures; the first where `FUSED_LORA_WORKLOAD` names none.
    pub workloads: &'static [Workload],
    /// The parts of the grid that it knows; the first where `FUSED_LORA_GRID` names none. A bench that has no choice knows all, and
    /// looks at none.
    pub selections: &'static [Selection],
}

impl Bench {
    fn default_settings(&self) -> Settings {
        Settings {
            backend: self.backends[0],
            workload: &self.workloads[0],
            selection: self.selections[0],
            ..Settings::default()
        }
    }

    /// Whether it measures what the settings ask for.
    fn accepts(&self, settings: &Settings) -> Result<(), Usage> {
        let bench = self.name;
        if !self.backends.contains(&settings.backend) {
            return Err(Usage::Backend { asked: settings.backend, bench });
        }
        if !self.workloads.contains(settings.workload) {
            return Err(Usage::Workload { asked: settings.workload, bench });
        }
        if !self.selections.contains(&settings.selection) {
            let names: Vec<&str> = self.selections.iter().map(|selection| selection.name()).collect();
            return Err(Usage::Selection { asked: settings.selection, bench, known: names.join(" or ") });
        }
        Ok(())
    }
}

/// One run of a bench.
pub struct Session {
    /// What is measured, on what, and with which code.
    pub template: Template,
    /// What Criterion was asked to do.
    pub arguments: Arguments,
    target: Target,
    budget: Budget,
    run: Run,
    dropped: Vec<Dropped>,
}

/// A cell that there was no time for.
struct Dropped {
    cell: Cell,
    needs: f64,
}

/// An environment that means nothing: exit code 2, all else is 1.
#[derive(Debug, thiserror::Error)]
enum Usage {
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error(transparent)]
    Simd(fused_lora::Error),
    #[error(
        "FUSED_LORA_BACKEND={}: the bench {bench} does not measure there; `peers` and `layer` are for the CPU, `gpu_peers` for a GPU",
        .asked.name()
    )]
    Backend { asked: Backend, bench: &'static str },
    #[error(
        "FUSED_LORA_WORKLOAD={}: the bench {bench} does not measure it; `cargo bench --bench {}` does",
        .asked.name(),
        if .asked.layers().is_some() { "layer" } else { "grid" }
    )]
    Workload { asked: &'static Workload, bench: &'static str },
    #[error("FUSED_LORA_GRID={}: the bench {bench} knows {known}", .asked.name())]
    Selection { asked: Selection, bench: &'static str, known: String },
}

/// Runs a bench: reads Criterion's arguments and the environment, lists the ids that are to be measured, and
/// measures.
///
/// `jobs` are the bench's ids in their order; `measure` is to measure them.
pub fn main(
    bench: Bench,
    jobs: impl FnOnce(&Settings) -> Vec<Job>,
    measure: impl FnOnce(&mut Session, &mut Criterion) -> anyhow::Result<()>,
) -> ExitCode {
    let started = Instant::now();
    // First: Criterion answers --help, and refuses flags that it does not know.
    let mut criterion = Criterion::default().sample_size(SAMPLES).nresamples(RESAMPLES).configure_from_args();
    let result = Session::begin(bench, started, jobs).and_then(|mut session| {
        measure(&mut session, &mut criterion)?;
        session.finish();
        Ok(())
    });
    match result {
        Ok(()) => {
            criterion.final_summary();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// The workspace's root. Not the working directory, which differs between `cargo bench` and `cargo run`.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

impl Session {
    fn begin(
        bench: Bench,
        started: Instant,
        jobs: impl FnOnce(&Settings) -> Vec<Job>,
    ) -> anyhow::Result<Session> {
        let settings = Settings::from_env(bench.default_settings()).map_err(Usage::from)?;
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in settings::unknown(names) {
            eprintln!("warning: {name} is no setting of this bench");
        }
        bench.accepts(&settings)?;
        let arguments = Arguments::from_env();
        let target = Target::open(&settings).map_err(|error| match error {
            NoTarget::Simd(error) => anyhow::Error::new(Usage::Simd(error)),
            error => error.into(),
        })?;
        let root = root();
        let machine = target.machine();
        let revision = settings.revision.as_deref().map_or_else(|| Revision::of(&root), Revision::named);

        let folder = root.join(&settings.measurements);
        let what = format!("{}-{}-{}", bench.name, settings.workload.name(), settings.backend.name());
        let fingerprint = fingerprint(&settings, &machine, &revision);
        let mut run = Run::begin(&folder, &what, Timestamp::now(), fingerprint);
        if settings.resume && arguments.mode == Mode::Measure {
            match Run::resume(&folder, &what, fingerprint).context("FUSED_LORA_RESUME=1")? {
                Some((resumed, warnings)) => {
                    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
                    run = resumed;
                    eprintln!("resuming {}, which has {} records", run.name(), run.len());
                }
                None => eprintln!(
                    "FUSED_LORA_RESUME=1: no run of this configuration and code yet, so a new one begins"
                ),
            }
        }

        let total = settings.budget.unwrap_or_else(|| (bench.budget)(&settings));
        let mut jobs = jobs(&settings);
        jobs.retain(|job| {
            arguments.selects(&job.id) && !job.methods.iter().all(|method| run.has(job.cell, method))
        });
        for job in &mut jobs {
            job.flops *= target.passes(size(&settings, &machine, job.cell.m())) as f64;
        }
        let samples = arguments.sample_size.unwrap_or(SAMPLES);
        let budget = Budget::new(started, total, samples, arguments.measurement_time, jobs);
        let template = Template { run: run.name().to_owned(), settings, machine, revision };
        Ok(Session { template, arguments, target, budget, run, dropped: Vec::new() })
    }

    /// What is measured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.template.settings
    }

    /// What is measured on.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The whole time, and when it began.
    #[must_use]
    pub fn time(&self) -> (Duration, Instant) {
        (self.budget.total(), self.budget.started())
    }

    /// Samples that Criterion takes of an id.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.arguments.sample_size.unwrap_or(SAMPLES)
    }

    /// The file of the run's records; there is none before the first.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// A rig for cells of that M; a short one where ids are run once and not measured.
    #[must_use]
    pub fn rig<E: Engine>(&self, engine: &E, m: usize) -> E::Rig {
        let size = size(self.settings(), &self.template.machine, m);
        let rehearsal = self.arguments.mode == Mode::Test;
        engine.rig(if rehearsal { Size { last_level_cache: 0, ..size } } else { size })
    }

    /// Whether a record is there already, from the run that is resumed.
    #[must_use]
    pub fn has(&self, cell: Cell, method: &str) -> bool {
        self.run.has(cell, method)
    }

    /// Whether there is no time for a cell; says so. To be asked before the first id of a cell.
    pub fn drops(&mut self, cell: Cell) -> bool {
        let is_next = self.budget.next().is_some_and(|job| job.cell == cell);
        let measures = self.arguments.mode == Mode::Measure;
        let Some(needs) = self.budget.drops_next().filter(|_| is_next && measures) else { return false };
        eprintln!(
            "dropped {cell}: it takes {needs:.1} s or more, and larger cells go first when time is short"
        );
        self.dropped.push(Dropped { cell, needs });
        while self.budget.next().is_some_and(|job| job.cell == cell) {
            self.budget.skip();
        }
        true
    }

    /// Measures one id under Criterion, which gets the times of the method at place `timed`; `flops` are that
    /// method's operations. `prepare` is called if Criterion's filter selects the id, before its first round.
    ///
    /// Returns the rounds of the measurement; None if there was none (a test, a list, or an id that is not
    /// selected). Ends the process if `prepare` or a call fails: Criterion has no way to be told.
    pub fn measure<'a>(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        id: &Id,
        timed: usize,
        flops: f64,
        prepare: impl FnOnce() -> anyhow::Result<Lineup<'a>>,
    ) -> Option<Rounds> {
        let measures = self.arguments.mode == Mode::Measure;
        let is_next = measures && self.budget.next().is_some_and(|job| job.id == id.full());
        if is_next {
            progress::announce(self.budget.position(), &id.full(), self.budget.time_left());
        }
        let time = self.budget.measurement_time();
        group.sampling_mode(SamplingMode::Flat).measurement_time(time);
        group.warm_up_time(self.arguments.warm_up_time.unwrap_or(time.mul_f64(WARM_UP)));
        // An element is an operation: Criterion's "Gelem/s" are GFLOP/s.
        group.throughput(Throughput::Elements(flops as u64));

        let started = Instant::now();
        let mut prepare = Some(prepare);
        let mut running = None;
        group.bench_function(id.in_group.as_str(), |bencher| {
            let (lineup, calls) = running.get_or_insert_with(|| {
                let prepare = prepare.take().expect("a line-up is prepared once");
                let lineup = prepare().unwrap_or_else(|error| fail(error, id));
                let calls = Calls::of(lineup.passes());
                (lineup, calls)
            });
            bencher.iter_custom(|iterations| {
                let rounds = (0..iterations).map(|_| lineup.round()).collect::<anyhow::Result<Vec<_>>>();
                let rounds = rounds.unwrap_or_else(|error| fail(error, id));
                let time: Duration = rounds.iter().map(|round| round[timed]).sum();
                calls.push(rounds);
                // Criterion plans by its own clock, and reports this: one forward pass an iteration.
                time.div_f64(lineup.passes() as f64)
            });
        });
        let calls = running.map(|(_, calls)| calls).unwrap_or_default();
        if is_next && !calls.is_empty() {
            self.budget.observe(calls.rounds(), calls.busy(), started.elapsed());
        } else if is_next {
            self.budget.skip();
        }
        calls.measured(self.samples()).filter(|_| measures)
    }

    /// Records one method of a cell. It is on the disk when this returns. A record that a resumed run has
    /// already stays as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn record(&mut self, subject: &Subject<'_>, rounds: &Rounds) -> anyhow::Result<()> {
        if self.has(subject.cell, subject.method) {
            return Ok(());
        }
        self.note_clock();
        let record = self.template.record(subject, rounds);
        self.append(&record)
    }

    /// Lets records from now on say how fast the device's clock was last seen, where that is read.
    pub fn note_clock(&mut self) {
        if let Some(clock_mhz) = self.target.clock_mhz() {
            self.template.machine.clock_mhz = Some(clock_mhz);
        }
    }

    /// Appends a record. It is on the disk when this returns. A record that a resumed run has already stays as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn append(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.has(record.cell(), &record.method) {
            return Ok(());
        }
        self.run.append(record).with_context(|| format!("{}/{} is lost", record.cell(), record.method))
    }

    /// Says where the records are, and what was left out.
    fn finish(&self) {
        if !self.dropped.is_empty() {
            let names: Vec<String> = self.dropped.iter().map(|dropped| dropped.cell.to_string()).collect();
            let needs: f64 = self.dropped.iter().map(|dropped| dropped.needs).sum();
            let total = self.budget.total().as_secs_f64();
            eprintln!(
                "{} cells were dropped, since the budget is {total:.0} s: {}. FUSED_LORA_BUDGET_S={:.0} would do, or \
                 FUSED_LORA_RESUME=1 to measure them now",
                names.len(),
                names.join(", "),
                (total + 1.1 * needs).ceil()
            );
        }
        if self.run.written() > 0 {
            println!("{} records in {}", self.run.written(), self.run.path().display());
        }
    }
}

/// The name of an id: that of its group, and that within it.
#[derive(Clone, Debug)]
pub struct Id {
    /// The group's name.
    pub group: String,
    /// The name within the group.
    pub in_group: String,
}

impl Id {
    /// The name that Criterion's filter sees.
    #[must_use]
    pub fn full(&self) -> String {
        format!("{}/{}", self.group, self.in_group)
    }
}

/// Whatever makes two measurements not comparable.
fn fingerprint(settings: &Settings, machine: &Machine, revision: &Revision) -> Fingerprint {
    let mut fingerprint = Fingerprint::new();
    for part in [
        settings.workload.name(),
        settings.backend.name(),
        // Two GPUs of one name are measured at the same time, each into a file of its own.
        &settings.device.to_string(),
        &settings.shard.to_string(),
        settings.cache.name(),
        settings.targets.name(),
        // What else runs in a round is in the caches and on the cores, too.
        &settings.torch.as_ref().map_or_else(String::new, |python| python.display().to_string()),
        &machine.device,
        &machine.threads.map_or_else(String::new, |threads| threads.to_string()),
        &machine.simd,
        &machine.driver,
        env!("CARGO_PKG_VERSION"),
        &revision.commit,
        &revision.changes.to_string(),
    ] {
        fingerprint.add(part);
    }
    fingerprint
}

/// What is measured at that M.
fn size(settings: &Settings, machine: &Machine, m: usize) -> Size {
    let Settings { workload, cache, .. } = *settings;
    Size { workload, m, cache, last_level_cache: machine.last_level_cache }
}

fn fail(error: anyhow::Error, id: &Id) -> ! {
    eprintln!("error: {:#}", error.context(id.full()));
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use fused_lora::Granule;
    use fused_lora_transformer::Targets;

    use super::*;
    use crate::settings::Cache;

    const BENCH: Bench = Bench {
        name: "some-bench",
        budget: |_| Duration::from_secs(1),
        backends: &[Backend::Cpu],
        workloads: Workload::LINEARS,
        selections: &[Selection::Full, Selection::Sizes],
    };

    #[test]
    fn a_bench_refuses_what_it_does_not_measure_and_says_who_does() {
        let default = BENCH.default_settings();
        assert_eq!((default.workload.name(), default.selection), ("linear-1024x1024", Selection::Full));
        assert!(BENCH.accepts(&default).is_ok());
        let refusal = |bench: Bench, settings: Settings| bench.accepts(&settings).unwrap_err().to_string();
        let [linear, layer] = [&Workload::LINEARS[0], &Workload::LAYERS[0]];
        for (bench, settings, part) in [
            (BENCH, Settings { workload: layer, ..default.clone() }, "--bench layer`"),
            (
                Bench { workloads: Workload::LAYERS, ..BENCH },
                Settings { workload: linear, ..default.clone() },
                "--bench grid`",
            ),
            (BENCH, Settings { selection: Selection::Reduced, ..default.clone() }, "full or sizes"),
            (BENCH, Settings { backend: Backend::Cuda, ..default }, "FUSED_LORA_BACKEND=cuda"),
        ] {
            let text = refusal(bench, settings);
            assert!(text.contains(part) && text.contains("some-bench"), "{text}");
        }
    }

    #[test]
    fn whatever_changes_a_number_changes_the_fingerprint() {
        let settings = Settings::default();
        let machine = Machine {
            device: "some device".to_owned(),
            threads: Some(2),
            simd: "avx2".to_owned(),
            driver: "12.4".to_owned(),
            clock_mhz: None,
            last_level_cache: 32 << 20,
            granule: Granule { shrink_n: 8, expand_k: 1 },
        };
        let revision = Revision { commit: "0123abc".to_owned(), dirty: false, changes: Fingerprint::new() };
        let same = fingerprint(&settings, &machine, &revision);

        let workload = &Workload::LINEARS[1];
        let mut changes = Fingerprint::new();
        changes.add("a change");
        let of_settings = |settings: Settings| fingerprint(&settings, &machine, &revision);
        let of_machine = |machine: Machine| fingerprint(&settings, &machine, &revision);
        let of_revision = |revision: Revision| fingerprint(&settings, &machine, &revision);
        let others = [
            of_settings(Settings { workload, ..settings.clone() }),
            of_settings(Settings { cache: Cache::WarmW, ..settings.clone() }),
            of_settings(Settings { workload: &Workload::LAYERS[0], ..settings.clone() }),
            of_settings(Settings { workload: &Workload::LAYERS[1], ..settings.clone() }),
            of_settings(Settings { targets: Targets::QueryValue, ..settings.clone() }),
            of_settings(Settings { torch: Some("python".into()), ..settings.clone() }),
            of_settings(Settings { backend: Backend::Cuda, ..settings.clone() }),
            of_settings(Settings { device: 1, ..settings.clone() }),
            of_settings(Settings { shard: "1/2".parse().unwrap(), ..settings.clone() }),
            of_machine(Machine { threads: Some(3), ..machine.clone() }),
            of_machine(Machine { threads: None, ..machine.clone() }),
            of_machine(Machine { device: "other".to_owned(), ..machine.clone() }),
            of_machine(Machine { simd: "portable".to_owned(), ..machine.clone() }),
            of_machine(Machine { driver: "12.6".to_owned(), ..machine.clone() }),
            of_revision(Revision { commit: "fedcba9".to_owned(), ..revision.clone() }),
            of_revision(Revision { changes, ..revision.clone() }),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, same, "change {i}");
            assert!(!others[..i].contains(other), "change {i}");
        }
        // Neither the time that there is, nor whether a run is resumed, changes what is measured.
        let budget = Some(Duration::from_secs(1));
        assert_eq!(of_settings(Settings { budget, resume: true, ..settings.clone() }), same);
        assert_eq!(of_machine(Machine { clock_mhz: Some(1.0), ..machine.clone() }), same);
    }

    #[test]
    fn the_root_is_the_workspaces() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"), "{manifest}");
    }
}

//! One run of a bench: what was asked for, what is done of it, and how long the rest may take.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use fused_lora::cpu::Simd;
use fused_lora_sweep::{Cell, Timestamp};

use crate::arguments::{Arguments, Mode};
use crate::budget::{Budget, Job, WARM_UP};
use crate::calls::{Calls, Rounds};
use crate::fingerprint::Fingerprint;
use crate::host::Host;
use crate::lineup::Lineup;
use crate::progress;
use crate::records::{Subject, Template};
use crate::revision::Revision;
use crate::run::Run;
use crate::settings::{self, BadSetting, Settings};
use crate::stage::Stage;

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
    pub budget: Duration,
}

/// One run of a bench.
pub struct Session {
    /// What is measured, on what, and with which code.
    pub template: Template,
    /// What Criterion was asked to do.
    pub arguments: Arguments,
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
        let settings = Settings::from_env().map_err(Usage::from)?;
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in settings::unknown(names) {
            eprintln!("warning: {name} is no setting of this bench");
        }
        let simd = Simd::detect().map_err(Usage::Simd)?;
        let arguments = Arguments::from_env();
        let root = root();
        let (host, revision) = (Host::detect(), Revision::of(&root));

        let folder = root.join(&settings.measurements);
        let what = format!("{}-{}-{}", bench.name, settings.workload.name(), settings.backend);
        let fingerprint = fingerprint(&settings, &host, simd, &revision);
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

        let total = settings.budget.unwrap_or(bench.budget);
        let mut jobs = jobs(&settings);
        jobs.retain(|job| {
            arguments.selects(&job.id) && !job.methods.iter().all(|method| run.has(job.cell, method))
        });
        let samples = arguments.sample_size.unwrap_or(SAMPLES);
        let budget = Budget::new(started, total, samples, arguments.measurement_time, jobs);
        let template = Template { run: run.name().to_owned(), settings, host, simd, revision };
        Ok(Session { template, arguments, budget, run, dropped: Vec::new() })
    }

    /// What is measured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.template.settings
    }

    /// A stage for cells of that M; a short one where ids are run once and not measured.
    #[must_use]
    pub fn stage(&self, m: usize) -> Stage {
        let Settings { workload, cache, .. } = *self.settings();
        match self.arguments.mode {
            Mode::Test => Stage::rehearsal(workload, m, cache),
            _ => Stage::new(workload, m, cache, self.template.host.last_level_cache),
        }
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
    /// selected). Ends the process if `prepare` fails: Criterion has no way to be told.
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
        let mut calls = Calls::default();
        let mut prepare = Some(prepare);
        let mut lineup = None;
        group.bench_function(id.in_group.as_str(), |bencher| {
            let lineup = lineup.get_or_insert_with(|| {
                let prepare = prepare.take().expect("a line-up is prepared once");
                prepare().unwrap_or_else(|error| fail(&error.context(id.full())))
            });
            bencher.iter_custom(|iterations| {
                let rounds: Vec<Vec<Duration>> = (0..iterations).map(|_| lineup.round()).collect();
                let time = rounds.iter().map(|round| round[timed]).sum();
                calls.push(rounds);
                time
            });
        });
        if is_next && !calls.is_empty() {
            self.budget.observe(calls.rounds(), calls.busy(), started.elapsed());
        } else if is_next {
            self.budget.skip();
        }
        calls.measured(self.arguments.sample_size.unwrap_or(SAMPLES)).filter(|_| measures)
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
        let record = self.template.record(subject, rounds);
        self.run.append(&record).with_context(|| format!("{}/{} is lost", subject.cell, subject.method))
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
fn fingerprint(settings: &Settings, host: &Host, simd: Simd, revision: &Revision) -> Fingerprint {
    let mut fingerprint = Fingerprint::new();
    for part in [
        settings.workload.name(),
        settings.backend,
        &settings.shard.to_string(),
        settings.cache.name(),
        &host.device,
        &host.threads.to_string(),
        &simd.to_string(),
        env!("CARGO_PKG_VERSION"),
        &revision.commit,
        &revision.changes.to_string(),
    ] {
        fingerprint.add(part);
    }
    fingerprint
}

fn fail(error: &anyhow::Error) -> ! {
    eprintln!("error: {error:#}");
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Cache;

    #[test]
    fn whatever_changes_a_number_changes_the_fingerprint() {
        let settings = Settings::default();
        let host =
            Host { device: "some cpu".to_owned(), threads: 2, clock_mhz: None, last_level_cache: 32 << 20 };
        let revision = Revision { commit: "0123abc".to_owned(), dirty: false, changes: Fingerprint::new() };
        let same = fingerprint(&settings, &host, Simd::Avx2, &revision);

        let workload = &fused_lora_sweep::Workload::ALL[1];
        let mut changes = Fingerprint::new();
        changes.add("a change");
        let others = [
            fingerprint(&Settings { workload, ..settings.clone() }, &host, Simd::Avx2, &revision),
            fingerprint(&Settings { cache: Cache::WarmW, ..settings.clone() }, &host, Simd::Avx2, &revision),
            fingerprint(
                &Settings { shard: "1/2".parse().unwrap(), ..settings.clone() },
                &host,
                Simd::Avx2,
                &revision,
            ),
            fingerprint(&settings, &Host { threads: 3, ..host.clone() }, Simd::Avx2, &revision),
            fingerprint(
                &settings,
                &Host { device: "other".to_owned(), ..host.clone() },
                Simd::Avx2,
                &revision,
            ),
            fingerprint(&settings, &host, Simd::Portable, &revision),
            fingerprint(
                &settings,
                &host,
                Simd::Avx2,
                &Revision { commit: "fedcba9".to_owned(), ..revision.clone() },
            ),
            fingerprint(&settings, &host, Simd::Avx2, &Revision { changes, ..revision.clone() }),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, same, "change {i}");
            assert!(!others[..i].contains(other), "change {i}");
        }
        // Neither the time that there is, nor whether a run is resumed, changes what is measured.
        let budget = Some(Duration::from_secs(1));
        let resumed = Settings { budget, resume: true, ..settings };
        assert_eq!(
            fingerprint(&resumed, &Host { clock_mhz: Some(1.0), ..host }, Simd::Avx2, &revision),
            same
        );
    }

    #[test]
    fn the_root_is_the_workspaces() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"), "{manifest}");
    }
}

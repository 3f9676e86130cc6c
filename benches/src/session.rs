//! The runs of a bench, one for most: what was asked for, the measurement, records and Criterion.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use criterion::Criterion;
use fused_lora::DType;
use fused_lora_records::{Record, Timestamp, workspace_root};

use crate::arguments::{Arguments, Mode};
use crate::criterion_share::{live, replay};
use crate::machine::Machine;
use crate::measure::{Budget, Report, measure};
use crate::method::{COLD, Method, Suite};
use crate::outcome::Outcome;
use crate::records::RecordTemplate;
use crate::revision::Revision;
use crate::run::{self, Run};
use crate::settings::{self, Choices, Settings, Usage};
use crate::size::{Size, sizes};
use crate::target::{Target, is_missing};

/// Rounds of every size before any gets more, and Criterion's samples, unless `--sample-size` or
/// `FUSED_LORA_ROUNDS` says otherwise: the fewest samples that Criterion takes.
const ROUNDS: usize = 10;
/// With Criterion's 100,000 its analysis and plots take 1.9 s an id, with these 0.25 s.
const RESAMPLES: usize = 2000;

/// Criterion's analysis and plots of an id.
const ANALYSIS: Duration = Duration::from_millis(280);

/// A bench, as `cargo bench` knows it.
#[derive(Clone, Copy)]
pub struct Bench {
    /// Its name, which begins those of its runs.
    pub name: &'static str,
    /// What stands before the workload in its ids.
    pub prefix: &'static str,
    /// Its time where `FUSED_LORA_BUDGET_S` does not set one.
    pub budget: fn(&Settings) -> Duration,
    /// What it measures.
    pub choices: Choices,
    /// Whether a test runs all sizes, or, since each takes long, the first alone.
    pub tests_all_sizes: bool,
    /// The workload on the backend, for a last-level cache of so many bytes.
    pub suite: fn(&Settings, &Target, usize) -> anyhow::Result<Box<dyn Suite>>,
    /// What it says at the end, of all records of the run and of what was measured now.
    pub conclude: fn(&[Record], &[Outcome]) -> String,
}

impl Bench {
    fn group(&self, settings: &Settings, size: Size) -> String {
        format!("{}{}/{size}", self.prefix, named(settings, '/'))
    }
}

/// The workload, and behind it the type where that is not f16, and the adapters in a batch where these are
/// several.
fn named(settings: &Settings, separator: char) -> String {
    let mut name = settings.workload.name().to_owned();
    if settings.dtype != DType::F16 {
        name += &format!("{separator}{}", settings.dtype);
    }
    if settings.mix > 1 {
        name += &format!("{separator}mix{}", settings.mix);
    }
    name
}

/// Runs a bench, in the pool whose threads its methods use: a call from outside pays for waking it up, some
/// 25 µs.
pub fn main(bench: &Bench) -> ExitCode {
    let started = Instant::now();
    rayon::scope(|_| {
        // First: Criterion answers --help, and refuses flags that it does not know.
        let criterion = Criterion::default().sample_size(ROUNDS).nresamples(RESAMPLES);
        let mut criterion = criterion.configure_from_args();
        match all(bench, started, &mut criterion) {
            Ok(()) => {
                criterion.final_summary();
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
            }
        }
    })
}

/// All runs. Each has its share of the time that those before it have left.
fn all(bench: &Bench, started: Instant, criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut runs = Settings::from_env(&bench.choices)?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in settings::unknown(names) {
        eprintln!("warning: {name} is no setting of this bench");
    }
    let arguments = Arguments::from_env();
    if arguments.mode == Mode::Test {
        // All types, but the largest workloads take long.
        let first = runs[0].workload;
        runs.retain(|settings| settings.workload == first);
    }
    let total = runs[0].budget.unwrap_or_else(|| (bench.budget)(&runs[0]));
    let deadline = started + total;
    for (number, settings) in runs.iter().enumerate() {
        // The first has begun with this process.
        let started = if number == 0 { started } else { Instant::now() };
        let total = deadline.saturating_duration_since(started) / (runs.len() - number) as u32;
        run(bench, settings, &arguments, (started, total), criterion)?;
    }
    Ok(())
}

fn run(
    bench: &Bench,
    settings: &Settings,
    arguments: &Arguments,
    (started, total): (Instant, Duration),
    criterion: &mut Criterion,
) -> anyhow::Result<()> {
    let target = match Target::open(settings) {
        // A bench for GPUs alone, where there is none.
        Err(error) if !settings.backend_is_named && is_missing(&error) => {
            println!("{} skipped: {}", bench.name, error.root_cause());
            return Ok(());
        }
        target => target?,
    };
    let machine = target.machine(settings.dtype);
    let last_level_cache = if arguments.mode == Mode::Test { 0 } else { machine.last_level_cache };
    let mut suite = (bench.suite)(settings, &target, last_level_cache)?;
    let sizes = sizes(settings).into_iter().filter_map(|size| {
        let methods = selected(suite.methods(size), |id| {
            arguments.selects(&format!("{}/{id}", bench.group(settings, size)))
        });
        (!methods.is_empty()).then_some((size, methods))
    });
    let mut sizes: Vec<(Size, Vec<Method>)> = sizes.collect();
    let distance = COLD * last_level_cache;
    match arguments.mode {
        Mode::Test | Mode::NoRecord => {
            if arguments.mode == Mode::Test && !bench.tests_all_sizes {
                sizes.truncate(1);
            }
            for (size, methods) in &sizes {
                live(criterion, &bench.group(settings, *size), &mut *suite, *size, methods, distance)?;
            }
            Ok(())
        }
        Mode::Measure => {
            let revision =
                settings.revision.as_deref().map_or_else(|| Revision::of(workspace_root()), Revision::named);
            let mut run = begin(bench, settings, &machine, &revision)?;
            sizes.retain(|(size, methods)| {
                let mut records = methods.iter().flat_map(|m| m.names.iter().map(move |name| (m, name)));
                records.any(|(m, name)| m.base.is_some() && !run.has(size.cell(m.rank), name))
            });
            let samples = arguments.sample_size.unwrap_or(ROUNDS);
            let ids =
                sizes.iter().flat_map(|(_, methods)| methods).filter(|method| method.is_for_criterion());
            let budget = Budget {
                started,
                total,
                reserved: ANALYSIS * ids.count() as u32,
                least: settings.rounds.unwrap_or(ROUNDS).max(arguments.sample_size.unwrap_or(0)),
                fixed: arguments.measurement_time,
                threads: machine.threads.unwrap_or(1),
                distance,
            };
            if let Some(line) = target.preamble()? {
                println!("{line}");
            }
            let template =
                RecordTemplate { run: run.name.clone(), settings: settings.clone(), machine, revision };
            let report = measure(&mut *suite, sizes, &budget, &mut |suite, outcome| {
                Ok(run.put(&template.records(suite, outcome, target.clock_mhz()))?)
            })?;
            for (size, round) in &report.dropped {
                eprintln!(
                    "dropped {size}: one round of it takes {round:.0} s, which is more than all the time there is"
                );
            }
            let mut short = Vec::new();
            for outcome in &report.outcomes {
                if replay(criterion, &bench.group(settings, outcome.size), outcome, samples) > 0 {
                    short.push(outcome);
                }
            }
            print!("{}", (bench.conclude)(run.records(), &report.outcomes));
            say(&report, &short, samples, budget.total);
            if !report.outcomes.is_empty() {
                println!("{} records in {}", run.records().len(), run.path.display());
            }
            Ok(())
        }
    }
}

/// The run that the records go to: a new one, or the one that is resumed.
fn begin(bench: &Bench, settings: &Settings, machine: &Machine, revision: &Revision) -> anyhow::Result<Run> {
    let folder = workspace_root().join(&settings.measurements);
    let what = format!("{}-{}-{}", bench.name, named(settings, '-'), settings.backend.name());
    let fingerprint = fingerprint(settings, machine, revision);
    if settings.resume {
        if let Some(run) = Run::resume(&folder, &what, &fingerprint).context("FUSED_LORA_RESUME=1")? {
            eprintln!("resuming {}, which has {} records", run.name, run.records().len());
            return Ok(run);
        }
        eprintln!("FUSED_LORA_RESUME=1: no run of this configuration and code yet, so a new one begins");
    }
    Ok(Run::begin(&folder, &what, Timestamp::now(), &fingerprint))
}

/// What of a size's methods runs: those with an id that is selected, their bases, and the probes. Nothing
/// where no id is.
fn selected(methods: Vec<Method>, selects: impl Fn(&str) -> bool) -> Vec<Method> {
    let wanted: Vec<bool> = methods.iter().map(|method| method.ids.iter().any(|id| selects(id))).collect();
    if !wanted.contains(&true) {
        return Vec::new();
    }
    let is_base_of_wanted =
        |place: usize| methods.iter().zip(&wanted).any(|(m, &w)| w && m.base == Some(place));
    let kept: Vec<usize> = (0..methods.len())
        .filter(|&place| wanted[place] || is_base_of_wanted(place) || methods[place].is_probe())
        .collect();
    let of_kept = |&place: &usize| {
        let mut method = methods[place].clone();
        method.base = method.base.and_then(|base| kept.iter().position(|&other| other == base));
        // The call that is recorded under several names is recorded under those that are selected.
        if method.names.len() > 1 && !selects(&method.ids[0]) {
            let mut of_names = method.ids[1..].iter();
            method.names.retain(|_| of_names.next().is_some_and(|id| selects(id)));
        }
        method
    };
    kept.iter().map(of_kept).collect()
}

/// Says what was left out, and how much of it was disturbed.
fn say(report: &Report, short: &[&Outcome], samples: usize, total: Duration) {
    if !short.is_empty() {
        let names: Vec<String> =
            short.iter().map(|outcome| format!("{} ({} rounds)", outcome.size, outcome.rounds)).collect();
        eprintln!(
            "{} sizes had fewer than {samples} undisturbed rounds of some method, which is in the records \
             and not in Criterion's reports: {}",
            names.len(),
            names.join(", ")
        );
    }
    let needed: f64 = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.rounds < samples)
        .filter_map(|outcome| Some((samples - outcome.rounds) as f64 * outcome.cost?.round))
        .sum();
    let dropped: f64 = report.dropped.iter().map(|&(_, round)| samples as f64 * round).sum();
    if needed + dropped > 0.0 {
        eprintln!(
            "the budget is {:.0} s; FUSED_LORA_BUDGET_S={:.0} would do for {samples} rounds of each size",
            total.as_secs_f64(),
            (total.as_secs_f64() + 1.3 * (needed + dropped)).ceil()
        );
    }
}

/// Whatever makes two measurements not comparable.
fn fingerprint(settings: &Settings, machine: &Machine, revision: &Revision) -> String {
    run::fingerprint([
        settings.workload.name(),
        settings.dtype.name(),
        settings.backend.name(),
        // Two GPUs of one name are measured at the same time, each into a file of its own.
        &settings.device.to_string(),
        &settings.shard.to_string(),
        settings.cache.name(),
        &settings.mix.to_string(),
        settings.targets.name(),
        // What else runs in a round is in the caches and on the cores, too.
        &settings.torch.as_ref().map_or_else(String::new, |python| python.display().to_string()),
        &machine.device,
        &machine.threads.map_or_else(String::new, |threads| threads.to_string()),
        &machine.simd,
        &machine.driver,
        env!("CARGO_PKG_VERSION"),
        &revision.commit,
        &revision.changes,
    ])
}

#[cfg(test)]
mod tests {
    use fused_lora_records::Workload;
    use fused_lora_transformer::Targets;

    use super::*;
    use crate::method::Probe;
    use crate::settings::{Backend, Cache};
    use crate::testing::{machine, method, probe};

    #[test]
    fn whatever_changes_a_number_changes_the_fingerprint() {
        let of = |change: fn(&mut Settings, &mut Machine, &mut Revision)| {
            let mut of = (Settings::default(), machine(), Revision::named("0123abc"));
            change(&mut of.0, &mut of.1, &mut of.2);
            fingerprint(&of.0, &of.1, &of.2)
        };
        let fingerprints = [
            of(|_, _, _| ()),
            of(|settings, _, _| settings.workload = &Workload::LINEARS[1]),
            of(|settings, _, _| settings.workload = &Workload::LAYERS[0]),
            of(|settings, _, _| settings.workload = &Workload::LAYERS[1]),
            of(|settings, _, _| settings.dtype = DType::F32),
            of(|settings, _, _| settings.cache = Cache::WarmW),
            of(|settings, _, _| settings.mix = 8),
            of(|settings, _, _| settings.targets = Targets::QueryValue),
            of(|settings, _, _| settings.torch = Some("python".into())),
            of(|settings, _, _| settings.backend = Backend::Cuda),
            of(|settings, _, _| settings.device = 1),
            of(|settings, _, _| settings.shard = "1/2".parse().unwrap()),
            of(|_, machine, _| machine.threads = Some(3)),
            of(|_, machine, _| machine.threads = None),
            of(|_, machine, _| machine.device = "other".to_owned()),
            of(|_, machine, _| machine.simd = "portable".to_owned()),
            of(|_, machine, _| machine.driver = "12.6".to_owned()),
            of(|_, _, revision| revision.commit = "fedcba9".to_owned()),
            of(|_, _, revision| revision.changes = "a change".to_owned()),
        ];
        for (i, other) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[..i].contains(other), "change {i}");
        }
        // Neither the time that there is, nor whether a run is resumed, changes what is measured.
        let budget_and_resume = of(|settings, _, _| {
            (settings.budget, settings.resume) = (Some(Duration::from_secs(1)), true);
        });
        let clock = of(|_, machine, _| machine.clock_mhz = Some(1.0));
        assert_eq!([&budget_and_resume, &clock], [&fingerprints[0]; 2]);
    }

    #[test]
    fn a_filter_leaves_its_methods_their_base_and_the_probes() {
        let mut again = method("adapter-h", 0, Some(0));
        again.names.push("fused".to_owned());
        again.ids = ["r0/again", "r0/adapter-h", "r0/fused"].map(str::to_owned).to_vec();
        let all = || {
            vec![
                method("none", 0, Some(0)),
                again.clone(),
                method("fused", 10, Some(0)),
                method("other-base", 0, Some(3)),
                method("other", 10, Some(3)),
                probe(Probe::Peak),
            ]
        };
        let of = |filter: &str| {
            let pattern = regex::Regex::new(filter).unwrap();
            let kept = selected(all(), |id| pattern.is_match(id));
            kept.into_iter().map(|m| (m.names.join("+"), m.rank, m.base)).collect::<Vec<_>>()
        };
        let named = |name: &str, rank, base| (name.to_owned(), rank, base);
        let peak = named("probe", 0, None);
        assert_eq!(of("").len(), 6);
        assert_eq!(of("r10/fused"), [named("none", 0, Some(0)), named("fused", 10, Some(0)), peak.clone()]);
        assert_eq!(
            of("r10/other"),
            [named("other-base", 0, Some(0)), named("other", 10, Some(0)), peak.clone()]
        );
        assert_eq!(of("r0/none"), [named("none", 0, Some(0)), peak.clone()]);
        assert_eq!(of("r0/fused"), [named("none", 0, Some(0)), named("fused", 0, Some(0)), peak.clone()]);
        assert_eq!(of("r0/again"), [named("none", 0, Some(0)), named("adapter-h+fused", 0, Some(0)), peak]);
        assert_eq!(of("r11"), []);
    }
}

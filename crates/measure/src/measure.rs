//! All sizes within a time: first the least of each, then more where it is needed most.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use crate::method::{Method, Suite};
use crate::outcome::Outcome;
use crate::plan::{Cost, Pilot, allot, first};
use crate::size::Size;

/// How long, and how.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// When the time began.
    pub started: Instant,
    /// All of it.
    pub total: Duration,
    /// The part of it that is not for measuring: what is done with the times afterwards.
    pub reserved: Duration,
    /// Rounds that every size gets before any gets more, where they fit.
    pub least: usize,
    /// Seconds that each method is to be timed for, whatever the total is; what `--measurement-time` sets.
    pub fixed: Option<Duration>,
    /// Threads of the methods on the host.
    pub threads: usize,
    /// Bytes that are touched between two uses of the same operands.
    pub distance: usize,
}

/// What became of the sizes.
pub struct Report {
    /// Those that were measured.
    pub outcomes: Vec<Outcome>,
    /// Those of which one round does not fit into the whole time, with its seconds.
    pub dropped: Vec<(Size, f64)>,
}

/// Measures sizes; `put` gets each when it has had its least, and again when it has had more.
pub fn measure(
    suite: &mut dyn Suite,
    sizes: Vec<(Size, Vec<Method>)>,
    budget: &Budget,
    put: &mut dyn FnMut(&dyn Suite, &Outcome) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let deadline = budget.started + budget.total.saturating_sub(budget.reserved);
    let left = || deadline.saturating_duration_since(Instant::now()).as_secs_f64();
    let mut outcomes: Vec<Outcome> =
        sizes.into_iter().map(|(size, methods)| Outcome::new(size, methods, budget.threads)).collect();

    let mut dropped = Vec::new();
    let mut place = 0;
    while place < outcomes.len() {
        let costs: Option<Vec<Cost>> =
            (place..outcomes.len()).map(|size| estimate(&outcomes, size, place)).collect();
        let round = costs.as_ref().map(|costs| costs[0].round);
        if let Some(round) = round.filter(|&round| round > budget.total.as_secs_f64()) {
            let size = outcomes.remove(place).size;
            dropped.push((size, round));
            continue;
        }
        let rounds = costs.as_ref().map_or(budget.least, |costs| first(costs, left(), budget.least));
        let planned =
            costs.map(|costs| costs.iter().map(|cost| cost.round * rounds as f64 + cost.setup).sum());
        let count = outcomes.len();
        let outcome = &mut outcomes[place];
        announce((place + 1, count), &suite.label(outcome.size), planned);
        outcome.run(suite, rounds, budget.distance, Some(deadline))?;
        put(suite, outcome)?;
        place += 1;
    }

    let pilots: Vec<Pilot> = outcomes.iter().filter_map(Outcome::pilot).collect();
    let rounds: Vec<usize> = match budget.fixed {
        Some(fixed) => {
            let of_all = |outcome: &Outcome| fixed.as_secs_f64() * outcome.methods.len() as f64;
            let rounds = |(pilot, outcome): (&Pilot, _)| (of_all(outcome) / pilot.cost.round).ceil() as usize;
            pilots.iter().zip(&outcomes).map(rounds).collect()
        }
        None => allot(&pilots, left(), budget.least),
    };
    // What the user fixes is kept to, however long it takes.
    let deadline = if budget.fixed.is_some() { None } else { Some(deadline) };
    let count = outcomes.len();
    for (place, (outcome, rounds)) in outcomes.iter_mut().zip(rounds).enumerate() {
        if rounds > outcome.rounds && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            announce((place + 1, count), &suite.label(outcome.size), deadline.map(|_| left()));
            outcome.run(suite, rounds, budget.distance, deadline)?;
            put(suite, outcome)?;
        }
    }
    Ok(Report { outcomes, dropped })
}

/// Says at a terminal which size is measured, and how many seconds the rest will take.
fn announce(position: (usize, usize), size: &str, left: Option<f64>) {
    if stderr().is_terminal() {
        eprintln!("{}", progress(position, size, left));
    }
}

fn progress((number, count): (usize, usize), size: &str, left: Option<f64>) -> String {
    let left = left.and_then(|left| Duration::try_from_secs_f64(left.round()).ok());
    let left = left.map_or_else(String::new, |left| format!(", {} left", humantime::format_duration(left)));
    format!("[{number}/{count}] {size}{left}")
}

/// What a size takes, if it is as far from the machine's limits as the largest size so far; None before the
/// first.
fn estimate(outcomes: &[Outcome], size: usize, measured: usize) -> Option<Cost> {
    let largest = outcomes[..measured].iter().filter(|outcome| outcome.cost.is_some());
    let largest = largest.max_by(|a, b| a.flops().total_cmp(&b.flops()))?;
    let cost = largest.cost?;
    let limits = largest.limits();
    let round = cost.round * outcomes[size].load(limits) / largest.load(limits);
    // The first size makes weights that the others share, so its set-up is none of theirs. One calls each
    // method about once.
    Some(Cost { round, setup: round })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use half::f16;
    use ndarray::Array2;

    use super::*;
    use crate::method::{Probe, Work};
    use crate::testing::{MadeCall, MadeSuite, method, probe};
    use crate::time::Time;
    use fused_lora_records::Clock;

    const FUSED: usize = 1;

    fn quiet(_: usize) -> Time {
        Time { wall: 1e-3, cpu: Some(2e-3) }
    }

    fn at_once(_: Size) -> Duration {
        Duration::ZERO
    }

    fn sizes(batches: &[usize]) -> Vec<(Size, Vec<Method>)> {
        let job = |&batch: &usize| {
            let size = Size { seq_len: 128, batch };
            let mut methods =
                vec![method("base", 0, Some(0)), method("fused", 10, Some(0)), probe(Probe::Peak)];
            methods.iter_mut().for_each(|method| method.work.flops = size.m() as f64);
            (size, methods)
        };
        batches.iter().map(job).collect()
    }

    /// Calls take as long as `time` says of their number; r is in percent.
    fn suite(time: fn(usize) -> Time, sleep: fn(Size) -> Duration) -> impl Suite {
        let calls = Rc::new(Cell::new(0));
        MadeSuite(move |size: Size, _: usize, method: &Method| {
            let (calls, factor, sleep) = (Rc::clone(&calls), 1.0 + method.rank as f64 / 100.0, sleep(size));
            let run = move |_| {
                std::thread::sleep(sleep);
                let Time { wall, cpu } = time(calls.replace(calls.get() + 1));
                Ok(Time { wall: factor * wall, cpu: cpu.map(|cpu| factor * cpu) })
            };
            MadeCall { run: Box::new(run), y: Array2::from_elem((1, 1), f16::ONE) }
        })
    }

    fn run(
        time: fn(usize) -> Time,
        sleep: fn(Size) -> Duration,
        batches: &[usize],
        total: Duration,
    ) -> (Report, Vec<(usize, usize)>) {
        let budget = Budget {
            started: Instant::now(),
            total,
            least: 10,
            fixed: None,
            reserved: Duration::ZERO,
            threads: 2,
            distance: 0,
        };
        let mut puts = Vec::new();
        let report = measure(&mut suite(time, sleep), sizes(batches), &budget, &mut |_, outcome| {
            puts.push((outcome.size.batch, outcome.rounds));
            Ok(())
        });
        (report.unwrap(), puts)
    }

    #[test]
    fn every_size_is_put_when_it_has_its_least_and_when_it_has_more() {
        let (report, puts) = run(quiet, at_once, &[1, 4, 16], Duration::from_secs(60));
        assert_eq!(puts[..3], [(1, 10), (4, 10), (16, 10)]);
        assert!(report.dropped.is_empty());
        for outcome in &report.outcomes {
            let measured = outcome.samples.measured(FUSED).unwrap();
            assert!((measured.ratio.unwrap().median - 1.1).abs() < 1e-9);
            assert_eq!((measured.samples, measured.repeated), (outcome.rounds, 0));
            assert_eq!(outcome.samples.measured(0).unwrap().samples, 2 * outcome.rounds);
            assert!(outcome.pilot().unwrap().half_width.unwrap() < 1e-9, "all ratios are the same");
        }
    }

    /// A call in 13 meets another process; rounds are repeated until each method has as many that were not
    /// disturbed.
    #[test]
    fn disturbed_rounds_are_repeated_and_left_out() {
        fn now_and_then(call: usize) -> Time {
            let taken = if call % 13 == 7 { 1.22 } else { 1.0 };
            Time { wall: taken * 1e-3, cpu: Some(2e-3) }
        }
        let (report, _) = run(now_and_then, at_once, &[1], Duration::from_secs(60));
        let outcome = &report.outcomes[0];
        let measured = outcome.samples.measured(FUSED).unwrap();
        assert!(measured.repeated > 0, "{measured:?}");
        assert!(measured.samples >= outcome.rounds, "{} of {}", measured.samples, outcome.rounds);
        assert_eq!((measured.clock, measured.ratio.unwrap().median), (Clock::Wall, 1.1));
        let (lo, hi) = measured.ratio.unwrap().interval.unwrap();
        assert!((lo - 1.1).abs() < 1e-9 && (hi - 1.1).abs() < 1e-9, "a disturbed one was kept: {lo} {hi}");
    }

    #[test]
    fn on_a_machine_that_is_busy_all_the_time_nothing_is_repeated_for_ever() {
        fn busy(call: usize) -> Time {
            Time { wall: (1.3 + 0.1 * ((call * 7) % 5) as f64) * 1e-3, cpu: Some(2e-3) }
        }
        let (report, _) = run(busy, at_once, &[1, 4], Duration::from_secs(60));
        for outcome in &report.outcomes {
            let measured = outcome.samples.measured(FUSED).unwrap();
            assert_eq!((measured.clock, measured.repeated), (Clock::Cpu, 0));
            assert!((measured.ratio.unwrap().median - 1.1).abs() < 1e-9);
        }
    }

    #[test]
    fn short_time_means_fewer_rounds_of_each_and_no_hole() {
        // A round is 4 calls: 8 ms of the first size, 160 ms of the last.
        fn sleep(size: Size) -> Duration {
            Duration::from_millis(2 * size.batch as u64)
        }
        let (report, puts) = run(quiet, sleep, &[1, 4, 20], Duration::from_millis(1300));
        assert_eq!(report.outcomes.len(), 3, "none is dropped");
        assert_eq!(puts[0], (1, 10), "before anything is known");
        let rounds: Vec<usize> = report.outcomes.iter().map(|outcome| outcome.rounds).collect();
        assert!((1..10).contains(&rounds[2]), "{rounds:?}");
    }

    /// `--measurement-time`: also where there is one size, of which nothing was known before.
    #[test]
    fn what_the_user_fixes_is_kept_to() {
        let mut suite = suite(quiet, |_| Duration::from_millis(1));
        let (started, fixed) = (Instant::now(), Some(Duration::from_millis(60)));
        let budget = Budget {
            started,
            total: Duration::from_millis(1),
            least: 2,
            fixed,
            reserved: Duration::ZERO,
            threads: 2,
            distance: 0,
        };
        let report = measure(&mut suite, sizes(&[1]), &budget, &mut |_, _| Ok(())).unwrap();
        // Three methods of 1 ms, the base twice: a round is some 4.5 ms, so 60 ms for each are 40 rounds or
        // somewhat fewer.
        assert!((20..=45).contains(&report.outcomes[0].rounds), "{}", report.outcomes[0].rounds);
    }

    #[test]
    fn a_size_is_dropped_only_if_one_round_of_it_does_not_fit() {
        fn sleep(size: Size) -> Duration {
            Duration::from_millis(if size.batch > 4 { 1000 } else { 1 })
        }
        // 4 calls of 1 ms are a round; of the last one 4 · 32 ms by its operations, which is not looked at
        // before.
        let (report, _) = run(quiet, sleep, &[1, 2, 32], Duration::from_millis(60));
        assert_eq!(report.outcomes.iter().map(|outcome| outcome.size.batch).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(report.dropped[0].0.batch, 32);
        assert!(report.dropped[0].1 > 0.06);
    }

    /// One token reads as many bytes as eight, which have eight times the operations: by these alone the
    /// larger size would take eight times as long.
    #[test]
    fn few_tokens_are_estimated_by_their_bytes() {
        let mut outcomes: Vec<Outcome> = [1, 8, 1024]
            .into_iter()
            .map(|tokens| {
                let (mut base, [mut peak, mut bandwidth]) =
                    (method("base", 0, Some(0)), [Probe::Peak, Probe::Bandwidth].map(probe));
                base.work = Work { flops: 1e6 * f64::from(tokens), bytes: 1e6 };
                peak.work = Work { flops: 1e8, bytes: 0.0 };
                bandwidth.work = Work { flops: 0.0, bytes: 1e6 };
                Outcome::new(Size { seq_len: 1, batch: tokens as usize }, vec![base, peak, bandwidth], 2)
            })
            .collect();
        outcomes[0].cost = Some(Cost { round: 3.0, setup: 0.0 });
        let rounds = |outcomes: &[Outcome]| [1, 2].map(|size| estimate(outcomes, size, 1).unwrap().round);
        assert_eq!(
            rounds(&outcomes).map(f64::round),
            [3.0 * 108.0 / 101.0, 3.0 * 1124.0 / 101.0].map(f64::round)
        );
        // 1e10 operations and 1e8 bytes a second: each takes 10 ms, but for the operations of 1024 tokens.
        for place in [1, 2] {
            outcomes[0].samples.called(place, Time { wall: 0.01, cpu: None });
        }
        let [eight, many] = rounds(&outcomes);
        assert!(
            (eight - 3.0).abs() < 1e-9 && (many - 3.0 * (102.4 + 20.0) / 30.0).abs() < 1e-9,
            "{eight} {many}"
        );
    }

    #[test]
    fn a_line_says_where_and_how_long() {
        for (left, line) in [
            (Some(61.4), "[3/18] x, 1m 1s left"),
            (Some(3725.0), "[3/18] x, 1h 2m 5s left"),
            (Some(59.6), "[3/18] x, 1m left"),
            (Some(0.0), "[3/18] x, 0s left"),
            (Some(-1.0), "[3/18] x"),
            (None, "[3/18] x"),
        ] {
            assert_eq!(progress((3, 18), "x", left), line);
        }
    }
}

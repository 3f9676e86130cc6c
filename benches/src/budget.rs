//! How long each cell may take, and which cells there is no time for.
//!
//! A cell costs at least its samples of one round each, its warm-up and its check. Where all remaining cells
//! fit, the time that is left over is spread: every id measures for the same slice of time, or for as long as
//! its samples take if that is longer. Where they do not, the largest cells are dropped, largest M first and
//! there largest rank first, until the rest fits. Both decisions are made anew at each cell, from the speed
//! seen so far, so that a machine that gets slower still keeps to its time.

use std::time::{Duration, Instant};

use fused_lora_records::Cell;

/// Rounds of an id besides its samples: one for the warm-up, one for the check.
const EXTRA_ROUNDS: f64 = 2.0;
/// Part of a slice that the warm-up takes in addition.
pub const WARM_UP: f64 = 0.1;
/// The slice before anything is known of the machine's speed, in seconds.
const FIRST_SLICE: f64 = 0.3;
/// The longest slice, in seconds: beyond it an interval hardly narrows.
const LONGEST_SLICE: f64 = 3.0;
/// Of the time that is left, how much is spread. The rest is for estimates that were too low.
const SPREAD: f64 = 0.88;
/// How much of what was seen before an observation still counts after it.
const MEMORY: f64 = 0.9;

/// One id that is to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// The cell that it belongs to; a cell is measured whole or not at all.
    pub cell: Cell,
    /// The methods that it writes records of.
    pub methods: Vec<String>,
    /// Operations of one round, all methods together.
    pub flops: f64,
}

/// The machine's speed, as seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Speed {
    flops: f64,
    busy: f64,
    overhead: f64,
    jobs: f64,
}

impl Speed {
    /// Seconds that a round takes.
    fn round(&self, job: &Job) -> f64 {
        job.flops * self.busy / self.flops
    }

    /// Seconds that an id takes besides its rounds: its buffers, its check, Criterion's analysis and plots.
    fn overhead(&self) -> f64 {
        self.overhead / self.jobs
    }

    fn known(&self) -> bool {
        self.flops > 0.0 && self.busy > 0.0
    }
}

/// The time for a grid, and what remains to be done in it.
#[derive(Clone, Debug)]
pub struct Budget {
    started: Instant,
    total: Duration,
    samples: usize,
    fixed_slice: Option<Duration>,
    speed: Speed,
    jobs: Vec<Job>,
    done: usize,
}

impl Budget {
    /// A budget that runs from `started`, for jobs in the order in which they will be done. `fixed_slice` is
    /// what the user said that an id is to take.
    #[must_use]
    pub fn new(
        started: Instant,
        total: Duration,
        samples: usize,
        fixed_slice: Option<Duration>,
        jobs: Vec<Job>,
    ) -> Budget {
        Budget { started, total, samples, fixed_slice, speed: Speed::default(), jobs, done: 0 }
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The whole time.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// How long the next job is to measure: what Criterion takes as its measurement time.
    #[must_use]
    pub fn measurement_time(&self) -> Duration {
        self.measurement_time_with(self.left())
    }

    /// Whether there is no time for the cell of the next job; then the seconds that it would take at least.
    /// To be asked when a cell begins: one that has begun is finished.
    #[must_use]
    pub fn drops_next(&self) -> Option<f64> {
        self.drops_next_with(self.left())
    }

    /// The number of the next job, counted from 1, and how many there are.
    #[must_use]
    pub fn position(&self) -> (usize, usize) {
        (self.done + 1, self.jobs.len())
    }

    /// How long the remaining jobs will take; None before the first is done.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        if !self.speed.known() {
            return None;
        }
        let plan = self.plan(self.left());
        let remaining = self.remaining().iter().filter(|job| !plan.dropped.contains(&job.cell));
        Some(Duration::from_secs_f64(remaining.map(|job| self.cost(job, plan.slice)).sum()))
    }

    /// The next job; None when all are done.
    #[must_use]
    pub fn next(&self) -> Option<&Job> {
        self.remaining().first()
    }

    /// The next job is done: its rounds took `busy`, and all of it `wall`.
    pub fn observe(&mut self, rounds: usize, busy: Duration, wall: Duration) {
        let flops = self.jobs[self.done].flops;
        self.done += 1;
        let speed = &mut self.speed;
        *speed = Speed {
            flops: MEMORY * speed.flops + flops * rounds as f64,
            busy: MEMORY * speed.busy + busy.as_secs_f64(),
            overhead: MEMORY * speed.overhead + wall.saturating_sub(busy).as_secs_f64(),
            jobs: MEMORY * speed.jobs + 1.0,
        };
    }

    /// The next job is not done.
    pub fn skip(&mut self) {
        self.done += 1;
    }

    /// What all remaining jobs would cost at least, in seconds.
    #[must_use]
    pub fn needed(&self) -> f64 {
        self.remaining().iter().map(|job| self.cost(job, 0.0)).sum()
    }

    fn left(&self) -> f64 {
        self.total.saturating_sub(self.started.elapsed()).as_secs_f64()
    }

    fn remaining(&self) -> &[Job] {
        &self.jobs[self.done.min(self.jobs.len())..]
    }

    fn measurement_time_with(&self, left: f64) -> Duration {
        if let Some(fixed) = self.fixed_slice {
            return fixed;
        }
        let Some(next) = self.next().filter(|_| self.speed.known()) else {
            return Duration::from_secs_f64(FIRST_SLICE);
        };
        // Criterion divides the time by what a round takes and rounds up. Half a round less than what is meant
        // leaves its estimate the widest margin: otherwise a large cell takes two rounds a sample for one.
        let rounds = self.rounds_per_sample(next, self.plan(left).slice) - 0.5;
        Duration::from_secs_f64(rounds * self.samples as f64 * self.speed.round(next))
    }

    fn drops_next_with(&self, left: f64) -> Option<f64> {
        let next = self.remaining().first().filter(|_| self.speed.known())?;
        self.plan(left).dropped.contains(&next.cell).then(|| self.cell_cost(next.cell))
    }

    /// Rounds of each sample, so that all of them take about that slice.
    fn rounds_per_sample(&self, job: &Job, slice: f64) -> f64 {
        let one_each = self.samples as f64 * self.speed.round(job);
        match self.fixed_slice {
            Some(fixed) => (fixed.as_secs_f64() / one_each).ceil(),
            None => (slice / one_each).round().max(1.0),
        }
    }

    /// Seconds that a job takes with that slice.
    fn cost(&self, job: &Job, slice: f64) -> f64 {
        let rounds = self.samples as f64 * self.rounds_per_sample(job, slice) + EXTRA_ROUNDS;
        self.speed.overhead() + self.speed.round(job) * rounds + WARM_UP * slice
    }

    /// What is left to do of a cell, at least.
    fn cell_cost(&self, cell: Cell) -> f64 {
        self.remaining().iter().filter(|job| job.cell == cell).map(|job| self.cost(job, 0.0)).sum()
    }

    fn plan(&self, left: f64) -> Plan {
        let mut by_size: Vec<Cell> = self.remaining().iter().map(|job| job.cell).collect();
        by_size.dedup();
        by_size.sort_by_key(|cell| (cell.m(), cell.rank, cell.seq_len));
        let mut needed = self.needed();
        let mut dropped = Vec::new();
        while needed > left
            && let Some(largest) = by_size.pop()
        {
            needed -= self.cell_cost(largest);
            dropped.push(largest);
        }
        let kept = |slice: f64| -> f64 {
            self.remaining()
                .iter()
                .filter(|job| !dropped.contains(&job.cell))
                .map(|job| self.cost(job, slice))
                .sum()
        };
        // The largest slice that fits, by bisection: the cost rises with it.
        let (mut fits, mut too_long) = (0.0, LONGEST_SLICE);
        if kept(too_long) <= left * SPREAD {
            fits = too_long;
        }
        for _ in 0..30 {
            let middle = f64::midpoint(fits, too_long);
            if kept(middle) <= left * SPREAD { fits = middle } else { too_long = middle }
        }
        Plan { slice: fits, dropped }
    }
}

struct Plan {
    slice: f64,
    dropped: Vec<Cell>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: usize = 10;

    fn cell(batch: usize, rank: usize) -> Cell {
        Cell { seq_len: 128, batch, rank }
    }

    /// One job a cell, of `flops` = M.
    fn budget(cells: &[Cell]) -> Budget {
        let jobs = cells
            .iter()
            .map(|&cell| Job { id: cell.to_string(), cell, methods: Vec::new(), flops: cell.m() as f64 })
            .collect();
        Budget::new(Instant::now(), Duration::from_secs(300), SAMPLES, None, jobs)
    }

    /// A budget whose first job has shown that a token takes `per_token` seconds.
    fn calibrated(cells: &[Cell], per_token: f64, overhead: f64) -> Budget {
        let mut all = vec![cell(1, 0)];
        all.extend(cells);
        let mut budget = budget(&all);
        let busy = 128.0 * 100.0 * per_token;
        budget.observe(100, Duration::from_secs_f64(busy), Duration::from_secs_f64(busy + overhead));
        budget
    }

    #[test]
    fn before_anything_is_known_a_short_slice_is_measured() {
        let budget = budget(&[cell(1, 0), cell(32, 250)]);
        assert_eq!(budget.measurement_time_with(0.0), Duration::from_secs_f64(FIRST_SLICE));
        assert_eq!(budget.drops_next_with(0.0), None);
        assert_eq!(budget.time_left(), None);
        assert_eq!(budget.position(), (1, 2));
    }

    /// The whole plan, carried out at the speed that was seen, takes the time there is.
    #[test]
    fn spare_time_is_spread() {
        let cells = [cell(1, 0), cell(1, 10), cell(4, 0), cell(32, 250)];
        let budget = calibrated(&cells, 1e-5, 0.2);
        let slice = budget.plan(8.0).slice;
        // By hand: a round takes 1.28, 1.28, 5.12 and 41 ms, so ten of the largest take 0.41 s.
        assert!(slice > 0.41 && slice < LONGEST_SLICE, "{slice}");
        let total: f64 = cells
            .iter()
            .map(|cell| {
                let round = 1e-5 * cell.m() as f64;
                0.2 + 2.0 * round + (slice / round / 10.0).round() * 10.0 * round + WARM_UP * slice
            })
            .sum();
        assert!(total <= 8.0 * SPREAD && total > 8.0 * SPREAD - 0.42, "{total}");
        let planned = budget.time_left().unwrap().as_secs_f64();
        assert!(planned > total, "300 s are left, not 8: {planned}");
    }

    #[test]
    fn a_large_cell_takes_its_samples_and_no_more() {
        // A round at M = 4096 takes 0.41 s: 12 of them, and nothing else, leave the small cells 0.5 s each.
        let cells = [cell(1, 0), cell(2, 0), cell(32, 250)];
        let mut budget = calibrated(&cells, 1e-4, 0.0);
        let slice = budget.plan(7.0).slice;
        assert!(slice > 0.3 && slice < 1.0, "{slice}");
        assert_eq!(budget.rounds_per_sample(&budget.jobs[3], slice), 1.0);
        let small = budget.rounds_per_sample(&budget.jobs[1], slice);
        assert_eq!(small, (slice / 0.128).round());
        let time = budget.measurement_time_with(7.0).as_secs_f64();
        assert!((time - (small - 0.5) * 0.128).abs() < 1e-6, "Criterion rounds {time} up");
        budget.skip();
        budget.skip();
        let time = budget.measurement_time_with(5.0).as_secs_f64();
        assert!((time - 0.5 * 4.096).abs() < 1e-6, "{time}");
    }

    #[test]
    fn the_largest_cells_are_dropped_until_the_rest_fits() {
        let cells = [cell(1, 250), cell(32, 0), cell(32, 250), cell(32, 10), cell(16, 0)];
        let budget = calibrated(&cells, 1e-3, 0.0);
        // Twelve rounds: 1.5 s at M = 128, 49 s at 4096, 24.6 s at 2048.
        let dropped = |left: f64| budget.plan(left).dropped;
        assert_eq!(dropped(180.0), []);
        assert_eq!(dropped(170.0), [cell(32, 250)]);
        assert_eq!(dropped(120.0), [cell(32, 250), cell(32, 10)]);
        assert_eq!(dropped(30.0), [cell(32, 250), cell(32, 10), cell(32, 0)]);
        assert_eq!(dropped(1.0).len(), cells.len());
        assert_eq!(budget.drops_next_with(30.0), None, "the small cell is next, and fits");
        let mut budget = budget;
        budget.skip();
        let needs = budget.drops_next_with(30.0).expect("M = 4096 does not fit in 30 s");
        assert!((needs - 12.0 * 4.096).abs() < 0.01, "{needs}");
    }

    /// A cell is dropped or kept whole, also when one of its ids is done already.
    #[test]
    fn the_ids_of_a_cell_stay_together() {
        let cells = [cell(32, 0), cell(32, 0), cell(32, 0), cell(32, 10), cell(32, 10)];
        let budget = calibrated(&cells, 1e-3, 0.0);
        assert_eq!(budget.plan(200.0).dropped, [cell(32, 10)], "all five take 246 s, the first three 147 s");
        assert_eq!(budget.drops_next_with(200.0), None);
    }

    #[test]
    fn a_machine_that_slows_down_is_noticed() {
        let cells = [cell(1, 0); 60];
        let mut budget = calibrated(&cells, 1e-6, 0.0);
        let before = budget.needed();
        for _ in 0..20 {
            budget.observe(10, Duration::from_secs_f64(128.0 * 10.0 * 1e-5), Duration::from_secs_f64(0.0128));
        }
        assert!(budget.needed() / 40.0 > 5.0 * before / 60.0);
        assert_eq!(budget.position(), (22, 61));
    }

    #[test]
    fn what_the_user_fixes_is_kept_to_and_counted() {
        let jobs = vec![Job { id: String::new(), cell: cell(1, 0), methods: Vec::new(), flops: 128.0 }; 11];
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(Instant::now(), 300 * second, SAMPLES, Some(2 * second), jobs);
        assert_eq!(budget.measurement_time(), 2 * second);
        budget.observe(1000, second, second);
        assert_eq!(budget.measurement_time(), 2 * second);
        // 2 s in rounds of 1 ms, two more rounds, and nothing else.
        assert!((budget.needed() - 10.0 * 2.002).abs() < 0.01, "{}", budget.needed());
    }
}

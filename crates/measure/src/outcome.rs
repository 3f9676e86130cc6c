//! One size: its methods, and what was seen of them.

use std::time::Instant;

use crate::check::Wrong;
use crate::method::{Method, Probe, Suite, Task, Work};
use crate::plan::{Cost, Pilot};
use crate::rounds::Runner;
use crate::samples::Samples;
use crate::size::Size;

/// A size that is measured, or was.
pub struct Outcome {
    /// The size.
    pub size: Size,
    /// Its methods.
    pub methods: Vec<Method>,
    /// What was seen of them.
    pub samples: Samples,
    /// Names of methods of other libraries whose results break the tolerance.
    pub inexact: Vec<String>,
    /// Rounds of all methods.
    pub rounds: usize,
    /// What it takes; None before its first round.
    pub cost: Option<Cost>,
}

impl Outcome {
    /// A size of which nothing was measured yet. Methods on the host run on so many threads.
    pub fn new(size: Size, methods: Vec<Method>, threads: usize) -> Outcome {
        let samples = Samples::new(&methods, threads);
        Outcome { size, methods, samples, inexact: Vec::new(), rounds: 0, cost: None }
    }

    /// Operations of one round.
    pub fn flops(&self) -> f64 {
        self.methods.iter().map(|method| method.work.flops).sum()
    }

    /// How long one round takes, but for a factor that sizes have in common: at those [limits](Self::limits),
    /// or by its operations alone. Of few tokens the bytes decide.
    pub fn load(&self, limits: Option<(f64, f64)>) -> f64 {
        let Some((flops, bytes)) = limits else { return self.flops() };
        self.methods.iter().map(|method| (method.work.flops / flops).max(method.work.bytes / bytes)).sum()
    }

    /// What the plan needs to know; None before the first round.
    pub fn pilot(&self) -> Option<Pilot> {
        let half_width = |place: usize| self.samples.measured(place)?.ratio?.half_width();
        let widths: Option<Vec<f64>> = self.compared().into_iter().map(half_width).collect();
        let widest = widths.map(|widths| 100.0 * widths.into_iter().fold(0.0, f64::max));
        Some(Pilot { cost: self.cost?, rounds: self.rounds, half_width: widest })
    }

    /// Operations a second that the machine reached at best in these rounds, and bytes a second that it
    /// reached in a tenth of them; None where it was not asked. (The fastest of hundreds reads faster than a
    /// weight ever is, and would make the limit depend on the number of rounds.)
    pub fn limits(&self) -> Option<(f64, f64)> {
        let of = |probe: Probe, work: fn(&Method) -> f64, share| {
            let place = self.methods.iter().position(|method| method.task == Task::Probe(probe))?;
            Some(work(&self.methods[place]) / self.samples.fastest(place, share)?)
        };
        let peak = of(Probe::Peak, |method| method.work.flops, 0.0)?;
        Some((peak, of(Probe::Bandwidth, |method| method.work.bytes, 0.1)?))
    }

    /// The nanoseconds that the machine cannot beat with so much work: the larger of its operations at the
    /// peak and its bytes at the bandwidth; None where the machine was not asked.
    pub fn limit_ns(&self, work: Work) -> Option<f64> {
        let (flops, bytes) = self.limits()?;
        Some(1e9 * (work.flops / flops).max(work.bytes / bytes))
    }

    /// Runs rounds until there were `rounds` of them, and repeats what was disturbed. Between two uses of
    /// operands `distance` bytes of others are touched. At the `deadline`, if there is one, it stops, but not
    /// before the first round.
    pub fn run(
        &mut self,
        suite: &mut dyn Suite,
        rounds: usize,
        distance: usize,
        deadline: Option<Instant>,
    ) -> anyhow::Result<()> {
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let started = Instant::now();
        let mut note = |method: &Method, wrong: &Wrong| {
            let name = &method.names[0];
            if !self.inexact.contains(name) {
                eprintln!("{wrong}; it is timed all the same");
                self.inexact.push(name.clone());
            }
        };
        let mut runner = Runner::new(suite, self.size, &self.methods, distance, &mut note)?;
        let setup = started.elapsed().as_secs_f64();

        let all: Vec<usize> = (0..self.methods.len()).collect();
        let (mut spent, before) = (0.0, self.rounds);
        while self.rounds < rounds && (self.rounds == 0 || !is_late()) {
            spent += runner.round(&all, &mut self.samples)?;
            self.rounds += 1;
        }
        if self.rounds > before {
            self.cost = Some(Cost { round: spent / (self.rounds - before) as f64, setup });
        }
        // As many again at most; where most are disturbed, those that follow will be, too.
        for _ in before..self.rounds {
            let wanted = self.disturbed();
            if wanted.is_empty() || self.is_mostly_disturbed() || is_late() {
                break;
            }
            runner.round(&wanted, &mut self.samples)?;
        }
        Ok(())
    }

    /// Places of what is compared with a base; where there is nothing, the bases.
    fn compared(&self) -> Vec<usize> {
        let all = 0..self.methods.len();
        let compared: Vec<usize> = all.clone().filter(|&place| self.samples.is_compared(place)).collect();
        if compared.is_empty() {
            all.filter(|&place| self.methods[place].is_base(place)).collect()
        } else {
            compared
        }
    }

    /// Methods that have had fewer undisturbed rounds than there were rounds.
    fn disturbed(&self) -> Vec<usize> {
        self.compared().into_iter().filter(|&place| self.samples.good(place) < self.rounds).collect()
    }

    fn is_mostly_disturbed(&self) -> bool {
        let sum = |of: &dyn Fn(usize) -> usize| self.compared().into_iter().map(of).sum::<usize>();
        2 * sum(&|place| self.samples.good(place)) < sum(&|place| self.samples.all(place))
    }
}

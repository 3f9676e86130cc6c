//! In which order things happen, as far as the manual leaves it open.

use crate::fault::{Allowance, Mutation};

/// When asynchronous copies and wgmma move their data, between issue and completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asynchrony {
    /// At once.
    Early,
    /// When its lane waits for it; if an mbarrier is told of it, when nobody can go on otherwise.
    Late,
    /// At random moments in between.
    Random,
}

/// In which order CTAs are dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Random, over all launches of the run.
    Random,
    /// As numbered, launch after launch.
    Ascending,
    /// The reverse.
    Descending,
}

/// The choices of one run. Two runs of the same launches on the same memory under equal schedules take the
/// same course.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Of all random choices.
    pub seed: u64,
    /// How many CTAs are resident at a time; at least 1, and at least a cluster. The launches of a run share
    /// them.
    pub slots: usize,
    /// When asynchronous copies move data.
    pub asynchrony: Asynchrony,
    /// The chance that a lane is interrupted before an ordinary memory access. It always is before strong
    /// ones.
    pub preempt: f64,
    /// The order of dispatch.
    pub order: Order,
    /// Stops the run with [`Kind::Aborted`](crate::Kind::Aborted) after so many instructions of lanes, with
    /// memory as it is then.
    pub abort_after: Option<u64>,
    /// Seeded faults.
    pub mutations: Vec<Mutation>,
    /// What is not reported, place by place; [`Stats::allowed`](crate::Stats::allowed) says how often each
    /// was needed.
    pub allowances: Vec<Allowance>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            seed: 0,
            slots: 4,
            asynchrony: Asynchrony::Random,
            preempt: 0.01,
            order: Order::Random,
            abort_after: None,
            mutations: Vec::new(),
            allowances: Vec::new(),
        }
    }
}

impl Schedule {
    /// All random, with a seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        Self { seed, slots: [1, 2, 3, 4, 6, 8][(seed % 6) as usize], ..Self::default() }
    }

    /// `n` schedules, the extreme ones first: all copies early, all late, one slot with either, descending
    /// dispatch on one slot, many slots, lanes that are interrupted at every access; then random ones.
    #[must_use]
    pub fn standard(n: usize) -> Vec<Self> {
        use Asynchrony::{Early, Late, Random};
        let extreme =
            |slots, asynchrony, preempt, order| Self { slots, asynchrony, preempt, order, ..Self::default() };
        let extremes = [
            extreme(4, Early, 0.0, Order::Ascending),
            extreme(4, Late, 0.0, Order::Ascending),
            extreme(1, Late, 0.01, Order::Random),
            extreme(1, Random, 0.01, Order::Descending),
            extreme(16, Random, 0.01, Order::Random),
            extreme(3, Early, 0.3, Order::Descending),
            extreme(2, Late, 1.0, Order::Random),
        ];
        let count = extremes.len();
        extremes
            .into_iter()
            .enumerate()
            .map(|(i, schedule)| Self { seed: i as u64, ..schedule })
            .chain((count as u64..).map(Self::random))
            .take(n)
            .collect()
    }

    /// The same with a seeded fault.
    #[must_use]
    pub fn with(mut self, mutation: Mutation) -> Self {
        self.mutations.push(mutation);
        self
    }

    /// The same with something that is not reported.
    #[must_use]
    pub fn allow(mut self, allowance: Allowance) -> Self {
        self.allowances.push(allowance);
        self
    }

    /// The same, stopped after so many instructions of lanes.
    #[must_use]
    pub fn abort_after(mut self, instructions: u64) -> Self {
        self.abort_after = Some(instructions);
        self
    }
}

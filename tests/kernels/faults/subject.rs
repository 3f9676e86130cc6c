//! What faults are seeded into: a kernel with a case that goes through all of it, shown to be clean first.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use fused_lora::Strategy;
use fused_lora_kernels::{
    params,
    table::{Kernel, Operation},
    tile::RANK_GRANULE,
};
use fused_lora_simt::{Kind, Machine, Mutation, Schedule, SiteInfo, Stats};
use half::f16;

use super::source::Located;
use crate::{
    case::{Case, kernel},
    operands::Matrices,
    setup::{Failure, Setup},
    unfused::ROADS,
};

/// Under how many schedules a kernel must be clean before a fault in it counts, and under one of which the
/// fault has to be caught. (As a rule it is under the first.)
const SCHEDULES: usize = 20;
/// How many times the instructions of a clean run a faulty one may take: a fault can make a loop endless.
const PATIENCE: u64 = 4;

/// A kernel and a case for it.
pub(super) struct Subject {
    pub(super) name: Cow<'static, str>,
    /// Launched one after another.
    kernels: Cow<'static, [&'static str]>,
    /// Which of them has the fault.
    faulty: usize,
    case: Source,
    /// Under how many schedules it must be clean.
    schedules: usize,
    matrices: OnceLock<Arc<Matrices>>,
    clean: OnceLock<Clean>,
}

/// Where a subject has its case from: a static one cannot hold it.
enum Source {
    Made(fn() -> Case),
    Given(Case),
}

/// What the clean runs have shown.
pub(super) struct Clean {
    /// All instructions that were met under any schedule.
    pub(super) sites: Located,
    /// Each of the PTX, one after another.
    pub(super) instructions_met: Vec<SiteInfo>,
    /// The most instructions of lanes that one run took.
    instructions: u64,
}

/// Who caught a fault, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The machine: two accesses without an order. Where the one that should be first is the first of all,
    /// the schedule can turn it into [`Poison`](Self::Poison).
    Race,
    /// The machine: a non-coherent read of what the launch writes.
    NonCoherent,
    /// The machine: a read of what nobody wrote.
    Poison,
    /// The machine: an access outside of memory.
    OutOfBounds,
    /// The machine: an access of the asynchronous proxy that no fence orders after one of a thread.
    Proxy,
    /// The machine: an operand that the instruction does not take.
    Operand,
    /// The machine: shared memory of a CTA that may not have started.
    NotStarted,
    /// The machine: shared memory of a CTA that may have ended.
    Departed,
    /// The machine: nobody can go on.
    Deadlock,
    /// The machine: a barrier or a collective that not all execute.
    Divergence,
    /// The machine: a lane ends before its copies do.
    NotWaited,
    /// The limit of instructions: a loop without end.
    Endless,
    /// The reference, or a counter of the workspace that is not zero.
    Reference,
}

impl By {
    /// Whether this is what `wanted` asks for.
    pub(super) fn is(self, wanted: Self) -> bool {
        self == wanted || (wanted, self) == (Self::Race, Self::Poison)
    }

    fn of(failure: &Failure) -> Option<Self> {
        Some(match failure {
            Failure::Numbers(_) => Self::Reference,
            Failure::Machine(report) => match report.kind {
                Kind::Race { .. } => Self::Race,
                Kind::NonCoherent { .. } => Self::NonCoherent,
                Kind::Poison { .. } => Self::Poison,
                Kind::OutOfBounds { .. } => Self::OutOfBounds,
                Kind::Proxy { .. } => Self::Proxy,
                Kind::Operand { .. } => Self::Operand,
                Kind::NotStarted { .. } => Self::NotStarted,
                Kind::Departed { .. } => Self::Departed,
                Kind::Deadlock { .. } => Self::Deadlock,
                Kind::Divergence { .. } => Self::Divergence,
                Kind::NotWaited { .. } => Self::NotWaited,
                Kind::Aborted { .. } => Self::Endless,
                _ => return None,
            },
        })
    }
}

/// How a fault came out.
pub(super) enum Outcome {
    /// Caught, by whom, and what they said.
    Caught(By, String),
    /// Met, and all runs were right.
    Survived,
    /// Not met in any run.
    NotMet,
    /// Something else went wrong.
    Other(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(by, what) => write!(f, "caught by {by:?}: {what}"),
            Self::Survived => f.write_str("NOT CAUGHT: every run was right"),
            Self::NotMet => f.write_str("never met: no run came to this instruction"),
            Self::Other(what) => write!(f, "went wrong in another way: {what}"),
        }
    }
}

impl Subject {
    pub(super) const fn new(
        name: &'static str,
        kernels: &'static [&'static str],
        faulty: usize,
        case: fn() -> Case,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kernels: Cow::Borrowed(kernels),
            faulty,
            case: Source::Made(case),
            schedules: SCHEDULES,
            matrices: OnceLock::new(),
            clean: OnceLock::new(),
        }
    }

    /// A case of an entry, clean under fewer schedules: other tests run it under many. Shrink and expand have
    /// their road's other launches beside them.
    pub(super) fn of_entry(name: String, kernel: &'static Kernel, case: Case) -> Self {
        let position = match kernel.operation {
            Operation::Shrink => 1,
            Operation::Expand => 2,
            _ => 0,
        };
        let on_road = |road: &&[&'static str; 3]| road[position] == kernel.name;
        let (kernels, faulty) = match ROADS.iter().find(on_road) {
            Some(road) if position > 0 => (road.to_vec(), position),
            _ => (vec![kernel.name], 0),
        };
        Self {
            name: Cow::Owned(name),
            kernels: Cow::Owned(kernels),
            faulty,
            case: Source::Given(case.adapted_to(kernel)),
            schedules: 2,
            matrices: OnceLock::new(),
            clean: OnceLock::new(),
        }
    }

    fn case(&self) -> Case {
        match &self.case {
            Source::Made(make) => make(),
            Source::Given(case) => case.clone(),
        }
    }

    /// The kernel with the fault.
    pub(super) fn kernel(&self) -> &'static Kernel {
        kernel(self.kernels[self.faulty])
    }

    /// Whether it runs in clusters of more than one CTA.
    pub(super) fn in_clusters(&self) -> bool {
        self.case().cluster_for(self.kernel()) > 1
    }

    /// Runs the unmodified kernel once under all schedules; the first who asks does it.
    ///
    /// # Panics
    ///
    /// If it fails under one of them.
    pub(super) fn clean(&self) -> &Clean {
        self.clean.get_or_init(|| {
            let (mut machine, setup) = self.set_up();
            let (mut sites, mut instructions) = (Vec::new(), 0);
            for schedule in Schedule::standard(self.schedules) {
                setup.poison(&mut machine);
                let (stats, result) = self.run(&mut machine, &setup, &schedule, 0);
                if let Err(failure) = result {
                    panic!("{} without a fault fails under {schedule:?}: {failure}", self.name);
                }
                assert_eq!(stats.mutated, 0);
                let of_lanes = stats.sites.iter().map(|site| site.count);
                instructions = instructions.max(of_lanes.sum());
                sites.extend(stats.sites);
            }
            sites.sort();
            sites.dedup_by_key(|site| (site.ptx, site.op));
            Clean { sites: Located::new(sites.clone()), instructions_met: sites, instructions }
        })
    }

    /// Seeds a fault, which may be several instructions, and runs until it is caught.
    pub(super) fn seed(&self, mutations: &[Mutation], rank_delta: i32) -> Outcome {
        self.seed_under(mutations, rank_delta, SCHEDULES)
    }

    /// The same under fewer schedules.
    pub(super) fn seed_under(&self, mutations: &[Mutation], rank_delta: i32, schedules: usize) -> Outcome {
        let limit = PATIENCE * self.clean().instructions;
        let (mut machine, setup) = self.set_up();
        let mut met = false;
        for schedule in Schedule::standard(schedules) {
            setup.poison(&mut machine);
            let schedule = Schedule { mutations: mutations.to_vec(), ..schedule }.abort_after(limit);
            let (stats, result) = self.run(&mut machine, &setup, &schedule, rank_delta);
            match result {
                Ok(()) => met |= stats.mutated > 0 || rank_delta != 0,
                Err(failure) if stats.mutated == 0 && rank_delta == 0 => {
                    return Outcome::Other(format!("before the fault was met: {failure}"));
                }
                Err(failure) => {
                    return match By::of(&failure) {
                        Some(by) => Outcome::Caught(by, failure.to_string()),
                        None => Outcome::Other(failure.to_string()),
                    };
                }
            }
        }
        if met { Outcome::Survived } else { Outcome::NotMet }
    }

    /// The case in a machine, with NaN for the padding of the ranks in A: padded columns of h are written,
    /// not computed, so nobody may see it.
    fn set_up(&self) -> (Machine, Setup) {
        let (case, mut machine) = (self.case(), Machine::new());
        let matrices = self.matrices.get_or_init(|| Arc::new(Matrices::new(&case)));
        let setup = Setup::with(&mut machine, &case, kernel(self.kernels[0]), Arc::clone(matrices));
        let lora = &setup.params.lora;
        let mut row = 0;
        // (A launch without adapters has no A.)
        for adapter in setup.case.adapters.iter().filter(|adapter| adapter.rank > 0) {
            let padded = adapter.rank.next_multiple_of(RANK_GRANULE as usize);
            let padding = vec![f16::NAN.to_bits(); (padded - adapter.rank) * lora.lda as usize];
            let first = (row + adapter.rank) as u64 * u64::from(lora.lda);
            machine.write(lora.a.offset(first).address(), &padding).unwrap();
            row += padded;
        }
        (machine, setup)
    }

    /// Launches the kernels, the faulty one under `schedule`, and holds y to the reference. The statistics
    /// are those of the faulty one, up to where it failed if it did.
    fn run(
        &self,
        machine: &mut Machine,
        setup: &Setup,
        schedule: &Schedule,
        rank_delta: i32,
    ) -> (Stats, Result<(), Failure>) {
        let mut stats = Stats::default();
        let mut strategy = Strategy::Base;
        for (i, name) in self.kernels.iter().enumerate() {
            let kernel = kernel(name);
            let mut params = setup.params;
            strategy = match kernel.operation {
                Operation::Gemm | Operation::GemmSplitK => Strategy::Base,
                Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative => Strategy::Fused,
                Operation::Shrink | Operation::Expand => Strategy::Unfused,
            };
            if kernel.operation == Operation::Expand {
                params.epilogue = params::Epilogue {
                    addend: params.y,
                    ld_addend: params.ldy,
                    ..params::Epilogue::default()
                };
            }
            if i == self.faulty {
                let uniform = &mut params.lora.uniform;
                uniform.rank = uniform.rank.wrapping_add_signed(rank_delta);
            }
            let sound = Schedule { mutations: Vec::new(), abort_after: None, ..schedule.clone() };
            let result = machine
                .run(&[setup.launch(kernel, params)], if i == self.faulty { schedule } else { &sound });
            if i == self.faulty {
                stats = machine.last_stats().clone();
            }
            if let Err(report) = result {
                return (stats, Err(Failure::Machine(report)));
            }
        }
        (stats, setup.check(machine, strategy).map_err(Failure::Numbers))
    }
}

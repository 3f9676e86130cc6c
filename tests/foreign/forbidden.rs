//! What foreign code does that the strict reading forbids, and real hardware does not mind.
//!
//! Nothing is lenient: the machine reports all of it, but where a test allows it, line by line
//! ([`Allowance`]). With all that is allowed a kernel gives the right results and nothing is reported;
//! without one of the entries the machine's report is that entry's, and no other. Tests hold both.

use fused_lora_simt::{Allowance, Allowed, Op, Report, Schedule, Site};

use crate::manifest::Kernel;

/// One thing that is forbidden, in some modules.
pub(crate) struct Forbidden {
    /// How the names of the modules begin.
    pub(crate) modules: &'static [&'static str],
    /// What the report contains.
    pub(crate) report: &'static str,
    /// How the instructions begin that are reported, guards aside.
    pub(crate) instruction: &'static str,
    /// What is allowed there, and which instructions of the machine they are.
    pub(crate) allowed: Allowed,
    pub(crate) ops: &'static [Op],
    /// Which rule it breaks.
    pub(crate) rule: &'static str,
    /// The sections of the PTX manual that have it, by their titles.
    pub(crate) section: &'static str,
    /// Why real hardware does not mind.
    pub(crate) why: &'static str,
}

/// Triton's automatically specialised kernels.
const SPECIALIZED: &[&str] = &[
    "tma_attention_causal_specialized_",
    "tma_attention_specialized_",
    "tma_matmul_persistent_specialized_",
    "tma_matmul_specialized_",
];

/// All of it.
pub(crate) static FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        modules: &["gluon_matmul_bt_64x64x64_", "tma_"],
        report: "but without a fence.mbarrier_init.release.cluster between",
        instruction: "cp.async.bulk.tensor",
        allowed: Allowed::UnfencedInit,
        ops: &[Op::CpAsyncBulkTensor2dLoad, Op::CpAsyncBulkTensor2dLoadMulticast],
        rule: "no fence between mbarrier.init, in the generic proxy, and complete_tx of a copy, in the \
            async proxy",
        section: "Proxies; membar / fence; mbarrier.init",
        why: "one unit of the multiprocessor executes all operations on mbarriers, in the order of the \
            barrier between",
    },
    Forbidden {
        modules: &["layer_norm_", "softmax_"],
        report: "race: st.shared",
        instruction: "st.shared.b32 [",
        allowed: Allowed::ConcurrentStores,
        ops: &[Op::StShared],
        rule: "the lanes of a warp store a sum, or a maximum, at one address, and nothing orders them",
        section: "Conflict and data-races; Axioms",
        why: "one of the lanes writes; all have the same value, or one that is rounded in another order and \
            as good",
    },
    Forbidden {
        modules: SPECIALIZED,
        report: "race: st.shared",
        instruction: "st.shared.v2.b32 [global_smem",
        allowed: Allowed::EqualStores,
        ops: &[Op::StShared],
        rule: "four warps store one constant at one address, and nothing orders them",
        section: "Conflict and data-races; Axioms",
        why: "an aligned store of 8 bytes is not torn, and each writes the same",
    },
    Forbidden {
        modules: &["gluon_"],
        report: "race: st.shared",
        instruction: "st.shared.b32 [global_smem",
        allowed: Allowed::EqualStores,
        ops: &[Op::StShared],
        rule: "four warps store one constant at one address, and nothing orders them",
        section: "Conflict and data-races; Axioms",
        why: "an aligned store of 4 bytes is not torn, and each writes the same",
    },
    Forbidden {
        modules: SPECIALIZED,
        report: "which is 0 or 1",
        instruction: "mbarrier.try_wait.parity",
        allowed: Allowed::WideParity,
        ops: &[Op::MbarrierTryWaitParity],
        rule: "the parity is 0 or -1: the sign of a counter that is shifted down",
        section: "mbarrier.test_wait, mbarrier.try_wait: phaseParity is 0 or 1",
        why: "only bit 0 of the operand is read",
    },
    Forbidden {
        modules: SPECIALIZED,
        report: "race: cp.async.bulk.tensor.global.shared::cta",
        instruction: "cp.async.bulk.tensor.2d.global.shared::cta",
        allowed: Allowed::RepeatedTensorStores,
        ops: &[Op::CpAsyncBulkTensor2dStore],
        rule: "two partitions compute the whole tile, each, and store it, and nothing orders them",
        section: "Conflict and data-races; Axioms",
        why: "both write the same bytes",
    },
    Forbidden {
        modules: &["gluon_"],
        report: "divergence: this lane is at setmaxnreg",
        instruction: "setmaxnreg.",
        allowed: Allowed::SetmaxnregApart,
        ops: &[Op::SetmaxnregDec, Op::SetmaxnregInc],
        rule: "of a warpgroup one warp, a partition of its own, executes another setmaxnreg than the idle \
            three",
        section: "setmaxnreg: the same instruction must be executed by all warps in a warpgroup",
        why: "registers are given to warps one by one, and the numbers are the same",
    },
    Forbidden {
        modules: &["gluon_matmul_bt_multicast_"],
        report: "mbarrier.arrive.shared::cluster reads shared memory",
        instruction: "mbarrier.arrive.shared::cluster",
        allowed: Allowed::FirstOfPair,
        ops: &[Op::MbarrierArriveCluster],
        rule: "bit 24 of an address is cleared to reach the first CTA of a pair",
        section: "mapa: the manual does not say where an address has the rank of its CTA",
        why: "in the window of the cluster each CTA has 16 MiB, in the order of ranks",
    },
    Forbidden {
        modules: &["cute_matmul_128x64x32_"],
        report: "race: cp.async.bulk.tensor.global.shared::cta",
        instruction: "cp.async.bulk.tensor.2d.global.shared::cta",
        allowed: Allowed::RepeatedTensorStores,
        ops: &[Op::CpAsyncBulkTensor2dStore],
        rule: "all lanes of a warp issue the same store, and nothing orders the 32 copies",
        section: "Conflict and data-races; Axioms",
        why: "the instruction is issued once for a warp whose lanes agree, or all copies write the same \
            bytes",
    },
];

impl Forbidden {
    /// Whether a report is about this.
    pub(crate) fn is_about(&self, report: &Report, line: &str) -> bool {
        self.is_at(line) && report.kind.to_string().contains(self.report)
    }

    /// Whether it is in a kernel.
    pub(crate) fn is_in(&self, kernel: &Kernel) -> bool {
        self.modules.iter().any(|module| kernel.name.starts_with(module))
    }

    /// Whether a line of PTX has such an instruction, behind a guard or not.
    fn is_at(&self, line: &str) -> bool {
        let instruction = match line.trim().split_once(' ') {
            Some((guard, rest)) if guard.starts_with('@') => rest,
            _ => line.trim(),
        };
        instruction.starts_with(self.instruction)
    }

    /// It is allowed at each of its lines.
    fn allowances(&self, text: &str) -> impl Iterator<Item = Allowance> {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| self.is_at(line));
        lines.flat_map(move |(number, _)| {
            let at = move |&op: &Op| Site { ptx: Some(number), ..Site::all(op) };
            self.ops.iter().map(move |op| Allowance { site: at(op), allowed: self.allowed })
        })
    }
}

/// What is forbidden in a kernel.
pub(crate) fn of(kernel: &Kernel) -> impl Iterator<Item = &'static Forbidden> {
    FORBIDDEN.iter().filter(|entry| entry.is_in(kernel))
}

/// Schedules under which some entries are allowed, of those that can be in a kernel with this text.
pub(crate) fn allowing(
    kernel: &Kernel,
    text: &str,
    schedules: Vec<Schedule>,
    is_allowed: impl Fn(&Forbidden) -> bool,
) -> Vec<Schedule> {
    let entries = of(kernel).filter(|entry| is_allowed(entry));
    let all: Vec<Allowance> = entries.flat_map(|entry| entry.allowances(text)).collect();
    let allow = |schedule| all.iter().cloned().fold(schedule, Schedule::allow);
    schedules.into_iter().map(allow).collect()
}

#[test]
fn every_entry_is_of_some_modules() {
    let kernels = crate::manifest::kernels();
    for Forbidden { modules, rule, section, why, .. } in FORBIDDEN {
        println!("{modules:?}: {rule} ({section}); {why}");
        for module in *modules {
            assert!(kernels.iter().any(|kernel| kernel.name.starts_with(module)), "{module}: {rule}");
        }
    }
}

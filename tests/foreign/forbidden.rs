//! What foreign code does that the strict reading forbids, and real hardware does not mind.
//!
//! Nothing is lenient: the machine reports all of it. With all amendments a module is clean; without one of them the machine's
//! report is the one that its entry names, and no other. And the text as it is gives the right results, where the machine can be told
//! to go on ([`Allowance`]). Tests hold all three.

use fused_lora_simt::{Allowance, Allowed, Op, Report, Schedule, Site};

use crate::{amendment::Amendment, manifest::Kernel};

/// One thing that is forbidden, in some modules.
pub(crate) struct Forbidden {
    /// How the names of the modules begin.
    pub(crate) modules: &'static [&'static str],
    /// What the report contains.
    pub(crate) report: &'static str,
    /// What the line contains that is reported.
    pub(crate) at: &'static str,
    /// How the instructions begin that are amended.
    pub(crate) instruction: &'static str,
    /// What is done to them.
    pub(crate) amendment: Amendment,
    /// How the machine is told to go on, and at which instructions.
    pub(crate) allowed: Option<(Allowed, &'static [Op])>,
    /// Which rule it breaks.
    pub(crate) rule: &'static str,
    /// The section of the PTX manual that has it, by the numbers of ISA 8.8.
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
        at: "cp.async.bulk.tensor",
        instruction: "mbarrier.init",
        amendment: Amendment::InsertAfter("fence.mbarrier_init.release.cluster;"),
        allowed: Some((
            Allowed::UnfencedInit,
            &[Op::CpAsyncBulkTensor2dLoad, Op::CpAsyncBulkTensor2dLoadMulticast],
        )),
        rule: "no fence between mbarrier.init, in the generic proxy, and complete_tx of a copy, in the async proxy",
        section: "8.6 Proxies; 9.7.13.4 fence; 9.7.13.15.9 mbarrier.init",
        why: "one unit of the multiprocessor executes all operations on mbarriers, in the order of the barrier between",
    },
    Forbidden {
        modules: &["layer_norm_", "softmax_"],
        report: "race: st.shared",
        at: "st.shared.b32 [",
        instruction: "st.shared.b32 [",
        amendment: Amendment::OneLaneOfAWarp,
        allowed: Some((Allowed::ConcurrentStores, &[Op::StShared])),
        rule: "the lanes of a warp store a sum, or a maximum, at one address, and nothing orders them",
        section: "8.7.1 Conflict and data-races; 8.10 Axioms",
        why: "one of the lanes writes; all have the same value, or one that is rounded in another order and as good",
    },
    Forbidden {
        modules: SPECIALIZED,
        report: "race: st.shared",
        at: "st.shared.v2.b32 [global_smem",
        instruction: "st.shared.v2.b32 [global_smem",
        amendment: Amendment::OneLaneOfACta,
        allowed: Some((Allowed::EqualStores, &[Op::StShared])),
        rule: "four warps store one constant at one address, and nothing orders them",
        section: "8.7.1 Conflict and data-races; 8.10 Axioms",
        why: "an aligned store of 8 bytes is not torn, and each writes the same",
    },
    Forbidden {
        modules: &["gluon_"],
        report: "race: st.shared",
        at: "st.shared.b32 [global_smem",
        instruction: "st.shared.b32 [global_smem",
        amendment: Amendment::OneLaneOfACta,
        allowed: Some((Allowed::EqualStores, &[Op::StShared])),
        rule: "four warps store one constant at one address, and nothing orders them",
        section: "8.7.1 Conflict and data-races; 8.10 Axioms",
        why: "an aligned store of 4 bytes is not torn, and each writes the same",
    },
    Forbidden {
        modules: SPECIALIZED,
        report: "which is 0 or 1",
        at: "mbarrier.try_wait.parity",
        instruction: "mbarrier.try_wait.parity",
        amendment: Amendment::BitOfTheLastOperand,
        allowed: Some((Allowed::WideParity, &[Op::MbarrierTryWaitParity])),
        rule: "the parity is 0 or -1: the sign of a counter that is shifted down",
        section: "9.7.13.15.16 mbarrier.try_wait: phaseParity is 0 or 1",
        why: "only bit 0 of the operand is read",
    },
    Forbidden {
        modules: SPECIALIZED,
        report: "race: cp.async.bulk.tensor.global.shared::cta",
        at: "cp.async.bulk.tensor.2d.global.shared::cta",
        instruction: "cp.async.bulk.tensor.2d.global.shared::cta",
        amendment: Amendment::KeepTheFirst,
        allowed: Some((Allowed::RepeatedTensorStores, &[Op::CpAsyncBulkTensor2dStore])),
        rule: "two partitions compute the whole tile, each, and store it, and nothing orders them",
        section: "8.7.1 Conflict and data-races; 8.10 Axioms",
        why: "both write the same bytes",
    },
    Forbidden {
        modules: &["gluon_"],
        report: "divergence: this lane is at setmaxnreg",
        at: "setmaxnreg.",
        instruction: "setmaxnreg.",
        amendment: Amendment::Drop,
        allowed: Some((Allowed::SetmaxnregApart, &[Op::SetmaxnregDec, Op::SetmaxnregInc])),
        rule: "of a warpgroup one warp, a partition of its own, executes another setmaxnreg than the idle three",
        section: "9.7.19.5 setmaxnreg: the same instruction must be executed by all warps in a warpgroup",
        why: "registers are given to warps one by one, and the numbers are the same",
    },
    Forbidden {
        modules: &["gluon_matmul_bt_multicast_"],
        report: "mbarrier.arrive.shared::cluster reads shared memory",
        at: "mbarrier.arrive.shared::cluster",
        instruction: "and.b32 %r58, %r69, -16777224;",
        amendment: Amendment::Replace("and.b32 %r58, %r69, -8; mapa.shared::cluster.u32 %r58, %r58, 0;"),
        allowed: None,
        rule: "bit 24 of an address is cleared to reach the first CTA of a pair",
        section: "mapa: the manual does not say where an address has the rank of its CTA",
        why: "in the window of the cluster each CTA has 16 MiB, in the order of ranks",
    },
    // The machine is too strict here, not the manual: this entry goes when it counts barrier.cluster.
    Forbidden {
        modules: &["gluon_matmul_bt_multicast_"],
        report: "may still be told of data, or by another CTA",
        at: "mbarrier.inval",
        instruction: "mbarrier.inval",
        amendment: Amendment::Drop,
        allowed: None,
        rule: "barrier.cluster orders the last arrivals of the other CTA before mbarrier.inval; nobody waits for their phase",
        section: "9.7.13.15.10 mbarrier.inval",
        why: "they are ordered before",
    },
    Forbidden {
        modules: &["cute_matmul_128x64x32_"],
        report: "race: cp.async.bulk.tensor.global.shared::cta",
        at: "cp.async.bulk.tensor.2d.global.shared::cta",
        instruction: "cp.async.bulk.tensor.2d.global.shared::cta",
        amendment: Amendment::OneLaneOfAWarp,
        allowed: Some((Allowed::RepeatedTensorStores, &[Op::CpAsyncBulkTensor2dStore])),
        rule: "all lanes of a warp issue the same store, and nothing orders the 32 copies",
        section: "8.7.1 Conflict and data-races; 8.10 Axioms",
        why: "the instruction is issued once for a warp whose lanes agree, or all copies write the same bytes",
    },
];

impl Forbidden {
    /// Whether a report is about this.
    pub(crate) fn is_about(&self, report: &Report, line: &str) -> bool {
        line.contains(self.at) && report.kind.to_string().contains(self.report)
    }

    /// Whether it is in a kernel.
    pub(crate) fn is_in(&self, kernel: &Kernel) -> bool {
        self.modules.iter().any(|module| kernel.name.starts_with(module))
    }
}

/// A schedule under which all is allowed that can be in a kernel.
pub(crate) fn allowing(kernel: &Kernel, schedule: Schedule) -> Schedule {
    let places = of(kernel).filter_map(|entry| entry.allowed);
    let places = places.flat_map(|(allowed, ops)| ops.iter().map(move |&op| (allowed, op)));
    places
        .fold(schedule, |schedule, (allowed, op)| schedule.allow(Allowance { site: Site::all(op), allowed }))
}

/// What is forbidden in a kernel.
pub(crate) fn of(kernel: &Kernel) -> impl Iterator<Item = &'static Forbidden> {
    FORBIDDEN.iter().filter(|entry| entry.is_in(kernel))
}

/// The PTX with all amendments.
pub(crate) fn amended(kernel: &Kernel, text: &str) -> Result<String, String> {
    amended_by(kernel, text, |_| true)
}

/// The PTX with the amendments of some entries.
pub(crate) fn amended_by(
    kernel: &Kernel,
    text: &str,
    is_amended: impl Fn(&Forbidden) -> bool,
) -> Result<String, String> {
    let mut text = text.to_owned();
    for entry in of(kernel).filter(|entry| is_amended(entry)) {
        let (amended, count) = entry.amendment.apply(entry.instruction, &text);
        if count == 0 {
            return Err(format!("{} is not in the text", entry.instruction));
        }
        text = amended;
    }
    Ok(text)
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

//! Seeded faults: a kernel with one thing wrong, without touching its source.

use crate::site::{Op, SiteInfo};

/// Does something else at some instructions of a run.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Where.
    pub site: Site,
    /// What instead.
    pub action: Action,
}

/// Selects dynamic instructions: those for which all that is given agrees.
#[derive(Clone, Debug)]
pub struct Site {
    /// The instruction.
    pub op: Op,
    /// How the path of the source file ends; all files if empty.
    pub file: String,
    /// The line.
    pub line: Option<u32>,
    /// The column.
    pub column: Option<u32>,
    /// The line of the PTX.
    pub ptx: Option<u32>,
    /// For [`Op::Tap`], its name.
    pub tap: Option<&'static str>,
    /// The number of the CTA in its grid.
    pub cta: Option<u32>,
    /// The number of the lane in its CTA.
    pub lane: Option<u32>,
    /// Only the n-th time, from 0, that a lane comes to one of these instructions.
    pub occurrence: Option<u32>,
}

impl Site {
    /// All instructions of a kind.
    #[must_use]
    pub fn all(op: Op) -> Self {
        Self {
            op,
            file: String::new(),
            line: None,
            column: None,
            ptx: None,
            tap: None,
            cta: None,
            lane: None,
            occurrence: None,
        }
    }

    /// All instructions of a kind in a file, named by how its path ends.
    #[must_use]
    pub fn file(op: Op, file: impl Into<String>) -> Self {
        Self { file: file.into(), ..Self::all(op) }
    }

    /// One instruction of those that a run has listed, see [`Stats::sites`](crate::Stats::sites).
    #[must_use]
    pub fn at(info: &SiteInfo) -> Self {
        let ptx = (info.ptx > 0).then_some(info.ptx);
        Self { line: Some(info.line), column: Some(info.column), ptx, ..Self::file(info.op, info.file) }
    }

    /// The values named `name` by [`ops::tap`](crate::ops::tap).
    #[must_use]
    pub fn tap(name: &'static str) -> Self {
        Self { tap: Some(name), ..Self::all(Op::Tap) }
    }

    /// Only on this line.
    #[must_use]
    pub fn line(self, line: u32) -> Self {
        Self { line: Some(line), ..self }
    }

    /// Only in this CTA.
    #[must_use]
    pub fn cta(self, cta: u32) -> Self {
        Self { cta: Some(cta), ..self }
    }

    /// Only in this lane of a CTA.
    #[must_use]
    pub fn lane(self, lane: u32) -> Self {
        Self { lane: Some(lane), ..self }
    }

    /// Only the n-th time, from 0, that a lane comes here.
    #[must_use]
    pub fn occurrence(self, n: u32) -> Self {
        Self { occurrence: Some(n), ..self }
    }

    /// This with an action.
    #[must_use]
    pub fn does(self, action: Action) -> Mutation {
        Mutation { site: self, action }
    }

    /// Whether the instruction agrees, its lane and occurrence aside.
    pub(crate) fn matches(&self, info: &SiteInfo) -> bool {
        self.op == info.op
            && info.file.ends_with(&self.file)
            && self.line.is_none_or(|line| line == info.line)
            && self.column.is_none_or(|column| column == info.column)
            && self.ptx.is_none_or(|line| line == info.ptx)
    }
}

/// What a seeded fault does. One that does not apply to an instruction leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// The instruction does nothing. One with a result gives zero; atomics give what is there, mma gives c,
    /// wgmma and its wait leave the accumulators as they are, `mbarrier.try_wait` is true at once, `mapa`
    /// gives the address that it was given. A tensor load that does nothing never completes.
    Drop,
    /// `cp.async.wait_group`, `cp.async.bulk.wait_group` (also `.read`) and `wgmma.wait_group` leave so many
    /// groups more under way.
    WaitGroup(u32),
    /// A release or acquire is only relaxed: it orders nothing.
    Weaken,
    /// A read of global memory, or the read of an asynchronous copy, is as by `ld.global.nc`.
    NonCoherent,
    /// Flips bits of an address in shared memory: of the data or the rows, or of the mbarrier where there is
    /// no data.
    AddressXor(u32),
    /// Adds to the number of bytes of an asynchronous copy, or of those that an `expect_tx` expects.
    ByteDelta(i32),
    /// `mbarrier.try_wait.parity` waits for the other parity.
    ParityFlip,
    /// Adds to the matrix descriptors of each wgmma, in their units of 16 bytes.
    DescriptorAdd {
        /// To those of the first operand.
        a: i64,
        /// To those of the second one.
        b: i64,
    },
    /// Flips bits of the mask of CTAs of a multicast.
    MaskXor(u16),
    /// Goes to the CTA of this rank in the cluster: the address that `mapa` gives, an arrival at an mbarrier
    /// (also one that is written for the own CTA), and a copy from shared memory to shared memory with its
    /// mbarrier.
    Rank(u32),
    /// Adds to the number of arrivals that `mbarrier.init` sets.
    CountDelta(i32),
    /// Changes one word of what the instruction gives: `ld.global`, `ld.acquire`, `atom`.
    Word {
        /// Which, from 0.
        word: usize,
        /// How.
        change: fn(u32) -> u32,
    },
    /// Changes a value that the kernel names by [`ops::tap`](crate::ops::tap).
    Tap(fn(u32) -> u32),
}

/// What the machine reports by the manual and hardware is known to bear: for modules of others, one place
/// each. Of our own kernels nothing is allowed.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Where: the instruction that would be reported.
    pub site: Site,
    /// What.
    pub allowed: Allowed,
}

/// What an [`Allowance`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// An asynchronous operation signals an mbarrier, with no `fence.mbarrier_init` or proxy fence since its
    /// initialisation, which is ordered before. PTX ISA, "mbarrier.init", "membar, fence".
    UnfencedInit,
    /// Lanes store the same to the same bytes of shared memory without an order. PTX ISA, "Axioms": a data
    /// race, of which each outcome is the same.
    EqualStores,
    /// Lanes store to the same bytes of shared memory without an order, and any of the values does. PTX ISA,
    /// "Axioms".
    ConcurrentStores,
    /// Lanes of one CTA issue tensor stores of the same bytes without an order: all lanes of a warp, for
    /// which hardware issues it once, or warps that have computed the same. PTX ISA, "cp.async.bulk.tensor",
    /// "Axioms".
    RepeatedTensorStores,
    /// The warps of a warpgroup execute `setmaxnreg` at several places, with the same number. PTX ISA,
    /// "setmaxnreg": "all threads in the warpgroup must execute the same setmaxnreg instruction".
    SetmaxnregApart,
    /// A wait for an mbarrier is for the lowest bit of its parity. PTX ISA, "mbarrier.test_wait,
    /// mbarrier.try_wait": "the valid values of phaseParity operand are 0 and 1".
    WideParity,
    /// An arrival in the cluster at an address of the own CTA, one bit of which was cleared to name the first
    /// CTA of a pair. The manual does not say where an address has the rank of its CTA; hardware has it from
    /// bit 24 on. "mapa".
    FirstOfPair,
}

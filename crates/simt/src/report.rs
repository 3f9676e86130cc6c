//! What a run or a host access is stopped with.

use std::fmt;

use crate::site::{Op, Place};

/// A fault: what, by whom, from which source line.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kernel}, CTA {cta}, lane {lane}, {location}: {kind}")]
pub struct Report {
    /// The name of the launch; `host` for the host's own accesses.
    pub kernel: Box<str>,
    /// The number of the CTA in its grid.
    pub cta: u32,
    /// The number of the lane in its CTA.
    pub lane: u32,
    /// The source line of the instruction.
    pub location: Place,
    /// What is wrong.
    pub kind: Kind,
}

impl Report {
    /// A fault of the host's, at the caller's line.
    #[track_caller]
    pub(crate) fn host(kind: Kind) -> Self {
        Self { kernel: "host".into(), cta: 0, lane: 0, location: Place::caller(), kind }
    }
}

/// What is wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Kind {
    /// Two conflicting accesses without an order.
    #[error("race: {op} of {address}, not ordered after {other}")]
    Race {
        /// The later access.
        op: Op,
        /// The first byte in question.
        address: String,
        /// The earlier one.
        other: Box<Party>,
    },
    /// Two conflicting accesses in an order, the later one in the asynchronous proxy, that no fence makes one
    /// across proxies.
    #[error(
        "race across proxies: {op} of {address} is ordered after {other}, but without a {fence} between, by \
            somebody \
         who is ordered after that access and before this one"
    )]
    Proxy {
        /// The later access.
        op: Op,
        /// The first byte in question.
        address: String,
        /// The earlier one.
        other: Box<Party>,
        /// The fence that is missing.
        fence: Op,
    },
    /// A CTA uses the shared memory of another one of its cluster without knowing that it has started.
    #[error("{op} on CTA {peer}, of which nothing is ordered before: it may not have started")]
    NotStarted {
        /// The instruction.
        op: Op,
        /// The number of the other CTA in its grid.
        peer: u32,
    },
    /// A CTA's shared memory is used by somebody else when it may have ended.
    #[error(
        "shared memory of CTA {peer}, which {}, is used by {access}",
        if *ended { "has ended" } else { "ends without any of its lanes being ordered after that" }
    )]
    Departed {
        /// The number of the CTA in its grid whose shared memory it is.
        peer: u32,
        /// The access.
        access: Box<Party>,
        /// Whether it had ended before the access, or ends without being ordered after it.
        ended: bool,
    },
    /// A non-coherent read of a byte that is written in the same launch.
    #[error("{op} of {address}, a byte read as non-coherent and written in one launch; the other is {other}")]
    NonCoherent {
        /// The later access.
        op: Op,
        /// The first byte in question.
        address: String,
        /// The earlier one.
        other: Box<Party>,
    },
    /// A read of what nobody wrote.
    #[error("{op} reads {address}, which nobody wrote")]
    Poison {
        /// The instruction.
        op: String,
        /// The first such byte.
        address: String,
    },
    /// An access outside of memory.
    #[error("{op} of {bytes} bytes at {address}, which is out of bounds: {limit} bytes are there")]
    OutOfBounds {
        /// The instruction.
        op: String,
        /// The first byte of the access.
        address: String,
        /// Its length.
        bytes: usize,
        /// The size of the region, 0 if there is none.
        limit: usize,
    },
    /// An address that is not a multiple of the size of the access.
    #[error("{op} at {address}, which is no multiple of {align}")]
    Misaligned {
        /// The instruction.
        op: Op,
        /// The address.
        address: String,
        /// What it must be a multiple of.
        align: usize,
    },
    /// A kernel writes to an input.
    #[error("{op} writes to {address}, an input")]
    ReadOnly {
        /// The instruction.
        op: Op,
        /// The address.
        address: String,
    },
    /// An operand that the instruction does not take.
    #[error("{op}: {reason}")]
    Operand {
        /// The instruction.
        op: Op,
        /// What is wrong with it.
        reason: String,
    },
    /// Lanes that must execute one instruction together do not.
    #[error("divergence: this lane {this}, while {other}")]
    Divergence {
        /// What this lane does.
        this: String,
        /// What others of its warp or CTA do.
        other: String,
    },
    /// Nobody can go on.
    #[error("deadlock: {}", Lines(waiting))]
    Deadlock {
        /// Who waits where.
        waiting: Vec<Wait>,
    },
    /// A lane ended with copies, or wgmma groups, under way that it had not waited for.
    #[error(
        "the lane ends with {copies} asynchronous operations under way that it has not waited for; this is \
            the first"
    )]
    NotWaited {
        /// How many.
        copies: usize,
    },
    /// [`Schedule::abort_after`](crate::Schedule::abort_after).
    #[error("aborted after {instructions} instructions, as asked")]
    Aborted {
        /// How many instructions of lanes were executed.
        instructions: u64,
    },
    /// The kernel panicked.
    #[error("the kernel panicked: {message}")]
    Panic {
        /// With what.
        message: String,
    },
    /// A launch that no machine takes.
    #[error("bad launch: {reason}")]
    Launch {
        /// Why.
        reason: String,
    },
}

/// The other side of a race.
#[derive(Clone, Debug)]
pub struct Party {
    /// The name of the launch.
    pub kernel: String,
    /// The number of the CTA in its grid.
    pub cta: u32,
    /// Who.
    pub actor: PartyActor,
    /// The instruction.
    pub op: Op,
    /// Its source line.
    pub location: Place,
}

/// Who made an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartyActor {
    /// A lane of a CTA.
    Lane(u32),
    /// A group of asynchronous copies of a lane, and whether the lane had waited for it.
    Copy {
        /// The issuing lane.
        lane: u32,
        /// Whether it had waited.
        completed: bool,
    },
    /// A warp of a CTA.
    Warp(u32),
    /// wgmma of a warpgroup of a CTA.
    Warpgroup(u32),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cta, actor, op, location } = self;
        write!(f, "{op} of {kernel}, CTA {cta}, ")?;
        match actor {
            PartyActor::Lane(lane) => write!(f, "lane {lane}")?,
            PartyActor::Copy { lane, completed: true } => write!(f, "lane {lane} (an awaited copy)")?,
            PartyActor::Copy { lane, completed: false } => write!(f, "lane {lane} (a copy under way)")?,
            PartyActor::Warp(warp) => write!(f, "warp {warp}")?,
            PartyActor::Warpgroup(warpgroup) => write!(f, "warpgroup {warpgroup}")?,
        }
        write!(f, ", {location}")
    }
}

/// Lanes of a CTA that wait at one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The name of the launch.
    pub kernel: String,
    /// The number of the CTA in its grid.
    pub cta: u32,
    /// The lanes.
    pub lanes: Vec<u32>,
    /// The instruction.
    pub op: Op,
    /// What a poll loop reads.
    pub address: Option<String>,
    /// The source line.
    pub location: Place,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cta, lanes, op, address, location } = self;
        write!(f, "{kernel}, CTA {cta}, ")?;
        match lanes.as_slice() {
            [lane] => write!(f, "lane {lane}")?,
            [first, .., last] if (last - first) as usize + 1 == lanes.len() => {
                write!(f, "lanes {first} to {last}")?;
            }
            _ => write!(f, "lanes {lanes:?}")?,
        }
        write!(f, " at {op}")?;
        if let Some(address) = address {
            write!(f, " of {address}")?;
        }
        write!(f, ", {location}")
    }
}

/// Up to 16 waits.
struct Lines<'a>(&'a [Wait]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, wait) in self.0.iter().take(16).enumerate() {
            write!(f, "{}{wait}", if i == 0 { "" } else { "; " })?;
        }
        if self.0.len() > 16 {
            write!(f, "; and {} more", self.0.len() - 16)?;
        }
        Ok(())
    }
}

//! A resident CTA, and its warps.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::{
    banks::Stores,
    clock::{LaneClock, View, WARP},
    memory::Tracked,
    shadow::{Access, Completion, Order},
    site::Op,
    state::{barrier::Named, lane::Lane, mbarrier::Mbarrier, registers::Registers, warpgroup::Warpgroup},
};

/// A resident CTA.
pub(crate) struct Cta {
    pub(crate) launch: usize,
    /// In its grid.
    pub(crate) index: u32,
    /// Among all of the run.
    pub(crate) number: u32,
    pub(crate) clocks: Vec<LaneClock>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) warps: Vec<Warp>,
    pub(crate) shared: Tracked,
    /// Lanes that wait at bar.sync.
    pub(crate) at_barrier: u32,
    pub(crate) exited: u32,
    /// The slots of the CTAs of its cluster, by rank.
    pub(crate) peers: Rc<[usize]>,
    /// The barriers that `bar.sync id` names, by id.
    pub(crate) named: [Named; 16],
    pub(crate) mbarriers: Vec<Mbarrier>,
    pub(crate) warpgroups: Vec<Warpgroup>,
    pub(crate) registers: Registers,
    /// Accesses to its shared memory that it must not end before: by other CTAs, and by bulk copies.
    pub(crate) inbound: Vec<Inbound>,
    /// Tensor maps in global memory that its lanes have acquired by a fence, by address.
    pub(crate) maps: Vec<u64>,
    /// What the lanes that have exited knew.
    pub(crate) ended: View,
}

/// An access to the shared memory of a CTA by somebody else than its lanes.
pub(crate) struct Inbound {
    pub(crate) access: Access,
    /// The mbarrier that is told of it.
    pub(crate) mbarrier: Option<usize>,
    /// For an arrival: whoever knows this has seen it.
    pub(crate) seen: Option<Completion>,
}

impl Inbound {
    /// Whether it happens before what the observer of an order does next.
    pub(crate) fn is_over(&self, order: &Order<'_>) -> bool {
        let is_seen = |seen: Completion| order.lane(seen.cta, seen.lane, seen.epoch);
        order.is_after(&self.access) || self.seen.is_some_and(is_seen)
    }
}

/// A warp on its way to a collective instruction.
pub(crate) struct Warp {
    pub(crate) at: Option<(Op, u32)>,
    pub(crate) arrived: u32,
    pub(crate) exited: u32,
    /// Instructions of some of its lanes that not all of these have come to.
    pub(crate) partial: SmallVec<[Partial; 1]>,
    pub(crate) inbox: Box<Inbox>,
    /// The operands that its lanes must agree on, by the first of them that has come.
    pub(crate) operands: Option<SmallVec<[u64; 4]>>,
    /// Whether one of its lanes orders nothing there.
    pub(crate) weak: bool,
    /// The phase of the cluster's barrier in which it has arrived, until it has waited.
    pub(crate) cluster_phase: Option<u32>,
    /// How many wgmma groups it has waited for.
    pub(crate) waited: u32,
    /// The epochs of its lanes, by number in `Run::snapshots`, as long as they stay.
    pub(crate) snapshot: Option<u32>,
    pub(crate) stores: Stores,
}

/// An instruction of the lanes in a mask, and those that have come to it.
pub(crate) struct Partial {
    pub(crate) op: Op,
    pub(crate) site: u32,
    pub(crate) mask: u32,
    pub(crate) arrived: u32,
}

/// Operands by lane.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) a: [[u32; 4]; WARP as usize],
    pub(crate) b: [[u32; 2]; WARP as usize],
    pub(crate) c: [[u32; 4]; WARP as usize],
    pub(crate) rows: [u32; WARP as usize],
}

impl Cta {
    /// In its cluster.
    pub(crate) fn rank(&self) -> u32 {
        self.index % self.peers.len() as u32
    }

    /// Its virtual lane for the wgmma groups of a warpgroup.
    pub(crate) fn lane_of_warpgroup(&self, number: usize) -> u32 {
        (self.lanes.len() + number) as u32
    }

    /// Its virtual lane for an mbarrier.
    pub(crate) fn lane_of_mbarrier(&self, number: usize) -> u32 {
        (self.lanes.len() + self.warpgroups.len() + number) as u32
    }
}

impl Warp {
    pub(crate) fn new() -> Self {
        Self {
            at: None,
            arrived: 0,
            exited: 0,
            partial: SmallVec::new(),
            inbox: Box::default(),
            operands: None,
            weak: false,
            cluster_phase: None,
            waited: 0,
            snapshot: None,
            stores: Stores::default(),
        }
    }

    /// An instruction that others wait at for this lane of the CTA.
    pub(crate) fn stranded_by(&self, lane: usize) -> Option<(Op, u32)> {
        let is_in = |partial: &&Partial| partial.mask >> (lane % WARP as usize) & 1 == 1;
        self.partial.iter().find(is_in).map(|partial| (partial.op, partial.site))
    }
}

//! What is resident: CTAs, their warps and lanes, and the copies that these have under way.

use std::{collections::VecDeque, rc::Rc};

use corosensei::Yielder;
use smallvec::SmallVec;

use crate::{
    banks::Stores,
    bulk::BulkGroups,
    clock::{LaneClock, View, WARP},
    collective::Named,
    mbarrier::Mbarrier,
    memory::{Global, Tracked},
    registers::Registers,
    shadow::{Access, Completion},
    site::Op,
    warpgroup::Warpgroup,
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
    /// What the lanes that have exited knew.
    pub(crate) ended: View,
}

/// An access to the shared memory of a CTA by somebody else than its lanes.
pub(crate) struct Inbound {
    pub(crate) access: Access,
    /// For an arrival: whoever knows this has seen it.
    pub(crate) seen: Option<Completion>,
}

/// A lane, its clock aside.
pub(crate) struct Lane {
    pub(crate) yielder: *const Yielder<(), ()>,
    pub(crate) copies: Copies,
    pub(crate) bulk: BulkGroups,
    /// The line of its latest PTX instruction, if it runs PTX.
    pub(crate) ptx: Option<u32>,
    /// The site of its latest instruction.
    pub(crate) latest: Option<u32>,
    /// The site of the instruction that it waits at, for others or for an event.
    pub(crate) waiting: Option<u32>,
    /// The mbarrier that it waits for, by number, and for which parity.
    pub(crate) waits_for: Option<(usize, u32)>,
    /// Its latest acquire: site, address, and `Run::version` when it read.
    pub(crate) poll: Option<(u32, u64, u64)>,
    /// What a collective instruction gave it.
    pub(crate) result: [u32; 4],
    pub(crate) exited: bool,
}

/// The asynchronous copies of a lane.
#[derive(Default)]
pub(crate) struct Copies {
    /// Those that have moved no data yet, in order of issue.
    pub(crate) pending: Vec<Copy>,
    /// The committed groups that are under way: their actors, none if empty, and the site of their first copy.
    pub(crate) groups: VecDeque<Option<Issued>>,
    /// Likewise the group that is not committed yet.
    pub(crate) open: Option<Issued>,
    /// Groups that were completed.
    pub(crate) completed: u32,
}

/// A group that holds copies.
#[derive(Clone, Copy)]
pub(crate) struct Issued {
    pub(crate) actor: u32,
    pub(crate) site: u32,
    pub(crate) copies: usize,
}

/// A copy that was issued.
pub(crate) struct Copy {
    /// The number of its group, from 0, in its lane.
    pub(crate) group: u32,
    /// Offset in shared memory.
    pub(crate) to: usize,
    /// Region and offset.
    pub(crate) from: (usize, usize),
    pub(crate) bytes: usize,
}

/// A warp on its way to a collective instruction.
pub(crate) struct Warp {
    pub(crate) at: Option<(Op, u32)>,
    pub(crate) arrived: u32,
    pub(crate) exited: u32,
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

/// Operands by lane.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) a: [[u32; 4]; WARP as usize],
    pub(crate) b: [[u32; 2]; WARP as usize],
    pub(crate) c: [[f32; 4]; WARP as usize],
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

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            yielder: std::ptr::null(),
            copies: Copies::default(),
            bulk: BulkGroups::default(),
            ptx: None,
            latest: None,
            waiting: None,
            waits_for: None,
            poll: None,
            result: [0; 4],
            exited: false,
        }
    }
}

impl Warp {
    pub(crate) fn new() -> Self {
        Self {
            at: None,
            arrived: 0,
            exited: 0,
            inbox: Box::default(),
            operands: None,
            weak: false,
            cluster_phase: None,
            waited: 0,
            snapshot: None,
            stores: Stores::default(),
        }
    }
}

impl Copies {
    /// The site of the first copy under way, and how many there are.
    pub(crate) fn unfinished(&self) -> Option<(u32, usize)> {
        let groups: Vec<_> = self.groups.iter().chain([&self.open]).flatten().collect();
        Some((groups.first()?.site, groups.iter().map(|group| group.copies).sum()))
    }
}

impl Copy {
    /// Moves the data.
    pub(crate) fn perform(&self, global: &Global, shared: &mut Tracked) {
        let mut data = [0; 16];
        if self.bytes > 0 {
            let (region, offset) = self.from;
            data[..self.bytes].copy_from_slice(&global.region(region).bytes()[offset..offset + self.bytes]);
        }
        shared.write(self.to, &data);
    }
}

//! A resident lane: its copies, and what it waits for.

use std::rc::Rc;

use corosensei::Yielder;

use crate::{
    clock::View,
    state::{bulk::BulkGroups, copies::Copies},
};

/// A resident lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneRef {
    pub(crate) slot: usize,
    pub(crate) lane: usize,
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
    /// What was published with the words that it has read relaxed, until a fence orders that before what
    /// follows.
    pub(crate) observed: Option<View>,
    /// What its latest fence publishes with the words that it writes.
    pub(crate) fenced: Option<Rc<View>>,
    /// What a collective instruction gave it.
    pub(crate) result: [u32; 4],
    pub(crate) exited: bool,
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
            observed: None,
            fenced: None,
            result: [0; 4],
            exited: false,
        }
    }
}

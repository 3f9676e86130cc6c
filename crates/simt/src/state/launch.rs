//! The launches of a run, and who waits for them.

use std::{rc::Rc, sync::Arc};

use crate::{clock::View, source::Source, state::lane::LaneRef};

/// A launch of the run.
pub(crate) struct LaunchInfo {
    pub(crate) name: String,
    pub(crate) grid: u32,
    pub(crate) block: u32,
    pub(crate) shared_bytes: usize,
    pub(crate) cluster: u32,
    pub(crate) registers: u32,
    pub(crate) programmatic: bool,
    /// The PTX module that it is of.
    pub(crate) source: Option<Arc<Source>>,
    /// The number of its first CTA among all CTAs of the run.
    pub(crate) first_cta: u32,
    /// CTAs that were not dispatched yet, and that have not ended yet.
    pub(crate) undispatched: u32,
    pub(crate) running: u32,
    /// What the end of all launches before it publishes, once it was asked for.
    pub(crate) boundary: Option<Rc<View>>,
}

/// A lane that waits for the launches before its own.
pub(crate) struct Dependent {
    pub(crate) lane: LaneRef,
    pub(crate) launch: usize,
    pub(crate) relaxed: bool,
}

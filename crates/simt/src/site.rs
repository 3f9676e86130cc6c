//! The instructions of a kernel's source: each kind at each place.

use std::{collections::HashMap, fmt, panic::Location, sync::Arc};

use crate::{fault::Mutation, ptx::Source};

/// The kinds of instructions. Displayed as PTX writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // Their names are those of `ops`.
pub enum Op {
    BarSync,
    BarWarpSync,
    CpAsync,
    CpAsyncCommitGroup,
    CpAsyncWaitGroup,
    LdGlobal,
    StGlobal,
    LdAcquire,
    StRelaxed,
    AtomInc,
    RedAddRelease,
    LdShared,
    StShared,
    Ldmatrix,
    LdmatrixTrans,
    Mma,
    ShflBfly,
    BarSyncNamed,
    BarrierClusterArrive,
    BarrierClusterWait,
    Mapa,
    MbarrierInit,
    FenceMbarrierInit,
    MbarrierArrive,
    MbarrierArriveCluster,
    MbarrierArriveExpectTx,
    MbarrierTryWaitParity,
    FenceProxyAsyncShared,
    FenceProxyAsyncGlobal,
    CpAsyncBulkTensor2dLoad,
    CpAsyncBulkTensor2dLoadMulticast,
    CpAsyncBulkTensor2dStore,
    CpAsyncBulkSharedCluster,
    CpAsyncBulkCommitGroup,
    CpAsyncBulkWaitGroup,
    CpAsyncBulkWaitGroupRead,
    PrefetchTensormap,
    WgmmaF16,
    WgmmaWaitGroup,
    Stmatrix,
    SetmaxnregDec,
    SetmaxnregInc,
    GriddepcontrolWait,
    GriddepcontrolLaunchDependents,
    Tap,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BarSync => "bar.sync",
            Self::BarWarpSync => "bar.warp.sync",
            Self::CpAsync => "cp.async",
            Self::CpAsyncCommitGroup => "cp.async.commit_group",
            Self::CpAsyncWaitGroup => "cp.async.wait_group",
            Self::LdGlobal => "ld.global",
            Self::StGlobal => "st.global",
            Self::LdAcquire => "ld.acquire.gpu",
            Self::StRelaxed => "st.relaxed.gpu",
            Self::AtomInc => "atom.relaxed.gpu.inc",
            Self::RedAddRelease => "red.release.gpu.add",
            Self::LdShared => "ld.shared",
            Self::StShared => "st.shared",
            Self::Ldmatrix => "ldmatrix",
            Self::LdmatrixTrans => "ldmatrix.trans",
            Self::Mma => "mma.sync",
            Self::ShflBfly => "shfl.sync.bfly",
            Self::BarSyncNamed => "bar.sync id",
            Self::BarrierClusterArrive => "barrier.cluster.arrive.release",
            Self::BarrierClusterWait => "barrier.cluster.wait.acquire",
            Self::Mapa => "mapa.shared::cluster",
            Self::MbarrierInit => "mbarrier.init",
            Self::FenceMbarrierInit => "fence.mbarrier_init.release.cluster",
            Self::MbarrierArrive => "mbarrier.arrive.release.cta",
            Self::MbarrierArriveCluster => "mbarrier.arrive.shared::cluster",
            Self::MbarrierArriveExpectTx => "mbarrier.arrive.expect_tx",
            Self::MbarrierTryWaitParity => "mbarrier.try_wait.parity",
            Self::FenceProxyAsyncShared => "fence.proxy.async.shared::cta",
            Self::FenceProxyAsyncGlobal => "fence.proxy.async.global",
            Self::CpAsyncBulkTensor2dLoad => "cp.async.bulk.tensor.2d.shared::cluster.global",
            Self::CpAsyncBulkTensor2dLoadMulticast => "cp.async.bulk.tensor.2d.multicast::cluster",
            Self::CpAsyncBulkTensor2dStore => "cp.async.bulk.tensor.2d.global.shared::cta",
            Self::CpAsyncBulkSharedCluster => "cp.async.bulk.shared::cluster.shared::cta",
            Self::CpAsyncBulkCommitGroup => "cp.async.bulk.commit_group",
            Self::CpAsyncBulkWaitGroup => "cp.async.bulk.wait_group",
            Self::CpAsyncBulkWaitGroupRead => "cp.async.bulk.wait_group.read",
            Self::PrefetchTensormap => "prefetch.tensormap",
            Self::WgmmaF16 => "wgmma.mma_async",
            Self::WgmmaWaitGroup => "wgmma.wait_group",
            Self::Stmatrix => "stmatrix",
            Self::SetmaxnregDec => "setmaxnreg.dec",
            Self::SetmaxnregInc => "setmaxnreg.inc",
            Self::GriddepcontrolWait => "griddepcontrol.wait",
            Self::GriddepcontrolLaunchDependents => "griddepcontrol.launch_dependents",
            Self::Tap => "tap",
        })
    }
}

/// Where an instruction is: in a kernel's Rust source, or in the text of a PTX module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Path as the compiler was given it, or the name of the module where no more is known.
    pub file: &'static str,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 where only the line is known.
    pub column: u32,
    /// For an instruction of a PTX module, where it is in there.
    pub ptx: Option<Arc<Trace>>,
}

/// Where an instruction is in a PTX module, and how its Rust came there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trace {
    /// The name of the module.
    pub module: &'static str,
    /// The line of its text, from 1.
    pub line: u32,
    /// The calls by which the Rust line was inlined, the innermost first.
    pub callers: Vec<Place>,
}

impl Place {
    /// The place where the caller is.
    #[track_caller]
    pub(crate) fn caller() -> Self {
        Location::caller().into()
    }
}

impl From<&'static Location<'static>> for Place {
    fn from(location: &'static Location<'static>) -> Self {
        Self { file: location.file(), line: location.line(), column: location.column(), ptx: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        let Some(trace) = &self.ptx else { return Ok(()) };
        write!(f, " ({}:{}", trace.module, trace.line)?;
        for (number, caller) in trace.callers.iter().enumerate() {
            write!(f, "{}{caller}", if number == 0 { ", inlined into " } else { ", " })?;
        }
        f.write_str(")")
    }
}

/// An instruction at a place in the source, and how often lanes came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteInfo {
    /// Path as the compiler was given it.
    pub file: &'static str,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The line of the PTX, if that is what runs; else 0.
    pub ptx: u32,
    /// The instruction.
    pub op: Op,
    /// How often, over all lanes.
    pub count: u64,
}

impl fmt::Display for SiteInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}:{}", self.op, self.file, self.line, self.column)
    }
}

/// What is known of a site during a run.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) info: SiteInfo,
    pub(crate) location: Place,
    /// The mutations that may apply, by number.
    pub(crate) mutations: Vec<usize>,
}

/// All sites of a run, by number.
#[derive(Debug)]
pub(crate) struct Sites {
    entries: Vec<Entry>,
    /// Number of a site by its key, a guess: one location may have several addresses.
    recent: Vec<(Key, u32)>,
    numbers: HashMap<(Place, Op), u32>,
}

const RECENT: usize = 512;

/// What tells places apart at no cost: the address of a location, or of a module and a line; and the instruction.
type Key = (usize, u32, Op);

/// Where an instruction stands, as the lane that comes to it knows.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// In Rust.
    Source(&'static Location<'static>),
    /// In a PTX module, on this line.
    Ptx(&'a Arc<Source>, u32),
}

impl At<'_> {
    fn key(self, op: Op) -> Key {
        match self {
            Self::Source(location) => (std::ptr::from_ref(location) as usize, 0, op),
            Self::Ptx(source, line) => (Arc::as_ptr(source) as usize, line, op),
        }
    }

    fn place(self) -> Place {
        match self {
            Self::Source(location) => location.into(),
            Self::Ptx(source, line) => source.place(line),
        }
    }
}

impl Sites {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), recent: vec![((0, 0, Op::Tap), 0); RECENT], numbers: HashMap::new() }
    }

    /// The number of a site, counted.
    #[inline]
    pub(crate) fn visit(&mut self, op: Op, at: At<'_>, mutations: &[Mutation]) -> u32 {
        let key @ (address, line, _) = at.key(op);
        let mixed = (address << 6 ^ (line as usize) << 24 ^ op as usize).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (mixed >> 48) % RECENT;
        let number = if self.recent[slot].0 == key {
            self.recent[slot].1
        } else {
            let number = self.find(op, at.place(), mutations);
            self.recent[slot] = (key, number);
            number
        };
        self.entries[number as usize].info.count += 1;
        number
    }

    #[cold]
    fn find(&mut self, op: Op, location: Place, mutations: &[Mutation]) -> u32 {
        *self.numbers.entry((location.clone(), op)).or_insert_with(|| {
            let Place { file, line, column, .. } = location;
            let ptx = location.ptx.as_ref().map_or(0, |trace| trace.line);
            let info = SiteInfo { op, file, line, column, ptx, count: 0 };
            let matching = mutations.iter().enumerate().filter(|(_, m)| m.site.matches(&info));
            let mutations = matching.map(|(i, _)| i).collect();
            self.entries.push(Entry { info, location, mutations });
            self.entries.len() as u32 - 1
        })
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// All, by file, line, column.
    pub(crate) fn list(&self) -> Vec<SiteInfo> {
        let mut list: Vec<_> = self.entries.iter().map(|entry| entry.info).collect();
        list.sort();
        list
    }
}

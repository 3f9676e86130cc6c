//! The instructions of a kernel's source: their kinds, and their places.

use std::{fmt, panic::Location, sync::Arc};

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
    LdRelaxed,
    StRelease,
    Atom,
    Red,
    Fence,
    BarArrive,
    MbarrierInval,
    MbarrierExpectTx,
    MbarrierTestWait,
    MbarrierTryWait,
    Shfl,
    Vote,
    Match,
    Redux,
    Elect,
    FenceProxyAsync,
    CpAsyncBulkPrefetchTensor,
    CpAsyncBulkLoad,
    CpAsyncBulkStore,
    CpAsyncMbarrierArrive,
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
            Self::CpAsyncBulkTensor2dLoad => "cp.async.bulk.tensor.shared::cluster.global",
            Self::CpAsyncBulkTensor2dLoadMulticast => "cp.async.bulk.tensor.multicast::cluster",
            Self::CpAsyncBulkTensor2dStore => "cp.async.bulk.tensor.global.shared::cta",
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
            Self::LdRelaxed => "ld.relaxed",
            Self::StRelease => "st.release",
            Self::Atom => "atom",
            Self::Red => "red",
            Self::Fence => "fence.acq_rel",
            Self::BarArrive => "bar.arrive",
            Self::MbarrierInval => "mbarrier.inval",
            Self::MbarrierExpectTx => "mbarrier.expect_tx",
            Self::MbarrierTestWait => "mbarrier.test_wait",
            Self::MbarrierTryWait => "mbarrier.try_wait",
            Self::Shfl => "shfl.sync",
            Self::Vote => "vote.sync",
            Self::Match => "match.sync",
            Self::Redux => "redux.sync",
            Self::Elect => "elect.sync",
            Self::FenceProxyAsync => "fence.proxy.async",
            Self::CpAsyncBulkPrefetchTensor => "cp.async.bulk.prefetch.tensor",
            Self::CpAsyncBulkLoad => "cp.async.bulk.shared::cluster.global",
            Self::CpAsyncBulkStore => "cp.async.bulk.global.shared::cta",
            Self::CpAsyncMbarrierArrive => "cp.async.mbarrier.arrive",
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
        // Of a module without lines of Rust the place is that of the PTX.
        if (trace.module, trace.line) == (self.file, self.line) {
            return Ok(());
        }
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

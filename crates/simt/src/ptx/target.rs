//! What a module is compiled for, and which instructions it may have.

use super::code::{Operation as Op, Space};

/// What a module is compiled for: `sm_90a` is 90, and for that alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    number: u32,
    /// Whether it has what only one architecture has.
    is_specific: bool,
}

impl Target {
    /// By its name; one that is none has no instructions that not all have.
    pub(crate) fn named(name: &str) -> Self {
        let number = name.strip_prefix("sm_").unwrap_or_default();
        let digits = number.trim_end_matches(['a', 'f']);
        Self { number: digits.parse().unwrap_or(0), is_specific: digits.len() < number.len() }
    }

    /// Whether code for it may have an instruction. PTX ISA, *Target ISA Notes* of each.
    pub(crate) fn has(self, op: Op) -> bool {
        match op {
            Op::WgmmaFence
            | Op::Wgmma(_)
            | Op::WgmmaCommitGroup
            | Op::WgmmaWaitGroup
            | Op::SetmaxnregDec
            | Op::SetmaxnregInc
            | Op::TensormapReplace(..) => self.number == 90 && self.is_specific,
            Op::Stmatrix { .. }
            | Op::Load(Space::Cluster, _)
            | Op::Store(Space::Cluster, _)
            | Op::Elect
            | Op::ClusterArrive { .. }
            | Op::ClusterWait { .. }
            | Op::Mapa
            | Op::FenceMbarrierInit
            | Op::MbarrierArriveCluster(_)
            | Op::MbarrierExpectTx
            | Op::MbarrierTryWait(_)
            | Op::MbarrierWaitState { sets_aside: true, .. }
            | Op::FenceProxyShared
            | Op::FenceProxyGlobal
            | Op::FenceProxy
            | Op::TensorLoad(_)
            | Op::TensorLoadMulticast(_)
            | Op::TensorStore(_)
            | Op::TensorPrefetch(_)
            | Op::TensorReduce(..)
            | Op::TensormapCopy
            | Op::TensormapFence
            | Op::BulkLoad
            | Op::BulkStore
            | Op::BulkReduce(..)
            | Op::BulkToCluster
            | Op::BulkCommitGroup
            | Op::BulkWaitGroup
            | Op::BulkWaitGroupRead
            | Op::PrefetchTensormap
            | Op::DependentsWait
            | Op::DependentsLaunch => self.number >= 90,
            Op::MbarrierArrive(arrival) if arrival.expects => self.number >= 90,
            Op::Mma(_)
            | Op::CpAsync(_)
            | Op::CpAsyncCommitGroup
            | Op::CpAsyncWaitGroup
            | Op::CpAsyncWaitAll
            | Op::CpAsyncMbarrierArrive { .. }
            | Op::Redux(..)
            | Op::MbarrierInit
            | Op::MbarrierInval
            | Op::MbarrierTestWait(_)
            | Op::MbarrierWaitState { .. }
            | Op::MbarrierPendingCount
            | Op::MbarrierArrive(_) => self.number >= 80,
            // `red` of vectors too is of compute capability 9.0.
            _ => true,
        }
    }
}

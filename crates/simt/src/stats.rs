//! What a run did.

use std::collections::BTreeMap;

use crate::{
    coverage::Coverage,
    site::{Op, SiteInfo},
};

/// Counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CTAs.
    pub ctas: u64,
    /// mma instructions, counted once for a warp.
    pub mma: u64,
    /// ldmatrix instructions, transposing ones among them, counted once for a warp.
    pub ldmatrix: u64,
    /// Turns that ldmatrix took beyond one for each matrix: 0 without bank conflicts.
    pub ldmatrix_conflicts: u64,
    /// cp.async instructions, counted for each lane.
    pub cp_async: u64,
    /// Bytes that these read.
    pub cp_async_bytes: u64,
    /// Turns that their writes to shared memory took beyond the first, by quarters of a warp: 0 without bank
    /// conflicts. Takes the n-th cp.async of each lane of a warp for one instruction; a warp whose lanes
    /// execute different numbers of them is not counted from there on.
    pub cp_async_conflicts: u64,
    /// Of these instructions, those whose data moved at issue, before their lane did anything else.
    pub copies_at_issue: u64,
    /// Likewise, those whose data moved only when their lane waited for it.
    pub copies_at_wait: u64,
    /// Barriers of CTAs and of warps that all lanes passed.
    pub barriers: u64,
    /// wgmma instructions, counted once for a warpgroup and step.
    pub wgmma: u64,
    /// stmatrix instructions, counted once for a warp.
    pub stmatrix: u64,
    /// Turns that stmatrix took beyond one for each matrix: 0 without bank conflicts.
    pub stmatrix_conflicts: u64,
    /// Bulk and tensor copies; a multicast counts once for each CTA that it goes to.
    pub bulk_copies: u64,
    /// Bytes that these brought to shared memory, zeros for what is out of bounds among them, or to global
    /// memory.
    pub bulk_bytes: u64,
    /// Successful waits for an mbarrier, counted for each lane.
    pub mbarrier_waits: u64,
    /// By its offset in shared memory, phases of an mbarrier that were completed, in the CTA with the most;
    /// of CTAs that ended.
    pub mbarrier_phases: BTreeMap<u32, u32>,
    /// Barriers of clusters that all lanes arrived at.
    pub cluster_barriers: u64,
    /// Atomic read-modify-writes.
    pub atomics: u64,
    /// Bytes that lanes loaded from global memory.
    pub global_loaded: u64,
    /// Bytes that lanes stored to global memory.
    pub global_stored: u64,
    /// How often a lane was resumed.
    pub switches: u64,
    /// How often a mutation changed an instruction: with 0, a seeded fault was never met.
    pub mutated: u64,
    /// How often each of [`Schedule::allowances`](crate::Schedule::allowances) kept a report away.
    pub allowed: Vec<u64>,
    /// A hash of which lane ran when, for comparing the course of two runs.
    pub course: u64,
    /// What launches of PTX have tried of their entries.
    pub coverage: Coverage,
    /// The instructions of the source that were executed, by file, line, column.
    pub sites: Vec<SiteInfo>,
}

impl Stats {
    /// The sites of an instruction in files whose path ends like this.
    pub fn sites_of<'a>(&'a self, op: Op, file: &'a str) -> impl Iterator<Item = &'a SiteInfo> {
        self.sites.iter().filter(move |site| site.op == op && site.file.ends_with(file))
    }
}

//! What special registers hold. PTX ISA, "Special Registers".

use super::super::parsed::Special;
use crate::{clock::WARP, scheduler::with};

pub(super) fn value(special: Special) -> u64 {
    with(|run| {
        let (shape, cta, lane) = (*run.shape(), run.cta(), run.current.lane as u32);
        let (laneid, bit) = (lane % WARP, 1u32 << (lane % WARP));
        let of = |dims: [u32; 3], dim: u8| dims[usize::from(dim)];
        let word = match special {
            Special::Tid(dim) => of(run.thread_idx(), dim),
            Special::Ntid(dim) => of(shape.block, dim),
            Special::Ctaid(dim) => of(run.block_idx(), dim),
            Special::Nctaid(dim) => of(shape.grid, dim),
            Special::ClusterCtaid(dim) => of(shape.in_cluster(cta.index), dim),
            Special::ClusterNctaid(dim) => of(shape.cluster, dim),
            Special::Clusterid(dim) => of(shape.cluster_of(cta.index), dim),
            Special::Nclusterid(dim) => of(shape.clusters(), dim),
            Special::ClusterCtarank => cta.rank(),
            Special::ClusterNctarank => cta.peers.len() as u32,
            Special::Laneid => laneid,
            Special::Warpid => lane / WARP,
            Special::Nwarpid => cta.warps.len() as u32,
            Special::LanemaskEq => bit,
            Special::LanemaskLt => bit - 1,
            Special::LanemaskLe => bit | (bit - 1),
            Special::LanemaskGt => !(bit | (bit - 1)),
            Special::LanemaskGe => !(bit - 1),
            Special::DynamicSharedSize | Special::TotalSharedSize => cta.shared.bytes().len() as u32,
            Special::Smid => run.current.slot as u32,
            Special::Nsmid => run.slots.len() as u32,
            Special::Gridid => cta.launch as u32,
            Special::Clock | Special::GlobalTimer => {
                run.instructions += 1;
                return run.instructions;
            }
        };
        u64::from(word)
    })
}

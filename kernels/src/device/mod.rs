//! One thin wrapper for each PTX instruction: inline PTX, which the compiler leaves as it is. Kernels are
//! written on these alone. Nothing outside this module dereferences a pointer or writes `asm!`, but for
//! entries, which take the address of their own parameter.
//!
//! Entries carry the names of their instructions. Sections are cited by their titles in the *PTX ISA* manual,
//! version 9.0.

mod approx;
mod barrier;
mod bulk;
mod cluster;
mod convert;
mod cp_async;
mod dependent;
mod global;
mod instruction;
mod ldmatrix;
mod mbarrier;
mod mma;
mod proxy;
mod registers;
mod shared;
mod shuffle;
mod stmatrix;
mod thread;
mod wgmma;

pub use approx::{ex2_approx, fma, rcp_approx, rsqrt_approx};
pub use barrier::{bar_sync, bar_sync_some, bar_warp_sync};
pub use bulk::{
    bulk_commit_group, bulk_wait_group_read, copy_to_cluster, load_box, load_box_multicast,
    prefetch_tensor_map, store_box,
};
pub use cluster::{
    ClusterAddr, barrier_cluster_arrive, barrier_cluster_arrive_relaxed, barrier_cluster_wait,
    cluster_ctarank, cluster_nctarank, clusterid_x, mapa, nclusterid_x,
};
pub use convert::{f16_to_f32, pack_f16x2};
pub use cp_async::{cp_async_16, cp_async_commit_group, cp_async_wait_group};
pub use dependent::{griddepcontrol_launch_dependents, griddepcontrol_wait};
pub use ldmatrix::{ldmatrix_x4, ldmatrix_x4_trans};
pub use mbarrier::{
    fence_mbarrier_init, mbarrier_arrive, mbarrier_arrive_cluster, mbarrier_arrive_expect_tx,
    mbarrier_arrive_release_cluster, mbarrier_init, mbarrier_try_wait, mbarrier_try_wait_cluster,
};
pub use mma::mma_m16n8k16_f16;
pub use proxy::{fence_proxy_async_global, fence_proxy_async_shared};
pub use registers::{setmaxnreg_dec, setmaxnreg_inc};
pub use shared::{SharedAddr, dynamic_shared};
pub use shuffle::{elect, shfl_bfly, shfl_first};
pub use stmatrix::stmatrix_x4;
pub use thread::{block_dim_x, block_idx_x, grid_dim_x, opaque, thread_idx_x};
pub use wgmma::{Descriptor, Fragments, Pending, Registers, STEP_BYTES, Sums};

//! Which kernels there are, and in clusters of which sizes they are launched.

use fused_lora_kernels::{
    sm90_tile::MAX_SLICES,
    table::{KERNELS, Kernel, Operation, SM90_KERNELS, Target},
};

/// The sizes of clusters that kernels are launched in. Every GPU of compute capability 9.0 takes up to 8
/// CTAs.
pub(crate) const CLUSTER_SIZES: [u32; 4] = [1, 2, 4, 8];

/// The kernels that a device of these properties runs, in the order of plans.
pub(crate) fn kernels(target: Target) -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(SM90_KERNELS.iter().filter(move |_| target == Target::Sm90a))
}

/// The sizes of clusters that a kernel may be launched in for products of width `k`.
pub(crate) fn cluster_sizes(kernel: &Kernel, k: u32) -> impl Iterator<Item = u32> {
    let (clusters, splits_k) = (kernel.clusters(), kernel.operation == Operation::GemmSplitK);
    // The CTAs of such a cluster share the steps of K, and then the columns of a tile in groups of 16.
    let most_shares = (kernel.block_n / 16).min(k.div_ceil(kernel.block_k));
    CLUSTER_SIZES.into_iter().filter(move |&size| match splits_k {
        true => size > 1 && size <= most_shares,
        false if kernel.slices_k() => size > 1 && size <= MAX_SLICES,
        false => size == 1 || clusters,
    })
}

/// Whether a kernel is launched in clusters of more than one CTA at all.
pub(crate) fn has_clusters(kernel: &Kernel) -> bool {
    cluster_sizes(kernel, u32::MAX).any(|size| size > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str) -> &'static Kernel {
        kernels(Target::Sm90a).find(|kernel| kernel.name == name).unwrap()
    }

    #[test]
    fn clusters_are_for_kernels_that_know_them() {
        let sizes = |name, k| cluster_sizes(kernel(name), k).collect::<Vec<_>>();
        assert_eq!(sizes("sm90_gemm_128x256", 1), CLUSTER_SIZES);
        assert_eq!(sizes("sm90_fused_cooperative_64x32_h32", 1), CLUSTER_SIZES);
        // All have room for the sums of four.
        assert_eq!(sizes("sm90_fused_cooperative_128x256_k16", 1), [2, 4]);
        for name in ["gemm_64x64", "fused_recompute_64x64_h16", "shrink_64x64", "sm90_fused_128x256"] {
            assert_eq!(sizes(name, 4096), [1], "{name}");
            assert!(!has_clusters(kernel(name)));
        }
        // K in steps of 64: no CTA without one. Columns by 16: 64 of them for four.
        assert_eq!(sizes("sm90_gemm_split_k_64x64", 4096), [2, 4]);
        assert_eq!(sizes("sm90_gemm_split_k_64x128", 4096), [2, 4, 8]);
        assert_eq!(sizes("sm90_gemm_split_k_64x128", 7 * 64 - 5), [2, 4]);
        assert_eq!(sizes("sm90_gemm_split_k_64x128", 65), [2]);
        assert!(sizes("sm90_gemm_split_k_64x128", 64).is_empty());
    }
}

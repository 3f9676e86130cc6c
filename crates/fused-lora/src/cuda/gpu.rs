//! A GPU as far as the choice of a kernel depends on it: what it is, and how many CTAs and clusters of each kernel it
//! holds at a time.

use fused_lora_kernels::table::{KERNELS, Kernel, Operation, SM90_KERNELS, Target};

use super::{
    count::count,
    data_sheet::DataSheet,
    error::Error,
    forced::{LeftOut, left_out},
    plan::{Plan, Request},
    properties::Properties,
};
use crate::{Problem, Strategy};

/// The sizes of clusters that kernels are launched in. Every GPU of compute capability 9.0 takes up to 8 CTAs.
pub(super) const CLUSTER_SIZES: [u32; 4] = [1, 2, 4, 8];

/// A GPU as a plan sees it: one that is [open](super::Device::gpu), or one of which there is a data sheet.
#[derive(Clone, Debug)]
pub struct Gpu {
    properties: Properties,
    entries: Vec<Entry>,
}

/// A kernel on a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) kernel: &'static Kernel,
    pub(super) occupancy: Occupancy,
}

/// How much of a kernel a GPU holds at a time, as registers, threads and shared memory allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Occupancy {
    /// CTAs of an SM; 0 where it cannot run the kernel.
    pub(super) resident: u32,
    /// Clusters of the whole GPU, for each of [`CLUSTER_SIZES`]; 0 where it takes none of that size.
    pub(super) clusters: [u32; CLUSTER_SIZES.len()],
}

impl Occupancy {
    /// Without clusters: those of one CTA alone.
    pub(super) fn without_clusters(resident: u32, properties: &Properties) -> Self {
        let ctas = properties.multiprocessors.max(1).saturating_mul(resident);
        Self { resident, clusters: [ctas, 0, 0, 0] }
    }

    /// Clusters of so many CTAs that the GPU holds.
    pub(super) fn of_size(&self, size: u32) -> u32 {
        let mut sizes = CLUSTER_SIZES.into_iter().zip(self.clusters);
        sizes.find(|(of, _)| *of == size).map_or(0, |(_, clusters)| clusters)
    }
}

impl Gpu {
    /// With those kernels, but for what the environment leaves out.
    pub(super) fn new(properties: Properties, entries: Vec<Entry>) -> Self {
        Self { properties, entries }.without(left_out())
    }

    /// Where it holds none of those kernels: plans do not launch them, and tests do not ask for them.
    pub(super) fn without(mut self, left_out: &[LeftOut]) -> Self {
        for Entry { kernel, occupancy } in &mut self.entries {
            for (size, clusters) in CLUSTER_SIZES.into_iter().zip(&mut occupancy.clusters) {
                if left_out.iter().any(|left_out| left_out.is(kernel, size)) {
                    *clusters = 0;
                }
            }
            if occupancy.clusters == [0; CLUSTER_SIZES.len()] {
                occupancy.resident = 0;
            }
        }
        self
    }

    /// The names of [`from_data_sheet`](Self::from_data_sheet).
    #[must_use]
    pub fn data_sheets() -> impl ExactSizeIterator<Item = &'static str> {
        DataSheet::ALL.iter().map(|sheet| sheet.name)
    }

    /// A GPU that need not be there, from its data sheet and from what the build allows the kernels; None if there is
    /// no data sheet of that name.
    #[must_use]
    pub fn from_data_sheet(name: &str) -> Option<Self> {
        DataSheet::ALL.iter().find(|sheet| sheet.name == name).map(DataSheet::gpu)
    }

    /// What is known of it.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The newest of what the kernels that it runs are compiled for.
    #[must_use]
    pub fn target(&self) -> Target {
        let newest = self.entries.iter().any(|entry| entry.kernel.target == Target::Sm90a);
        if newest { Target::Sm90a } else { Target::Sm80 }
    }

    /// How many CTAs of a kernel an SM holds at a time; 0 if it cannot run it, or `FUSED_LORA_PLAN` leaves it out.
    #[must_use]
    pub fn resident(&self, kernel: &Kernel) -> u32 {
        let entry = self.entries.iter().find(|entry| entry.kernel.name == kernel.name);
        entry.map_or(0, |entry| entry.occupancy.resident)
    }

    /// How many clusters of so many CTAs of a kernel it holds at a time; 0 where it cannot run it so, or `FUSED_LORA_PLAN`
    /// leaves it out.
    #[must_use]
    pub fn clusters(&self, kernel: &Kernel, size: u32) -> u32 {
        let entry = self.entries.iter().find(|entry| entry.kernel.name == kernel.name);
        let launched = cluster_sizes(kernel, u32::MAX).any(|of| of == size);
        entry.filter(|_| launched).map_or(0, |entry| entry.occupancy.of_size(size))
    }

    /// What a call of this size launches, with one adapter for all rows, x and y without gaps and as aligned as K and N
    /// allow, and a workspace of the size that [`workspace_size`](super::workspace_size) says.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::NoKernel`] where not even the smallest kernels fit.
    pub fn plan(&self, problem: &Problem, strategy: Strategy) -> Result<Plan, Error> {
        let Problem { m, n, k, rank } = *problem;
        let [m, n, k, rank] = [count("M", m)?, count("N", n)?, count("K", k)?, count("r", rank)?];
        Plan::new(&Request::uniform(m, n, k, rank, strategy), self, &|_| true)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// The kernels that a device of these properties runs, in the order of plans.
pub(super) fn kernels(target: Target) -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(SM90_KERNELS.iter().filter(move |_| target == Target::Sm90a))
}

/// The sizes of clusters that a kernel may be launched in for products of width `k`.
pub(super) fn cluster_sizes(kernel: &Kernel, k: u32) -> impl Iterator<Item = u32> {
    let (clusters, splits_k) = (kernel.clusters(), kernel.operation == Operation::GemmSplitK);
    // The CTAs of such a cluster share the steps of K, and then the columns of a tile in groups of 16.
    let most_shares = (kernel.block_n / 16).min(k.div_ceil(kernel.block_k));
    CLUSTER_SIZES.into_iter().filter(move |&size| match splits_k {
        true => size > 1 && size <= most_shares,
        false => size == 1 || clusters,
    })
}

/// Whether a kernel is launched in clusters of more than one CTA at all.
pub(super) fn has_clusters(kernel: &Kernel) -> bool {
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

    #[test]
    fn kernels_for_9_0_are_there_where_they_run() {
        for name in Gpu::data_sheets() {
            let gpu = Gpu::from_data_sheet(name).unwrap();
            let hopper = gpu.properties().compute_capability == (9, 0);
            assert_eq!(gpu.target(), if hopper { Target::Sm90a } else { Target::Sm80 }, "{name}");
            for kernel in SM90_KERNELS {
                assert_eq!(gpu.resident(kernel) > 0, hopper, "{name}: {}", kernel.name);
            }
        }
        assert!(Gpu::from_data_sheet("voodoo2").is_none());
    }

    #[test]
    fn what_is_left_out_is_not_launched() {
        let whole = Gpu::from_data_sheet("h200").unwrap();
        let without = |text: &str| whole.clone().without(&LeftOut::parse_all(text).unwrap());
        let first = |gpu: &Gpu| {
            let plan = gpu.plan(&Problem::new(4096, 4096, 4096, 0), Strategy::Base)?;
            let launch = plan.launches()[0];
            Ok::<_, Error>((launch.kernel, launch.cluster))
        };
        let (kernel, cluster) = first(&whole).unwrap();
        assert!(cluster > 1, "the test is of a kernel with clusters");

        // In clusters of one size: others of it are there.
        let gpu = without(&format!("-{}/{cluster}", kernel.name));
        assert_eq!((gpu.clusters(kernel, cluster), gpu.resident(kernel)), (0, whole.resident(kernel)));
        assert!(gpu.clusters(kernel, 1) > 0);
        let (other, size) = first(&gpu).unwrap();
        assert_ne!((other.name, size), (kernel.name, cluster));

        // In all of them, and another kernel.
        let gpu = without(&format!("-{},-{}", kernel.name, other.name));
        assert_eq!((gpu.resident(kernel), gpu.resident(other)), (0, 0));
        assert!(![kernel.name, other.name].contains(&first(&gpu).unwrap().0.name));

        // All of an operation: the call is refused, and others are served.
        let bases = kernels(Target::Sm90a)
            .filter(|kernel| matches!(kernel.operation, Operation::Gemm | Operation::GemmSplitK));
        let names: Vec<String> = bases.map(|kernel| format!("-{}", kernel.name)).collect();
        let gpu = without(&names.join(","));
        assert!(matches!(first(&gpu), Err(Error::NoKernel { operation: Operation::Gemm, .. })));
        assert!(gpu.plan(&Problem::new(128, 1024, 1024, 10), Strategy::Fused).is_ok());
    }

    #[test]
    fn a_plan_needs_sizes_that_can_be_counted() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        let plan = |m| gpu.plan(&Problem::new(m, 1024, 1024, 10), Strategy::Fused);
        assert!(plan(128).unwrap().seconds() > 0.0);
        assert!(matches!(plan(1 << 40), Err(Error::TooLarge { what: "M", .. })));
    }
}

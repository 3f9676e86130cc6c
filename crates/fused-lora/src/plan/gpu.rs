//! A GPU, as far as the choice of a kernel depends on it: its properties, and how many CTAs and clusters of
//! each kernel it holds at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use fused_lora_kernels::table::{Kernel, Target};

use super::{
    clusters::{CLUSTER_SIZES, cluster_sizes},
    forced::{LeftOut, left_out},
    properties::Properties,
};

/// A GPU as plans use it: a device that is [open](crate::cuda::Device::gpu), or a GPU described by a data
/// sheet.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// A number that only clones share.
    id: u64,
    properties: Properties,
    entries: Vec<Entry>,
}

/// A kernel on a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) kernel: &'static Kernel,
    pub(crate) occupancy: Occupancy,
}

/// How much of a kernel a GPU holds at a time, as registers, threads and shared memory allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// CTAs of an SM; 0 where it cannot run the kernel.
    pub(crate) resident: u32,
    /// Clusters of the whole GPU, for each of [`CLUSTER_SIZES`]; 0 where it takes none of that size.
    pub(crate) clusters: [u32; CLUSTER_SIZES.len()],
}

impl Occupancy {
    /// Without clusters: those of one CTA alone.
    pub(crate) fn without_clusters(resident: u32, properties: &Properties) -> Self {
        let ctas = properties.multiprocessors.max(1).saturating_mul(resident);
        Self { resident, clusters: [ctas, 0, 0, 0] }
    }

    /// Clusters of so many CTAs that the GPU holds.
    pub(crate) fn of_size(&self, size: u32) -> u32 {
        let mut sizes = CLUSTER_SIZES.into_iter().zip(self.clusters);
        sizes.find(|(of, _)| *of == size).map_or(0, |(_, clusters)| clusters)
    }
}

impl Gpu {
    /// With those kernels, but for what the environment leaves out.
    pub(crate) fn new(properties: Properties, entries: Vec<Entry>) -> Self {
        Self { id: 0, properties, entries }.without(left_out())
    }

    /// Where it holds none of those kernels: plans do not launch them, and tests do not ask for them.
    pub(crate) fn without(mut self, left_out: &[LeftOut]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.id = NEXT.fetch_add(1, Ordering::Relaxed);
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

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The GPU's properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The target of the newest kernels that it runs.
    #[must_use]
    pub fn target(&self) -> Target {
        let newest = self.entries.iter().any(|entry| entry.kernel.target == Target::Sm90a);
        if newest { Target::Sm90a } else { Target::Sm80 }
    }

    /// How many CTAs of a kernel an SM holds at a time; 0 if the GPU cannot run the kernel, or
    /// `FUSED_LORA_PLAN` excludes it.
    #[must_use]
    pub fn resident(&self, kernel: &Kernel) -> u32 {
        let entry = self.entries.iter().find(|entry| entry.kernel.name == kernel.name);
        entry.map_or(0, |entry| entry.occupancy.resident)
    }

    /// How many clusters of `size` CTAs of a kernel the GPU holds at a time; 0 if it cannot run the kernel in
    /// such clusters, or `FUSED_LORA_PLAN` excludes it.
    #[must_use]
    pub fn clusters(&self, kernel: &Kernel, size: u32) -> u32 {
        let entry = self.entries.iter().find(|entry| entry.kernel.name == kernel.name);
        let launched = cluster_sizes(kernel, u32::MAX).any(|of| of == size);
        entry.filter(|_| launched).map_or(0, |entry| entry.occupancy.of_size(size))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

//! GPUs that need not be present: the properties from their data sheets, and how many CTAs of each kernel
//! they hold if every kernel uses the registers that the build allows it.

use fused_lora_kernels::table::Kernel;

use super::{
    clusters::{CLUSTER_SIZES, has_clusters, kernels},
    gpu::{Entry, Gpu, Occupancy},
    properties::Properties,
};

/// Shared memory that the system takes for each CTA (*CUDA C++ Programming Guide*, compute capabilities 8.x
/// and 9.0).
const RESERVED_SHARED_BYTES: u32 = 1024;
/// Registers are given to a warp in units of so many.
const REGISTER_UNIT: u32 = 256;
/// How many SMs a GPC has, in which a cluster lies: of the full chip 18 each (*H100 Tensor Core GPU
/// Architecture* whitepaper). Which are missing of 144 is not said, and differs from card to card: taken to
/// be two each in six.
const SMS_OF_GPCS: [u32; 8] = [18, 18, 16, 16, 16, 16, 16, 16];

/// The GPUs of which there is a data sheet.
const NAMES: [&str; 5] = ["h100", "h200", "a100", "l4", "rtx4090"];

impl Gpu {
    /// The names that [`from_data_sheet`](Self::from_data_sheet) accepts.
    #[must_use]
    pub fn data_sheets() -> impl ExactSizeIterator<Item = &'static str> {
        NAMES.into_iter()
    }

    /// A GPU that need not be present, from its data sheet and the registers that the build allows the
    /// kernels; None if there is no data sheet of that name.
    #[must_use]
    pub fn from_data_sheet(name: &str) -> Option<Self> {
        properties(name).map(gpu)
    }
}

/// What a data sheet says, in the words of the driver.
fn properties(name: &str) -> Option<Properties> {
    let h100 = Properties {
        ordinal: 0,
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        uuid: [0; 16],
        compute_capability: (9, 0),
        multiprocessors: 132,
        shared_bytes_per_cta: 227 << 10,
        shared_bytes_per_sm: 228 << 10,
        registers_per_sm: 65536,
        threads_per_sm: 2048,
        memory_bytes: 80 << 30,
        l2_bytes: 50 << 20,
        clock_khz: 1_980_000,
        memory_clock_khz: 2_619_000,
        memory_bus_bits: 5120,
        // A late one.
        driver_version: (13, 0),
    };
    let rtx4090 = Properties {
        name: "NVIDIA GeForce RTX 4090".to_owned(),
        compute_capability: (8, 9),
        multiprocessors: 128,
        shared_bytes_per_cta: 99 << 10,
        shared_bytes_per_sm: 100 << 10,
        threads_per_sm: 1536,
        memory_bytes: 24 << 30,
        l2_bytes: 72 << 20,
        clock_khz: 2_520_000,
        memory_clock_khz: 10_501_000,
        memory_bus_bits: 384,
        ..h100
    };
    Some(match name {
        "h100" => h100,
        "h200" => Properties {
            name: "NVIDIA H200".to_owned(),
            memory_bytes: 141 << 30,
            // 4.8 TB/s
            memory_clock_khz: 3_125_000,
            memory_bus_bits: 6144,
            ..h100
        },
        "a100" => Properties {
            name: "NVIDIA A100-SXM4-80GB".to_owned(),
            compute_capability: (8, 0),
            multiprocessors: 108,
            shared_bytes_per_cta: 163 << 10,
            shared_bytes_per_sm: 164 << 10,
            l2_bytes: 40 << 20,
            clock_khz: 1_410_000,
            memory_clock_khz: 1_593_000,
            ..h100
        },
        "l4" => Properties {
            name: "NVIDIA L4".to_owned(),
            multiprocessors: 58,
            l2_bytes: 48 << 20,
            clock_khz: 2_040_000,
            memory_clock_khz: 6_251_000,
            memory_bus_bits: 192,
            ..rtx4090
        },
        "rtx4090" => rtx4090,
        _ => return None,
    })
}

/// A GPU of these properties, with the occupancy that they give.
pub(crate) fn gpu(properties: Properties) -> Gpu {
    let entries = kernels(properties.target())
        .map(|kernel| Entry { kernel, occupancy: occupancy(kernel, &properties) })
        .collect();
    Gpu::new(properties, entries)
}

/// As the driver counts: by registers, shared memory and threads, and clusters within a GPC.
fn occupancy(kernel: &Kernel, gpu: &Properties) -> Occupancy {
    if kernel.shared_bytes > gpu.shared_bytes_per_cta {
        return Occupancy::default();
    }
    let registers = (kernel.max_registers * 32).next_multiple_of(REGISTER_UNIT) * (kernel.threads / 32);
    let resident = (gpu.registers_per_sm / registers)
        .min(gpu.shared_bytes_per_sm / (kernel.shared_bytes + RESERVED_SHARED_BYTES))
        .min(gpu.threads_per_sm / kernel.threads);
    let alone = Occupancy::without_clusters(resident, gpu);
    if !has_clusters(kernel) {
        return alone;
    }
    let clusters = CLUSTER_SIZES.map(|size| match size {
        1 => alone.clusters[0],
        _ => SMS_OF_GPCS.iter().map(|sms| sms * resident / size).sum(),
    });
    Occupancy { clusters, ..alone }
}

#[cfg(test)]
mod tests {
    use fused_lora_kernels::table::{SM90_KERNELS, Target};

    use super::*;

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
    fn bandwidths_are_those_of_the_data_sheets() {
        for (name, terabytes) in
            [("h100", 3.35), ("h200", 4.8), ("a100", 2.039), ("l4", 0.3), ("rtx4090", 1.008)]
        {
            let bandwidth = Gpu::from_data_sheet(name).unwrap().properties().memory_bandwidth();
            assert!((bandwidth / 1e12 - terabytes).abs() < 0.005, "{name}: {bandwidth:e}");
        }
    }

    #[test]
    fn hopper_holds_one_large_tile_an_sm_and_whole_clusters_in_its_gpcs() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        assert_eq!(SMS_OF_GPCS.iter().sum::<u32>(), gpu.properties().multiprocessors);
        let of = |name: &str| gpu.entries().iter().find(|entry| entry.kernel.name == name).unwrap().occupancy;
        assert_eq!(of("sm90_gemm_128x256"), Occupancy { resident: 1, clusters: [132, 66, 32, 16] });
        assert_eq!(of("sm90_fused_128x256"), Occupancy { resident: 1, clusters: [132, 0, 0, 0] });
        assert_eq!(of("gemm_64x64"), Occupancy { resident: 4, clusters: [528, 0, 0, 0] });
    }
}

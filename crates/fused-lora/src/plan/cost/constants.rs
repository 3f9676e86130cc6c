//! What the model takes from elsewhere, each number with its origin: one table, in two sets.
//!
//! *Optimistic* is what data sheets and published kernels allow at best, *pessimistic* what is likely under
//! load and with the kernels as they are. A number that nobody has published or measured is *assumed*, or
//! read from the *code*: the kernels' source and what ptxas makes of it. **Nothing has been measured by us
//! yet.** A row with one value has it in both sets.

/// In words, where a number is from.
macro_rules! origin {
    (published) => {
        "published"
    };
    (data_sheet) => {
        "data sheet"
    };
    (code) => {
        "the kernels' code"
    };
    (assumed) => {
        "assumed"
    };
}

/// The second of two, else the only one.
macro_rules! second {
    ($only:expr) => {
        $only
    };
    ($first:expr, $second:expr) => {
        $second
    };
}

macro_rules! constants {
    ($(
        $(#[$what:meta])*
        $name:ident: ($optimistic:expr) $origin:ident $source:literal
        $(, ($pessimistic:expr) $other_origin:ident $other_source:literal)?;
    )*) => {
        /// A set of the constants.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct Constants {
            $(
                $(#[$what])*
                #[doc = ""]
                #[doc = concat!("`", stringify!($optimistic), "`, ", origin!($origin), ": ", $source)]
                $(
                    #[doc = ""]
                    #[doc = concat!(
                        "Pessimistic `", stringify!($pessimistic), "`, ", origin!($other_origin), ": ",
                        $other_source
                    )]
                )?
                pub(super) $name: f64,
            )*
        }

        /// What data sheets and published kernels allow at best.
        pub const OPTIMISTIC: Constants = Constants { $($name: $optimistic,)* };

        /// What is likely under load, with the kernels as they are.
        pub const PESSIMISTIC: Constants =
            Constants { $($name: second!($optimistic $(, $pessimistic)?),)* };

        /// Each constant's name, and its value in both sets.
        #[cfg(test)]
        pub(super) const TABLE: &[(&str, f64, f64)] =
            &[$((stringify!($name), OPTIMISTIC.$name, PESSIMISTIC.$name),)*];
    };
}

constants! {
    // Every kernel.

    /// The SMs' clock, as a share of the highest.
    clock_share: (1.0) data_sheet "1.98 GHz of an H100 SXM or H200",
        (1.755 / 1.98) published "tensor cores under load take the clock down: 1.755 GHz is what an H100 \
        PCIe has at most, and DeepGEMM's model of Hopper counts with 1.3. Assumed for other GPUs.";
    /// The part of the shorter of arithmetic and memory traffic that shows beside the longer.
    exposed: (0.1) assumed "a launch's first loads and last stores meet no arithmetic.";
    /// Cycles before the first step: launch, ticket, tables, barriers, the ring's first slots.
    prologue: (1500.0) assumed "no kernel of ours has run. With the gap of a programmatic launch, in the \
        pessimistic set, 2,500 cycles from one kernel's last step to the next one's first.";
    /// Seconds from the end of one kernel to the start of the next in a stream or graph.
    launch_gap: (1e-6) assumed "for kernels in a graph.",
        (1e-6 + 70e-9) assumed "as much more as the programmatic one.";
    /// The same where the next kernel is there already and waits: launch, barriers and tensor maps are behind
    /// it.
    programmatic_gap: (0.5e-6) assumed "half of it.",
        (1000.0 / 1.755e9) assumed "what the prologue leaves of 2,500 cycles.";
    /// Bytes in a cycle that an SM's shared memory takes or gives.
    shared_bytes: (128.0) published "*CUDA C++ Programming Guide*, compute capabilities: 32 banks of 4.";

    // Kernels for compute capability 8.0.

    /// Cycles from a load's issue to its data, from L2.
    sm80_l2_latency: (500.0) published "some 260 on an idle A100 or H100 (Luo et al., *Dissecting the NVIDIA \
        Hopper Architecture through Microbenchmarking*, 2024), taken to be twice that under load.";
    /// Cycles from the last store of a tile of h to its arrival in another CTA.
    sm80_hand_over: (3.0 * 500.0) code "release, acquire and the load, each to L2 and back.";
    /// Cycles that a tile's own h takes through shared memory.
    sm80_cross_over: (300.0) code "two barriers, a store, two loads of fragments of some 30 cycles each, and \
        the expand's `mma`s, which nothing overlaps.";
    /// What a step costs more where x is read element by element.
    sm80_elementwise: (8.0) code "eight loads and stores for one copy of 16 bytes.";

    // Kernels for compute capability 9.0.

    /// f16 multiply-adds with f32 sums in a cycle of an SM.
    fma: (2048.0) data_sheet "989.4 TFLOP/s of 132 SMs at 1.83 GHz (*H100 Tensor Core GPU Architecture*).";
    /// Bytes in a cycle that an SM takes from the network to L2.
    port_bytes: (64.0) published "Jia et al., *Dissecting the NVIDIA Volta GPU Architecture*, 2018, and \
        DeepGEMM's model of Hopper.";
    /// Bytes in a cycle through L2, of all SMs together.
    l2_bytes: (46.0 * 132.0) published "kernels of 128 × 256 tiles gain 3 to 4 % from sharing x in clusters \
        of two (fast.cu): without, the 48 KiB of a step take 1.04 times the 1,024 cycles of its products. \
        DeepGEMM's 8 TB/s at 1.3 GHz are 46 bytes an SM, too.",
        (34.0 * 132.0) published "DeepGEMM's 8 TB/s at 1.755 GHz.";
    /// Cycles from a tensor copy's issue to its bytes in shared memory, from L2.
    copy_latency: (800.0) published "about 600 (Luo et al. 2024), and some under load.";
    /// Cycles that a slot is empty longer where a whole cluster has to release it.
    cluster_latency: (400.0) published "an arrival in another SM takes some 180 (Luo et al. 2024), twice. \
        Larger clusters may cost more, which neither set knows: fast.cu loses 40 % with more than two CTAs, and \
        DeepGEMM takes no more.";
    /// Cycles of a tail whatever its size.
    tail: (300.0) code "the last `wgmma`, two barriers of a warpgroup, the fence, the next board.";
    /// Issue slots of a register of y on its way out, a warp's.
    store_slots: (2.5) code "scale, conversion in pairs, an eighth of a `stmatrix`, with its address.";
    /// The fewest cycles of a tail.
    least_tail: (0.0) code "what the two above give: 940 for 128 × 256.",
        (1000.0) code "the machine code of 128 × 256 has four boxes with barriers and empty turns between \
        them, 1,100 to 1,300 cycles by its instructions; a smaller tile has the latencies of one.";
    /// How often y's bytes pass shared memory while the next tile is multiplied.
    y_passes: (0.0) assumed "the copy engine reads them in cycles that are left.",
        (1.0) code "the copy engine reads each box; that threads wrote it before is in the tail.";
    /// Cycles that h takes through shared memory alone.
    cross_over: (300.0) code "rounding, fence, barrier, and `wgmma`s that begin anew.";
    /// Cycles to the other CTAs of a cluster and from them to this one.
    exchange: (1000.0) assumed "a fence, a copy and barriers; one arrival in another SM takes some 180 (Luo \
        et al. 2024).";
    /// Bytes in a cycle that an SM sends others of its cluster.
    cluster_bytes: (14.0) published "about 3.3 TB/s for the chip (Luo et al. 2024).";
    /// Cycles from the last store of a tile of h to its arrival in another CTA.
    hand_over: (3.0 * 800.0) code "release, acquire with fence, and the copy, each to L2 and back.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these less is slower, of all others more.
    const RATES: [&str; 6] =
        ["clock_share", "shared_bytes", "fma", "port_bytes", "l2_bytes", "cluster_bytes"];

    #[test]
    fn nothing_is_faster_by_the_pessimistic_set_and_these_differ() {
        let mut differ = Vec::new();
        for (name, optimistic, pessimistic) in TABLE {
            let is_rate = RATES.contains(name);
            let is_no_faster = if is_rate { pessimistic <= optimistic } else { pessimistic >= optimistic };
            assert!(is_no_faster, "{name}: {optimistic} and {pessimistic}");
            if optimistic != pessimistic {
                differ.push(*name);
            }
        }
        let expected =
            ["clock_share", "launch_gap", "programmatic_gap", "l2_bytes", "least_tail", "y_passes"];
        assert_eq!(differ, expected);
    }

    #[test]
    fn prologue_and_gap_are_2500_cycles_at_1755_mhz() {
        let cycles = PESSIMISTIC.prologue + PESSIMISTIC.programmatic_gap * 1.98e9 * PESSIMISTIC.clock_share;
        assert!((cycles - 2500.0).abs() < 1e-6, "{cycles}");
    }
}

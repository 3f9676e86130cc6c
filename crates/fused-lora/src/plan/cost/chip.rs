//! What a GPU does in a second, and an SM in a cycle.

use super::constants::Constants;
use crate::plan::properties::Properties;

/// For a driver that does not say: A100's clock in Hz ...
const DEFAULT_CLOCK: f64 = 1.41e9;
/// ... and its memory's bandwidth in bytes a second.
const DEFAULT_BANDWIDTH: f64 = 1.555e12;

/// The SMs' clock in Hz.
pub(super) fn clock(constants: &Constants, gpu: &Properties) -> f64 {
    let highest = if gpu.clock_khz > 0 { f64::from(gpu.clock_khz) * 1e3 } else { DEFAULT_CLOCK };
    highest * constants.clock_share
}

/// Bytes a second of device memory.
pub(super) fn bandwidth(gpu: &Properties) -> f64 {
    if gpu.memory_bandwidth() > 0.0 { gpu.memory_bandwidth() } else { DEFAULT_BANDWIDTH }
}

/// What an SM of a chip does in a cycle with the kernels for compute capability 8.0.
pub(super) struct Rates {
    /// f16 multiply-adds with f32 sums, by `mma.sync`.
    pub(super) fma: f64,
    /// Bytes from L2, while all SMs read.
    pub(super) l2_bytes: f64,
}

/// Rates by compute capability, the same in both sets of constants.
///
/// | chip | FMA per cycle and SM | source |
/// |---|---|---|
/// | 8.0, 8.7 | 1024 | data sheet: *A100 Tensor Core GPU Architecture*; Jetson AGX Orin's |
/// | 8.6, 8.9, 12.0 | 512, GeForce 256 | data sheet: *GA102*, *Ada*, *RTX Blackwell*; f32 sums at half rate |
/// | 9.0 | 1270 | published: 2048 are wgmma's, `mma.sync` reaches some 62 % of them (Luo et al. 2024) |
/// | 10.x | 1270 | assumed: tcgen05 has 4096, and what `mma.sync` reaches has not been measured here |
///
/// L2: 5120 bytes per cycle for the chip (data sheet of A100; Hopper taken to be the same) over 108 or 132
/// SMs, of which two thirds are taken to be sustained. 16 a cycle and SM elsewhere is assumed.
pub(super) fn rates(gpu: &Properties) -> Rates {
    let geforce = gpu.name.contains("GeForce");
    let (fma, l2_bytes) = match gpu.compute_capability {
        (8, 0) => (1024.0, 32.0),
        (8, 7) => (1024.0, 16.0),
        (9 | 10, _) => (1270.0, 26.0),
        _ if geforce => (256.0, 16.0),
        _ => (512.0, 16.0),
    };
    Rates { fma, l2_bytes }
}

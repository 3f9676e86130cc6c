use super::driver::library::LoadError;
use crate::plan;

/// Why a device, an operand or a call was rejected. Unless an error says otherwise, nothing has been launched
/// or written.
///
/// The failure of a kernel is reported later: by the next call that waits, as [`Error::Driver`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver's library cannot be loaded.
    #[error("no CUDA driver: {0}")]
    NoDriver(LoadError),
    /// There is a driver, but no GPU that it may use (see `CUDA_VISIBLE_DEVICES`).
    #[error("the CUDA driver finds no device")]
    NoDevice,
    /// The driver cannot compile the kernels' PTX.
    #[error(
        "the driver is for CUDA {}.{}, the kernels need CUDA {}.{}",
        found.0, found.1, needed.0, needed.1
    )]
    DriverTooOld {
        /// The CUDA version of the driver.
        found: (u32, u32),
        /// The first CUDA version that supports the kernels' PTX ISA.
        needed: (u32, u32),
    },
    /// The GPU is older than Ampere.
    #[error("{name} has compute capability {}.{}, the kernels need 8.0", found.0, found.1)]
    Unsupported {
        /// The device's name.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
    },
    /// No device has this number.
    #[error("there is no CUDA device {ordinal}: {count} found, counted from 0")]
    BadOrdinal {
        /// The number asked for.
        ordinal: u32,
        /// The number of devices.
        count: u32,
    },
    /// The device does not have enough memory.
    #[error("out of device memory: {bytes} bytes asked for, {free} free")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that were free on the device.
        free: usize,
    },
    /// The workspace is smaller than `workspace_size` says for this call.
    #[error("the workspace has {found} bytes, the call needs {needed}")]
    WorkspaceTooSmall {
        /// Bytes needed.
        needed: usize,
        /// The workspace's size in bytes.
        found: usize,
    },
    /// The workspace is bound to another stream than the call's.
    #[error("the workspace belongs to another stream; `reset` it first, or give each stream its own")]
    WorkspaceStream,
    /// Two things that are used together are on different devices.
    #[error("{what} is on device {found}, the layer on device {expected}")]
    OtherDevice {
        /// What is on another device.
        what: &'static str,
        /// The layer's device.
        expected: u32,
        /// The device that it is on.
        found: u32,
    },
    /// Shapes, columns or segments that do not fit, or a scale that is not finite.
    #[error(transparent)]
    Problem(#[from] crate::Error),
    /// Sizes or addresses that the kernels cannot handle, or no kernel for the call.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// Rows of an output would overlap.
    #[error("the rows of an output have {columns} elements and are {stride} apart")]
    RowsOverlap {
        /// Columns.
        columns: usize,
        /// Elements from row to row.
        stride: usize,
    },
    /// Two buffers of different length in a copy.
    #[error("{found} elements cannot be copied to a buffer of {expected}")]
    Length {
        /// The target's length.
        expected: usize,
        /// The source's.
        found: usize,
    },
    /// LayerNorm without weights, or with a γ and a β that differ in length.
    #[error("LayerNorm with {gamma} elements of gamma and {beta} of beta: as many of each, and at least 1")]
    NormWeights {
        /// Elements of γ.
        gamma: usize,
        /// Elements of β.
        beta: usize,
    },
    /// A head size for which there is no attention kernel.
    #[error("heads of {head_dim} columns: the GPU kernels take multiples of 8 up to {limit}")]
    HeadDim {
        /// Columns of a head.
        head_dim: usize,
        /// The largest head size with a kernel on this device.
        limit: usize,
    },
    /// The driver cannot load the kernels.
    #[error("the driver cannot load the kernels: {log}")]
    Module {
        /// The output of the driver's compiler, or the error of the call.
        log: String,
    },
    /// Any other failure of the driver.
    #[error("{call} failed with {code}: {text}")]
    Driver {
        /// The driver's function.
        call: &'static str,
        /// Its result, a `CUresult`.
        code: u32,
        /// The driver's description of the result.
        text: String,
    },
}

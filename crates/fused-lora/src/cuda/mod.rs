//! The operation on an NVIDIA GPU, compute capability 8.0 and up.
//!
//! A [`Layer`] copies W to the device once, an [`Adapter`] A and B; a [`Call`] then queues one kernel on a
//! [`Stream`]. [`plan`](crate::plan) chooses the kernel of each call; [`Call::plan`] says which.
//!
//! ```no_run
//! use fused_lora::cuda::{Adapter, Buffer, Device, Layer, Matrix, MatrixMut, Stream, Workspace};
//! use half::f16;
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), fused_lora::cuda::Error> {
//! let (m, n, k, rank) = (512, 1024, 1024, 10);
//! # let w = Array2::<f16>::zeros((n, k));
//! # let (a, b) = (Array2::<f16>::zeros((rank, k)), Array2::<f16>::zeros((n, rank)));
//! # let x = Array2::<f16>::zeros((m, k));
//! let device = Device::open(0)?;
//! let stream = Stream::new(&device)?;
//!
//! let layer = Layer::new(&device, w.view())?
//!     .with_adapter(Adapter::new(&device, a.view(), b.view(), 2.0)?)?;
//! let mut workspace = Workspace::new(&device, layer.workspace_size(m))?; // one for each stream
//!
//! let x = Buffer::from_slice(&device, x.as_slice().unwrap())?;
//! let mut y = Buffer::zeroed(&device, m * n)?;
//! layer.call(Matrix::new(&x, m, k)?).run(MatrixMut::new(&mut y, m, n)?, &mut workspace, &stream)?;
//! let y: Vec<f16> = y.to_vec()?; // waits
//! # Ok(())
//! # }
//! ```
//!
//! # Without a GPU
//!
//! A program with this module builds and starts without CUDA; [`Device::open`] then says what is missing. The
//! driver's library is looked for when the first device is requested: `libcuda.so.1`, then `libcuda.so`,
//! where the dynamic loader looks, or only the file that `FUSED_LORA_LIBCUDA` names. If a driver lacks a
//! function, the calls that need it fail and name it; all others work.
//!
//! # Hopper
//!
//! On compute capability 9.0, with a driver for CUDA 12.0 or later, kernels with `wgmma`, tensor copies and
//! clusters are used as well as those for 8.0 ([`SM90_KERNELS`], [`Device::target`]). They read x and write y
//! where the copy engine can address them: at multiples of 16 bytes, with rows that lie multiples of 16 bytes
//! apart and do not overlap; their length does not matter. Other x and y use the kernels for 8.0, which are
//! slower. From CUDA 12.3 on they are launched *programmatically*, before the kernel in front of them has
//! ended ([`Stream::with_programmatic_launches`]); they access no memory until it has ended.
//!
//! Where adapters of several segments meet in one row tile, those kernels either compute all h of the row
//! tile in a cluster, up to 256 columns, or need a workspace that holds it side by side ([`workspace_size`]);
//! the kernels for 8.0 run where neither is possible.
//!
//! [`Gpu::from_data_sheet`] describes a GPU that need not be present; its plans say what the GPU would
//! launch, and estimate the time. `FUSED_LORA_PLAN=sm90_gemm_128x256/2` in the environment launches this
//! kernel, in clusters of 2, for every call of its operation; a call that it cannot run is an error that
//! names it. `FUSED_LORA_PLAN=-sm90_gemm_128x256/2,-gemm_64x64` excludes the first kernel in clusters of 2,
//! and the second entirely; a call for which no kernel is left fails with
//! [`NoKernel`](crate::plan::Error::NoKernel).
//!
//! # The rest of a transformer layer
//!
//! [`LayerNorm`] and [`CausalAttention`] are one launch each, under the same rules as a [`Call`]. Their
//! kernels are those for 8.0, on all later GPUs, too. They are never launched programmatically: after a
//! launch that began early they begin when it has ended, as always in a stream, and a launch after them waits
//! for them before it accesses memory.
//!
//! # Waiting
//!
//! Calls that queue work return at once: [`Call::run`], [`Buffer::fill`], [`Graph::launch`]. Constructors
//! wait only for their own copies, so they can be called while other threads capture graphs.
//! [`Buffer::to_vec`], [`Buffer::write`] and [`Workspace::reset`] wait for all work on the device, and so may
//! [`AdapterTable::with`]. If a kernel fails, the next call that waits returns the error, and so do all later
//! calls: CUDA gives a process no way to recover.
//!
//! # Memory
//!
//! The host never dereferences device memory, so a mistake there cannot corrupt host memory: the worst is a
//! wrong result or a failed launch. The requirements of safe functions are checked before anything is queued.
//! What cannot be checked is `unsafe` and the caller's duty:
//!
//! - memory and streams that others own ([`Matrix::from_raw_parts`], [`Stream::from_raw`]);
//! - that everything a graph recorded still exists when it is launched ([`Graph::launch`]);
//! - host memory that is copied after the call has returned ([`Buffer::write_async`]).
//!
//! Dropping a value that kernels may still use waits for them.
//!
//! # Threads
//!
//! All types may be sent and shared. Every call makes the device's primary context current for its own
//! duration, and restores the previous one.

mod adapter;
mod attention;
mod buffer;
mod call;
mod context;
mod device;
mod driver;
mod error;
mod event;
mod graph;
mod image;
mod launch;
mod layer;
mod layer_norm;
mod matrix;
mod memory;
mod module;
mod segments;
mod slabs;
mod stream;
mod table;
mod weights;
mod workspace;

pub use crate::plan::{
    Gpu, KERNELS, Kernel, Launch, Operation, Plan, Properties, SM90_KERNELS, Target, workspace_size,
};

pub use crate::TableEntry;
pub use adapter::Adapter;
pub use attention::CausalAttention;
pub use buffer::Buffer;
pub use call::Call;
pub use device::Device;
pub use driver::library::LoadError;
pub use error::Error;
pub use event::Event;
pub use graph::Graph;
pub use layer::Layer;
pub use layer_norm::LayerNorm;
pub use matrix::{Matrix, MatrixMut};
pub use segments::Segments;
pub use stream::Stream;
pub use table::AdapterTable;
pub use workspace::Workspace;

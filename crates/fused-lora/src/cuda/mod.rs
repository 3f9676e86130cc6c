//! The operation on an NVIDIA GPU, compute capability 8.0 and up.
//!
//! A [`Layer`] copies W to the device once, an [`Adapter`] A and B; a [`Call`] then puts one kernel
//! into a [`Stream`]. Which one, [`plan`](crate::plan) decides for each call; [`Call::plan`] tells.
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
//! A program with this module is built and starts without CUDA; [`Device::open`] says then what is missing.
//! The driver's library is looked for when the first device is asked for: `libcuda.so.1`, then `libcuda.so`,
//! where the dynamic loader looks, or the one file that `FUSED_LORA_LIBCUDA` names. A driver that lacks a
//! function fails the calls that need it, by its name, and no others.
//!
//! # Hopper
//!
//! On compute capability 9.0, with a driver for CUDA 12.0 or later, kernels with `wgmma`, tensor copies and
//! clusters serve beside those for 8.0 ([`SM90_KERNELS`], [`Device::target`]). They read x and write y where
//! the copy engine can address them: at multiples of 16 bytes, with rows that lie multiples of 16 bytes apart
//! and do not overlap, however long they are. Other x and y take the kernels for 8.0: slower, never wrong.
//! From CUDA 12.3 on they are launched *programmatically*, before the kernel in front of them has ended
//! ([`Stream::with_programmatic_launches`]); they touch no memory before it has.
//!
//! Where adapters of several segments meet in one row tile, those kernels either make all their h in a
//! cluster, up to 256 columns together, or want a workspace in which it fits side by side
//! ([`workspace_size`]); the kernels for 8.0 serve what neither can.
//!
//! What a GPU that need not be there would launch, and how long it might take, [`Gpu::from_data_sheet`]
//! tells. `FUSED_LORA_PLAN=sm90_gemm_128x256/2` in the environment takes that kernel, in clusters of 2,
//! wherever its operation is launched; a call that it cannot serve is refused by that name.
//! `FUSED_LORA_PLAN=-sm90_gemm_128x256/2,-gemm_64x64` never launches the one in clusters of 2, nor the other
//! at all; where no kernel is left, a call is [`NoKernel`](crate::plan::Error::NoKernel).
//!
//! # The rest of a transformer layer
//!
//! [`LayerNorm`] and [`CausalAttention`] are one launch each, by the same rules as a [`Call`], of kernels for
//! 8.0 that serve on everything later. They are never launched programmatically: behind a launch that began
//! early they begin when it has ended, as ever in a stream, and one behind them waits for them before it
//! touches memory.
//!
//! # Waiting
//!
//! What goes into a stream returns at once: [`Call::run`], [`Buffer::fill`], [`Graph::launch`]. Making
//! things waits for their own copies alone, so it can be done while other threads capture graphs.
//! [`Buffer::to_vec`], [`Buffer::write`] and [`Workspace::reset`] wait for all work on the device. A kernel's
//! failure shows at the next call that waits, and then at all others: CUDA gives a process no way back.
//!
//! # Memory
//!
//! The host never looks at device memory, so a mistake there cannot break the host's own: the worst is a
//! wrong result or a failed launch. What safe functions ask for is checked before anything is queued. Left to
//! the caller, and `unsafe` for it, is what cannot be checked:
//!
//! - memory and streams of somebody else ([`Matrix::from_raw_parts`], [`Stream::from_raw`]);
//! - that what a graph recorded is there when it is launched ([`Graph::launch`]);
//! - host memory that is copied while the call is over ([`Buffer::write_async`]).
//!
//! What is dropped while kernels may still use it waits for them.
//!
//! # Threads
//!
//! All types may be sent and shared. Every call makes the device's primary context current for its own
//! duration, and what was current is so afterwards.

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
mod stream;
mod table;
mod weights;
mod workspace;

pub use crate::plan::{
    Gpu, KERNELS, Kernel, Launch, Operation, Plan, Properties, SM90_KERNELS, Target, workspace_size,
};

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
pub use weights::TableEntry;
pub use workspace::Workspace;

//! What a call on a GPU launches: which kernels, how many CTAs, with which parameters.
//!
//! Nothing here calls the driver, and no GPU need be there: a [`Gpu`] is made from a
//! [data sheet](Gpu::from_data_sheet), or by [`cuda::Device`](crate::cuda::Device) from what the driver says.
//!
//! | module | job |
//! |---|---|
//! | `choice` | the launches of a call: the fastest of the kernels that serve it |
//! | [`cost`] | how long a kernel takes, by a model |
//! | `cache` | plans that were made before |
//! | `gpu`, `properties`, `data_sheet` | a GPU: what it is, and how much of each kernel it holds |
//! | `clusters`, `forced` | kernels and sizes of clusters; what `FUSED_LORA_PLAN` asks for |
//! | `adapters`, `assignment` | the adapters of a call, one for all rows or one for each segment |
//! | `sizes`, `place`, `layout` | sizes as kernels count them, matrices and the workspace in device memory |
//! | `params`, `tensor_maps` | what a launch gets |

pub(crate) mod adapters;
pub(crate) mod assignment;
mod cache;
mod choice;
pub(crate) mod clusters;
pub mod cost;
mod data_sheet;
mod error;
mod forced;
pub(crate) mod gpu;
pub(crate) mod layout;
pub(crate) mod params;
pub(crate) mod place;
mod properties;
pub(crate) mod sizes;
pub(crate) mod tensor_maps;

pub use fused_lora_kernels::table::{KERNELS, Kernel, Operation, SM90_KERNELS, Target};

pub(crate) use choice::Request;
pub use choice::{Launch, Plan};
pub use error::{Error, Unaddressable};
pub use gpu::Gpu;
pub use layout::workspace_size;
pub use properties::Properties;

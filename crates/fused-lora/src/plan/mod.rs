//! What a call on a GPU launches: which kernels, how many CTAs, with which parameters.
//!
//! Nothing here calls the driver, and no GPU need be present: a [`Gpu`] is made from a
//! [data sheet](Gpu::from_data_sheet), or by [`cuda::Device`](crate::cuda::Device) from the properties that
//! the driver reports.
//!
//! | module | job |
//! |---|---|
//! | `choice` | the launches of a call: the best of the kernels that can run it |
//! | [`cost`] | a model of the time that a kernel takes |
//! | `cache` | plans that were made before |
//! | `gpu`, `properties`, `data_sheet` | a GPU: its properties, and how many CTAs of each kernel it holds |
//! | `clusters`, `forced` | kernels and sizes of clusters; what `FUSED_LORA_PLAN` asks for |
//! | `adapters`, `assignment` | the adapters of a call, one for all rows or one for each segment |
//! | `sizes`, `place`, `layout` | sizes as kernels count them, matrices and the workspace in device memory |
//! | `params`, `tensor_maps` | the parameters of a launch |

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

//! The layer on the CPU: [`fused_lora::cpu`]'s products and attention, on the threads of the current rayon pool.

mod layer;
mod model;
mod norm;
mod workspace;

pub use layer::Layer;
pub use model::Model;
pub use workspace::Workspace;

//! What the bench `layer` is made of: a layer of GPT-2 medium, bare and with every kind of adapter, in the same rounds.
//!
//! | module | job |
//! |---|---|
//! | [`size`], [`variant`], [`round`] | which sizes there are, what is done to the layer, who runs in a round |
//! | [`weights`], [`sequences`] | the numbers, before anything is packed |
//! | [`backend`], [`cpu`], [`rotation`], `cuda` | what times a forward pass, on buffers that have left the caches |
//! | [`mod@reference`], [`check`] | whether it computes what it should |
//! | [`plan`], [`rounds`], [`replay`] | how many rounds there is time for, the rounds, and Criterion's share of them |
//! | [`torch`], [`exchange`] | PyTorch as a child process, and the file that gives it the same numbers |
//! | [`report`], [`verdict`], [`versus`] | records, and what a person reads of them |

pub mod backend;
pub mod check;
pub mod cpu;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
pub mod exchange;
mod models;
pub mod plan;
pub mod reference;
pub mod replay;
pub mod report;
pub mod rotation;
pub mod round;
pub mod rounds;
pub mod sequences;
pub mod size;
pub mod torch;
pub mod variant;
pub mod verdict;
pub mod versus;
pub mod weights;

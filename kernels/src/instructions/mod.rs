//! Entries that run one device instruction each: what tests compare between the strict machine, a GPU and the
//! PTX manual.
//!
//! Every instruction of `device` has one, `instruction_<name>`, in the table of the oldest GPU that has
//! it: [`INSTRUCTIONS`] or [`SM90_INSTRUCTIONS`]. A CTA does one *item*: it takes the item's words of the
//! input, gives them to the instruction, lane by lane, and stores what came back as the item's words of the
//! output. Around it stand as few other instructions as will do. What the words mean is documented at each
//! function; all of them are `unsafe` for one reason: they trust the launch to be that of their row, with
//! [`Params`] as documented there.
//!
//! They make PTX files of their own (feature `instructions` of the device build), so that nothing in those
//! that are shipped is there for tests alone.

#[cfg(target_arch = "nvptx64")]
mod item;
mod params;
mod row;
#[cfg(all(target_arch = "nvptx64", not(feature = "sm90")))]
mod sm80;
#[cfg(not(all(target_arch = "nvptx64", feature = "sm90")))]
mod sm80_table;
#[cfg(all(target_arch = "nvptx64", feature = "sm90"))]
mod sm90;
#[cfg(any(not(target_arch = "nvptx64"), feature = "sm90"))]
mod sm90_table;

pub use params::Params;
pub use row::Instruction;
#[cfg(not(all(target_arch = "nvptx64", feature = "sm90")))]
pub use sm80_table::INSTRUCTIONS;
#[cfg(any(not(target_arch = "nvptx64"), feature = "sm90"))]
pub use sm90_table::{SM90_INSTRUCTIONS, Sm90Params};

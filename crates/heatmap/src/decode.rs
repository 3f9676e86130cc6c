//! The figure of few tokens: what a call costs in which every sequence brings one token, as in decoding.
//!
//! A panel per workload and element type, the number of tokens M to the right on a logarithmic scale, a line
//! per method and rank. The records are those with `seq_len` 1, of which M is the batch. What is drawn is the
//! time over the limit, or any other metric, such as the slow-down.

mod figure;
mod layout;
mod line;
mod select;

pub use figure::DecodeFigure;
pub(crate) use figure::{DecodeLine, DecodePanel, DecodePoint};
pub(crate) use layout::{DecodeLayout, INDENT};
pub(crate) use line::Line;
pub use select::DecodeSelection;

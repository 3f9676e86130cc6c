//! What the entries are given.

use crate::Global;

/// What a launch of any of these entries gets. Item i has the `input_words` from `i * input_words` on, and
/// likewise for the output.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Params {
    /// `[count, input_words]`, only read. The base is a multiple of 16 bytes.
    pub input: Global<u32>,
    /// `[count, output_words]`, then `counters` words that are 0 before the launch. The base is a multiple of
    /// 16 bytes.
    pub output: Global<u32>,
    /// Items. CTAs with a higher number do nothing.
    pub count: u32,
}

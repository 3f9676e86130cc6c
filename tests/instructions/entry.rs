//! The entries as rows of one table, and what a run of one is given and leaves.

pub(crate) use fused_lora_kernels::instructions::Instruction as Entry;
use fused_lora_kernels::instructions::{INSTRUCTIONS, SM90_INSTRUCTIONS};

use crate::sm90::swizzle::Swizzle;

/// CTAs that are launched: a cluster more than there are items.
pub(crate) fn grid(entry: &Entry, items: usize) -> u32 {
    items as u32 + entry.cluster
}

/// The entry of this name, without `instruction_`.
pub(crate) fn entry(name: &str) -> Entry {
    let mut all = INSTRUCTIONS.iter().chain(SM90_INSTRUCTIONS);
    let found = all.find(|entry| entry.name.strip_prefix("instruction_") == Some(name));
    *found.unwrap_or_else(|| panic!("the tables have no instruction {name}"))
}

/// A matrix of f16 that a launch has a map of, and the box.
#[derive(Clone)]
pub(crate) struct Matrix {
    /// Its elements, `pitch` in each row, in memory of its own; else it is the output.
    pub elements: Option<Vec<u16>>,
    pub rows: u32,
    pub columns: u32,
    /// Elements from row to row.
    pub pitch: u32,
    pub box_rows: u32,
    pub box_columns: u32,
    pub swizzle: Swizzle,
}

impl Matrix {
    /// Bytes of the box.
    pub(crate) fn box_bytes(&self) -> u32 {
        2 * self.box_rows * self.box_columns
    }
}

/// What a run left in memory.
pub(crate) struct Outcome {
    /// Who ran it, for messages.
    pub by: String,
    /// Whether it was a GPU.
    pub on_device: bool,
    /// `[items, output_words]`.
    pub output: Vec<u32>,
    /// The words that all items share.
    pub counters: Vec<u32>,
    /// The elements of the map's matrix, where there is one in memory of its own.
    pub matrix: Vec<u16>,
}

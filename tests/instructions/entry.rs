//! The entries as rows of one table, and what a run of one is given and leaves.

use fused_lora_kernels::instructions::{INSTRUCTIONS, Instruction, SM90_INSTRUCTIONS, Sm90Instruction};

use crate::sm90::swizzle::Swizzle;

/// How an entry is launched.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub name: &'static str,
    /// Whether it wants compute capability 9.0, and has a map among its parameters.
    pub is_sm90: bool,
    /// Threads of a CTA, CTAs of a cluster, launches of which each has the output of the one before as its
    /// input.
    pub threads: u32,
    pub cluster: u32,
    pub launches: u32,
    /// Whether it needs a map.
    pub tensor_map: bool,
    pub shared_bytes: u32,
    /// Words of an item; words that all items share.
    pub input_words: u32,
    pub output_words: u32,
    pub counters: u32,
    /// Most registers of a thread.
    pub registers: u32,
}

impl From<&Instruction> for Entry {
    fn from(row: &Instruction) -> Self {
        let Instruction { name, threads, shared_bytes, input_words, output_words, counters, .. } = *row;
        Self {
            name,
            is_sm90: false,
            threads,
            cluster: 1,
            launches: 1,
            tensor_map: false,
            shared_bytes,
            input_words,
            output_words,
            counters,
            registers: row.max_registers,
        }
    }
}

impl From<&Sm90Instruction> for Entry {
    fn from(row: &Sm90Instruction) -> Self {
        let Sm90Instruction { name, threads, cluster, launches, tensor_map, shared_bytes, .. } = *row;
        Self {
            name,
            is_sm90: true,
            threads,
            cluster,
            launches,
            tensor_map,
            shared_bytes,
            input_words: row.input_words,
            output_words: row.output_words,
            counters: 0,
            registers: row.max_registers,
        }
    }
}

impl Entry {
    /// CTAs that are launched: a cluster more than there are items.
    pub(crate) fn grid(&self, items: usize) -> u32 {
        items as u32 + self.cluster
    }
}

/// The entry of this name, without `instruction_`.
pub(crate) fn entry(name: &str) -> Entry {
    let mut all = INSTRUCTIONS.iter().map(Entry::from).chain(SM90_INSTRUCTIONS.iter().map(Entry::from));
    let found = all.find(|entry| entry.name.strip_prefix("instruction_") == Some(name));
    found.unwrap_or_else(|| panic!("the tables have no instruction {name}"))
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

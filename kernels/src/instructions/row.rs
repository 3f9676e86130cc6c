//! A row of the tables of instructions.

/// An entry that runs one instruction: how it is launched, and what it must compile to.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// Its name in the PTX: `instruction_`, then that of the instruction in `device`.
    pub name: &'static str,
    /// Whether it needs compute capability 9.0; its parameters are then
    /// [`Sm90Params`](super::Sm90Params), else [`Params`](super::Params).
    pub is_sm90: bool,
    /// Threads of a CTA.
    pub threads: u32,
    /// CTAs of a cluster. Grid and items are multiples of it.
    pub cluster: u32,
    /// Launches, each programmatically dependent on the one ahead, whose output is its input.
    pub launches: u32,
    /// Whether it needs a map, whose boxes the input names.
    pub tensor_map: bool,
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
    /// Input of an item, in words.
    pub input_words: u32,
    /// Output of an item, in words.
    pub output_words: u32,
    /// Words after the outputs that all items share, 0 before the launch.
    pub counters: u32,
    /// Registers a thread may have; the build fails above. Those that a thread starts with where the entry
    /// moves registers.
    pub max_registers: u32,
    /// Instructions that the machine code must have, by parts of their mnemonics on all GPUs: `LDG 128` is in
    /// `LDG.E.128`. Empty where there is none: what ptxas knows it puts in place, and lanes that it knows to
    /// be together need not wait for each other.
    pub machine_code: &'static [&'static str],
}

/// What a row has where it says nothing else. The registers are far more than most need: the limit shows what
/// went wrong, and costs nothing.
pub(super) const ROW: Instruction = Instruction {
    name: "",
    is_sm90: false,
    threads: 64,
    cluster: 1,
    launches: 1,
    tensor_map: false,
    shared_bytes: 0,
    input_words: 0,
    output_words: 0,
    counters: 0,
    max_registers: 40,
    machine_code: &[],
};

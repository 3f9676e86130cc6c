//! What is demanded of a kernel.

/// One row of the table of kernels: how an entry is launched, and what its code must keep to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSpec {
    /// The entry's name.
    pub name: String,
    /// Threads of a CTA, in x alone: `.maxntid` (PTX ISA, "Performance-Tuning
    /// Directives").
    pub threads: u32,
    /// CTAs that must fit into a multiprocessor at once: `.minnctapersm`. With `threads`, this bounds the
    /// registers of a thread.
    pub min_ctas: u32,
    /// Registers that a thread may have. Where warps trade theirs by `setmaxnreg`, ptxas counts what the
    /// launch bounds leave to each thread at the start: 168 of 384 threads.
    pub max_registers: u32,
    /// Instructions that a step of a main loop may have, of the consumers and of the producer, where it
    /// has both.
    pub max_step: Option<[u32; 2]>,
    /// Dynamic shared memory, in bytes: ptxas does not know it.
    pub dynamic_shared: u32,
    /// The most CTAs of a cluster at launch; 1 without clusters. For the report.
    pub cluster: u32,
    /// What it multiplies matrices with, if it does: those instructions must be in a loop.
    pub product: Option<Product>,
    /// Whether all its operands are aligned, so that its main loops must load 16 bytes at a time.
    pub aligned: bool,
    /// Whether its first parameter is a struct with tensor maps in it, at multiples of 64 bytes: it is
    /// aligned as they must be.
    pub tensor_maps: bool,
    /// Instructions that its code must have, each by words of the mnemonic: `LDG 128` is in `LDG.E.128`.
    pub machine_code: Vec<String>,
}

/// What matrices are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// `mma.sync`, by a warp: `HMMA` in machine code.
    Mma,
    /// `wgmma.mma_async`, by four warps: `HGMMA` in machine code.
    Wgmma {
        /// Groups that must stay in flight over a step of a main loop: 0 if each step may wait for its own
        /// products.
        in_flight: u32,
    },
}

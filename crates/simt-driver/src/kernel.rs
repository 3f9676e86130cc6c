//! What modules hold: the entries of the library's PTX, what a launch must know of each, and how it is called.

use std::ffi::c_void;

use fused_lora_kernels::{
    instructions::{self, INSTRUCTIONS, Instruction, SM90_INSTRUCTIONS, Sm90Instruction, Sm90Params},
    layer_params::{AttentionParams, LayerNormParams},
    layer_table::{LAYER_KERNELS, LayerKernel, LayerRun},
    params::Params,
    table::{KERNELS, Kernel, Operation, Run, SM90_KERNELS, Target},
    tensor_map::TensorParams,
};

/// What a tensor map's address must be a multiple of (PTX ISA, *Tensor-map*), and so that of what begins with one.
const TENSOR_MAP_ALIGN: usize = 64;

/// Registers are given to the lanes of a warp in units of so many.
const REGISTER_UNIT: u32 = 8;

/// An entry of a table of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// One that the library launches.
    Kernel(&'static Kernel),
    /// The same, of LayerNorm and attention.
    Layer(&'static LayerKernel),
    /// One that runs a single instruction, for tests.
    Instruction(&'static Instruction),
    /// The same, for compute capability 9.0.
    Sm90Instruction(&'static Sm90Instruction),
}

/// An entry's only parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) bytes: usize,
    /// What its address must be a multiple of.
    pub(crate) align: usize,
}

impl Parameter {
    const fn of<T>() -> Self {
        Self { bytes: size_of::<T>(), align: align_of::<T>() }
    }
}

impl Entry {
    /// Every one there is.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let kernels = KERNELS.iter().chain(SM90_KERNELS).map(Self::Kernel);
        let kernels = kernels.chain(LAYER_KERNELS.iter().map(Self::Layer));
        let instructions = INSTRUCTIONS.iter().map(Self::Instruction);
        kernels.chain(instructions).chain(SM90_INSTRUCTIONS.iter().map(Self::Sm90Instruction))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel(kernel) => kernel.name,
            Self::Layer(kernel) => kernel.name,
            Self::Instruction(instruction) => instruction.name,
            Self::Sm90Instruction(instruction) => instruction.name,
        }
    }

    /// What its code is compiled for.
    pub(crate) fn target(self) -> Target {
        match self {
            Self::Kernel(kernel) => kernel.target,
            Self::Layer(_) | Self::Instruction(_) => Target::Sm80,
            Self::Sm90Instruction(_) => Target::Sm90a,
        }
    }

    /// Threads of a CTA.
    pub(crate) fn threads(self) -> u32 {
        match self {
            Self::Kernel(kernel) => kernel.threads,
            Self::Layer(kernel) => kernel.threads,
            Self::Instruction(instruction) => instruction.threads,
            Self::Sm90Instruction(instruction) => instruction.threads,
        }
    }

    pub(crate) fn max_registers(self) -> u32 {
        match self {
            Self::Kernel(kernel) => kernel.max_registers,
            Self::Layer(kernel) => kernel.max_registers,
            Self::Instruction(instruction) => instruction.max_registers,
            Self::Sm90Instruction(instruction) => instruction.max_registers,
        }
    }

    /// Registers that a lane has when it starts.
    pub(crate) fn registers(self) -> u32 {
        self.max_registers().next_multiple_of(REGISTER_UNIT)
    }

    /// Dynamic shared memory that it uses.
    pub(crate) fn shared_bytes(self) -> u32 {
        match self {
            Self::Kernel(kernel) => kernel.shared_bytes,
            Self::Layer(kernel) => kernel.shared_bytes,
            Self::Instruction(instruction) => instruction.shared_bytes,
            Self::Sm90Instruction(instruction) => instruction.shared_bytes,
        }
    }

    /// Whether it may be launched in clusters of so many CTAs.
    pub(crate) fn takes_clusters_of(self, ctas: u32) -> bool {
        match self {
            Self::Kernel(Kernel { operation: Operation::GemmSplitK, .. }) => matches!(ctas, 2 | 4 | 8),
            Self::Kernel(kernel) if kernel.clusters() => matches!(ctas, 1 | 2 | 4 | 8),
            Self::Sm90Instruction(instruction) => ctas == instruction.cluster,
            _ => ctas == 1,
        }
    }

    pub(crate) fn parameter(self) -> Parameter {
        match self {
            Self::Kernel(Kernel { run: Run::Params(_), .. }) => Parameter::of::<Params>(),
            Self::Kernel(Kernel { run: Run::TensorParams(_), .. }) => {
                Parameter { align: TENSOR_MAP_ALIGN, ..Parameter::of::<TensorParams>() }
            }
            Self::Layer(LayerKernel { run: LayerRun::LayerNorm(_), .. }) => {
                Parameter::of::<LayerNormParams>()
            }
            Self::Layer(LayerKernel { run: LayerRun::Attention(_), .. }) => {
                Parameter::of::<AttentionParams>()
            }
            Self::Instruction(_) => Parameter::of::<instructions::Params>(),
            Self::Sm90Instruction(_) => {
                Parameter { align: TENSOR_MAP_ALIGN, ..Parameter::of::<Sm90Params>() }
            }
        }
    }

    /// The entry with a copy of its parameter.
    ///
    /// # Safety
    ///
    /// `parameter` is valid for reads of as many bytes as the entry's parameter has.
    pub(crate) unsafe fn call(self, parameter: *const c_void) -> Call {
        // SAFETY: the caller's; any bytes make one of these.
        unsafe {
            match self {
                Self::Kernel(Kernel { run: Run::Params(run), .. }) => {
                    Call::Params(*run, parameter.cast::<Params>().read_unaligned())
                }
                Self::Kernel(Kernel { run: Run::TensorParams(run), .. }) => {
                    Call::TensorParams(*run, Box::new(parameter.cast::<TensorParams>().read_unaligned()))
                }
                Self::Layer(LayerKernel { run: LayerRun::LayerNorm(run), .. }) => {
                    Call::LayerNorm(*run, parameter.cast::<LayerNormParams>().read_unaligned())
                }
                Self::Layer(LayerKernel { run: LayerRun::Attention(run), .. }) => {
                    Call::Attention(*run, parameter.cast::<AttentionParams>().read_unaligned())
                }
                Self::Instruction(Instruction { run, .. }) => {
                    Call::Instruction(*run, parameter.cast::<instructions::Params>().read_unaligned())
                }
                Self::Sm90Instruction(Sm90Instruction { run, .. }) => {
                    Call::Sm90Instruction(*run, parameter.cast::<Sm90Params>().read_unaligned())
                }
            }
        }
    }
}

/// An entry with its parameter, as each lane calls it.
#[derive(Clone)]
pub(crate) enum Call {
    Params(unsafe fn(Params), Params),
    TensorParams(unsafe fn(&TensorParams), Box<TensorParams>),
    LayerNorm(unsafe fn(LayerNormParams), LayerNormParams),
    Attention(unsafe fn(AttentionParams), AttentionParams),
    Instruction(unsafe fn(instructions::Params), instructions::Params),
    Sm90Instruction(unsafe fn(&Sm90Params), Sm90Params),
}

impl Call {
    /// Runs it.
    ///
    /// # Safety
    ///
    /// On the strict machine, which checks every access: nothing that an entry does with a wrong parameter leaves it.
    pub(crate) unsafe fn run(&self) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Params(run, params) => run(*params),
                Self::TensorParams(run, params) => run(params),
                Self::LayerNorm(run, params) => run(*params),
                Self::Attention(run, params) => run(*params),
                Self::Instruction(run, params) => run(*params),
                Self::Sm90Instruction(run, params) => run(params),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry::all().find(|entry| entry.name() == name).expect("ours")
    }

    #[test]
    fn names_tell_entries_apart() {
        let mut names: Vec<_> = Entry::all().map(Entry::name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let instructions = INSTRUCTIONS.len() + SM90_INSTRUCTIONS.len();
        assert_eq!(count, KERNELS.len() + SM90_KERNELS.len() + LAYER_KERNELS.len() + instructions);
    }

    #[test]
    fn clusters_are_for_the_kernels_that_take_them() {
        for (name, expected) in [
            ("gemm_64x64", &[1][..]),
            ("sm90_fused_64x64", &[1]),
            ("sm90_gemm_64x64", &[1, 2, 4, 8]),
            ("sm90_fused_cooperative_64x64_h16", &[1, 2, 4, 8]),
            ("sm90_gemm_split_k_64x128", &[2, 4, 8]),
            ("attention_64", &[1]),
            ("instruction_tap", &[1]),
        ] {
            let sizes: Vec<u32> = (0..=16).filter(|&ctas| entry(name).takes_clusters_of(ctas)).collect();
            assert_eq!(sizes, expected, "{name}");
        }
        for instruction in SM90_INSTRUCTIONS {
            let sizes: Vec<u32> =
                (0..=16).filter(|&ctas| entry(instruction.name).takes_clusters_of(ctas)).collect();
            assert_eq!(sizes, [instruction.cluster], "{}", instruction.name);
        }
    }

    #[test]
    fn registers_are_those_of_a_multiprocessor_at_most() {
        assert_eq!(entry("sm90_gemm_64x64").registers(), 256, "255, and what a warp is given");
        for entry in Entry::all() {
            let registers = entry.registers() * entry.threads();
            assert!(registers <= 65_536, "{}: {registers} registers", entry.name());
        }
    }

    #[test]
    fn a_call_has_the_bytes_that_it_was_given() {
        let tensor = TensorParams { params: Params { m: 7, ..Params::default() }, ..TensorParams::default() };
        // SAFETY: a `TensorParams`, which a kernel for compute capability 9.0 takes.
        let call = unsafe { entry("sm90_gemm_64x64").call((&raw const tensor).cast()) };
        assert!(matches!(call, Call::TensorParams(_, params) if params.params.m == 7));
        let params = AttentionParams { heads: 5, ..AttentionParams::default() };
        // SAFETY: what attention takes.
        let call = unsafe { entry("attention_64").call((&raw const params).cast()) };
        assert!(matches!(call, Call::Attention(_, params) if params.heads == 5));
        let params = instructions::Params { count: 3, ..instructions::Params::default() };
        // SAFETY: what an instruction's entry takes.
        let call = unsafe { entry("instruction_tap").call((&raw const params).cast()) };
        assert!(matches!(call, Call::Instruction(_, params) if params.count == 3));
    }
}

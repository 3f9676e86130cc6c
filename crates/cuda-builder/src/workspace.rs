//! This workspace's kernels: the modules they compile to, where those are, and what their tables demand.

use std::{env, path::PathBuf};

use fused_lora_kernels::{
    instructions::{INSTRUCTIONS, Instruction, SM90_INSTRUCTIONS},
    layer_table::{LAYER_KERNELS, LayerKernel, LayerOperation},
    sm90_tile::MAX_CLUSTER,
    table::{KERNELS, Kernel, Operation, SM90_KERNELS},
};

use crate::{
    arch::Arch,
    builder::CudaBuilder,
    spec::{KernelSpec, Product},
};

/// Threads of a warpgroup.
const WARPGROUP: u32 = 128;

/// Folders of the workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// One of the PTX files that `kernels/` compiles to.
#[derive(Clone, Debug)]
pub struct Module {
    /// The PTX that is checked in.
    pub ptx: PathBuf,
    /// The oldest GPU that runs it, or the only one.
    pub arch: Arch,
    /// Whether the library launches it. The others are for tests: without a place in the report, without
    /// cubins.
    pub shipped: bool,
    /// What is demanded of each entry.
    pub specs: Vec<KernelSpec>,
    /// Writes nothing yet.
    pub builder: CudaBuilder,
}

impl Workspace {
    /// The one whose `cargo run` started this program; else the one that it was built in.
    ///
    /// The two differ where checkouts share a target folder: cargo does not build again for another path.
    #[must_use]
    pub fn find() -> Self {
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let mut root = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        root.pop();
        root.pop();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Self { root, target }
    }

    /// The modules that the library launches, and for each the one with an entry for each instruction.
    #[must_use]
    pub fn modules(&self) -> Vec<Module> {
        let ampere = KERNELS.iter().map(kernel).chain(LAYER_KERNELS.iter().map(layer_kernel));
        let module = |name: &str, arch, features: &[&str], specs: Vec<KernelSpec>| Module {
            ptx: self.root.join(format!("kernels/ptx/{name}.ptx")),
            arch,
            shipped: !features.contains(&"instructions"),
            builder: CudaBuilder::new(self.root.join("kernels"))
                .arch(arch)
                .target_dir(self.target.join("cuda-builder"))
                .specs(specs.clone())
                .features(features),
            specs,
        };
        let instructions = INSTRUCTIONS.iter().map(instruction).collect();
        let sm90_instructions = SM90_INSTRUCTIONS.iter().map(instruction).collect();
        vec![
            module("sm_80", Arch::Sm80, &[], ampere.collect()),
            module("sm_80_instructions", Arch::Sm80, &["instructions"], instructions),
            module("sm_90a", Arch::Sm90a, &["sm90"], SM90_KERNELS.iter().map(sm90_kernel).collect()),
            module("sm_90a_instructions", Arch::Sm90a, &["sm90", "instructions"], sm90_instructions),
        ]
    }

    /// The report that is checked in, of all modules that are shipped.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.root.join("kernels/ptx/REPORT.md")
    }

    /// Where `scripts/install-gpu-toolchain` puts ptxas.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.target.join("gpu-toolchain/bin")
    }
}

impl Module {
    /// The PTX file's name.
    #[must_use]
    pub fn file(&self) -> String {
        self.ptx.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The lines of Rust that the PTX came from, beside it.
    #[must_use]
    pub fn lines(&self) -> PathBuf {
        self.ptx.with_extension("lines")
    }

    /// Machine code for `arch`, where that is checked in; none of what is there for tests.
    #[must_use]
    pub fn cubin(&self, arch: Arch) -> Option<PathBuf> {
        self.shipped.then(|| self.ptx.with_file_name(format!("{arch}.cubin")))
    }
}

/// A kernel that multiplies matrices.
fn kernel(row: &Kernel) -> KernelSpec {
    KernelSpec {
        min_ctas: row.min_ctas,
        product: Some(Product::Mma),
        aligned: row.aligned,
        ..spec(row.name, row.threads, row.max_registers, row.shared_bytes)
    }
}

/// Attention multiplies matrices, and copies and stores 16 bytes at a time where it can; both use the special
/// function units.
fn layer_kernel(row: &LayerKernel) -> KernelSpec {
    let attention = row.operation == LayerOperation::Attention;
    let machine_code: &[&str] = match row.operation {
        LayerOperation::Attention => &["MUFU EX2", "MUFU RCP", "SHFL BFLY", "LDSM MT88 4", "STG 128"],
        LayerOperation::LayerNorm => &["MUFU RSQ", "SHFL BFLY", "LDG 128", "STG 128"],
    };
    KernelSpec {
        min_ctas: row.min_ctas,
        product: attention.then_some(Product::Mma),
        aligned: attention,
        machine_code: words(machine_code),
        ..spec(row.name, row.threads, row.max_registers, row.shared_bytes)
    }
}

/// All of them multiply matrices by `wgmma` and move tiles by tensor copies. Those that may be launched in
/// clusters load x for all CTAs of one at once, those whose CTAs share K send sums to each other, and those
/// with more than one warpgroup of consumers trade registers with the producer.
fn sm90_kernel(row: &Kernel) -> KernelSpec {
    let multicast = if row.clusters() { "UTMALDG MULTICAST" } else { "" };
    let out = if row.operation == Operation::GemmSplitK { "UBLKCP" } else { "UTMASTG" };
    let trades = if row.threads > 2 * WARPGROUP { "USETMAXREG" } else { "" };
    KernelSpec {
        cluster: if row.clusters() { MAX_CLUSTER } else { 1 },
        product: Some(Product::Wgmma { in_flight: 1 }),
        max_step: row.max_step,
        tensor_maps: true,
        machine_code: words(&["UTMALDG", multicast, out, trades]),
        ..kernel(row)
    }
}

/// Each must come to the instruction that it is named for. Those of 9.0 all have a map in their parameters,
/// whether they need it or not.
fn instruction(row: &Instruction) -> KernelSpec {
    KernelSpec {
        cluster: row.cluster,
        tensor_maps: row.is_sm90,
        machine_code: words(row.machine_code),
        ..spec(row.name, row.threads, row.max_registers, row.shared_bytes)
    }
}

fn spec(name: &str, threads: u32, max_registers: u32, dynamic_shared: u32) -> KernelSpec {
    let name = name.to_owned();
    KernelSpec {
        name,
        threads,
        min_ctas: 1,
        max_registers,
        dynamic_shared,
        cluster: 1,
        ..KernelSpec::default()
    }
}

/// Those that are not empty.
fn words(of: &[&str]) -> Vec<String> {
    of.iter().filter(|word| !word.is_empty()).map(|&word| word.to_owned()).collect()
}

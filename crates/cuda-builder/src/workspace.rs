//! This workspace's kernels: the modules they compile to, where those are, and what their tables demand.

use std::{env, path::PathBuf};

use cuda_builder::{Arch, CudaBuilder, KernelSpec, LaunchBounds, Product};
use fused_lora_kernels::{
    instructions::{INSTRUCTIONS, Instruction, SM90_INSTRUCTIONS, Sm90Instruction},
    layer_table::{LAYER_KERNELS, LayerKernel, LayerOperation},
    sm90_tile::MAX_CLUSTER,
    table::{KERNELS, Kernel, Operation, SM90_KERNELS},
};

/// Threads of a warpgroup.
const WARPGROUP: u32 = 128;

/// One of the PTX files that `kernels/` compiles to.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its name in `kernels/ptx/`, without `.ptx`.
    name: &'static str,
    /// The oldest GPU that runs it, or the only one.
    arch: Arch,
    /// Features of the crate.
    features: &'static [&'static str],
    /// Whether the library launches it. The others are for tests: without a place in the report, without
    /// cubins.
    shipped: bool,
    /// What is demanded of each entry.
    specs: fn() -> Vec<KernelSpec>,
}

/// All of them, those that the library launches and for each the one with an entry for each instruction.
static MODULES: [Module; 4] = [
    Module {
        name: "sm_80",
        arch: Arch::Sm80,
        features: &[],
        shipped: true,
        specs: || KERNELS.iter().map(kernel).chain(LAYER_KERNELS.iter().map(layer_kernel)).collect(),
    },
    Module {
        name: "sm_80_instructions",
        arch: Arch::Sm80,
        features: &["instructions"],
        shipped: false,
        specs: || INSTRUCTIONS.iter().map(instruction).collect(),
    },
    Module {
        name: "sm_90a",
        arch: Arch::Sm90a,
        features: &["sm90"],
        shipped: true,
        specs: || SM90_KERNELS.iter().map(sm90_kernel).collect(),
    },
    Module {
        name: "sm_90a_instructions",
        arch: Arch::Sm90a,
        features: &["sm90", "instructions"],
        shipped: false,
        specs: || SM90_INSTRUCTIONS.iter().map(sm90_instruction).collect(),
    },
];

/// Attention multiplies matrices, and copies and stores 16 bytes at a time where it can; both use the special function
/// units.
fn layer_kernel(row: &LayerKernel) -> KernelSpec {
    let attention = row.operation == LayerOperation::Attention;
    let machine_code: &[&str] = match row.operation {
        LayerOperation::Attention => &["MUFU EX2", "MUFU RCP", "SHFL BFLY", "LDSM MT88 4", "STG 128"],
        LayerOperation::LayerNorm => &["MUFU RSQ", "SHFL BFLY", "LDG 128", "STG 128"],
    };
    KernelSpec {
        bounds: bounds(row.name, row.threads, row.min_ctas),
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: 1,
        product: attention.then_some(Product::Mma),
        aligned: attention,
        tensor_maps: false,
        machine_code: words(machine_code),
    }
}

/// All of them multiply matrices.
fn kernel(row: &Kernel) -> KernelSpec {
    KernelSpec {
        bounds: bounds(row.name, row.threads, row.min_ctas),
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: 1,
        product: Some(Product::Mma),
        aligned: row.aligned,
        tensor_maps: false,
        machine_code: Vec::new(),
    }
}

/// Each must come to the instruction that it is named for.
fn instruction(row: &Instruction) -> KernelSpec {
    KernelSpec {
        bounds: bounds(row.name, row.threads, 1),
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: 1,
        product: None,
        aligned: false,
        tensor_maps: false,
        machine_code: words(&[row.machine_code]),
    }
}

/// All of them multiply matrices by `wgmma` and move tiles by tensor copies. Those that may be launched in
/// clusters load x for all CTAs of one at once, those whose CTAs share K send sums to each other, and those with
/// more than one warpgroup of consumers trade registers with the producer.
fn sm90_kernel(row: &Kernel) -> KernelSpec {
    let multicast = if row.clusters() { "UTMALDG MULTICAST" } else { "" };
    let out = if row.operation == Operation::GemmSplitK { "UBLKCP" } else { "UTMASTG" };
    let trades = if row.threads > 2 * WARPGROUP { "USETMAXREG" } else { "" };
    KernelSpec {
        cluster: if row.clusters() { MAX_CLUSTER } else { 1 },
        product: Some(Product::Wgmma { in_flight: 1 }),
        tensor_maps: true,
        machine_code: words(&["UTMALDG", multicast, out, trades]),
        ..kernel(row)
    }
}

/// As for any GPU. All have a map in their parameters, whether they need it or not.
fn sm90_instruction(row: &Sm90Instruction) -> KernelSpec {
    KernelSpec {
        bounds: bounds(row.name, row.threads, 1),
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: row.cluster,
        product: None,
        aligned: false,
        tensor_maps: true,
        machine_code: words(row.machine_code),
    }
}

fn bounds(entry: &str, threads: u32, min_ctas: u32) -> LaunchBounds {
    LaunchBounds { entry: entry.to_owned(), threads, min_ctas, max_cluster: None }
}

/// Those that are not empty.
fn words(of: &[&str]) -> Vec<String> {
    of.iter().filter(|word| !word.is_empty()).map(|&word| word.to_owned()).collect()
}

/// Folders of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// A module of a workspace.
#[derive(Clone, Debug)]
pub(crate) struct Kernels<'a> {
    workspace: &'a Workspace,
    module: &'static Module,
}

impl Workspace {
    /// The one whose `cargo run` started this program; else the one that it was built in.
    ///
    /// The two differ where checkouts share a target folder: cargo does not build again for another path.
    pub(crate) fn find() -> Self {
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let mut root = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        root.pop();
        root.pop();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Self { root, target }
    }

    /// All modules that have entries.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = Kernels<'_>> {
        let all = MODULES.iter().map(|module| Kernels { workspace: self, module });
        all.filter(|kernels| !kernels.specs().is_empty())
    }

    /// The report that is checked in, of all modules that are shipped.
    pub(crate) fn report(&self) -> PathBuf {
        self.root.join("kernels/ptx/REPORT.md")
    }

    /// Where `scripts/install-gpu-toolchain` puts ptxas.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("gpu-toolchain/bin")
    }
}

impl Kernels<'_> {
    /// A builder for them, which still writes nothing.
    pub(crate) fn builder(&self) -> CudaBuilder {
        let specs = self.specs();
        let tensor_maps = specs.iter().filter(|spec| spec.tensor_maps).map(|spec| spec.name().to_owned());
        let builder = CudaBuilder::new(self.workspace.root.join("kernels"))
            .arch(self.module.arch)
            .target_dir(self.workspace.target.join("cuda-builder"))
            .tensor_maps(tensor_maps.collect::<Vec<_>>())
            .launch_bounds(specs.into_iter().map(|spec| spec.bounds));
        self.module.features.iter().fold(builder, |builder, &feature| builder.feature(feature))
    }

    /// What is demanded of each entry.
    pub(crate) fn specs(&self) -> Vec<KernelSpec> {
        (self.module.specs)()
    }

    /// What the PTX is assembled for.
    pub(crate) fn targets(&self) -> Vec<Arch> {
        self.module.arch.targets()
    }

    /// Whether the library launches them.
    pub(crate) fn shipped(&self) -> bool {
        self.module.shipped
    }

    /// The file's name.
    pub(crate) fn file(&self) -> String {
        format!("{}.ptx", self.module.name)
    }

    /// The PTX that is checked in.
    pub(crate) fn ptx(&self) -> PathBuf {
        self.workspace.root.join("kernels/ptx").join(self.file())
    }

    /// The lines of Rust that it came from, beside it.
    pub(crate) fn lines(&self) -> PathBuf {
        self.ptx().with_extension("lines")
    }

    /// Machine code for `arch`, where that is checked in; none of what is there for tests.
    pub(crate) fn cubin(&self, arch: Arch) -> Option<PathBuf> {
        self.module.shipped.then(|| self.workspace.root.join("kernels/ptx").join(format!("{arch}.cubin")))
    }
}

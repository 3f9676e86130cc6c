//! This workspace's kernels: the modules they compile to, where those are, and what their tables demand.

use std::{env, path::PathBuf};

use fused_lora_kernels::{
    instructions::{INSTRUCTIONS, SM90_INSTRUCTIONS},
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

/// One of the PTX files that `kernels/` compiles to.
#[derive(Debug)]
struct Module {
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
    Module { name: "sm_80", arch: Arch::Sm80, features: &[], shipped: true, specs: ampere },
    Module {
        name: "sm_80_instructions",
        arch: Arch::Sm80,
        features: &["instructions"],
        shipped: false,
        specs: ampere_instructions,
    },
    Module { name: "sm_90a", arch: Arch::Sm90a, features: &["sm90"], shipped: true, specs: hopper },
    Module {
        name: "sm_90a_instructions",
        arch: Arch::Sm90a,
        features: &["sm90", "instructions"],
        shipped: false,
        specs: hopper_instructions,
    },
];

fn ampere() -> Vec<KernelSpec> {
    KERNELS.iter().map(kernel).chain(LAYER_KERNELS.iter().map(layer_kernel)).collect()
}

/// A kernel that multiplies matrices.
fn kernel(row: &Kernel) -> KernelSpec {
    KernelSpec {
        name: row.name.to_owned(),
        threads: row.threads,
        min_ctas: row.min_ctas,
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: 1,
        product: Some(Product::Mma),
        aligned: row.aligned,
        ..KernelSpec::default()
    }
}

/// Attention multiplies matrices, and copies and stores 16 bytes at a time where it can; both use the special function
/// units.
fn layer_kernel(row: &LayerKernel) -> KernelSpec {
    let attention = row.operation == LayerOperation::Attention;
    let machine_code: &[&str] = match row.operation {
        LayerOperation::Attention => &["MUFU EX2", "MUFU RCP", "SHFL BFLY", "LDSM MT88 4", "STG 128"],
        LayerOperation::LayerNorm => &["MUFU RSQ", "SHFL BFLY", "LDG 128", "STG 128"],
    };
    KernelSpec {
        name: row.name.to_owned(),
        threads: row.threads,
        min_ctas: row.min_ctas,
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: 1,
        product: attention.then_some(Product::Mma),
        aligned: attention,
        machine_code: words(machine_code),
        ..KernelSpec::default()
    }
}

/// All of them multiply matrices by `wgmma` and move tiles by tensor copies. Those that may be launched in
/// clusters load x for all CTAs of one at once, those whose CTAs share K send sums to each other, and those with
/// more than one warpgroup of consumers trade registers with the producer.
fn hopper() -> Vec<KernelSpec> {
    let spec = |row: &Kernel| {
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
    };
    SM90_KERNELS.iter().map(spec).collect()
}

/// Each must come to the instruction that it is named for.
fn ampere_instructions() -> Vec<KernelSpec> {
    let specs = INSTRUCTIONS.iter().map(|row| KernelSpec {
        name: row.name.to_owned(),
        threads: row.threads,
        min_ctas: 1,
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: 1,
        machine_code: words(&[row.machine_code]),
        ..KernelSpec::default()
    });
    specs.collect()
}

/// As for any GPU. All have a map in their parameters, whether they need it or not.
fn hopper_instructions() -> Vec<KernelSpec> {
    let specs = SM90_INSTRUCTIONS.iter().map(|row| KernelSpec {
        name: row.name.to_owned(),
        threads: row.threads,
        min_ctas: 1,
        max_registers: row.max_registers,
        dynamic_shared: row.shared_bytes,
        cluster: row.cluster,
        tensor_maps: true,
        machine_code: words(row.machine_code),
        ..KernelSpec::default()
    });
    specs.collect()
}

/// Those that are not empty.
fn words(of: &[&str]) -> Vec<String> {
    of.iter().filter(|word| !word.is_empty()).map(|&word| word.to_owned()).collect()
}

/// Folders of the workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// A module of a workspace.
#[derive(Clone, Debug)]
pub struct Kernels<'a> {
    workspace: &'a Workspace,
    module: &'static Module,
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

    /// All modules that have entries.
    pub fn kernels(&self) -> impl Iterator<Item = Kernels<'_>> {
        let all = MODULES.iter().map(|module| Kernels { workspace: self, module });
        all.filter(|kernels| !kernels.specs().is_empty())
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

impl Kernels<'_> {
    /// A builder for them, which still writes nothing.
    pub fn builder(&self) -> CudaBuilder {
        CudaBuilder::new(self.workspace.root.join("kernels"))
            .arch(self.module.arch)
            .target_dir(self.workspace.target.join("cuda-builder"))
            .specs(self.specs())
            .features(self.module.features)
    }

    /// What is demanded of each entry.
    #[must_use]
    pub fn specs(&self) -> Vec<KernelSpec> {
        (self.module.specs)()
    }

    /// What the PTX is assembled for.
    #[must_use]
    pub fn targets(&self) -> Vec<Arch> {
        self.module.arch.targets()
    }

    /// Whether the library launches them.
    #[must_use]
    pub fn shipped(&self) -> bool {
        self.module.shipped
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.ptx", self.module.name)
    }

    /// The PTX that is checked in.
    #[must_use]
    pub fn ptx(&self) -> PathBuf {
        self.workspace.root.join("kernels/ptx").join(self.file())
    }

    /// The lines of Rust that it came from, beside it.
    #[must_use]
    pub fn lines(&self) -> PathBuf {
        self.ptx().with_extension("lines")
    }

    /// Machine code for `arch`, where that is checked in; none of what is there for tests.
    #[must_use]
    pub fn cubin(&self, arch: Arch) -> Option<PathBuf> {
        self.module.shipped.then(|| self.workspace.root.join("kernels/ptx").join(format!("{arch}.cubin")))
    }
}

//! This workspace's kernels: where they are, and what their tables demand.

use std::{env, path::PathBuf};

use cuda_builder::{Arch, CudaBuilder, KernelSpec, LaunchBounds};
use fused_lora_kernels::{instructions::INSTRUCTIONS, table::KERNELS};

/// The oldest GPU that runs them.
const ARCH: Arch = Arch::Sm80;

/// One of the PTX files that `kernels/` compiles to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Module {
    /// What the library launches.
    Kernels,
    /// Entries that run one instruction each, for tests; the crate's feature `instructions`.
    Instructions,
}

impl Module {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Kernels, Self::Instructions];
}

/// Folders of the workspace, for one module.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    module: Module,
}

impl Workspace {
    /// The one whose `cargo run` started this program; else the one that it was built in.
    ///
    /// The two differ where checkouts share a target folder: cargo does not build again for another path.
    pub(crate) fn find(module: Module) -> Self {
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let mut root = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        root.pop();
        root.pop();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Self { root, target, module }
    }

    /// A builder for the kernels, which still writes nothing.
    pub(crate) fn builder(&self) -> CudaBuilder {
        let builder = CudaBuilder::new(self.root.join("kernels"))
            .arch(ARCH)
            .target_dir(self.target.join("cuda-builder"))
            .launch_bounds(self.specs().into_iter().map(|spec| spec.bounds));
        match self.module {
            Module::Kernels => builder,
            Module::Instructions => builder.feature("instructions"),
        }
    }

    /// The PTX that is checked in.
    pub(crate) fn ptx(&self) -> PathBuf {
        let suffix = match self.module {
            Module::Kernels => "",
            Module::Instructions => "_instructions",
        };
        self.root.join("kernels/ptx").join(format!("{ARCH}{suffix}.ptx"))
    }

    /// Machine code for `arch`, where that is checked in; none of what is there for tests.
    pub(crate) fn cubin(&self, arch: Arch) -> Option<PathBuf> {
        match self.module {
            Module::Kernels => Some(self.root.join("kernels/ptx").join(format!("{arch}.cubin"))),
            Module::Instructions => None,
        }
    }

    /// The report that is checked in; none of what is there for tests.
    pub(crate) fn report(&self) -> Option<PathBuf> {
        match self.module {
            Module::Kernels => Some(self.root.join("kernels/ptx/REPORT.md")),
            Module::Instructions => None,
        }
    }

    /// Where `scripts/install-gpu-toolchain` puts ptxas.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("gpu-toolchain/bin")
    }

    /// What is demanded of each entry.
    pub(crate) fn specs(&self) -> Vec<KernelSpec> {
        match self.module {
            Module::Kernels => Self::kernels(),
            Module::Instructions => Self::instructions(),
        }
    }

    /// All of them multiply matrices.
    fn kernels() -> Vec<KernelSpec> {
        let spec = |kernel: &fused_lora_kernels::table::Kernel| KernelSpec {
            bounds: LaunchBounds {
                entry: kernel.name.to_owned(),
                threads: kernel.threads,
                min_ctas: kernel.min_ctas,
            },
            max_registers: kernel.max_registers,
            dynamic_shared: kernel.shared_bytes,
            product: true,
            aligned: kernel.aligned,
            machine_code: String::new(),
        };
        KERNELS.iter().map(spec).collect()
    }

    /// Each must come to the instruction that it is named for.
    fn instructions() -> Vec<KernelSpec> {
        let spec = |entry: &fused_lora_kernels::instructions::Instruction| KernelSpec {
            bounds: LaunchBounds { entry: entry.name.to_owned(), threads: entry.threads, min_ctas: 1 },
            max_registers: entry.max_registers,
            dynamic_shared: entry.shared_bytes,
            product: false,
            aligned: false,
            machine_code: entry.machine_code.to_owned(),
        };
        INSTRUCTIONS.iter().map(spec).collect()
    }
}

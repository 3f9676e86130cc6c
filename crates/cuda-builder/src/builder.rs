//! The builder: from the path of a crate to PTX.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    arch::Arch,
    compile::{self, RUSTC_FLAGS},
    header::Header,
    lines, ptx,
    source_hash::source_hash,
    spec::KernelSpec,
    toolchain::Toolchain,
};

/// Compiles a crate of kernels to PTX.
///
/// In the shape of rust-cuda's `CudaBuilder`; drives rustc's own target.
///
/// ```no_run
/// use cuda_builder::{Arch, CudaBuilder};
///
/// let ptx = CudaBuilder::new("kernels").arch(Arch::Sm80).copy_to("kernels/ptx/sm_80.ptx").build()?;
/// println!("{} bytes", ptx.text.len());
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is compiled before `build`"]
pub struct CudaBuilder {
    folder: PathBuf,
    arch: Arch,
    specs: Option<Vec<KernelSpec>>,
    features: Vec<String>,
    flags: Vec<String>,
    target_dir: PathBuf,
    copy_to: Option<PathBuf>,
}

/// PTX, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Ptx {
    /// All of it, with the header.
    pub text: String,
    /// The table of the lines of Rust that its lines came from, with the same hash of sources.
    pub lines: String,
    /// What made it.
    pub header: Header,
}

impl CudaBuilder {
    /// For the crate in `folder`: a library without dependencies at work, which is `no_std` on the device.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            target_dir: folder.join("target/cuda-builder"),
            folder,
            arch: Arch::Sm80,
            specs: None,
            features: Vec::new(),
            flags: RUSTC_FLAGS.iter().map(|&flag| flag.to_owned()).collect(),
            copy_to: None,
        }
    }

    /// The oldest GPU that must run it; `sm_80` unless said otherwise.
    pub fn arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    /// Launch bounds and tensor maps of each entry. Without this call, entries stay without them.
    pub fn specs(mut self, specs: Vec<KernelSpec>) -> Self {
        self.specs = Some(specs);
        self
    }

    /// Features of the crate; none is on unless asked for.
    pub fn features(mut self, features: &[&str]) -> Self {
        self.features = features.iter().map(|&feature| feature.to_owned()).collect();
        self
    }

    /// One more flag for rustc's last step, after [`RUSTC_FLAGS`].
    pub fn rustc_flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// cargo's target folder for the device build; `target/cuda-builder` in the crate's folder unless said
    /// otherwise.
    pub fn target_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.target_dir = folder.into();
        self
    }

    /// Where to write the PTX, too, and beside it, with the extension `lines`, the table of its lines.
    pub fn copy_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.copy_to = Some(path.into());
        self
    }

    /// The hash of what the crate is built from now.
    ///
    /// # Errors
    ///
    /// If a source cannot be read.
    pub fn source_hash(&self) -> Result<String> {
        source_hash(&self.folder, &self.all_flags())
    }

    /// Compiles.
    ///
    /// # Errors
    ///
    /// No toolchain, a source that does not compile, a function or local memory left over, an entry without a
    /// row or the other way round, tensor maps where no parameter could hold them.
    pub fn build(&self) -> Result<Ptx> {
        let toolchain = Toolchain::find()?;
        // Before the compiler runs: a source that is saved meanwhile must not look as if it were in.
        let sources = self.source_hash()?;
        let Self { folder, arch, features, flags, target_dir, .. } = self;
        let compiled = compile::compile(&toolchain, folder, *arch, features, flags, target_dir)?;
        let header = Header { sources, compiler: toolchain.compiler, flags: self.all_flags().join(" ") };

        let path = compiled.assembly.display();
        let raw = fs::read_to_string(&compiled.assembly).with_context(|| path.to_string())?;
        let body = ptx::finish(&raw, self.specs.as_deref())
            .with_context(|| format!("the PTX that the compiler left in {path} will not do"))?;
        let text = format!("{header}{body}");
        let printed = fs::read(&compiled.printed).with_context(|| compiled.printed.display().to_string())?;
        let table = lines::table(&text, &String::from_utf8_lossy(&printed))?;
        let lines = format!("sources {}\n{table}", header.sources);
        if let Some(path) = &self.copy_to {
            write(path, &text)?;
            write(&path.with_extension("lines"), &lines)?;
        }
        Ok(Ptx { text, lines, header })
    }

    /// As they are hashed and shown.
    fn all_flags(&self) -> Vec<String> {
        let features = self.features.iter().map(|feature| format!("--features={feature}"));
        compile::target_flags(self.arch)
            .into_iter()
            .chain(self.flags.iter().cloned())
            .chain(features)
            .collect()
    }
}

/// Writes a file, and its folder if that is missing.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, text)).with_context(|| format!("cannot write {}", path.display()))
}

//! From a module of the crate of kernels to its PTX.

use std::{fs, path::PathBuf};

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

/// One of the PTX files that a crate of kernels compiles to. The crate is a library without dependencies at
/// work, which is `no_std` on the device.
#[derive(Clone, Debug)]
pub struct Module {
    /// The PTX that is checked in.
    pub ptx: PathBuf,
    /// The oldest GPU that runs it, or the only one.
    pub arch: Arch,
    /// Features of the crate; no other is on.
    pub features: &'static [&'static str],
    /// Whether the library launches it. The others are for tests: without a place in the report, without
    /// cubins.
    pub shipped: bool,
    /// What is demanded of each entry; also its launch bounds and tensor maps.
    pub specs: Vec<KernelSpec>,
    /// The crate's folder.
    pub folder: PathBuf,
    /// cargo's target folder for the device build.
    pub target: PathBuf,
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

    /// The hash of what the crate is built from now.
    ///
    /// # Errors
    ///
    /// If a source cannot be read.
    pub fn source_hash(&self) -> Result<String> {
        source_hash(&self.folder, &self.flags())
    }

    /// Compiles; writes nothing but to the target folder.
    ///
    /// # Errors
    ///
    /// No toolchain, a source that does not compile, a function or local memory left over, an entry without a
    /// row or the other way round, tensor maps where no parameter could hold them.
    pub fn build(&self) -> Result<Ptx> {
        let toolchain = Toolchain::find()?;
        // Before the compiler runs: a source that is saved meanwhile must not look as if it were in.
        let sources = self.source_hash()?;
        let compiled = compile::compile(&toolchain, &self.folder, self.arch, self.features, &self.target)?;
        let header = Header { sources, compiler: toolchain.compiler, flags: self.flags().join(" ") };

        let path = compiled.assembly.display();
        let raw = fs::read_to_string(&compiled.assembly).with_context(|| path.to_string())?;
        let body = ptx::finish(&raw, &self.specs)
            .with_context(|| format!("the PTX that the compiler left in {path} will not do"))?;
        let text = format!("{header}{body}");
        let printed = fs::read(&compiled.printed).with_context(|| compiled.printed.display().to_string())?;
        let table = lines::table(&text, &String::from_utf8_lossy(&printed))?;
        let lines = format!("sources {}\n{table}", header.sources);
        Ok(Ptx { text, lines, header })
    }

    /// As they are hashed and shown.
    fn flags(&self) -> Vec<String> {
        let flags = RUSTC_FLAGS.iter().map(|&flag| flag.to_owned());
        let features = self.features.iter().map(|feature| format!("--features={feature}"));
        compile::target_flags(self.arch).into_iter().chain(flags).chain(features).collect()
    }
}

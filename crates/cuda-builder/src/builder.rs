//! The builder: from the path of a crate to PTX.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Arch, Error, Header, LaunchBounds, RUSTC_FLAGS, SourceHash, Toolchain, compile, lines,
    ptx::{self, PtxError},
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
/// # Ok::<(), cuda_builder::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is compiled before `build`"]
pub struct CudaBuilder {
    folder: PathBuf,
    arch: Arch,
    bounds: Option<Vec<LaunchBounds>>,
    tensor_maps: Vec<String>,
    features: Vec<String>,
    flags: Vec<String>,
    target_dir: PathBuf,
    copy_to: Option<PathBuf>,
    toolchain: Option<Toolchain>,
}

/// PTX, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Ptx {
    /// All of it, with the header.
    pub text: String,
    /// The table of the lines of Rust that its lines came from, with the same header.
    pub lines: String,
    /// What made it.
    pub header: Header,
}

impl CudaBuilder {
    /// For the crate in `folder`: a library without dependencies at work, which is `no_std` on the device.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            target_dir: folder.join("target").join("cuda-builder"),
            folder,
            arch: Arch::Sm80,
            bounds: None,
            tensor_maps: Vec::new(),
            features: Vec::new(),
            flags: RUSTC_FLAGS.iter().map(|&flag| flag.to_owned()).collect(),
            copy_to: None,
            toolchain: None,
        }
    }

    /// The oldest GPU that must run it; `sm_80` unless said otherwise.
    pub fn arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    /// Launch bounds, one for each entry. Without this call, entries stay without them.
    pub fn launch_bounds(mut self, bounds: impl IntoIterator<Item = LaunchBounds>) -> Self {
        self.bounds = Some(bounds.into_iter().collect());
        self
    }

    /// Entries whose first parameter is a struct with tensor maps in it, at multiples of 64 bytes: it is
    /// aligned as they must be.
    pub fn tensor_maps(mut self, entries: impl IntoIterator<Item = String>) -> Self {
        self.tensor_maps = entries.into_iter().collect();
        self
    }

    /// One more feature of the crate; none is on unless asked for.
    pub fn feature(mut self, feature: impl Into<String>) -> Self {
        self.features.push(feature.into());
        self
    }

    /// One more flag for rustc's last step, after [`RUSTC_FLAGS`].
    pub fn rustc_flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// cargo's target folder for the device build; `target/cuda-builder` in the crate's folder unless said otherwise.
    pub fn target_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.target_dir = folder.into();
        self
    }

    /// Where to write the PTX, too, and beside it, with the extension `lines`, the table of its lines.
    pub fn copy_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.copy_to = Some(path.into());
        self
    }

    /// The toolchain, where [`Toolchain::find`] has been called already.
    pub fn toolchain(mut self, toolchain: Toolchain) -> Self {
        self.toolchain = Some(toolchain);
        self
    }

    /// The hash of what the crate is built from now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a source cannot be read.
    pub fn source_hash(&self) -> Result<SourceHash, Error> {
        SourceHash::of(&self.folder, &self.all_flags())
    }

    /// Compiles.
    ///
    /// # Errors
    ///
    /// [`Error`]: no toolchain, a source that does not compile, a function or local memory left over, an entry without
    /// launch bounds or the other way round, tensor maps
    /// where no parameter could hold them.
    pub fn build(&self) -> Result<Ptx, Error> {
        let toolchain = match &self.toolchain {
            Some(toolchain) => toolchain.clone(),
            None => Toolchain::find()?,
        };
        // Before the compiler runs: a source that is saved meanwhile must not look as if it were in.
        let sources = self.source_hash()?;
        let compile::Compiled { assembly: path, printed } = compile::compile(
            &toolchain,
            &self.folder,
            self.arch,
            &self.features,
            &self.flags,
            &self.target_dir,
        )?;
        let raw = fs::read_to_string(&path).map_err(Error::read(&path))?;
        let header =
            Header { sources, compiler: toolchain.compiler().clone(), flags: self.all_flags().join(" ") };
        let text = finish(&raw, self.bounds.as_deref(), &self.tensor_maps)
            .map_err(|found| Error::Ptx { path, found })?;
        let text = format!("{header}{text}");
        let printed = fs::read(&printed).map_err(Error::read(&printed))?;
        let table = lines::table(&text, &String::from_utf8_lossy(&printed))?;
        let lines = format!("sources {}\n{table}", header.sources);
        if let Some(path) = &self.copy_to {
            write(path, text.as_bytes())?;
            write(&path.with_extension("lines"), lines.as_bytes())?;
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

/// From LLVM's text to ours, without the header.
fn finish(
    raw: &str,
    bounds: Option<&[LaunchBounds]>,
    tensor_maps: &[String],
) -> Result<String, Vec<PtxError>> {
    let text = ptx::tidy(raw);
    let leftovers = ptx::leftovers(&text);
    if !leftovers.is_empty() {
        return Err(leftovers);
    }
    let text = ptx::align_tensor_maps(&text, tensor_maps).map_err(|error| vec![error])?;
    match bounds {
        Some(bounds) => ptx::insert_bounds(&text, bounds).map_err(|error| vec![error]),
        None => Ok(text),
    }
}

/// Writes a file, and its folder if that is missing.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
    }
    fs::write(path, bytes).map_err(Error::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "\t// .globl\tgemm\n.visible .entry gemm(\n\t.param .align 8 .b8 gemm_param_0[320]\n)\n{\n\tret;\n}\n";

    fn bounds() -> Vec<LaunchBounds> {
        vec![LaunchBounds { entry: "gemm".to_owned(), threads: 384, min_ctas: 1, max_cluster: None }]
    }

    #[test]
    fn bounds_and_alignment_go_in_where_they_are_asked_for() {
        let plain =
            RAW.split_once(".visible").map(|(_, after)| format!(".visible{after}")).expect("an entry");
        assert_eq!(finish(RAW, None, &[]), Ok(plain.clone()));
        let bounded = plain.replace(")\n{", ")\n.maxntid 384, 1, 1\n.minnctapersm 1\n{");
        assert_eq!(finish(RAW, Some(&bounds()), &[]), Ok(bounded.clone()));
        let aligned = bounded.replace(".align 8 ", ".align 64 ");
        assert_eq!(finish(RAW, Some(&bounds()), &["gemm".to_owned()]), Ok(aligned));
    }

    #[test]
    fn what_will_not_do_is_refused() {
        let gem = || "gem".to_owned();
        assert_eq!(finish(RAW, None, &[gem()]), Err(vec![PtxError::NoEntry { entry: gem() }]));
        let nobody = finish(RAW, Some(&[]), &[]);
        assert_eq!(nobody, Err(vec![PtxError::NoBounds { entry: "gemm".to_owned() }]));
        let called = format!("{RAW}.func helper()\n");
        assert_eq!(finish(&called, None, &[]), Err(vec![PtxError::Function { name: "helper".to_owned() }]));
    }
}

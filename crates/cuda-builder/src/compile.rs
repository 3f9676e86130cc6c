//! cargo and rustc: from a crate to the compiler's PTX.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{arch::Arch, lines, process, toolchain::Toolchain};

/// rustc's target.
pub const TARGET: &str = "nvptx64-nvidia-cuda";

/// Flags for the last step, in which link-time optimisation sees the whole program. They are part of the hash
/// of the sources.
///
/// - Loops over tiles must be unrolled completely, or accumulators are indexed at run time and go to local
///   memory. LLVM's own threshold is too small for them.
/// - No paths and lines: bytes must not depend on where the checkout lies.
/// - LLVM prints what it makes PTX of, for the table of `lines`.
pub const RUSTC_FLAGS: &[&str] = &[
    "-Cllvm-args=-unroll-threshold=10000 -unroll-runtime=false -print-after=stack-frame-layout",
    "-Zlocation-detail=none",
];

/// The profile, whatever the workspace's own says.
const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    // The instructions are the same without it; what it adds to the PTX is taken out.
    ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
];

/// The flags that core is built with, too.
pub(crate) fn target_flags(arch: Arch) -> [String; 2] {
    let (cpu, ptx) = arch.names();
    [format!("-Ctarget-cpu={cpu}"), format!("-Ctarget-feature=+{ptx}")]
}

/// What the compiler left.
pub(crate) struct Compiled {
    /// Where the PTX is, as LLVM printed it.
    pub(crate) assembly: PathBuf,
    /// Where the instructions are that it was printed from.
    pub(crate) printed: PathBuf,
}

/// Compiles the crate in `folder` with these features alone.
pub(crate) fn compile(
    toolchain: &Toolchain,
    folder: &Path,
    arch: Arch,
    features: &[String],
    flags: &[String],
    target_dir: &Path,
) -> Result<Compiled> {
    // cargo runs in the crate's folder, so nothing may be relative to ours.
    let target_dir = std::path::absolute(target_dir)?;
    let target_dir = target_dir.join(key(toolchain, folder, arch, features, flags)?);
    fs::create_dir_all(&target_dir).with_context(|| target_dir.display().to_string())?;
    let [assembly, printed] = ["s", "mir"].map(|suffix| target_dir.join(format!("{arch}.{suffix}")));

    let mut cargo = toolchain.cargo();
    cargo.current_dir(folder);
    // cargo separates the flags in this variable by the ASCII unit separator. Being set, it also shuts out
    // flags of configuration files.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", target_flags(arch).join("\u{1f}")).envs(PROFILE.iter().copied());
    cargo.args(["rustc", "--lib", "--release", "--no-default-features", "--crate-type", "cdylib"]);
    cargo.args(features.iter().map(|feature| format!("--features={feature}")));
    cargo.args(["-Zbuild-std=core", "--target", TARGET]).arg("--target-dir").arg(&target_dir);
    // The target's linker is not shipped with rustc. None is needed: after link-time optimisation everything
    // is in one assembly file. `true` succeeds and links nothing.
    cargo.arg("--").args(flags).args(["-Clinker=true", &format!("--emit=asm={}", assembly.display())]);
    let output = process::run(&mut cargo)?;
    // Nothing is printed where nothing is compiled: then what was printed before is of the same build.
    if output.stderr.windows(lines::BEGIN.len()).any(|window| window == lines::BEGIN.as_bytes()) {
        fs::write(&printed, &output.stderr).with_context(|| printed.display().to_string())?;
    }
    for path in [&assembly, &printed] {
        let name = path.display();
        ensure!(path.is_file(), "cargo left no {name}: delete its target folder and build again");
    }
    Ok(Compiled { assembly, printed })
}

/// Names a folder for one set of inputs.
///
/// cargo remembers several builds of one crate and takes an old one for fresh, but there is one assembly
/// file: with a folder of its own for each compiler, each checkout, each set of features and of flags, that
/// file is always of the build that cargo means.
fn key(
    toolchain: &Toolchain,
    folder: &Path,
    arch: Arch,
    features: &[String],
    flags: &[String],
) -> Result<String> {
    let folder = fs::canonicalize(folder).with_context(|| folder.display().to_string())?;
    let (features, flags) = (features.join(","), flags.join("\n"));
    let inputs = format!("{}\n{}\n{arch}\n{features}\n{flags}", toolchain.compiler, folder.display());
    let hash = Sha256::digest(inputs);
    Ok(hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

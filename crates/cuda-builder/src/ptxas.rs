//! ptxas: from PTX to a cubin, and what it says about each kernel on the way.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    process,
    sass::{self, Code},
};

/// The path of a `ptxas` with `nvdisasm` beside it. Goes before the search.
pub const PTXAS_VARIABLE: &str = "CUDA_BUILDER_PTXAS";

/// NVIDIA's assembler and disassembler. Neither needs a GPU.
#[derive(Clone, Debug)]
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
    versions: String,
}

/// A kernel as machine code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes stored because registers ran out.
    pub spill_stores: u32,
    /// Bytes loaded again.
    pub spill_loads: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes of static shared memory.
    pub static_shared: u32,
    /// What it is made of.
    pub code: Code,
}

/// A whole file as machine code.
#[derive(Clone, Debug)]
pub struct Cubin {
    /// What it runs on.
    pub arch: Arch,
    /// The file.
    pub bytes: Vec<u8>,
    /// Its kernels.
    pub kernels: BTreeMap<String, Assembled>,
    /// Warnings of ptxas, those about lost performance among them.
    pub warnings: Vec<String>,
}

impl Tools {
    /// Those that [`PTXAS_VARIABLE`] names; else those in `installed`, where `scripts/install-gpu-toolchain`
    /// puts a fixed version; else those on `PATH`. `None` if there are none.
    ///
    /// # Errors
    ///
    /// If what is there does not run.
    pub fn find(installed: &Path) -> Result<Option<Self>> {
        let asked = env::var_os(PTXAS_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(installed.to_owned()).chain(env::split_paths(&path));
        let search = || folders.map(|folder| folder.join("ptxas")).find(|ptxas| ptxas.is_file());
        let Some(ptxas) = asked.or_else(search) else { return Ok(None) };
        let nvdisasm = ptxas.with_file_name("nvdisasm");
        let version = |program: &Path| -> Result<String> {
            let text = process::stdout(Command::new(program).arg("--version"))?;
            let version = text.split_whitespace().find(|word| word.starts_with('V'));
            Ok(version.unwrap_or("of unknown version").trim_start_matches('V').to_owned())
        };
        let versions = format!("ptxas {}, nvdisasm {}", version(&ptxas)?, version(&nvdisasm)?);
        Ok(Some(Self { ptxas, nvdisasm, versions }))
    }

    /// Both versions. Tools that say the same of themselves make the same bytes.
    #[must_use]
    pub fn versions(&self) -> &str {
        &self.versions
    }

    /// Assembles `ptx` for `arch` and reads the result.
    ///
    /// # Errors
    ///
    /// If ptxas refuses: with what it says; if its report or the listing has another form than expected.
    pub fn assemble(&self, ptx: &str, arch: Arch) -> Result<Cubin> {
        let folder = tempfile::tempdir()?;
        let (source, cubin) = (folder.path().join("kernels.ptx"), folder.path().join("kernels.cubin"));
        fs::write(&source, ptx)?;
        let mut ptxas = Command::new(&self.ptxas);
        let said =
            process::run(ptxas.arg("-v").arg(format!("-arch={arch}")).arg(&source).arg("-o").arg(&cubin))?;
        let said = [&said.stdout[..], &said.stderr].map(String::from_utf8_lossy).concat();
        let listing = process::stdout(Command::new(&self.nvdisasm).arg("-c").arg(&cubin))?;

        let mut codes = sass::parse(&listing);
        let mut kernels = parse(&said)?;
        for (name, kernel) in &mut kernels {
            let code = codes.remove(name);
            kernel.code = code.with_context(|| format!("nvdisasm lists no kernel `{name}` on {arch}"))?;
        }
        Ok(Cubin { arch, bytes: fs::read(&cubin)?, kernels, warnings: warnings(&said) })
    }
}

/// Reads the report of `ptxas -v`, which does not show the code.
fn parse(said: &str) -> Result<BTreeMap<String, Assembled>> {
    let mut kernels = BTreeMap::new();
    let mut open: Option<String> = None;
    let mut sizes: Option<Assembled> = None;
    for line in said.lines() {
        let odd = || format!("cannot understand what ptxas says: {}", line.trim());
        let number = |unit| number_before(line, unit).with_context(odd);
        if let Some((_, after)) = line.split_once("Compiling entry function '") {
            if open.replace(after.split('\'').next().unwrap_or_default().to_owned()).is_some() {
                bail!(odd());
            }
        } else if line.contains("bytes stack frame") {
            sizes = Some(Assembled {
                stack: number("bytes stack frame")?,
                spill_stores: number("bytes spill stores")?,
                spill_loads: number("bytes spill loads")?,
                ..Assembled::default()
            });
        } else if line.contains("Used ") && line.contains(" registers") {
            let name = open.take().with_context(odd)?;
            let registers = number("registers")?;
            // Left out where there is none.
            let static_shared = number_before(line, "bytes smem").unwrap_or(0);
            let sizes = sizes.take().with_context(odd)?;
            kernels.insert(name, Assembled { registers, static_shared, ..sizes });
        }
    }
    match open {
        Some(name) => bail!("ptxas says nothing of the registers of kernel `{name}`"),
        None => Ok(kernels),
    }
}

/// The number before `unit` in `line`.
fn number_before(line: &str, unit: &str) -> Option<u32> {
    line[..line.find(unit)?].split_whitespace().next_back()?.parse().ok()
}

/// Lines that warn, that tell of lost performance, or that tell of an instruction that ptxas put in or left
/// out. It calls the latter `info`, and gives them a number: (C7508) for a `setmaxnreg` that is ignored,
/// (C7510) for wgmma one after another, (C7517) and (C7519) for a wait or a fence of wgmma that was missing.
/// Plain information has none.
fn warnings(said: &str) -> Vec<String> {
    let numbered =
        |line: &str| line.split("(C").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    said.lines()
        .filter(|line| line.contains("warning") || numbered(line) || line.contains("Performance Loss"))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = include_str!("../tests/fixtures/ptxas-sm_80.txt");

    #[test]
    fn report_of_two_kernels() {
        let kernels = parse(SAID).expect("a report");
        assert_eq!(kernels["nested"], Assembled { registers: 178, stack: 512, ..Assembled::default() });
        assert_eq!(kernels["byvalue"], Assembled { registers: 8, ..Assembled::default() });
        assert_eq!(kernels.len(), 2);
        assert_eq!(warnings(SAID), [""; 0]);
    }

    #[test]
    fn spills_and_static_shared_memory() {
        let said = SAID
            .replace(
                "512 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
                "16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads",
            )
            .replace("used 1 barriers,", "used 2 barriers, 4096 bytes smem,");
        let expected = Assembled {
            registers: 178,
            spill_stores: 12,
            spill_loads: 20,
            stack: 16,
            static_shared: 4096,
            code: Code::default(),
        };
        assert_eq!(parse(&said).expect("a report")["nested"], expected);
    }

    #[test]
    fn a_kernel_without_numbers_is_an_error() {
        let cut = &SAID[..SAID.rfind("ptxas info    : Used").expect("a line")];
        assert!(parse(cut).unwrap_err().to_string().contains("registers of kernel `"));
        for left_out in ["stack frame", "Used 178", "Compiling entry function 'nested'"] {
            let lines: Vec<_> = SAID.lines().filter(|line| !line.contains(left_out)).collect();
            let refused = parse(&lines.join("\n")).unwrap_err().to_string();
            assert!(refused.starts_with("cannot understand what ptxas says: "), "{left_out}: {refused}");
        }
    }

    #[test]
    fn report_of_a_kernel_that_trades_registers() {
        let said = include_str!("../tests/fixtures/ptxas-sm_90a.txt");
        let expected = Assembled { registers: 168, ..Assembled::default() };
        assert_eq!(parse(said).expect("a report"), BTreeMap::from([("gemm".to_owned(), expected)]));
        assert_eq!(warnings(said), [""; 0]);
    }

    #[test]
    fn warnings_are_kept_whole() {
        // As ptxas 13.0.88 says.
        let lines = [
            "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine \
             register count at entry.",
            "ptxas info    : (C7508) something slower",
            "ptxas info    : (C7517) warpgroup.wait is injected in around line 527 by compiler to allow use \
             of registers defined by GMMA in function 'gemm'",
            "ptxas warning : Value of threads per SM for entry probe is out of range. .minnctapersm will be \
             ignored",
            "ptxas k.ptx, line 57; warning : .minnctapersm is ignored when neither .maxntid nor .reqntid is \
             specified.",
            "Potential Performance Loss: wgmma.mma_async instructions are serialized",
        ];
        assert_eq!(warnings(&format!("{SAID}{}\n", lines.join("\n"))), lines);
        assert_eq!(warnings("ptxas info    : Compiling entry function 'f(C)' for 'sm_90a'\n"), [""; 0]);
    }
}

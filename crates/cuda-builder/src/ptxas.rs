//! ptxas: from PTX to a cubin, and what it says about each kernel on the way.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Arch, Error, process, sass, sass::Instructions};

/// The path of a `ptxas` with `nvdisasm` beside it. Goes before the search.
pub const PTXAS_VARIABLE: &str = "CUDA_BUILDER_PTXAS";

/// NVIDIA's assembler and disassembler. Neither needs a GPU.
#[derive(Clone, Debug)]
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
    versions: String,
}

/// What ptxas says about a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
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
    /// Barriers.
    pub barriers: u32,
}

/// A kernel as machine code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// What it takes.
    pub resources: Resources,
    /// What it is made of.
    pub instructions: Instructions,
    /// The mnemonics of all its instructions, with their suffixes, and how often each is in the text.
    pub mnemonics: BTreeMap<String, u32>,
}

impl Assembled {
    /// How many instructions have all `parts` in their mnemonics: `LDG 128` is in `LDG.E.128`, nothing is in
    /// all.
    #[must_use]
    pub fn count(&self, parts: &str) -> u32 {
        self.mnemonics
            .iter()
            .filter(|(mnemonic, _)| sass::has_parts(mnemonic, parts))
            .map(|(_, &count)| count)
            .sum()
    }
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
    /// Those that [`PTXAS_VARIABLE`] names; else those in `installed`, where `scripts/install-gpu-toolchain` puts a fixed
    /// version; else those on `PATH`. `None` if there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] or [`Error::Failed`] if what is there does not run.
    pub fn find(installed: &Path) -> Result<Option<Self>, Error> {
        let asked = env::var_os(PTXAS_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let ptxas = match asked {
            Some(ptxas) => ptxas,
            None => {
                let path = env::var_os("PATH").unwrap_or_default();
                let folders = std::iter::once(installed.to_owned()).chain(env::split_paths(&path));
                match folders.map(|folder| folder.join("ptxas")).find(|ptxas| ptxas.is_file()) {
                    Some(ptxas) => ptxas,
                    None => return Ok(None),
                }
            }
        };
        let nvdisasm = ptxas.with_file_name("nvdisasm");
        let version = |program: &Path| -> Result<String, Error> {
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
    /// [`Error::Failed`] with what ptxas says if it refuses, [`Error::Output`] if its report or the listing has another
    /// form than expected.
    pub fn assemble(&self, ptx: &str, arch: Arch) -> Result<Cubin, Error> {
        let folder = tempfile::tempdir().map_err(Error::write(env::temp_dir()))?;
        let (source, cubin) = (folder.path().join("kernels.ptx"), folder.path().join("kernels.cubin"));
        fs::write(&source, ptx).map_err(Error::write(&source))?;
        let said = process::run(
            Command::new(&self.ptxas)
                .arg("-v")
                .arg(format!("-arch={arch}"))
                .arg(&source)
                .arg("-o")
                .arg(&cubin),
        )?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let listing = process::stdout(Command::new(&self.nvdisasm).arg("-c").arg(&cubin))?;

        let mut instructions = sass::parse(&listing);
        let mut mnemonics = sass::mnemonics(&listing);
        let mut kernels = BTreeMap::new();
        for (name, resources) in parse(&said)? {
            let instructions = instructions.remove(&name).ok_or_else(|| Error::Output {
                program: "nvdisasm",
                what: format!("no section for kernel `{name}` on {arch}"),
            })?;
            let mnemonics = mnemonics.remove(&name).unwrap_or_default();
            kernels.insert(name, Assembled { resources, instructions, mnemonics });
        }
        let bytes = fs::read(&cubin).map_err(Error::read(cubin))?;
        Ok(Cubin { arch, bytes, kernels, warnings: warnings(&said) })
    }
}

/// Reads the report of `ptxas -v`.
fn parse(said: &str) -> Result<BTreeMap<String, Resources>, Error> {
    let odd = |line: &str| Error::Output { program: "ptxas", what: line.trim().to_owned() };
    let mut kernels = BTreeMap::<String, Resources>::new();
    let mut open: Option<String> = None;
    let mut sizes: Option<(u32, u32, u32)> = None;
    for line in said.lines() {
        if let Some((_, after)) = line.split_once("Compiling entry function '") {
            if open.is_some() {
                return Err(odd(line));
            }
            open = Some(after.split('\'').next().unwrap_or_default().to_owned());
        } else if line.contains("bytes stack frame") {
            let number = |unit| number_before(line, unit).ok_or_else(|| odd(line));
            sizes = Some((
                number("bytes stack frame")?,
                number("bytes spill stores")?,
                number("bytes spill loads")?,
            ));
        } else if line.contains("Used ") && line.contains(" registers") {
            let name = open.take().ok_or_else(|| odd(line))?;
            let (stack, spill_stores, spill_loads) = sizes.take().ok_or_else(|| odd(line))?;
            kernels.insert(
                name,
                Resources {
                    registers: number_before(line, "registers").ok_or_else(|| odd(line))?,
                    spill_stores,
                    spill_loads,
                    stack,
                    // Left out where there is none.
                    static_shared: number_before(line, "bytes smem").unwrap_or(0),
                    barriers: number_before(line, "barriers").unwrap_or(0),
                },
            );
        }
    }
    match open {
        Some(name) => Err(odd(&format!("no registers of kernel `{name}`"))),
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
        let expected = Resources { registers: 178, stack: 512, barriers: 1, ..Resources::default() };
        assert_eq!(kernels["nested"], expected);
        assert_eq!(kernels["byvalue"], Resources { registers: 8, ..Resources::default() });
        assert_eq!(kernels.len(), 2);
    }

    #[test]
    fn spills_and_static_shared_memory() {
        let said = SAID
            .replace(
                "512 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
                "16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads",
            )
            .replace("used 1 barriers,", "used 2 barriers, 4096 bytes smem,");
        let expected = Resources {
            registers: 178,
            spill_stores: 12,
            spill_loads: 20,
            stack: 16,
            static_shared: 4096,
            barriers: 2,
        };
        assert_eq!(parse(&said).expect("a report")["nested"], expected);
    }

    #[test]
    fn a_kernel_without_numbers_is_an_error() {
        let cut = &SAID[..SAID.rfind("ptxas info    : Used").expect("a line")];
        assert!(matches!(parse(cut), Err(Error::Output { program: "ptxas", .. })));
        let no_sizes: String =
            SAID.lines().filter(|line| !line.contains("stack frame")).map(|l| l.to_owned() + "\n").collect();
        assert!(matches!(parse(&no_sizes), Err(Error::Output { program: "ptxas", .. })));
    }

    #[test]
    fn report_of_a_kernel_that_trades_registers() {
        let said = include_str!("../tests/fixtures/ptxas-sm_90a.txt");
        let expected = Resources { registers: 168, barriers: 1, ..Resources::default() };
        assert_eq!(parse(said).expect("a report"), BTreeMap::from([("gemm".to_owned(), expected)]));
        assert_eq!(warnings(said), [""; 0]);
    }

    #[test]
    fn what_is_wrong_with_wgmma_and_setmaxnreg_is_a_warning() {
        // As ptxas 13.0.88 says.
        for line in [
            "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine register count at entry.",
            "ptxas info    : (C7517) warpgroup.wait is injected in around line 527 by compiler to allow use of registers defined by GMMA in function 'gemm'",
            "ptxas info    : (C7519) warpgroup.arrive is injected in around line 555 by compiler to allow use of registers in GMMA in function 'gemm'",
            "ptxas warning : Value of threads per SM for entry probe is out of range. .minnctapersm will be ignored",
            "ptxas k.ptx, line 57; warning : .minnctapersm is ignored when neither .maxntid nor .reqntid is specified.",
            "Potential Performance Loss: wgmma.mma_async instructions are serialized",
        ] {
            assert_eq!(warnings(&format!("{SAID}{line}\n")), [line]);
        }
        assert_eq!(warnings("ptxas info    : Compiling entry function 'f(C)' for 'sm_90a'\n"), [""; 0]);
    }

    #[test]
    fn instructions_are_counted_by_parts_of_their_mnemonics() {
        let mnemonics = [("UTMALDG.2D", 3), ("UTMALDG.2D.MULTICAST", 2), ("UTMASTG.2D", 1)];
        let mnemonics = mnemonics.map(|(mnemonic, count)| (mnemonic.to_owned(), count)).into();
        let kernel = Assembled { mnemonics, ..Assembled::default() };
        let counts =
            ["UTMALDG", "UTMALDG MULTICAST", "UTMASTG", "UTMAREDG", ""].map(|parts| kernel.count(parts));
        assert_eq!(counts, [5, 2, 1, 0, 6]);
    }

    #[test]
    fn warnings_are_kept_whole() {
        assert_eq!(warnings(SAID), [""; 0]);
        let serialised =
            "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized";
        let numbered = "ptxas info    : (C7508) something slower";
        let other = "ptxas warning : Value of threads per SM for entry nested is out of range";
        assert_eq!(
            warnings(&format!("{SAID}{serialised}\n{numbered}\n{other}\n")),
            [serialised, numbered, other]
        );
    }
}

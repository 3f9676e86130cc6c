//! What a build must keep to. All faults are found, not the first alone.

use crate::{
    Arch, Header, HeaderError, KernelSpec, Product, Ptx, SourceHash, ptxas::Assembled, ptxas::Cubin,
};

/// The command that mends a file that is out of date.
const REBUILD: &str = "rebuild with `cargo run -p cuda-builder`";

/// Something that fails a build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A file without a header.
    #[error(transparent)]
    Header(#[from] HeaderError),

    /// The PTX that is checked in was made of other sources.
    #[error("the PTX was made of other sources ({recorded}; now {now}): {REBUILD}")]
    Sources {
        /// What the header says.
        recorded: SourceHash,
        /// What the sources are.
        now: SourceHash,
    },

    /// The same compiler made something else of the same sources.
    #[error(
        "line {line} differs from what the same compiler makes now: {REBUILD}\n    checked in: {old}\n    now:        {new}"
    )]
    Bytes {
        /// The first line that differs, from 1.
        line: usize,
        /// As it is checked in.
        old: String,
        /// As it is made now.
        new: String,
    },

    /// A file beside the PTX is not what the same tools make now.
    #[error("{file} is not what the same tools make now: {REBUILD}")]
    File {
        /// Its name.
        file: String,
    },

    /// ptxas made no kernel of a row in the table.
    #[error("{kernel} on {arch}: ptxas made no such kernel")]
    Missing {
        /// The row's name.
        kernel: String,
        /// The architecture.
        arch: Arch,
    },

    /// Registers ran out.
    #[error("{kernel} on {arch}: {stores} bytes of spill stores, {loads} of spill loads")]
    Spill {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// Bytes stored.
        stores: u32,
        /// Bytes loaded.
        loads: u32,
    },

    /// Local memory is used.
    #[error("{kernel} on {arch}: {stack} bytes of stack, {instructions} instructions on local memory")]
    Stack {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// Bytes.
        stack: u32,
        /// LDL and STL.
        instructions: u32,
    },

    /// More registers than the kernel may have.
    #[error("{kernel} on {arch}: {used} registers, {budget} in its row of the table")]
    Registers {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// What it has.
        used: u32,
        /// What it may have.
        budget: u32,
    },

    /// A product without tensor cores.
    #[error(
        "{kernel} on {arch}: multiplies matrices, and has no {instruction} in a loop ({anywhere} at all)"
    )]
    NoTensorCores {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// What is missing there.
        instruction: &'static str,
        /// How many there are anywhere.
        anywhere: u32,
    },

    /// Products that are waited for too early.
    #[error(
        "{kernel} on {arch}: its main loops leave {found} groups of wgmma in flight, {demanded} in its row of the table"
    )]
    InFlight {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// What they leave.
        found: u32,
        /// What they must leave.
        demanded: u32,
    },

    /// Narrow loads where operands are aligned.
    #[error(
        "{kernel} on {arch}: its operands are aligned, and {copies} copies and {loads} loads in its main loops move fewer than 16 bytes"
    )]
    Narrow {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// Asynchronous copies, anywhere in the kernel.
        copies: u32,
        /// Loads and copies inside the main loops.
        loads: u32,
    },

    /// An instruction is missing.
    #[error("{kernel} on {arch}: there is no {machine_code} in its code")]
    Instruction {
        /// The kernel.
        kernel: String,
        /// The architecture.
        arch: Arch,
        /// Parts of the mnemonic.
        machine_code: String,
    },

    /// ptxas warns, or tells of lost performance.
    #[error("ptxas on {arch}: {text}")]
    Warning {
        /// The architecture.
        arch: Arch,
        /// What it says.
        text: String,
    },
}

/// Compares PTX that is checked in with a fresh build.
///
/// Bytes are compared if the same compiler made both: another one may make others of the same sources.
#[must_use]
pub fn compare(checked_in: &str, fresh: &Ptx) -> Vec<Fault> {
    let header = match Header::parse(checked_in) {
        Ok(header) => header,
        Err(error) => return vec![error.into()],
    };
    let mut faults = Vec::new();
    if header.sources != fresh.header.sources {
        faults.push(Fault::Sources { recorded: header.sources, now: fresh.header.sources });
    } else if header.compiler == fresh.header.compiler && checked_in != fresh.text {
        let (mut old, mut new) = (checked_in.lines(), fresh.text.lines());
        for line in 1.. {
            let (old, new) = (old.next(), new.next());
            if old != new || old.is_none() {
                let text = |line: Option<&str>| line.unwrap_or("end of file").trim().to_owned();
                faults.push(Fault::Bytes { line, old: text(old), new: text(new) });
                break;
            }
        }
    }
    faults
}

/// Checks the kernels of a cubin against their rows in the table.
#[must_use]
pub fn inspect(specs: &[KernelSpec], cubin: &Cubin) -> Vec<Fault> {
    let arch = cubin.arch;
    let mut faults: Vec<_> =
        cubin.warnings.iter().map(|text| Fault::Warning { arch, text: text.clone() }).collect();
    for spec in specs {
        match cubin.kernels.get(spec.name()) {
            Some(kernel) => inspect_kernel(spec, arch, kernel, &mut faults),
            None => faults.push(Fault::Missing { kernel: spec.name().to_owned(), arch }),
        }
    }
    faults
}

fn inspect_kernel(spec: &KernelSpec, arch: Arch, kernel: &Assembled, faults: &mut Vec<Fault>) {
    let Assembled { resources, instructions, .. } = kernel;
    let name = || spec.name().to_owned();
    if resources.spill_stores > 0 || resources.spill_loads > 0 {
        faults.push(Fault::Spill {
            kernel: name(),
            arch,
            stores: resources.spill_stores,
            loads: resources.spill_loads,
        });
    }
    if resources.stack > 0 || instructions.local > 0 {
        faults.push(Fault::Stack {
            kernel: name(),
            arch,
            stack: resources.stack,
            instructions: instructions.local,
        });
    }
    if resources.registers > spec.max_registers {
        faults.push(Fault::Registers {
            kernel: name(),
            arch,
            used: resources.registers,
            budget: spec.max_registers,
        });
    }
    if let Some(product) = spec.product {
        let (loops, anywhere, demanded) = match product {
            Product::Mma => (instructions.main_loops, instructions.hmma, 0),
            Product::Wgmma { in_flight } => (instructions.wgmma_loops, instructions.hgmma, in_flight),
        };
        if loops == 0 {
            let instruction = product.mnemonic();
            faults.push(Fault::NoTensorCores { kernel: name(), arch, instruction, anywhere });
        } else if instructions.wgmma_in_flight < demanded {
            let found = instructions.wgmma_in_flight;
            faults.push(Fault::InFlight { kernel: name(), arch, found, demanded });
        }
    }
    if spec.aligned && (instructions.ldgsts.narrow() > 0 || instructions.narrow_loads > 0) {
        faults.push(Fault::Narrow {
            kernel: name(),
            arch,
            copies: instructions.ldgsts.narrow(),
            loads: instructions.narrow_loads,
        });
    }
    for machine_code in spec.machine_code.iter().filter(|parts| kernel.count(parts) == 0) {
        faults.push(Fault::Instruction { kernel: name(), arch, machine_code: machine_code.clone() });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Compiler, LaunchBounds, ptxas::Resources, sass::Instructions, sass::Wide};

    fn spec() -> KernelSpec {
        KernelSpec {
            bounds: LaunchBounds { entry: "gemm".to_owned(), threads: 256, min_ctas: 1, max_cluster: None },
            max_registers: 128,
            dynamic_shared: 98_304,
            cluster: 1,
            product: Some(Product::Mma),
            aligned: true,
            tensor_maps: false,
            machine_code: vec!["LDSM M88".to_owned()],
        }
    }

    fn cubin() -> Cubin {
        let kernel = Assembled {
            resources: Resources { registers: 128, barriers: 1, ..Resources::default() },
            instructions: Instructions {
                hmma: 64,
                ldsm: 16,
                ldgsts: Wide { all: 8, wide: 8 },
                main_loops: 1,
                ..Instructions::default()
            },
            mnemonics: mnemonics(&["LDSM.16.M88.4", "EXIT"]),
        };
        let kernels = BTreeMap::from([("gemm".to_owned(), kernel)]);
        Cubin { arch: Arch::Sm80, bytes: Vec::new(), kernels, warnings: Vec::new() }
    }

    fn mnemonics(of: &[&str]) -> BTreeMap<String, u32> {
        of.iter().map(|&mnemonic| (mnemonic.to_owned(), 1)).collect()
    }

    #[test]
    fn a_clean_kernel_has_no_faults() {
        assert_eq!(inspect(&[spec()], &cubin()), []);
    }

    /// The faults after `change` was made to the kernel.
    fn faults(change: impl FnOnce(&mut Assembled)) -> Vec<Fault> {
        let mut cubin = cubin();
        change(cubin.kernels.get_mut("gemm").expect("the kernel"));
        inspect(&[spec()], &cubin)
    }

    #[test]
    fn each_fault_is_found() {
        let (kernel, arch) = ("gemm".to_owned(), Arch::Sm80);
        let k = || kernel.clone();
        assert_eq!(
            faults(|k| k.resources.spill_stores = 4),
            [Fault::Spill { kernel: k(), arch, stores: 4, loads: 0 }]
        );
        assert_eq!(
            faults(|k| k.resources.spill_loads = 4),
            [Fault::Spill { kernel: k(), arch, stores: 0, loads: 4 }]
        );
        assert_eq!(
            faults(|k| k.resources.stack = 16),
            [Fault::Stack { kernel: k(), arch, stack: 16, instructions: 0 }]
        );
        assert_eq!(
            faults(|k| k.instructions.local = 1),
            [Fault::Stack { kernel: k(), arch, stack: 0, instructions: 1 }]
        );
        assert_eq!(
            faults(|k| k.resources.registers = 129),
            [Fault::Registers { kernel: k(), arch, used: 129, budget: 128 }]
        );
        assert_eq!(
            faults(|k| k.instructions.main_loops = 0),
            [Fault::NoTensorCores { kernel: k(), arch, instruction: "HMMA", anywhere: 64 }]
        );
        assert_eq!(
            faults(|k| k.instructions.ldgsts.wide = 7),
            [Fault::Narrow { kernel: k(), arch, copies: 1, loads: 0 }]
        );
        assert_eq!(
            faults(|k| k.instructions.narrow_loads = 2),
            [Fault::Narrow { kernel: k(), arch, copies: 0, loads: 2 }]
        );
        assert_eq!(
            faults(|k| k.mnemonics = mnemonics(&["LDSM.16.4", "LDS.M88"])),
            [Fault::Instruction { kernel: k(), arch, machine_code: "LDSM M88".to_owned() }]
        );
    }

    #[test]
    fn kernels_without_the_demand_may_lack_it() {
        let spec = KernelSpec { product: None, aligned: false, machine_code: Vec::new(), ..spec() };
        let mut cubin = cubin();
        let kernel = cubin.kernels.get_mut("gemm").expect("the kernel");
        (kernel.instructions.main_loops, kernel.instructions.narrow_loads) = (0, 3);
        assert_eq!(inspect(&[spec], &cubin), []);
    }

    /// A kernel for Hopper: loads by multicast and stores by tensor copies, one group of products in flight.
    fn hopper() -> (KernelSpec, Cubin) {
        let spec = KernelSpec {
            max_registers: 168,
            product: Some(Product::Wgmma { in_flight: 1 }),
            tensor_maps: true,
            machine_code: ["UTMALDG", "UTMALDG MULTICAST", "UTMASTG"].map(str::to_owned).into(),
            ..spec()
        };
        let kernel = Assembled {
            resources: Resources { registers: 168, barriers: 1, ..Resources::default() },
            instructions: Instructions {
                hgmma: 4,
                wgmma_loops: 1,
                wgmma_in_flight: 1,
                ..Instructions::default()
            },
            mnemonics: mnemonics(&["UTMALDG.2D", "UTMALDG.2D.MULTICAST", "UTMASTG.2D", "EXIT"]),
        };
        let kernels = BTreeMap::from([("gemm".to_owned(), kernel)]);
        (spec, Cubin { arch: Arch::Sm90a, bytes: Vec::new(), kernels, warnings: Vec::new() })
    }

    #[test]
    fn each_fault_of_a_kernel_for_hopper_is_found() {
        let faults = |change: fn(&mut Assembled)| {
            let (spec, mut cubin) = hopper();
            change(cubin.kernels.get_mut("gemm").expect("the kernel"));
            inspect(&[spec], &cubin)
        };
        let (arch, kernel) = (Arch::Sm90a, || "gemm".to_owned());
        assert_eq!(faults(|_| ()), []);
        // HMMA in a loop does not do for HGMMA.
        assert_eq!(
            faults(|k| k.instructions = Instructions { hmma: 64, main_loops: 1, ..Instructions::default() }),
            [Fault::NoTensorCores { kernel: kernel(), arch, instruction: "HGMMA", anywhere: 0 }]
        );
        assert_eq!(
            faults(|k| k.instructions.wgmma_loops = 0),
            [Fault::NoTensorCores { kernel: kernel(), arch, instruction: "HGMMA", anywhere: 4 }]
        );
        assert_eq!(
            faults(|k| k.instructions.wgmma_in_flight = 0),
            [Fault::InFlight { kernel: kernel(), arch, found: 0, demanded: 1 }]
        );
        assert_eq!(
            faults(|k| k.resources.registers = 176),
            [Fault::Registers { kernel: kernel(), arch, used: 176, budget: 168 }]
        );
        let missing = |machine_code: &str| Fault::Instruction {
            kernel: kernel(),
            arch,
            machine_code: machine_code.to_owned(),
        };
        assert_eq!(
            faults(|k| k.mnemonics.retain(|mnemonic, _| mnemonic != "UTMALDG.2D.MULTICAST")),
            [missing("UTMALDG MULTICAST")]
        );
        assert_eq!(
            faults(|k| k.mnemonics.retain(|mnemonic, _| mnemonic != "UTMASTG.2D")),
            [missing("UTMASTG")]
        );
        assert_eq!(
            faults(|k| k.mnemonics.retain(|mnemonic, _| !mnemonic.starts_with("UTMALDG"))),
            [missing("UTMALDG"), missing("UTMALDG MULTICAST")]
        );
    }

    #[test]
    fn a_missing_kernel_and_a_warning_are_faults() {
        let mut cubin = cubin();
        cubin.kernels.clear();
        cubin.warnings.push("ptxas info : (C7510) ..".to_owned());
        assert_eq!(
            inspect(&[spec()], &cubin),
            [
                Fault::Warning { arch: Arch::Sm80, text: "ptxas info : (C7510) ..".to_owned() },
                Fault::Missing { kernel: "gemm".to_owned(), arch: Arch::Sm80 },
            ]
        );
    }

    fn ptx(digit: char, compiler: &str, body: &str) -> Ptx {
        let header = Header {
            sources: SourceHash::from_hex(&digit.to_string().repeat(64)).expect("64 digits"),
            compiler: Compiler::from_header(compiler),
            flags: "-C".to_owned(),
        };
        Ptx { text: format!("{header}{body}"), lines: String::new(), header }
    }

    #[test]
    fn what_is_up_to_date_has_no_faults() {
        let fresh = ptx('1', "rustc 1", ".version 7.0\n\tret;\n");
        assert_eq!(compare(&fresh.text, &fresh), []);
    }

    #[test]
    fn other_sources_are_a_fault_with_the_command() {
        let faults = compare(&ptx('1', "rustc 1", "a\n").text, &ptx('2', "rustc 1", "a\n"));
        assert!(matches!(faults[..], [Fault::Sources { .. }]), "{faults:?}");
        assert!(faults[0].to_string().contains("cargo run -p cuda-builder"));
    }

    #[test]
    fn other_bytes_of_the_same_compiler_are_a_fault() {
        let faults = compare(&ptx('1', "rustc 1", "a\nb\n").text, &ptx('1', "rustc 1", "a\nc\n"));
        assert_eq!(faults, [Fault::Bytes { line: 6, old: "b".to_owned(), new: "c".to_owned() }]);
        let cut = compare(&ptx('1', "rustc 1", "a\n").text, &ptx('1', "rustc 1", "a\nc\n"));
        assert_eq!(cut, [Fault::Bytes { line: 6, old: "end of file".to_owned(), new: "c".to_owned() }]);
        let end = compare(&ptx('1', "rustc 1", "a").text, &ptx('1', "rustc 1", "a\n"));
        assert!(matches!(end[..], [Fault::Bytes { .. }]), "{end:?}");
    }

    #[test]
    fn other_bytes_of_another_compiler_are_none() {
        assert_eq!(compare(&ptx('1', "rustc 1", "a\n").text, &ptx('1', "rustc 2", "b\n")), []);
    }

    #[test]
    fn no_header_is_a_fault() {
        let faults = compare("", &ptx('1', "rustc 1", "a\n"));
        assert_eq!(faults, [Fault::Header(HeaderError { field: "sources" })]);
    }
}

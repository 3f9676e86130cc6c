//! The report for people: what each kernel takes on each architecture.

use std::fmt::{self, Write};

use crate::{
    Header, KernelSpec, Product,
    ptxas::{Assembled, Cubin},
    sass::Wide,
};

/// What the report says of one PTX file.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Its name.
    pub file: &'a str,
    /// What made it.
    pub header: &'a Header,
    /// Its kernels, in the order of their rows.
    pub specs: &'a [KernelSpec],
    /// What ptxas made of it.
    pub cubins: &'a [Cubin],
}

/// Writes the report as Markdown.
#[must_use]
pub fn report(versions: &str, sections: &[Section<'_>]) -> String {
    let mut out = String::new();
    write(&mut out, versions, sections).expect("a string takes everything");
    out
}

fn write(out: &mut String, versions: &str, sections: &[Section<'_>]) -> fmt::Result {
    writeln!(
        out,
        "# What the kernels take\n\n\
         Written by `cargo run -p cuda-builder`, as ptxas and nvdisasm say; no GPU had a part in it.\n\n\
         - {versions}"
    )?;
    for Section { file, header, .. } in sections {
        writeln!(out, "- {file}: {}; sources: {}", header.compiler, header.sources)?;
    }
    writeln!(
        out,
        "\n*registers*: of a thread, with the budget that fails the build. *spills*: bytes stored + loaded. *shared*: bytes, static + \
         dynamic, of a CTA. Numbers are instructions in the text, of a kind and among them of 16 bytes in brackets. *LDGSTS* are \
         asynchronous copies, *LDSM* matrix loads from shared memory, *atom* atomics and reductions. *main loops*: innermost loops \
         with HMMA. *calls*: of ptxas's own routines, such as a 64-bit division; it makes calls of some jumps, too."
    )?;
    if sections.iter().any(|section| is_hopper(section.specs)) {
        writeln!(
            out,
            "\nOf sm_90a: *registers* are those at the start, before `setmaxnreg` (*USETMAXREG*). *main loops*: innermost loops with \
             HGMMA, and in brackets the groups of them that its waits leave in flight. *UTMALDG* and *UTMASTG* are tensor copies from and \
             to global memory, in brackets those to several CTAs at once; *UTMAREDG* tensor reductions, *UBLKCP* bulk copies, *STSM* \
             matrix stores to shared memory, *SYNCS* operations on mbarriers, *UCGABAR* cluster barriers."
        )?;
    }
    for Section { specs, cubins, .. } in sections {
        for cubin in *cubins {
            let hopper = is_hopper(specs);
            let columns = if hopper { HOPPER } else { AMPERE };
            writeln!(out, "\n## {}\n\ncubin: {:.0} KiB\n", cubin.arch, cubin.bytes.len() as f64 / 1024.0)?;
            row(out, COMMON.iter().chain(columns).map(|column| column.to_string()))?;
            writeln!(out, "|---|{}", "--:|".repeat(COMMON.len() + columns.len() - 1))?;
            for spec in *specs {
                let Some(kernel) = cubin.kernels.get(spec.name()) else { continue };
                let counts = if hopper { of_hopper(spec, kernel) } else { of_ampere(kernel) };
                row(out, of_any(spec, kernel).into_iter().chain(counts))?;
            }
        }
    }
    Ok(())
}

/// Columns of every table.
const COMMON: &[&str] = &["kernel", "threads × CTAs", "registers", "spills", "stack", "shared"];

/// Further columns of kernels that multiply with HMMA.
const AMPERE: &[&str] = &["HMMA", "main loops", "LDSM", "LDGSTS", "LDG", "STG", "BAR", "atom", "calls"];

/// Further columns of kernels that multiply with HGMMA.
const HOPPER: &[&str] = &[
    "cluster",
    "HGMMA",
    "main loops",
    "UTMALDG",
    "UTMASTG",
    "UTMAREDG",
    "UBLKCP",
    "STSM",
    "LDSM",
    "SYNCS",
    "USETMAXREG",
    "UCGABAR",
    "LDG",
    "STG",
    "BAR",
    "atom",
    "calls",
];

fn is_hopper(specs: &[KernelSpec]) -> bool {
    specs.iter().any(|spec| matches!(spec.product, Some(Product::Wgmma { .. })))
}

fn of_any(spec: &KernelSpec, kernel: &Assembled) -> Vec<String> {
    let r = &kernel.resources;
    vec![
        spec.name().to_owned(),
        format!("{} × {}", spec.bounds.threads, spec.bounds.min_ctas),
        format!("{} ({})", r.registers, spec.max_registers),
        format!("{} + {}", r.spill_stores, r.spill_loads),
        r.stack.to_string(),
        format!("{} + {}", r.static_shared, spec.dynamic_shared),
    ]
}

fn of_ampere(kernel: &Assembled) -> Vec<String> {
    let i = &kernel.instructions;
    vec![
        i.hmma.to_string(),
        i.main_loops.to_string(),
        i.ldsm.to_string(),
        i.ldgsts.to_string(),
        i.ldg.to_string(),
        i.stg.to_string(),
        i.bar.to_string(),
        i.atom.to_string(),
        i.call.to_string(),
    ]
}

fn of_hopper(spec: &KernelSpec, kernel: &Assembled) -> Vec<String> {
    let i = &kernel.instructions;
    let count = |opcode: &str| kernel.count(opcode).to_string();
    let barriers = kernel.count("UCGABAR_ARV") + kernel.count("UCGABAR_WAIT");
    vec![
        spec.cluster.to_string(),
        i.hgmma.to_string(),
        format!("{} ({})", i.wgmma_loops, i.wgmma_in_flight),
        format!("{} ({})", kernel.count("UTMALDG"), kernel.count("UTMALDG MULTICAST")),
        count("UTMASTG"),
        count("UTMAREDG"),
        count("UBLKCP"),
        count("STSM"),
        i.ldsm.to_string(),
        count("SYNCS"),
        count("USETMAXREG"),
        barriers.to_string(),
        i.ldg.to_string(),
        i.stg.to_string(),
        i.bar.to_string(),
        i.atom.to_string(),
        i.call.to_string(),
    ]
}

/// A row of a table.
fn row(out: &mut String, cells: impl Iterator<Item = String>) -> fmt::Result {
    writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "))
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.all, self.wide)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        Arch, Compiler, LaunchBounds, SourceHash,
        ptxas::{Assembled, Resources},
        sass::Instructions,
    };

    fn header(digit: &str) -> Header {
        Header {
            sources: SourceHash::from_hex(&digit.repeat(64)).expect("64 digits"),
            compiler: Compiler::from_header("rustc 1"),
            flags: String::new(),
        }
    }

    fn spec() -> KernelSpec {
        KernelSpec {
            bounds: LaunchBounds { entry: "gemm".to_owned(), threads: 256, min_ctas: 2, max_cluster: None },
            max_registers: 128,
            dynamic_shared: 98_304,
            product: Some(Product::Mma),
            ..KernelSpec::default()
        }
    }

    fn resources() -> Resources {
        Resources { registers: 120, spill_stores: 1, spill_loads: 2, stack: 3, static_shared: 4, barriers: 1 }
    }

    fn cubin(arch: Arch, kernel: Assembled) -> Cubin {
        let kernels = BTreeMap::from([("gemm".to_owned(), kernel)]);
        Cubin { arch, bytes: vec![0; 2048], kernels, warnings: Vec::new() }
    }

    #[test]
    fn a_row_has_its_numbers_in_order() {
        let kernel = Assembled {
            resources: resources(),
            instructions: Instructions {
                hmma: 64,
                ldsm: 16,
                ldgsts: Wide { all: 9, wide: 8 },
                ldg: Wide { all: 7, wide: 6 },
                stg: Wide { all: 5, wide: 4 },
                bar: 11,
                atom: 12,
                main_loops: 13,
                call: 14,
                ..Instructions::default()
            },
            ..Assembled::default()
        };
        let (header, specs, cubins) = (header("0"), [spec()], [cubin(Arch::Sm90, kernel)]);
        let section = Section { file: "sm_80.ptx", header: &header, specs: &specs, cubins: &cubins };
        let text = report("ptxas 13.0.88, nvdisasm 13.0.85", &[section]);
        let row = "| gemm | 256 × 2 | 120 (128) | 1 + 2 | 3 | 4 + 98304 | 64 | 13 | 16 | 9 (8) | 7 (6) | 5 (4) | 11 | 12 | 14 |";
        for part in
            [row, "## sm_90\n", "cubin: 2 KiB", "ptxas 13.0.88", "- sm_80.ptx: rustc 1; sources: sha256 000"]
        {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(!text.contains("HGMMA"), "{text}");
        tables_are_rectangles(&text);
    }

    #[test]
    fn kernels_for_hopper_have_a_table_of_their_own() {
        let mnemonics = [
            ("UTMALDG.2D", 20),
            ("UTMALDG.2D.MULTICAST", 1),
            ("UTMASTG.2D", 22),
            ("UTMAREDG.2D.ADD", 23),
            ("UBLKCP.S.G", 24),
            ("STSM.16.M88.4", 25),
            ("SYNCS.EXCH.64", 26),
            ("USETMAXREG.DEALLOC.CTAPOOL", 27),
            ("UCGABAR_ARV", 14),
            ("UCGABAR_WAIT", 14),
        ];
        let kernel = Assembled {
            resources: resources(),
            instructions: Instructions {
                hgmma: 64,
                ldsm: 16,
                ldg: Wide { all: 7, wide: 6 },
                stg: Wide { all: 5, wide: 4 },
                bar: 11,
                atom: 12,
                wgmma_loops: 13,
                wgmma_in_flight: 2,
                call: 14,
                ..Instructions::default()
            },
            mnemonics: mnemonics.map(|(mnemonic, count)| (mnemonic.to_owned(), count)).into(),
        };
        let hopper = [KernelSpec { cluster: 8, product: Some(Product::Wgmma { in_flight: 1 }), ..spec() }];
        let (ampere, headers) = ([spec()], [header("0"), header("1")]);
        let cubins = [cubin(Arch::Sm80, kernel.clone()), cubin(Arch::Sm90a, kernel)];
        let sections = [
            Section { file: "sm_80.ptx", header: &headers[0], specs: &ampere, cubins: &cubins[..1] },
            Section { file: "sm_90a.ptx", header: &headers[1], specs: &hopper, cubins: &cubins[1..] },
        ];
        let text = report("ptxas 13.0.88", &sections);
        let row = "| gemm | 256 × 2 | 120 (128) | 1 + 2 | 3 | 4 + 98304 | 8 | 64 | 13 (2) | 21 (1) | 22 | 23 | 24 | 25 | 16 | 26 | 27 \
            | 28 | 7 (6) | 5 (4) | 11 | 12 | 14 |";
        let (before, after) = text.split_once("## sm_90a\n").expect("a section");
        assert!(after.contains(row), "{after}");
        assert!(
            before.contains("| HMMA |") && !before.contains("| HGMMA |") && !after.contains("| HMMA |"),
            "{text}"
        );
        for part in
            ["- sm_80.ptx: rustc 1; sources: sha256 000", "- sm_90a.ptx: rustc 1; sources: sha256 111"]
        {
            assert!(before.contains(part), "{part} is missing:\n{text}");
        }
        tables_are_rectangles(&text);
    }

    /// Every row of a table has as many cells as its head.
    fn tables_are_rectangles(text: &str) {
        for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
            let cells: Vec<_> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(cells.len() > 2 && cells.iter().all(|&count| count == cells[0]), "{cells:?}: {table}");
        }
    }
}

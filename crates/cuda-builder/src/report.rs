//! The report for readers: the resources that each kernel uses on each architecture.

use std::fmt::{self, Write};

use crate::{
    header::Header,
    ptxas::{Assembled, Cubin},
    sass::{Code, Step},
    spec::{KernelSpec, Product},
};

/// What the report says of one PTX file.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// Its name.
    pub file: String,
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
        "# Registers, spills and instructions of the kernels\n\n\
         Resources that each kernel uses when ptxas assembles it for an architecture, written by `cargo \
         run -p cuda-builder`. Nothing here was measured on a GPU.\n\n\
         - {versions}"
    )?;
    for Section { file, header, .. } in sections {
        writeln!(out, "- {file}: {}; sources: {}", header.compiler, header.sources)?;
    }
    writeln!(
        out,
        "\n*registers*: of a thread, with the budget that fails the build. *spills*: bytes stored + loaded. \
         *shared*: bytes, static + dynamic, of a CTA. The remaining columns count instructions by kind; the \
         number in brackets counts those that move 16 bytes. *LDGSTS* are asynchronous copies, *LDSM* matrix \
         loads from shared memory, *atom* atomics and reductions. *main loops*: innermost loops with HMMA. \
         *calls*: of ptxas's own routines, such as a 64-bit division; ptxas also turns some jumps into calls."
    )?;
    if sections.iter().any(|section| is_hopper(section.specs)) {
        writeln!(
            out,
            "\nOf sm_90a: *registers* are those at the start, before `setmaxnreg` (*USETMAXREG*). *main \
             loops*: innermost loops with HGMMA, and in brackets the groups of them that its waits leave in \
             flight. *UTMALDG* and *UTMASTG* are tensor copies from and to global memory, in brackets those \
             to several CTAs at once; *UTMAREDG* tensor reductions, *UBLKCP* bulk copies, *STSM* matrix \
             stores to shared memory, *SYNCS* operations on mbarriers, *UCGABAR* cluster barriers. \
             *consumer* and *producer*: instructions of a step of each main loop, in brackets those that are \
             R2UR, on the way where no wait has to try again; behind the slash the budget, which fails the \
             build. *outside*: instructions in no such step."
        )?;
    }
    for Section { specs, cubins, .. } in sections {
        for cubin in *cubins {
            let hopper = is_hopper(specs);
            let columns: Vec<_> =
                COMMON.iter().chain(if hopper { HOPPER } else { AMPERE }).copied().collect();
            writeln!(out, "\n## {}\n\ncubin: {:.0} KiB\n", cubin.arch, cubin.bytes.len() as f64 / 1024.0)?;
            writeln!(out, "| {} |\n|---|{}", columns.join(" | "), "--:|".repeat(columns.len() - 1))?;
            for spec in *specs {
                let Some(kernel) = cubin.kernels.get(&spec.name) else { continue };
                let cells: Vec<_> = columns.iter().map(|column| cell(column, spec, kernel)).collect();
                writeln!(out, "| {} |", cells.join(" | "))?;
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
    "consumer",
    "producer",
    "outside",
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

/// What stands in a column of a kernel's row. A column that has no rule here is named by the opcode that it
/// counts.
fn cell(column: &str, spec: &KernelSpec, kernel: &Assembled) -> String {
    let code = &kernel.code;
    let sum = |opcodes: &[&str]| opcodes.iter().map(|opcode| code.count(opcode)).sum::<u32>().to_string();
    let with = |part: &str| format!("{} ({})", code.count(column), code.count(&format!("{column} {part}")));
    match column {
        "kernel" => spec.name.clone(),
        "threads × CTAs" => format!("{} × {}", spec.threads, spec.min_ctas),
        "registers" => format!("{} ({})", kernel.registers, spec.max_registers),
        "spills" => format!("{} + {}", kernel.spill_stores, kernel.spill_loads),
        "stack" => kernel.stack.to_string(),
        "shared" => format!("{} + {}", kernel.static_shared, spec.dynamic_shared),
        "cluster" => spec.cluster.to_string(),
        "main loops" => main_loops(spec, code),
        "consumer" => steps(&code.consumer_steps, spec.max_step.map(|[consumer, _]| consumer)),
        "producer" => steps(&code.producer_steps, spec.max_step.map(|[_, producer]| producer)),
        "outside" => code.outside.to_string(),
        "LDGSTS" | "LDG" | "STG" => with("128"),
        "UTMALDG" => with("MULTICAST"),
        "UCGABAR" => sum(&["UCGABAR_ARV", "UCGABAR_WAIT"]),
        "atom" => sum(&["ATOM", "ATOMG", "RED", "REDG"]),
        "calls" => sum(&["CALL"]),
        opcode => sum(&[opcode]),
    }
}

fn steps(steps: &[Step], budget: Option<u32>) -> String {
    let steps: Vec<_> = steps.iter().map(|step| format!("{} ({})", step.instructions, step.r2ur)).collect();
    let budget = budget.map(|budget| format!(" / {budget}")).unwrap_or_default();
    steps.join(", ") + &budget
}

fn main_loops(spec: &KernelSpec, code: &Code) -> String {
    match spec.product {
        Some(Product::Wgmma { .. }) => format!("{} ({})", code.wgmma_loops, code.wgmma_in_flight),
        _ => code.main_loops.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    #[test]
    fn each_architecture_has_a_table_with_the_numbers_in_order() {
        let spec = KernelSpec {
            name: "gemm".to_owned(),
            threads: 256,
            min_ctas: 2,
            max_registers: 128,
            dynamic_shared: 98_304,
            cluster: 8,
            product: Some(Product::Mma),
            ..KernelSpec::default()
        };
        let mnemonics = [
            ("HMMA.16816.F32", 64),
            ("HGMMA.64x256x16.F32", 65),
            ("LDSM.16.M88.4", 16),
            ("LDGSTS.E.BYPASS.128", 8),
            ("LDGSTS.E", 1),
            ("LDG.E.128", 6),
            ("LDG.E.U16", 1),
            ("STG.E.128", 4),
            ("STG.E.U16", 1),
            ("BAR.SYNC.DEFER_BLOCKING", 11),
            ("ATOMG.E.INC.STRONG.GPU", 3),
            ("ATOM.E", 4),
            ("RED.E.ADD", 2),
            ("REDG.E.ADD", 3),
            ("ATOMS.ADD", 100),
            ("CALL.REL.NOINC", 14),
            ("UTMALDG.2D", 20),
            ("UTMALDG.2D.MULTICAST", 1),
            ("UTMASTG.2D", 22),
            ("UTMAREDG.2D.ADD", 23),
            ("UBLKCP.S.G", 24),
            ("STSM.16.M88.4", 25),
            ("SYNCS.ARRIVE.RED", 26),
            ("USETMAXREG.DEALLOC.CTAPOOL", 27),
            ("UCGABAR_ARV", 14),
            ("UCGABAR_WAIT", 14),
        ];
        let mnemonics = mnemonics.map(|(mnemonic, count)| (mnemonic.to_owned(), count)).into();
        let step = |instructions| Step { instructions, r2ur: instructions - 30 };
        let code = Code {
            mnemonics,
            main_loops: 13,
            wgmma_loops: 15,
            wgmma_in_flight: 2,
            narrow_loads: 0,
            consumer_steps: vec![step(31), step(32)],
            producer_steps: vec![step(33)],
            outside: 34,
        };
        let kernel =
            Assembled { registers: 120, spill_stores: 1, spill_loads: 2, stack: 3, static_shared: 4, code };
        let cubin = |arch| {
            let kernels = [("gemm".to_owned(), kernel.clone())].into();
            Cubin { arch, bytes: vec![0; 2048], kernels, warnings: Vec::new() }
        };
        let header = |sources: &str| {
            let [sources, compiler, flags] = [sources, "rustc 1", ""].map(str::to_owned);
            Header { sources, compiler, flags }
        };
        let hopper = [KernelSpec {
            product: Some(Product::Wgmma { in_flight: 1 }),
            max_step: Some([35, 36]),
            ..spec.clone()
        }];
        let (ampere, headers) = ([spec], [header("sha256 0"), header("sha256 1")]);
        let cubins = [cubin(Arch::Sm80), cubin(Arch::Sm90a)];
        let section = |file: &str, at: usize, specs| Section {
            file: file.to_owned(),
            header: &headers[at],
            specs,
            cubins: &cubins[at..=at],
        };
        let sections = [section("sm_80.ptx", 0, &ampere), section("sm_90a.ptx", 1, &hopper)];
        let text = report("ptxas 13.0.88, nvdisasm 13.0.85", &sections);
        let (before, after) = text.split_once("## sm_90a\n").expect("a section");
        let common = "| gemm | 256 × 2 | 120 (128) | 1 + 2 | 3 | 4 + 98304";
        let counts = "64 | 13 | 16 | 9 (8) | 7 (6) | 5 (4) | 11 | 12 | 14 |";
        let parts = [
            "\n- ptxas 13.0.88, nvdisasm 13.0.85\n",
            "\n- sm_80.ptx: rustc 1; sources: sha256 0\n",
            "\n- sm_90a.ptx: rustc 1; sources: sha256 1\n",
            "\nOf sm_90a: ",
            "## sm_80\n\ncubin: 2 KiB\n",
            &format!("\n{common} | {counts}\n"),
        ];
        for part in parts {
            assert!(before.contains(part), "{part} is missing:\n{text}");
        }
        let counts = "8 | 65 | 15 (2) | 31 (1), 32 (2) / 35 | 33 (3) / 36 | 34 | 21 (1) | 22 | 23 | 24 | 25 \
         | 16 | 26 | 27 | 28 | 7 (6) | 5 (4) | 11 | 12 | 14 |";
        assert!(after.contains(&format!("\n{common} | {counts}\n")), "{after}");
        assert!(before.contains("| HMMA |") && !before.contains("| HGMMA |") && !after.contains("| HMMA |"));
        // Every row of a table has as many cells as its head.
        for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
            let cells: Vec<_> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(cells.len() == 3 && cells.iter().all(|&count| count == cells[0]), "{cells:?}: {table}");
        }
        assert!(!report("", &sections[..1]).contains("HGMMA"));
    }
}

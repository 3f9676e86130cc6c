//! The report for people: what each kernel takes on each architecture.

use std::fmt::{self, Write};

use crate::{Header, KernelSpec, ptxas::Cubin, sass::Wide};

/// Writes the report as Markdown.
#[must_use]
pub fn report(header: &Header, versions: &str, specs: &[KernelSpec], cubins: &[Cubin]) -> String {
    let mut out = String::new();
    write(&mut out, header, versions, specs, cubins).expect("a string takes everything");
    out
}

fn write(
    out: &mut String,
    header: &Header,
    versions: &str,
    specs: &[KernelSpec],
    cubins: &[Cubin],
) -> fmt::Result {
    writeln!(
        out,
        "# What the kernels take\n\n\
         Written by `cargo run -p cuda-builder`, as ptxas and nvdisasm say; no GPU had a part in it.\n\n\
         - {versions}\n\
         - {}\n\
         - sources: {}\n\n\
         *registers*: of a thread, with the budget that fails the build. *spills*: bytes stored + loaded. *shared*: bytes, static + \
         dynamic, of a CTA. *LDGSTS* are asynchronous copies, *LDSM* matrix loads from shared memory, *atom* atomics and reductions; \
         numbers are instructions in the text, with those of 16 bytes in brackets. *main loops*: innermost loops with HMMA. *calls*: of ptxas's own \
         routines, such as a 64-bit division; it makes calls of some jumps, too.",
        header.compiler, header.sources
    )?;
    for cubin in cubins {
        writeln!(
            out,
            "\n## {}\n\ncubin: {:.0} KiB\n\n\
             | kernel | threads × CTAs | registers | spills | stack | shared | HMMA | main loops | LDSM | LDGSTS | LDG | STG | BAR | atom | calls |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
            cubin.arch,
            cubin.bytes.len() as f64 / 1024.0
        )?;
        for spec in specs {
            let Some(kernel) = cubin.kernels.get(spec.name()) else { continue };
            let (r, i) = (&kernel.resources, &kernel.instructions);
            writeln!(
                out,
                "| {} | {} × {} | {} ({}) | {} + {} | {} | {} + {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                spec.name(),
                spec.bounds.threads,
                spec.bounds.min_ctas,
                r.registers,
                spec.max_registers,
                r.spill_stores,
                r.spill_loads,
                r.stack,
                r.static_shared,
                spec.dynamic_shared,
                i.hmma,
                i.main_loops,
                i.ldsm,
                i.ldgsts,
                i.ldg,
                i.stg,
                i.bar,
                i.atom,
                i.call,
            )?;
        }
    }
    Ok(())
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

    #[test]
    fn a_row_has_its_numbers_in_order() {
        let header = Header {
            sources: SourceHash::from_hex(&"0".repeat(64)).expect("64 digits"),
            compiler: Compiler::from_header("rustc 1"),
            flags: String::new(),
        };
        let spec = KernelSpec {
            bounds: LaunchBounds { entry: "gemm".to_owned(), threads: 256, min_ctas: 2 },
            max_registers: 128,
            dynamic_shared: 98_304,
            product: true,
            aligned: true,
            machine_code: String::new(),
        };
        let kernel = Assembled {
            resources: Resources {
                registers: 120,
                spill_stores: 1,
                spill_loads: 2,
                stack: 3,
                static_shared: 4,
                barriers: 1,
            },
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
        let cubin = Cubin {
            arch: Arch::Sm90,
            bytes: vec![0; 2048],
            kernels: BTreeMap::from([("gemm".to_owned(), kernel)]),
            warnings: Vec::new(),
        };
        let text = report(&header, "ptxas 13.0.88, nvdisasm 13.0.85", &[spec], &[cubin]);
        let row = "| gemm | 256 × 2 | 120 (128) | 1 + 2 | 3 | 4 + 98304 | 64 | 13 | 16 | 9 (8) | 7 (6) | 5 (4) | 11 | 12 | 14 |";
        for part in [row, "## sm_90", "cubin: 2 KiB", "ptxas 13.0.88", "rustc 1"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}

//! Machine code as nvdisasm lists it: which instructions a kernel has, and what its main loops load.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// Instructions of a kernel, counted in the text: an unrolled loop counts each copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Tensor cores, warp-wide.
    pub hmma: u32,
    /// Matrix loads from shared memory.
    pub ldsm: u32,
    /// Asynchronous copies from global to shared memory.
    pub ldgsts: Wide,
    /// Loads from global memory.
    pub ldg: Wide,
    /// Stores to global memory.
    pub stg: Wide,
    /// CTA barriers.
    pub bar: u32,
    /// Atomics and reductions.
    pub atom: u32,
    /// Loads from and stores to local memory.
    pub local: u32,
    /// Calls: of ptxas's own routines, such as a 64-bit division; also what it makes of some jumps.
    pub call: u32,
    /// Innermost loops that have tensor-core instructions.
    pub main_loops: u32,
    /// Loads and copies from global memory, in those loops, of fewer than 16 bytes; without strong ones, which are flags.
    pub narrow_loads: u32,
}

/// A kind of instruction, and how many move 16 bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wide {
    /// Of any width.
    pub all: u32,
    /// Of 16 bytes.
    pub wide: u32,
}

impl Wide {
    /// How many move fewer than 16 bytes.
    #[must_use]
    pub const fn narrow(self) -> u32 {
        self.all - self.wide
    }
}

/// Reads `nvdisasm -c`, kernel by kernel.
pub(crate) fn parse(listing: &str) -> BTreeMap<String, Instructions> {
    kernels(listing).map(|(name, section)| (name.to_owned(), count(section))).collect()
}

/// The mnemonics of each kernel, with their suffixes.
pub(crate) fn mnemonics(listing: &str) -> BTreeMap<String, BTreeSet<String>> {
    let of = |section: &str| section.lines().filter_map(mnemonic).map(str::to_owned).collect();
    kernels(listing).map(|(name, section)| (name.to_owned(), of(section))).collect()
}

/// Whether a mnemonic has all parts, in any order: `LDG.E.128` has `LDG 128`.
pub(crate) fn has_parts(mnemonic: &str, parts: &str) -> bool {
    parts.split_whitespace().all(|part| mnemonic.split('.').any(|other| other == part))
}

/// The name and the listing of each kernel.
fn kernels(listing: &str) -> impl Iterator<Item = (&str, &str)> {
    listing.split("\t.section\t").skip(1).filter_map(|section| {
        let name = section.strip_prefix(".text.")?.split([',', '\n']).next()?;
        Some((name, section))
    })
}

fn count(section: &str) -> Instructions {
    let mut labels = BTreeMap::new();
    let mut code = Vec::new();
    let mut jumps = Vec::new();
    for line in section.lines() {
        if let Some((label, _)) = line.strip_prefix('.').and_then(|line| line.split_once(':')) {
            labels.insert(label, code.len());
        } else if let Some(mnemonic) = mnemonic(line) {
            if let Some((_, target)) = line.split_once("`(.").filter(|_| mnemonic.starts_with("BRA")) {
                jumps.push((code.len(), target.split(')').next().unwrap_or_default()));
            }
            code.push(mnemonic);
        }
    }

    let mut out = Instructions::default();
    for mnemonic in &code {
        let mut parts = mnemonic.split('.');
        let wide = u32::from(mnemonic.split('.').any(|part| part == "128"));
        match parts.next().unwrap_or_default() {
            "HMMA" => out.hmma += 1,
            "LDSM" => out.ldsm += 1,
            "LDGSTS" => out.ldgsts.add(wide),
            "LDG" => out.ldg.add(wide),
            "STG" => out.stg.add(wide),
            "BAR" => out.bar += 1,
            "ATOM" | "ATOMG" | "RED" | "REDG" => out.atom += 1,
            "LDL" | "STL" => out.local += 1,
            "CALL" => out.call += 1,
            _ => {}
        }
    }

    let jumps = jumps.iter().filter_map(|&(from, label)| labels.get(label).map(|&to| to..from + 1));
    for range in main_loops(&code, jumps.collect()) {
        out.main_loops += 1;
        let loads = code[range].iter().filter(|m| m.starts_with("LDG.") || m.starts_with("LDGSTS."));
        // A strong load is that of a flag, not of an operand.
        let narrow = loads.filter(|m| m.split('.').all(|part| part != "128" && part != "STRONG"));
        out.narrow_loads += narrow.count() as u32;
    }
    out
}

/// The innermost loops with tensor-core instructions.
///
/// A jump back makes a loop of what is between; of a jump forward the range is empty. ptxas also moves blocks of a loop
/// before its start, so that two jumps back make two ranges that overlap: these are one loop.
fn main_loops(code: &[&str], mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.retain(|range| {
        code.get(range.clone()).is_some_and(|code| code.iter().any(|m| m.starts_with("HMMA")))
    });
    ranges.sort_by_key(|range| (range.start, range.end));
    let inside = |inner: &Range<usize>, outer: &Range<usize>| {
        inner != outer && outer.start <= inner.start && inner.end <= outer.end
    };
    let innermost = ranges.iter().filter(|outer| !ranges.iter().any(|inner| inside(inner, outer)));
    let mut loops: Vec<Range<usize>> = Vec::new();
    for range in innermost {
        match loops.last_mut() {
            Some(last) if range.start < last.end => last.end = range.end,
            _ => loops.push(range.clone()),
        }
    }
    loops
}

impl Wide {
    fn add(&mut self, wide: u32) {
        self.all += 1;
        self.wide += wide;
    }
}

/// The instruction on a line such as `/*0470*/  @!P1 BRA ..;`, with its suffixes.
fn mnemonic(line: &str) -> Option<&str> {
    let (offset, code) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
    u64::from_str_radix(offset, 16).ok()?;
    let mut words = code.split_whitespace();
    let word = words.next()?;
    let word = if word.starts_with('@') { words.next()? } else { word };
    let word = word.trim_end_matches(';');
    word.starts_with(|c: char| c.is_ascii_uppercase()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listing in nvdisasm's form.
    const LISTING: &str = include_str!("../tests/fixtures/nvdisasm-sm_80.txt");

    #[test]
    fn counts_of_a_kernel() {
        let kernels = parse(LISTING);
        let expected = Instructions {
            hmma: 6,
            ldsm: 2,
            ldgsts: Wide { all: 2, wide: 2 },
            ldg: Wide::default(),
            stg: Wide { all: 1, wide: 1 },
            bar: 3,
            main_loops: 1,
            ..Instructions::default()
        };
        assert_eq!(kernels["nested"], expected);
        let byvalue = Instructions { stg: Wide { all: 1, wide: 0 }, ..Instructions::default() };
        assert_eq!(kernels["byvalue"], byvalue);
        assert_eq!(kernels.len(), 2);
    }

    #[test]
    fn predicates_are_no_instructions() {
        assert_eq!(mnemonic("        /*0470*/              @!P1 BRA `(.L_x_0) ;"), Some("BRA"));
        assert_eq!(mnemonic("        /*00a0*/                   EXIT ;"), Some("EXIT"));
        assert_eq!(mnemonic("        /*00b0*/              @P0 EXIT;"), Some("EXIT"));
        assert_eq!(mnemonic("        /*0000*/ \t.byte\t0xff, 0xff"), None);
        assert_eq!(mnemonic(".L_x_1:"), None);
    }

    #[test]
    fn mnemonics_are_found_by_their_parts() {
        let kernels = mnemonics(LISTING);
        let has = |kernel: &str, parts: &str| kernels[kernel].iter().any(|m| has_parts(m, parts));
        assert!(has("nested", "LDGSTS 128") && has("nested", "128 LDGSTS E") && has("nested", "HMMA"));
        // Each part is whole, and all are in the same mnemonic.
        assert!(!has("nested", "LDG") && !has("nested", "LDGSTS F32") && !has("byvalue", "HMMA"));
    }

    #[test]
    fn narrow_loads_count_inside_main_loops_alone() {
        let narrow = LISTING.replacen("LDGSTS.E.BYPASS.128", "LDGSTS.E", 1);
        assert_eq!(parse(&narrow)["nested"].narrow_loads, 1);
        let strong = LISTING.replacen("LDGSTS.E.BYPASS.128", "LDG.E.STRONG.GPU", 1);
        assert_eq!(parse(&strong)["nested"].narrow_loads, 0);
        let plain = LISTING.replacen("LDGSTS.E.BYPASS.128", "LDG.E.U16", 1);
        assert_eq!(parse(&plain)["nested"].narrow_loads, 1);
        let outside = LISTING.replace("STG.E.128 [R6.64], R12", "LDG.E R6, [R6.64]");
        assert_eq!(parse(&outside)["nested"].narrow_loads, 0);
        assert_eq!(parse(&outside)["nested"].ldg, Wide { all: 1, wide: 0 });
    }

    #[test]
    fn an_outer_loop_is_no_main_loop() {
        // A jump from the end to the start: a loop over tiles around everything, the first stores and loads included.
        let persistent = LISTING.replacen("STG.E.128 [R6.64], R12 ;", "BRA `(.L_x_9) ;", 1).replacen(
            "        /*0000*/",
            ".L_x_9:\n        /*0000*/                   LDG.E R6, [R6.64] ;\n        /*0000*/",
            1,
        );
        let nested = parse(&persistent)["nested"];
        assert_eq!((nested.main_loops, nested.narrow_loads, nested.ldg.all), (1, 0, 1));
    }

    #[test]
    fn peeled_steps_make_no_main_loop_of_the_outer_loop() {
        let code =
            ["LDG.E", "LDGSTS.E.BYPASS.128", "HMMA.16816.F32", "BRA", "HMMA.16816.F32", "LDG.E", "BRA"];
        assert_eq!(main_loops(&code, vec![1..4, 0..7]), vec![1..4]);
    }

    #[test]
    fn ranges_that_overlap_are_one_loop_and_others_are_not() {
        let code = ["HMMA.16816.F32"; 12];
        assert_eq!(main_loops(&code, vec![3..8, 1..5, 9..12, 1..5]), vec![1..8, 9..12]);
    }

    #[test]
    fn loops_without_tensor_cores_and_jumps_forward_are_none() {
        let code = ["LDG.E", "BRA", "HMMA.16816.F32"];
        // What a jump from 0 to 3 makes.
        let forward = Range { start: 3, end: 1 };
        assert_eq!(main_loops(&code, vec![0..2, forward]), Vec::<Range<usize>>::new());
    }

    #[test]
    fn local_memory_calls_and_atomics() {
        let odd = LISTING
            .replacen("LDGDEPBAR", "LDL R1, [R1]", 1)
            .replacen("DEPBAR.LE SB0, 0x1", "STL.64 [R1], R2", 1)
            .replacen("STG.E.U16 [R2.64], R5", "ATOMG.E.INC.STRONG.GPU PT, R2, [R2.64], R3", 1)
            .replacen("STG.E.128 [R6.64], R12", "CALL.REL.NOINC `(.L_x_3)", 1);
        let kernels = parse(&odd);
        assert_eq!((kernels["nested"].local, kernels["nested"].call, kernels["byvalue"].atom), (2, 1, 1));
    }
}

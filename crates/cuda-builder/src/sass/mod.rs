//! Machine code as nvdisasm lists it: which instructions a kernel has, and what its main loops load.

mod listing;
mod loops;

use std::collections::BTreeMap;

use listing::Instruction;

/// Instructions of a kernel, counted in the text: an unrolled loop counts each copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Tensor cores, warp-wide.
    pub hmma: u32,
    /// Tensor cores, warpgroup-wide: `wgmma`.
    pub hgmma: u32,
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
    /// Innermost loops with `HMMA`.
    pub main_loops: u32,
    /// Innermost loops with `HGMMA`.
    pub wgmma_loops: u32,
    /// Groups of wgmma that all waits in such a loop leave in flight, in the loop that leaves most: 0 if each
    /// step waits for its own products.
    pub wgmma_in_flight: u32,
    /// Loads and copies from global memory, in all of those loops, of fewer than 16 bytes; without strong
    /// ones, which are flags.
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
    listing::kernels(listing).map(|(name, section)| (name.to_owned(), count(section))).collect()
}

/// The mnemonics of each kernel, with their suffixes, and how often each is in the text.
pub(crate) fn mnemonics(listing: &str) -> BTreeMap<String, BTreeMap<String, u32>> {
    let of = |section: &str| {
        let mut counts = BTreeMap::new();
        for instruction in section.lines().filter_map(Instruction::parse) {
            *counts.entry(instruction.mnemonic.to_owned()).or_default() += 1;
        }
        counts
    };
    listing::kernels(listing).map(|(name, section)| (name.to_owned(), of(section))).collect()
}

/// Whether a mnemonic has all parts, in any order: `LDG.E.128` has `LDG 128`.
pub(crate) fn has_parts(mnemonic: &str, parts: &str) -> bool {
    parts.split_whitespace().all(|part| mnemonic.split('.').any(|other| other == part))
}

fn count(section: &str) -> Instructions {
    let mut labels = BTreeMap::new();
    let mut code = Vec::new();
    for line in section.lines() {
        if let Some(label) = listing::label(line) {
            labels.insert(label, code.len());
        } else if let Some(instruction) = Instruction::parse(line) {
            code.push(instruction);
        }
    }

    let mut out = Instructions::default();
    for instruction in &code {
        let wide = u32::from(instruction.has("128"));
        match instruction.opcode() {
            "HMMA" => out.hmma += 1,
            "HGMMA" => out.hgmma += 1,
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

    for at in loops::innermost(&code, &labels, |instruction| matches!(instruction.opcode(), "HMMA" | "HGMMA"))
    {
        let inside = || at.iter().map(|&at| &code[at]);
        if inside().any(|instruction| instruction.opcode() == "HGMMA") {
            out.wgmma_loops += 1;
            let left = inside().filter_map(left_in_flight).min().unwrap_or(0);
            out.wgmma_in_flight = out.wgmma_in_flight.max(left);
        } else {
            out.main_loops += 1;
        }
        let loads = inside().filter(|i| matches!(i.opcode(), "LDG" | "LDGSTS"));
        // A strong load is that of a flag, not of an operand.
        out.narrow_loads += loads.filter(|i| !i.has("128") && !i.has("STRONG")).count() as u32;
    }
    out
}

/// How many groups a `wgmma.wait_group` leaves in flight: 1 of `WARPGROUP.DEPBAR.LE gsb0, 0x1`.
fn left_in_flight(instruction: &Instruction<'_>) -> Option<u32> {
    if !(instruction.opcode() == "WARPGROUP" && instruction.has("DEPBAR")) {
        return None;
    }
    let (_, groups) = instruction.operands.rsplit_once("0x")?;
    u32::from_str_radix(groups, 16).ok()
}

impl Wide {
    fn add(&mut self, wide: u32) {
        self.all += 1;
        self.wide += wide;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listing in nvdisasm's form.
    const LISTING: &str = include_str!("../../tests/fixtures/nvdisasm-sm_80.txt");

    /// That of a persistent kernel with a producer and consumers, and of one that has each kind of bulk copy.
    const HOPPER: &str = include_str!("../../tests/fixtures/nvdisasm-sm_90a.txt");

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
    fn counts_of_a_kernel_for_hopper() {
        let kernels = parse(HOPPER);
        let expected = Instructions {
            hgmma: 4,
            stg: Wide { all: 2, wide: 0 },
            bar: 1,
            wgmma_loops: 1,
            ..Instructions::default()
        };
        assert_eq!(kernels["gemm"], expected);
        assert_eq!(kernels["probe"], Instructions::default());
        let mnemonics = mnemonics(HOPPER);
        assert_eq!(mnemonics["gemm"]["UTMALDG.2D"], 6);
        assert_eq!(mnemonics["gemm"]["HGMMA.64x256x16.F32"], 4);
        for mnemonic in ["UTMALDG.2D.MULTICAST", "UTMASTG.2D", "UTMAREDG.2D.ADD", "STSM.16.M88.4"] {
            assert_eq!(mnemonics["probe"][mnemonic], 1, "{mnemonic}");
        }
    }

    #[test]
    fn products_outside_a_loop_are_not_in_one_though_a_wait_jumps_back_over_them() {
        let straight =
            HOPPER.replace("@P1 BRA `(.L_x_26)", "@P1 NOP").replace("@!P1 BRA `(.L_x_27)", "@!P1 NOP");
        let gemm = parse(&straight)["gemm"];
        assert_eq!((gemm.hgmma, gemm.wgmma_loops), (4, 0));
    }

    #[test]
    fn groups_in_flight_are_those_that_every_wait_of_a_loop_leaves() {
        let in_flight = |old: &str, new: &str| parse(&HOPPER.replacen(old, new, 1))["gemm"].wgmma_in_flight;
        let wait = "WARPGROUP.DEPBAR.LE gsb0, 0x0 ;";
        assert_eq!(in_flight(wait, "WARPGROUP.DEPBAR.LE gsb0, 0x1 ;"), 1);
        // One of the two waits for all.
        let both = format!("WARPGROUP.DEPBAR.LE gsb0, 0x1 ;\n        /*1bc8*/        {wait}");
        assert_eq!(in_flight(wait, &both), 0);
        assert_eq!(in_flight(wait, "NOP ;"), 0);
        // Another kind of barrier.
        assert_eq!(in_flight(wait, "DEPBAR.LE SB0, 0x1 ;"), 0);
        // Behind the loop all are waited for, as they must be.
        let behind = HOPPER.replace(wait, "WARPGROUP.DEPBAR.LE gsb0, 0x1 ;").replacen(
            "STG.E desc",
            "WARPGROUP.DEPBAR.LE gsb0, 0x0 ;\n        /*1c98*/        STG.E desc",
            1,
        );
        assert_eq!(parse(&behind)["gemm"].wgmma_in_flight, 1);
    }

    #[test]
    fn mnemonics_are_found_by_their_parts() {
        let kernels = mnemonics(LISTING);
        let has = |kernel: &str, parts: &str| kernels[kernel].keys().any(|m| has_parts(m, parts));
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

//! Machine code as nvdisasm lists it: which instructions a kernel has, and what its main loops load.

mod listing;
mod loops;

use std::collections::BTreeMap;

use listing::Instruction;

/// The machine code of a kernel, counted in the text: an unrolled loop counts each copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// The mnemonics of all its instructions, with their suffixes, and how often each is in the text.
    pub mnemonics: BTreeMap<String, u32>,
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
    /// A step of each innermost loop with `HGMMA`.
    pub consumer_steps: Vec<Step>,
    /// A step of each innermost loop that says how many bytes it copies, and copies them by `UTMALDG`. A loop
    /// around such a copy alone, which ptxas makes where it does not see that one lane copies, is part of it.
    pub producer_steps: Vec<Step>,
    /// Instructions in none of these steps.
    pub outside: u32,
}

/// A step of a main loop, on the way where each wait passes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its instructions.
    pub instructions: u32,
    /// Those that move a word to a uniform register: where ptxas did not see that all lanes have the same.
    pub r2ur: u32,
}

impl Code {
    /// How many instructions have the first word as their opcode and the others among its suffixes: `LDG 128`
    /// is `LDG.E.128`.
    #[must_use]
    pub fn count(&self, words: &str) -> u32 {
        let mut words = words.split_whitespace();
        let opcode = words.next();
        let mnemonics = self.mnemonics.iter().filter(|(name, _)| name.split('.').next() == opcode);
        mnemonics.filter(|(name, _)| has_words(name, words.clone())).map(|(_, &count)| count).sum()
    }

    /// Whether an instruction has all words in its mnemonic, in any order: `ADD STRONG` is in
    /// `RED.E.ADD.STRONG.GPU`.
    #[must_use]
    pub fn has(&self, words: &str) -> bool {
        self.mnemonics.keys().any(|name| has_words(name, words.split_whitespace()))
    }
}

fn has_words<'a>(mnemonic: &str, mut words: impl Iterator<Item = &'a str>) -> bool {
    words.all(|word| mnemonic.split('.').any(|part| part == word))
}

/// Reads `nvdisasm -c`, kernel by kernel.
pub(crate) fn parse(listing: &str) -> BTreeMap<String, Code> {
    listing::kernels(listing).map(|(name, section)| (name.to_owned(), code(section))).collect()
}

fn code(section: &str) -> Code {
    let mut labels = BTreeMap::new();
    let mut code = Vec::new();
    for line in section.lines() {
        if let Some(label) = listing::label(line) {
            labels.insert(label, code.len());
        } else if let Some(instruction) = Instruction::parse(line) {
            code.push(instruction);
        }
    }

    let mut out = Code::default();
    for instruction in &code {
        *out.mnemonics.entry(instruction.mnemonic.to_owned()).or_default() += 1;
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
    let has = |at: &[usize], opcode| at.iter().any(|&at| code[at].opcode() == opcode);
    let step = |at: Vec<usize>| Step {
        instructions: at.len() as u32,
        r2ur: at.iter().filter(|&&at| code[at].opcode() == "R2UR").count() as u32,
    };
    let consumers = loops::steps(&code, &labels, |instruction| instruction.opcode() == "HGMMA");
    let producers = loops::steps(&code, &labels, expects_bytes).into_iter().filter(|at| has(at, "UTMALDG"));
    out.consumer_steps = consumers.into_iter().map(step).collect();
    out.producer_steps = producers.map(step).collect();
    let inside = out.consumer_steps.iter().chain(&out.producer_steps).map(|step| step.instructions);
    out.outside = code.len() as u32 - inside.sum::<u32>();
    out
}

/// Whether it is an `mbarrier.arrive.expect_tx`: `SYNCS.ARRIVE.TRANS64`, without the `A1T0` of other
/// arrivals.
fn expects_bytes(instruction: &Instruction<'_>) -> bool {
    instruction.opcode() == "SYNCS" && instruction.has("ARRIVE") && !instruction.has("A1T0")
}

/// How many groups a `wgmma.wait_group` leaves in flight: 1 of `WARPGROUP.DEPBAR.LE gsb0, 0x1`.
fn left_in_flight(instruction: &Instruction<'_>) -> Option<u32> {
    if !(instruction.opcode() == "WARPGROUP" && instruction.has("DEPBAR")) {
        return None;
    }
    let (_, groups) = instruction.operands.rsplit_once("0x")?;
    u32::from_str_radix(groups, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listing in nvdisasm's form.
    const LISTING: &str = include_str!("../../tests/fixtures/nvdisasm-sm_80.txt");

    /// That of a persistent kernel with a producer and consumers, and of one that has each kind of bulk copy.
    const HOPPER: &str = include_str!("../../tests/fixtures/nvdisasm-sm_90a.txt");

    #[test]
    fn instructions_are_counted_by_parts_of_their_mnemonics() {
        let kernels = parse(LISTING);
        let nested = &kernels["nested"];
        for (parts, count) in [
            ("HMMA", 6),
            ("LDSM", 2),
            ("LDGSTS", 2),
            ("LDGSTS 128 E", 2),
            ("STG 128", 1),
            ("BAR", 3),
            ("LDG", 0),
            ("LDGSTS F32", 0),
            ("128", 0),
        ] {
            assert_eq!(nested.count(parts), count, "{parts}");
        }
        assert!(nested.has("LDGSTS 128") && nested.has("128 LDGSTS E") && nested.has("HMMA"));
        // Each word is whole, and all are in the same mnemonic.
        assert!(!nested.has("LDG") && !nested.has("LDGSTS F32"));
        assert_eq!((nested.main_loops, nested.wgmma_loops, nested.narrow_loads), (1, 0, 0));
        let byvalue = &kernels["byvalue"];
        assert_eq!((byvalue.count("STG"), byvalue.count("STG 128"), byvalue.count("HMMA")), (1, 0, 0));
        assert_eq!((kernels.len(), byvalue.main_loops), (2, 0));
    }

    #[test]
    fn counts_of_a_kernel_for_hopper() {
        let kernels = parse(HOPPER);
        let (gemm, probe) = (&kernels["gemm"], &kernels["probe"]);
        assert_eq!((gemm.wgmma_loops, gemm.wgmma_in_flight, gemm.main_loops), (1, 0, 0));
        assert_eq!((probe.wgmma_loops, probe.main_loops), (0, 0));
        assert_eq!([gemm.count("HGMMA"), gemm.count("UTMALDG"), gemm.count("BAR")], [4, 6, 1]);
        for parts in ["UTMALDG MULTICAST", "UTMASTG 2D", "UTMAREDG ADD", "STSM M88 4"] {
            assert_eq!(probe.count(parts), 1, "{parts}");
        }
    }

    #[test]
    fn products_outside_a_loop_are_not_in_one_though_a_wait_jumps_back_over_them() {
        let straight =
            HOPPER.replace("@P1 BRA `(.L_x_26)", "@P1 NOP").replace("@!P1 BRA `(.L_x_27)", "@!P1 NOP");
        let gemm = &parse(&straight)["gemm"];
        assert_eq!((gemm.count("HGMMA"), gemm.wgmma_loops), (4, 0));
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
    fn narrow_loads_count_inside_main_loops_alone() {
        let narrow = LISTING.replacen("LDGSTS.E.BYPASS.128", "LDGSTS.E", 1);
        assert_eq!(parse(&narrow)["nested"].narrow_loads, 1);
        let strong = LISTING.replacen("LDGSTS.E.BYPASS.128", "LDG.E.STRONG.GPU", 1);
        assert_eq!(parse(&strong)["nested"].narrow_loads, 0);
        let plain = LISTING.replacen("LDGSTS.E.BYPASS.128", "LDG.E.U16", 1);
        assert_eq!(parse(&plain)["nested"].narrow_loads, 1);
        let outside = LISTING.replace("STG.E.128 [R6.64], R12", "LDG.E R6, [R6.64]");
        assert_eq!(parse(&outside)["nested"].narrow_loads, 0);
        assert_eq!(parse(&outside)["nested"].count("LDG"), 1);
    }

    #[test]
    fn an_outer_loop_is_no_main_loop() {
        // A jump from the end to the start: a loop over tiles around everything, the first stores and loads
        // included.
        let persistent = LISTING.replacen("STG.E.128 [R6.64], R12 ;", "BRA `(.L_x_9) ;", 1).replacen(
            "        /*0000*/",
            ".L_x_9:\n        /*0000*/                   LDG.E R6, [R6.64] ;\n        /*0000*/",
            1,
        );
        let nested = &parse(&persistent)["nested"];
        assert_eq!((nested.main_loops, nested.narrow_loads, nested.count("LDG")), (1, 0, 1));
    }
}

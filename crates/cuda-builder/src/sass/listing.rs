//! nvdisasm's listing, taken apart.

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction<'a> {
    /// Whether a predicate guards it: `@!P1 BRA ..`.
    pub guarded: bool,
    /// With its suffixes: `LDG.E.128`.
    pub mnemonic: &'a str,
    /// All that follows, without the semicolon.
    pub operands: &'a str,
}

impl<'a> Instruction<'a> {
    /// The instruction on a line such as `/*0470*/  @!P1 BRA ..;`.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let (offset, code) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
        u64::from_str_radix(offset, 16).ok()?;
        let code = code.trim();
        let (guarded, code) = match code.strip_prefix('@') {
            Some(code) => (true, code.split_once(char::is_whitespace)?.1.trim_start()),
            None => (false, code),
        };
        let code = code.trim_end_matches(';').trim_end();
        let (mnemonic, operands) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
        let instruction = Self { guarded, mnemonic, operands: operands.trim_start() };
        mnemonic.starts_with(|c: char| c.is_ascii_uppercase()).then_some(instruction)
    }

    /// The mnemonic without its suffixes.
    pub(super) fn opcode(&self) -> &'a str {
        self.mnemonic.split('.').next().unwrap_or_default()
    }

    /// Whether a suffix, or the opcode itself, is `part`.
    pub(super) fn has(&self, part: &str) -> bool {
        self.mnemonic.split('.').any(|other| other == part)
    }

    /// The labels that its operands name: one of a jump, all of a jump through a table.
    pub(super) fn labels(&self) -> impl Iterator<Item = &'a str> {
        self.operands.match_indices(".L").map(|(at, _)| {
            let label = &self.operands[at + 1..];
            let end = label.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(label.len());
            &label[..end]
        })
    }
}

/// The name and the listing of each kernel.
pub(super) fn kernels(listing: &str) -> impl Iterator<Item = (&str, &str)> {
    listing.split("\t.section\t").skip(1).filter_map(|section| {
        let name = section.strip_prefix(".text.")?.split([',', '\n']).next()?;
        Some((name, section))
    })
}

/// The label that is defined on a line, without its point.
pub(super) fn label(line: &str) -> Option<&str> {
    line.strip_prefix('.').and_then(|line| line.split_once(':')).map(|(label, _)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(bool, &str, &str)> {
        Instruction::parse(line).map(|i| (i.guarded, i.mnemonic, i.operands))
    }

    #[test]
    fn predicates_are_no_instructions() {
        let guarded = "        /*0470*/              @!P1 BRA `(.L_x_0) ;";
        assert_eq!(parse(guarded), Some((true, "BRA", "`(.L_x_0)")));
        assert_eq!(parse("        /*00a0*/                   EXIT ;"), Some((false, "EXIT", "")));
        assert_eq!(parse("        /*00b0*/              @P0 EXIT;"), Some((true, "EXIT", "")));
        assert_eq!(parse("        /*0000*/ \t.byte\t0xff, 0xff"), None);
        assert_eq!(parse(".L_x_1:"), None);
    }

    #[test]
    fn opcodes_and_suffixes() {
        let load = Instruction::parse("/*0a*/ LDG.E.128 R4, [R2.64] ;").expect("an instruction");
        assert_eq!((load.opcode(), load.operands), ("LDG", "R4, [R2.64]"));
        assert!(load.has("128") && load.has("LDG") && !load.has("12") && !load.has("R4"));
    }

    #[test]
    fn labels_of_jumps() {
        for (operands, labels) in [
            ("`(.L_x_12)", vec!["L_x_12"]),
            ("!UP0, `(.L_x_3)", vec!["L_x_3"]),
            ("R2 -0x1b0 (*\"BRANCH_TARGETS .L_x_1,.L_x_22,.L_x_3\"*)", vec!["L_x_1", "L_x_22", "L_x_3"]),
            ("R4, [R2.64]", vec![]),
        ] {
            let jump = Instruction { guarded: false, mnemonic: "BRA", operands };
            assert_eq!(jump.labels().collect::<Vec<_>>(), labels, "{operands}");
        }
        assert_eq!(label(".L_x_12:"), Some("L_x_12"));
        assert_eq!(label("        /*0470*/ BRA `(.L_x_0) ;"), None);
    }
}

//! Changes of PTX that make it keep a rule which it broke. Lines keep their numbers.

/// A change of all instructions that begin alike, guards aside.
#[derive(Clone, Copy)]
pub(crate) enum Amendment {
    /// Another instruction comes after each.
    InsertAfter(&'static str),
    /// Of each warp only lane 0 executes them.
    OneLaneOfAWarp,
    /// Of each CTA only lane 0 does.
    OneLaneOfACta,
    /// They are left out.
    Drop,
    /// All but the first in the text are left out.
    KeepTheFirst,
    /// Only bit 0 of their last operand is given.
    BitOfTheLastOperand,
    /// Each is replaced.
    Replace(&'static str),
}

impl Amendment {
    /// The text with the change, and how many instructions were changed or kept.
    pub(crate) fn apply(self, begin: &str, text: &str) -> (String, usize) {
        let mut count = 0;
        let amend = |line: &str| {
            let instruction = line.trim();
            let is_it = without_guard(instruction).starts_with(begin);
            count += usize::from(is_it);
            let amended = if is_it { self.amended(instruction, count) } else { line.to_owned() };
            amended + "\n"
        };
        (text.lines().map(amend).collect(), count)
    }

    /// An instruction, number `count` from 1, as it is instead.
    fn amended(self, instruction: &str, count: usize) -> String {
        let by_lane_0 = |register: &str| {
            format!(
                "{{ .reg .pred first; .reg .b32 lane; mov.u32 lane, {register}; setp.eq.u32 first, lane, 0; \
                 @first {instruction} }}"
            )
        };
        match self {
            Self::InsertAfter(inserted) => format!("{instruction} {inserted}"),
            Self::OneLaneOfAWarp => by_lane_0("%laneid"),
            Self::OneLaneOfACta => by_lane_0("%tid.x"),
            Self::KeepTheFirst if count == 1 => instruction.to_owned(),
            Self::Drop | Self::KeepTheFirst => String::new(),
            Self::BitOfTheLastOperand => {
                let (begin, operand) = instruction.rsplit_once(", ").expect("it has operands");
                let operand = operand.trim_end_matches(';');
                format!("{{ .reg .b32 bit; and.b32 bit, {operand}, 1; {begin}, bit; }}")
            }
            Self::Replace(by) => by.to_owned(),
        }
    }
}

/// An instruction without `@%p` or `@!%p`.
fn without_guard(instruction: &str) -> &str {
    match instruction.split_once(' ') {
        Some((guard, rest)) if guard.starts_with('@') => rest,
        _ => instruction,
    }
}

#[test]
fn only_what_begins_alike_is_changed() {
    let text = "    @%p1 a.b [%r1], 7;\na.c [%r1], 7;\na.b [%r2], %r3;\n";
    for (amendment, first, last) in [
        (Amendment::InsertAfter("f;"), "@%p1 a.b [%r1], 7; f;", "a.b [%r2], %r3; f;"),
        (Amendment::Drop, "", ""),
        (Amendment::KeepTheFirst, "@%p1 a.b [%r1], 7;", ""),
        (Amendment::Replace("c;"), "c;", "c;"),
    ] {
        let (amended, count) = amendment.apply("a.b", text);
        assert_eq!((amended, count), (format!("{first}\na.c [%r1], 7;\n{last}\n"), 2));
    }
    let (amended, _) = Amendment::BitOfTheLastOperand.apply("a.c", text);
    assert!(amended.contains("{ .reg .b32 bit; and.b32 bit, 7, 1; a.c [%r1], bit; }"), "{amended}");
    let (amended, _) = Amendment::OneLaneOfAWarp.apply("a.c", text);
    assert!(amended.contains("mov.u32 lane, %laneid;") && amended.contains("@first a.c [%r1], 7; }"));
}

//! Which instructions of an entry runs have tried.

use super::code::{Code, Instruction, Operation as Op};
use crate::{
    coverage::{EXECUTED, TAKEN, waited},
    site::Place,
    source::Source,
};

/// An instruction, and what of it was not tried.
#[derive(Clone, Debug)]
pub struct Covered {
    /// In the PTX, from 1.
    pub line: u32,
    /// Where it came from.
    pub place: Place,
    /// Whether it touches memory, synchronises, or multiplies matrices.
    pub is_vital: bool,
    /// What was not tried; None where all was.
    pub missing: Option<Missing>,
}

/// What was not tried of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was never executed.
    Execution,
    /// The branch, a backward one, was never taken.
    Loop,
    /// The wait for an mbarrier was never for this parity.
    Parity(u32),
}

/// The instructions of an entry, with what was seen of each.
pub(super) fn covered(code: &Code, source: &Source, seen: &[u8]) -> Vec<Covered> {
    // The last is a return behind the text.
    let instructions = code.instructions.split_last().map_or(&[][..], |(_, before)| before);
    (instructions.iter().enumerate())
        .map(|(at, instruction)| Covered {
            line: instruction.line,
            place: source.place(instruction.line),
            is_vital: is_vital(instruction.op),
            missing: missing(instruction, at, seen.get(at).copied().unwrap_or(0)),
        })
        .collect()
}

fn missing(instruction: &Instruction, at: usize, seen: u8) -> Option<Missing> {
    let has = |what: u8| seen & what != 0;
    match instruction.op {
        _ if !has(EXECUTED) => Some(Missing::Execution),
        Op::Branch(target) | Op::BranchCase(target) if target as usize <= at && !has(TAKEN) => {
            Some(Missing::Loop)
        }
        Op::MbarrierTryWait(_) | Op::MbarrierTestWait(_) => {
            [0, 1].into_iter().find(|&parity| !has(waited(parity))).map(Missing::Parity)
        }
        _ => None,
    }
}

/// Arithmetic, moves and branches are not.
fn is_vital(op: Op) -> bool {
    !matches!(
        op,
        Op::Arithmetic(..)
            | Op::Convert(..)
            | Op::ConvertPair(..)
            | Op::Insert(_)
            | Op::SetpBoth(..)
            | Op::Offset(_)
            | Op::IsSpace(_)
            | Op::Hint
            | Op::Pack(_)
            | Op::Unpack(_)
            | Op::LoadParameter(_)
            | Op::Branch(_)
            | Op::BranchCase(_)
            | Op::Return
            | Op::Trap
    )
}

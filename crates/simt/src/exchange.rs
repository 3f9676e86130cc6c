//! What lanes of a warp exchange without memory: shfl, vote, match, redux, elect. PTX ISA, "shfl.sync",
//! "vote.sync", "match.sync", "redux.sync", "elect.sync".

use crate::clock::WARP;

const LANES: usize = WARP as usize;

/// What a read-modify-write, or a reduction over lanes, makes of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    /// The third source if the second one is there.
    CompareExchange,
}

/// From which lane `shfl` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What `vote` asks of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// An exchange. What each lane brings is four words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// The value, the lane or offset, the clamp; gives the value, and whether the lane was in range.
    Shuffle(Shuffle),
    /// A predicate; gives one, or the ballot.
    Vote(Vote),
    /// The two halves of a value; gives the mask of those with the same, and for `all` whether there are no
    /// others.
    Match { all: bool },
    /// A value; gives the reduction.
    Redux { update: Update, is_signed: bool },
    /// Gives the leader, and whether this lane is it: of those in the mask the one that the number says.
    Elect { choice: u64 },
}

/// What each lane of the mask gets.
///
/// # Errors
///
/// A lane takes from one that takes no part.
pub(crate) fn exchange(
    kind: Exchange,
    mask: u32,
    given: &[[u32; 4]; LANES],
) -> Result<[[u32; 4]; LANES], String> {
    let lanes = || (0..LANES).filter(|lane| mask >> lane & 1 == 1);
    let collect = |holds: &dyn Fn(usize) -> bool| {
        lanes().filter(|&lane| holds(lane)).fold(0u32, |all, lane| all | 1 << lane)
    };
    let mut gets = [[0; 4]; LANES];
    match kind {
        Exchange::Shuffle(mode) => {
            for lane in lanes() {
                let (from, in_range) = source(mode, lane as u32, given[lane][1], given[lane][2]);
                if mask >> from & 1 == 0 {
                    return Err(format!("lane {lane} takes from lane {from}, which takes no part"));
                }
                gets[lane] = [given[from as usize][0], u32::from(in_range), 0, 0];
            }
        }
        Exchange::Vote(vote) => {
            let ballot = collect(&|lane| given[lane][0] & 1 == 1);
            let result = match vote {
                Vote::All => u32::from(ballot == mask),
                Vote::Any => u32::from(ballot != 0),
                Vote::Uniform => u32::from(ballot == mask || ballot == 0),
                Vote::Ballot => ballot,
            };
            gets = [[result, 0, 0, 0]; LANES];
        }
        Exchange::Match { all } => {
            for lane in lanes() {
                let same = collect(&|other| given[other][..2] == given[lane][..2]);
                let is_one = same == mask;
                let shown = if all && !is_one { 0 } else { same };
                gets[lane] = [shown, u32::from(is_one), 0, 0];
            }
        }
        Exchange::Redux { update, is_signed } => {
            let reduced = lanes().map(|lane| given[lane][0]).reduce(|a, b| reduce(update, is_signed, a, b));
            gets = [[reduced.unwrap_or(0), 0, 0, 0]; LANES];
        }
        Exchange::Elect { choice } => {
            let count = u64::from(mask.count_ones()).max(1);
            let leader = lanes().nth((choice % count) as usize).unwrap_or(0);
            for (lane, gets) in gets.iter_mut().enumerate() {
                *gets = [leader as u32, u32::from(lane == leader), 0, 0];
            }
        }
    }
    Ok(gets)
}

fn reduce(update: Update, is_signed: bool, a: u32, b: u32) -> u32 {
    match update {
        Update::Add => a.wrapping_add(b),
        Update::Min if is_signed => a.cast_signed().min(b.cast_signed()).cast_unsigned(),
        Update::Max if is_signed => a.cast_signed().max(b.cast_signed()).cast_unsigned(),
        Update::Min => a.min(b),
        Update::Max => a.max(b),
        Update::And => a & b,
        Update::Or => a | b,
        _ => a ^ b,
    }
}

/// The lane that `shfl` takes from, and whether it is in range. PTX ISA, "shfl.sync".
fn source(mode: Shuffle, lane: u32, offset: u32, clamp: u32) -> (u32, bool) {
    let (offset, segment, clamp) = (offset & 31, clamp >> 8 & 31, clamp & 31);
    let most = lane & segment | clamp & !segment;
    let least = lane & segment;
    let (from, in_range) = match mode {
        Shuffle::Up => {
            let from = i64::from(lane) - i64::from(offset);
            (from as u32, from >= i64::from(most))
        }
        Shuffle::Down => (lane + offset, lane + offset <= most),
        Shuffle::Butterfly => (lane ^ offset, (lane ^ offset) <= most),
        Shuffle::Index => {
            let from = least | offset & !segment;
            (from, from <= most)
        }
    };
    if in_range { (from & 31, true) } else { (lane, false) }
}

//! What a seeded fault is: one thing wrong at one place of a kernel.

use fused_lora_simt::{Action, Mutation, Site};

use super::{
    source::{Located, Place},
    subject::{By, Subject},
};

/// A kernel with one thing wrong.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) subject: &'static Subject,
    seed: Seed,
    /// Who has to catch it.
    pub(super) by: By,
}

#[derive(Clone, Copy)]
enum Seed {
    Instruction(Instruction, Action),
    Instructions(&'static [Instruction], Action),
    /// The rank that the launch says is by so much another one.
    Rank(i32),
}

/// Which of the times that an instruction is executed.
#[derive(Clone, Copy)]
pub(super) struct Instruction {
    place: Place,
    cta: Option<u32>,
    lane: Option<u32>,
    occurrence: Option<u32>,
}

/// Every time.
pub(super) const fn always(place: Place) -> Instruction {
    Instruction { place, cta: None, lane: None, occurrence: None }
}

/// By one lane.
pub(super) const fn by_lane(lane: u32, place: Place) -> Instruction {
    Instruction { lane: Some(lane), ..always(place) }
}

/// The `n`-th time of one lane of one CTA.
pub(super) const fn once(cta: u32, lane: u32, n: u32, place: Place) -> Instruction {
    Instruction { cta: Some(cta), occurrence: Some(n), ..by_lane(lane, place) }
}

/// The `n`-th time of all lanes of a CTA.
pub(super) const fn time(cta: u32, n: u32, place: Place) -> Instruction {
    Instruction { cta: Some(cta), occurrence: Some(n), ..always(place) }
}

pub(super) const fn fault(
    name: &'static str,
    subject: &'static Subject,
    instruction: Instruction,
    action: Action,
    by: By,
) -> Fault {
    Fault { name, subject, seed: Seed::Instruction(instruction, action), by }
}

/// Several instructions that do the same.
pub(super) const fn faults(
    name: &'static str,
    subject: &'static Subject,
    instructions: &'static [Instruction],
    action: Action,
    by: By,
) -> Fault {
    Fault { name, subject, seed: Seed::Instructions(instructions, action), by }
}

/// The launch says another rank.
pub(super) const fn rank(name: &'static str, subject: &'static Subject, delta: i32, by: By) -> Fault {
    Fault { name, subject, seed: Seed::Rank(delta), by }
}

/// Changes one word of what an instruction gives.
pub(super) const fn word(word: usize, change: fn(u32) -> u32) -> Action {
    Action::Word { word, change }
}

impl Fault {
    /// How much the rank that the launch says is another one.
    pub(super) fn rank_delta(&self) -> i32 {
        if let Seed::Rank(delta) = self.seed { delta } else { 0 }
    }

    /// For the machine; None if an instruction is not among those that were met.
    pub(super) fn mutations(&self, sites: &Located) -> Option<Vec<Mutation>> {
        let at = |instruction: &Instruction, action| {
            let Instruction { place, cta, lane, occurrence } = *instruction;
            Some(Site { cta, lane, occurrence, ..sites.find(&place)? }.does(action))
        };
        match &self.seed {
            Seed::Rank(_) => Some(Vec::new()),
            Seed::Instruction(instruction, action) => Some(vec![at(instruction, *action)?]),
            Seed::Instructions(all, action) => {
                all.iter().map(|instruction| at(instruction, *action)).collect()
            }
        }
    }
}

//! What a warpgroup has under way: wgmma, and the sums that its lanes do not have yet.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use crate::{
    memory::Tracked,
    site::Op,
    wgmma::{Matrix, Product, multiply},
};

/// A signalling NaN, but for the bits of a number that is not 0: what stands for a sum that is not there yet.
pub(crate) const PENDING: u32 = 0x7f80_0000;
pub(crate) const NUMBERS: u32 = 0x003f_ffff;

/// The number of what a value stands for, if it does.
pub(crate) fn number_of(value: f32) -> Option<u32> {
    let bits = value.to_bits();
    (bits & !NUMBERS == PENDING && bits & NUMBERS != 0).then_some(bits & NUMBERS)
}

/// A warpgroup.
#[derive(Default)]
pub(crate) struct Warpgroup {
    /// The instruction that some of its warps have come to, and its operands.
    pub(crate) at: Option<(Op, u32, SmallVec<[u64; 4]>)>,
    pub(crate) arrived: usize,
    /// The accumulators that its lanes bring to wgmma, for each of a group lane after lane.
    pub(crate) inbox: Vec<Vec<f32>>,
    /// Likewise the registers of A, for each step that has it there.
    pub(crate) registers: Vec<Vec<[u32; 4]>>,
    /// The number that the latest sums got.
    pub(crate) numbered: u32,
    /// Groups that were committed, and how many of them have computed.
    pub(crate) issued: u32,
    pub(crate) performed: u32,
    /// Those that have not.
    pub(crate) queue: VecDeque<Group>,
    /// Sums that lanes do not have yet, by number.
    pub(crate) sums: HashMap<u32, Sums>,
    /// The site of the first wgmma of each group that was committed.
    pub(crate) sites: Vec<u32>,
}

/// One wgmma that was issued.
pub(crate) struct Step {
    pub(crate) product: Product,
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
    /// Whether it adds to the sums, or begins them.
    pub(crate) keeps: bool,
    /// The number of the sums: groups behind it in the queue rename them.
    pub(crate) sums: u32,
}

/// wgmma of one commit group.
pub(crate) struct Group {
    pub(crate) steps: Vec<Step>,
}

/// The accumulators of a warpgroup while wgmma adds to them.
pub(crate) struct Sums {
    pub(crate) values: Vec<f32>,
    /// The last group that adds to them.
    pub(crate) group: u32,
    /// Lanes that have got them.
    pub(crate) delivered: u32,
}

impl Warpgroup {
    /// Computes the oldest `groups` of those that have not.
    pub(crate) fn perform(&mut self, shared: &Tracked, groups: usize) {
        for _ in 0..groups.min(self.queue.len()) {
            let Group { steps } = self.queue.pop_front().expect("there are so many");
            for Step { product, a, b, keeps, sums } in &steps {
                let sums = self.sums.get_mut(sums).expect("sums stay until their lanes have them");
                if !keeps {
                    sums.values.fill(0.0);
                }
                let (negated, shared) = (product.negated[0] != product.negated[1], shared.bytes());
                multiply(product.types, negated, &a.rows(shared), &b.rows(shared), &mut sums.values);
            }
            self.performed += 1;
        }
    }

    /// The site of the first group that a warp which has waited for so many has not, and how many there are.
    pub(crate) fn unfinished(&self, waited: u32) -> Option<(u32, usize)> {
        let site = *self.sites.get(waited as usize)?;
        Some((site, (self.issued - waited) as usize))
    }
}

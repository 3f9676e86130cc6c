//! What a warpgroup has under way: wgmma, and the sums that its lanes do not have yet.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use crate::{
    memory::Tracked,
    shadow::CELL,
    site::Op,
    wgmma::{K, M, multiply},
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
    /// The accumulators that its lanes bring to wgmma, lane after lane.
    pub(crate) inbox: Vec<f32>,
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

/// Where the chunks of the rows of A and of B lie for one step, as offsets in shared memory.
pub(crate) type Step = [Vec<[usize; 2]>; 2];

/// wgmma of one commit group.
pub(crate) struct Group {
    pub(crate) steps: Vec<Step>,
    /// The number of the sums that it adds to at first: groups behind it in the queue rename them.
    pub(crate) sums: u32,
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
            let Group { steps, sums } = self.queue.pop_front().expect("there are so many");
            let sums = self.sums.get_mut(&sums).expect("sums stay until their lanes have them");
            let row = |chunks: &[usize; 2]| {
                let mut row = [0; 2 * K];
                for (half, &offset) in row.chunks_exact_mut(CELL).zip(chunks) {
                    half.copy_from_slice(&shared.bytes()[offset..offset + CELL]);
                }
                row
            };
            for [a, b] in &steps {
                let a: [[u8; 2 * K]; M] = std::array::from_fn(|i| row(&a[i]));
                let b: Vec<[u8; 2 * K]> = b.iter().map(row).collect();
                multiply(&a, &b, &mut sums.values);
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

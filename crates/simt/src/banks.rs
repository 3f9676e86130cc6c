//! Which banks of shared memory the accesses of a warp meet in.

use std::collections::VecDeque;

use crate::clock::WARP;

const LANES: usize = WARP as usize;

/// Bank conflicts of up to 32 accesses of 16 bytes, as of ldmatrix: each eight of them, the rows of one
/// matrix, go to 32 banks of 4 bytes and take as many turns as distinct addresses share a group of four
/// banks. Counts the turns beyond the first.
pub(crate) fn conflicts(addresses: &[u32]) -> u64 {
    addresses.chunks_exact(8).map(|phase| u64::from(turns(phase) - 1)).sum()
}

/// Turns of up to 8 accesses of 16 bytes each.
fn turns(addresses: &[u32]) -> u32 {
    let mut most = 1;
    for banks in 0..8 {
        let in_banks = |address: &&u32| **address / 16 % 8 == banks;
        let distinct = addresses
            .iter()
            .enumerate()
            .filter(|(i, address)| in_banks(address) && !addresses[..*i].contains(address))
            .count();
        most = most.max(distinct as u32);
    }
    most
}

/// The 16-byte writes of a warp's cp.async to shared memory, which its lanes come to one by one.
#[derive(Default)]
pub(crate) struct Stores {
    /// How many each lane has come to.
    counts: [usize; LANES],
    /// How many all have come to.
    complete: usize,
    /// Those that only some have come to: addresses, and how many there are.
    open: VecDeque<([u32; LANES], usize)>,
}

impl Stores {
    /// A lane's next write. Gives the turns beyond the first of each quarter of the warp, when all lanes have
    /// come.
    pub(crate) fn add(&mut self, lane: usize, address: u32) -> u64 {
        let number = self.counts[lane] - self.complete;
        self.counts[lane] += 1;
        if number == self.open.len() {
            self.open.push_back(([0; LANES], 0));
        }
        let (addresses, lanes) = &mut self.open[number];
        addresses[lane] = address;
        *lanes += 1;
        if *lanes < LANES {
            return 0;
        }
        // All came to the earlier ones before, so that this is the first.
        self.complete += 1;
        self.open.pop_front().map_or(0, |(addresses, _)| conflicts(&addresses))
    }
}

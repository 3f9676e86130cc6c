//! The registers that the warpgroups of a CTA share out.

use std::collections::VecDeque;

use crate::clock::WARPGROUP;

/// The registers of a CTA.
pub(crate) struct Registers {
    /// In use at launch.
    pub(crate) total: u32,
    /// Those that no warpgroup has.
    pub(crate) free: u32,
    /// Of a lane, by warpgroup.
    pub(crate) counts: Vec<u32>,
    /// Warpgroups that wait for more, and how many of a lane.
    pub(crate) waiting: VecDeque<(usize, u32)>,
}

impl Registers {
    pub(crate) fn new(registers: u32, block: u32) -> Self {
        let counts = vec![registers; (block / WARPGROUP) as usize];
        Self { total: registers.saturating_mul(block), free: 0, counts, waiting: VecDeque::new() }
    }
}

//! The asynchronous copies of a lane, cp.async.

use std::collections::VecDeque;

use crate::memory::{Global, Tracked};

/// The asynchronous copies of a lane.
#[derive(Default)]
pub(crate) struct Copies {
    /// Those that have moved no data yet, in order of issue.
    pub(crate) pending: Vec<Copy>,
    /// The committed groups that are under way: their actors, none if empty, and the site of their first
    /// copy.
    pub(crate) groups: VecDeque<Option<Issued>>,
    /// Likewise the group that is not committed yet.
    pub(crate) open: Option<Issued>,
    /// Groups that were completed.
    pub(crate) completed: u32,
}

/// A group that holds copies.
#[derive(Clone, Copy)]
pub(crate) struct Issued {
    pub(crate) actor: u32,
    pub(crate) site: u32,
    pub(crate) copies: usize,
}

/// A copy that was issued.
pub(crate) struct Copy {
    /// The number of its group, from 0, in its lane.
    pub(crate) group: u32,
    /// Offset in shared memory.
    pub(crate) to: usize,
    /// Bytes that are written, and below those that are read; the rest are zeros.
    pub(crate) size: usize,
    /// Region and offset.
    pub(crate) from: (usize, usize),
    pub(crate) bytes: usize,
}

impl Copies {
    /// The site of the first copy under way, and how many there are.
    pub(crate) fn unfinished(&self) -> Option<(u32, usize)> {
        let groups: Vec<_> = self.groups.iter().chain([&self.open]).flatten().collect();
        Some((groups.first()?.site, groups.iter().map(|group| group.copies).sum()))
    }
}

impl Copy {
    /// Moves the data.
    pub(crate) fn perform(&self, global: &Global, shared: &mut Tracked) {
        let mut data = [0; 16];
        if self.bytes > 0 {
            let (region, offset) = self.from;
            data[..self.bytes].copy_from_slice(&global.region(region).bytes()[offset..offset + self.bytes]);
        }
        shared.write(self.to, &data[..self.size]);
    }
}

//! A bulk or tensor copy that has not moved all its data.

use std::rc::Rc;

use crate::{
    memory::{Content, Global, Place, Tracked},
    shadow::CELL,
};

/// Up to 16 bytes that are copied: in shared memory all of them, in global memory those within bounds.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Offset in shared memory.
    pub(crate) shared: usize,
    /// Bytes before the first within bounds, and how many are.
    pub(crate) skip: usize,
    pub(crate) bytes: usize,
    /// Where the first of these lies in global memory, if there is one.
    pub(crate) place: Option<Place>,
}

/// An mbarrier that is told when data has arrived.
#[derive(Clone, Copy)]
pub(crate) struct Signalled {
    pub(crate) slot: usize,
    pub(crate) mbarrier: usize,
    pub(crate) bytes: u32,
}

/// A copy that has not moved all its data.
pub(crate) struct Transfer {
    /// Of its writes.
    pub(crate) actor: u32,
    pub(crate) site: u32,
    pub(crate) way: Way,
}

/// From where to where.
pub(crate) enum Way {
    /// From global to shared memory.
    Load { pieces: Rc<[Piece]>, to: Signalled },
    /// From shared memory to that of a CTA of the cluster.
    Shared { slot: usize, from: usize, offset: usize, to: Signalled },
    /// From shared memory of the CTA in this slot to global memory; what it holds once it was read.
    Store { slot: usize, pieces: Vec<Piece>, data: Option<Vec<u8>>, reduction: Option<Reduction> },
}

/// What a copy makes of each element in global memory and the one that comes.
#[derive(Clone)]
pub(crate) struct Reduction {
    /// Of an element.
    pub(crate) bytes: usize,
    pub(crate) combine: Rc<dyn Fn(u64, u64) -> u64>,
}

impl Reduction {
    /// Makes of bytes that come the ones that are to be stored.
    pub(crate) fn apply(&self, old: &[u8], new: &mut [u8]) {
        let value = |bytes: &[u8]| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        for (old, new) in old.chunks_exact(self.bytes).zip(new.chunks_exact_mut(self.bytes)) {
            let combined = (self.combine)(value(old), value(new)).to_le_bytes();
            new.copy_from_slice(&combined[..self.bytes]);
        }
    }
}

impl Transfer {
    /// Whether somebody may wait for it who is told by an mbarrier.
    pub(crate) fn signals(&self) -> bool {
        !matches!(self.way, Way::Store { .. })
    }

    /// A store reads shared memory.
    pub(crate) fn fetch(&mut self, shared: &Tracked) {
        let Way::Store { pieces, data, .. } = &mut self.way else { return };
        if data.is_none() {
            let bytes = |piece: &Piece| piece.shared + piece.skip..piece.shared + piece.skip + piece.bytes;
            *data = Some(pieces.iter().flat_map(|piece| &shared.bytes()[bytes(piece)]).copied().collect());
        }
    }
}

/// Copies bytes of global memory, also that nobody wrote them.
pub(crate) fn load(global: &Global, piece: &Piece, shared: &mut Tracked) {
    let mut data = [0; CELL];
    let Some((region, offset)) = piece.place else { return shared.write(piece.shared, &data) };
    let region = global.region(region);
    let within = piece.skip..piece.skip + piece.bytes;
    data[within.clone()].copy_from_slice(&region.bytes()[offset..offset + piece.bytes]);
    shared.write(piece.shared, &data);
    if let Content::Buffer(tracked) = &region.content
        && tracked.first_poisoned(offset, piece.bytes).is_some()
    {
        for byte in 0..piece.bytes {
            if tracked.first_poisoned(offset + byte, 1).is_some() {
                shared.poison(piece.shared + within.start + byte, 1);
            }
        }
    }
}

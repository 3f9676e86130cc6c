//! Bulk and tensor copies: operations of the asynchronous proxy.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::{
    clock::Who,
    fault::Action,
    memory::{Content, SHARED_BASE, address},
    run::{Outcome, Run},
    shadow::{Access, CELL, Completion, GroupKind, Kind as How},
    state::{
        bulk::Store,
        cta::Inbound,
        mbarrier::Signal,
        transfer::{Piece, Reduction, Signalled, Transfer, Way},
    },
    tensor_map::Tensor,
};

/// What the address of a box in shared memory is a multiple of.
const BOX_ALIGN: u32 = 128;

impl Run {
    /// Takes a tensor map apart.
    pub(crate) fn tensor_map(&mut self, site: u32, map: &[u64; 16]) -> Outcome<Tensor> {
        Tensor::decode(map).map_err(|reason| self.operand(site, reason))
    }

    /// The pieces of a box, each within memory.
    fn pieces(&mut self, site: u32, map: &Tensor, at: &[i32], shared: u32) -> Outcome<Vec<Piece>> {
        if at.len() != map.dims.len() {
            let reason = format!("{} coordinates of a tensor of {} dimensions", at.len(), map.dims.len());
            return Err(self.operand(site, reason));
        }
        let align = map.element.bytes() as usize;
        map.chunks(at, shared)
            .map(|chunk| {
                let place = match chunk.global {
                    Some(address) => Some(self.locate(site, address, chunk.bytes as usize, align)?),
                    None => None,
                };
                Ok(Piece {
                    shared: (chunk.shared - SHARED_BASE) as usize,
                    skip: chunk.skip as usize,
                    bytes: chunk.bytes as usize,
                    place,
                })
            })
            .collect()
    }

    /// A tensor load, into the CTAs of a mask or the current one.
    #[allow(clippy::too_many_arguments)] // Those of the instruction.
    pub(crate) fn tensor_load(
        &mut self,
        site: u32,
        action: Option<Action>,
        to: u32,
        map: &[u64; 16],
        at: &[i32],
        bar: u32,
        ctas: Option<u16>,
    ) -> Outcome<()> {
        let map = self.tensor_map(site, map)?;
        let targets: SmallVec<[usize; 8]> = match ctas {
            None => SmallVec::from_slice(&[self.current.slot]),
            Some(0) => return Err(self.operand(site, "an empty mask of CTAs")),
            Some(mask) => (0..16)
                .filter(|rank| mask >> rank & 1 == 1)
                .map(|rank| self.peer(site, rank))
                .collect::<Outcome<_>>()?,
        };
        // Its pieces lie at the same offsets in all of them.
        let bytes = map.box_bytes();
        self.shared_range(site, self.current.slot, to, bytes as usize, BOX_ALIGN)?;
        let pieces = self.pieces(site, &map, at, to)?;
        self.load_pieces(site, action, &targets, (to, bytes), pieces, bar)
    }

    /// A copy from global to shared memory without a map.
    pub(crate) fn bulk_load(
        &mut self,
        site: u32,
        action: Option<Action>,
        to: u32,
        from: u64,
        bytes: u32,
        bar: u32,
    ) -> Outcome<()> {
        let slot = self.current.slot;
        let pieces = self.line(site, to, from, bytes)?;
        self.load_pieces(site, action, &[slot], (to, bytes), pieces, bar)
    }

    /// The pieces of as many bytes, which lie in a row on both sides.
    fn line(&mut self, site: u32, shared: u32, global: u64, bytes: u32) -> Outcome<Vec<Piece>> {
        let cell = CELL as u32;
        if bytes == 0 || !bytes.is_multiple_of(cell) {
            return Err(self.operand(site, format!("{bytes} bytes, not a multiple of {CELL}")));
        }
        let first = self.shared_range(site, self.current.slot, shared, bytes as usize, cell)?;
        let (region, offset) = self.locate(site, global, bytes as usize, CELL)?;
        let steps = (0..bytes as usize).step_by(CELL);
        let piece = |at: usize| Piece {
            shared: first + at,
            skip: 0,
            bytes: CELL,
            place: Some((region, offset + at)),
        };
        Ok(steps.map(piece).collect())
    }

    /// Loads pieces into the CTAs in some slots, and tells an mbarrier of each.
    fn load_pieces(
        &mut self,
        site: u32,
        action: Option<Action>,
        targets: &[usize],
        (to, bytes): (u32, u32),
        pieces: Vec<Piece>,
        bar: u32,
    ) -> Outcome<()> {
        let pieces: Rc<[Piece]> = pieces.into();
        let how = if matches!(action, Some(Action::NonCoherent)) { How::NonCoherentRead } else { How::Read };
        for &slot in targets {
            let signalled = self.receive(site, slot, to, bytes, bar)?;
            let actor = self.new_actor(GroupKind::Bulk, None);
            let issuer = [self.cta().clocks[self.current.lane].clone()];
            for piece in &*pieces {
                if let Some(place) = piece.place {
                    self.touch_global_async(site, place, piece.bytes, (actor, how), &issuer)?;
                }
                self.touch_shared_async(site, slot, piece.shared, CELL, (actor, How::Write), &issuer)?;
            }
            self.expect_end(site, slot, actor, Some(signalled.mbarrier));
            let way = Way::Load { pieces: pieces.clone(), to: signalled };
            self.begin(Transfer { actor, site, way }, bytes);
        }
        Ok(())
    }

    /// Checks where data arrives and whom it tells.
    fn receive(&mut self, site: u32, slot: usize, to: u32, bytes: u32, bar: u32) -> Outcome<Signalled> {
        let signal = if slot == self.current.slot { Signal::Async } else { Signal::Remote };
        let mbarrier = self.signalled_mbarrier(site, slot, bar, signal)?;
        self.keeps_off_mbarriers(site, slot, (to - SHARED_BASE) as usize, bytes as usize)?;
        Ok(Signalled { slot, mbarrier, bytes })
    }

    /// The CTA in this slot must not end before the operation, which may tell one of its mbarriers.
    fn expect_end(&mut self, site: u32, slot: usize, actor: u32, mbarrier: Option<usize>) {
        let access = Access::new(Who::group(actor), 0, How::Write, site);
        let inbound = Inbound { access, mbarrier, seen: None };
        self.slots[slot].as_mut().expect("it was found there").inbound.push(inbound);
    }

    /// A copy from shared memory to that of a CTA of the cluster.
    pub(crate) fn bulk_shared_cluster(
        &mut self,
        site: u32,
        to: u32,
        from: u32,
        bytes: u32,
        bar: u32,
    ) -> Outcome<()> {
        if bytes == 0 || !bytes.is_multiple_of(CELL as u32) {
            let reason = format!("{bytes} bytes, not a multiple of {CELL}");
            return Err(self.operand(site, reason));
        }
        let (slot, to) = self.cluster_address(site, to)?;
        let (slot_of_bar, bar) = self.cluster_address(site, bar)?;
        if slot != slot_of_bar {
            return Err(self.operand(site, "the mbarrier is in another CTA than the destination"));
        }
        let own = self.current.slot;
        let length = bytes as usize;
        let from = self.shared_range(site, own, from, length, CELL as u32)?;
        let offset = self.shared_range(site, slot, to, length, CELL as u32)?;
        let signalled = self.receive(site, slot, to, bytes, bar)?;
        let actor = self.new_actor(GroupKind::Bulk, None);
        let issuer = [self.cta().clocks[self.current.lane].clone()];
        self.touch_shared_async(site, own, from, length, (actor, How::Read), &issuer)?;
        self.touch_shared_async(site, slot, offset, length, (actor, How::Write), &issuer)?;
        self.expect_end(site, slot, actor, Some(signalled.mbarrier));
        if slot != own {
            self.expect_end(site, own, actor, None);
        }
        let way = Way::Shared { slot: own, from, offset, to: signalled };
        self.begin(Transfer { actor, site, way }, bytes);
        Ok(())
    }

    /// A tensor store, or a reduction.
    pub(crate) fn tensor_store(
        &mut self,
        site: u32,
        map: &[u64; 16],
        at: &[i32],
        from: u32,
        reduction: Option<Reduction>,
    ) -> Outcome<()> {
        let map = self.tensor_map(site, map)?;
        self.shared_range(site, self.current.slot, from, map.box_bytes() as usize, BOX_ALIGN)?;
        let pieces = self.pieces(site, &map, at, from)?;
        self.store_pieces(site, pieces, reduction)
    }

    /// A copy from shared to global memory without a map.
    pub(crate) fn bulk_store(
        &mut self,
        site: u32,
        to: u64,
        from: u32,
        bytes: u32,
        reduction: Option<Reduction>,
    ) -> Outcome<()> {
        let pieces = self.line(site, from, to, bytes)?;
        self.store_pieces(site, pieces, reduction)
    }

    /// Stores pieces; reductions of one element do not race with each other.
    fn store_pieces(
        &mut self,
        site: u32,
        mut pieces: Vec<Piece>,
        reduction: Option<Reduction>,
    ) -> Outcome<()> {
        let slot = self.current.slot;
        pieces.retain(|piece| piece.place.is_some());
        let reads = self.new_actor(GroupKind::Bulk, None);
        let writes = self.new_actor(GroupKind::Bulk, None);
        let issuer = [self.cta().clocks[self.current.lane].clone()];
        let how = if reduction.is_some() { How::StrongWrite } else { How::Write };
        for Piece { shared, skip, bytes, place } in &pieces {
            self.touch_shared_async(site, slot, shared + skip, *bytes, (reads, How::Read), &issuer)?;
            let place = place.expect("the others were left out");
            self.touch_global_async(site, place, *bytes, (writes, how), &issuer)?;
            if reduction.is_some()
                && let Content::Buffer(tracked) = &self.global.region(place.0).content
                && let Some(byte) = tracked.first_poisoned(place.1, *bytes)
            {
                let address = self.global.describe(address(place.0, byte));
                return Err(self.poisoned(site, address));
            }
        }
        self.lane_mut().bulk.open.push(Store { reads, writes, site });
        let bytes = pieces.iter().map(|piece| piece.bytes as u32).sum();
        let way = Way::Store { slot, pieces, data: None, reduction };
        self.begin(Transfer { actor: writes, site, way }, bytes);
        Ok(())
    }

    pub(crate) fn bulk_commit_group(&mut self) {
        let bulk = &mut self.lane_mut().bulk;
        let group = std::mem::take(&mut bulk.open);
        bulk.groups.push_back(group);
    }

    /// All but the latest `pending` groups of the current lane are complete, or have read shared memory.
    pub(crate) fn bulk_wait_group(&mut self, pending: u32, read: bool) {
        let (cta, lane) = (self.cta().number, self.current.lane);
        let epoch = self.cta().clocks[lane].epoch();
        let completion = Some(Completion { cta, lane: lane as u32, epoch });
        let bulk = &mut self.lane_mut().bulk;
        let done = bulk.groups.len().saturating_sub(pending as usize);
        let stores: Vec<Store> = if read {
            bulk.groups.iter().take(done).flatten().copied().collect()
        } else {
            bulk.groups.drain(..done).flatten().collect()
        };
        for store in stores {
            let reads = &mut self.groups[store.reads as usize].completed;
            *reads = reads.or(completion);
            self.fetch(store.writes);
            if !read {
                self.groups[store.writes as usize].completed = completion;
                self.land(store.writes);
            }
        }
    }
}

//! Bulk and tensor copies: operations of the asynchronous proxy.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::{
    Kind,
    clock::{Actor, LaneClock, Space, Who},
    cta::Inbound,
    exec::{Place, address, shared_name},
    fault::Action,
    mbarrier::Signal,
    memory::Content,
    run::{Outcome, Run, SHARED_BASE, Stop},
    shadow::{Access, CELL, Completion, Group, GroupKind, Kind as How, Observer, Order},
    site::Op,
    tensor_map::TensorMap,
    transfer::{Piece, Signalled, Transfer, Way},
};

/// What the address of a box in shared memory is a multiple of.
const BOX_ALIGN: u32 = 128;

/// A store to global memory.
#[derive(Clone, Copy)]
struct Store {
    /// The actor that reads shared memory, and that which writes global memory.
    reads: u32,
    writes: u32,
    site: u32,
}

/// The bulk groups of a lane.
#[derive(Default)]
pub(crate) struct BulkGroups {
    /// Those that are committed and not completed, the oldest first.
    groups: VecDeque<Vec<Store>>,
    open: Vec<Store>,
}

impl BulkGroups {
    fn all(&self) -> impl Iterator<Item = &Store> {
        self.groups.iter().chain([&self.open]).flatten()
    }

    /// The site of the first store that may not have read shared memory yet, and how many there are.
    pub(crate) fn unfinished(&self, groups: &[Group]) -> Option<(u32, usize)> {
        let unread = || self.all().filter(|store| groups[store.reads as usize].completed.is_none());
        Some((unread().next()?.site, unread().count()))
    }
}

impl Run {
    /// The number in the run of the CTA that made an access, or issued the operation that did.
    pub(crate) fn issuer(&self, access: &Access) -> u32 {
        match access.who.actor() {
            Actor::Lane { cta, .. } | Actor::Warp { cta, .. } => cta,
            Actor::Group(number) => self.groups[number as usize].cta,
        }
    }

    /// A new actor, issued by the current lane.
    pub(crate) fn new_actor(&mut self, kind: GroupKind, completed: Option<Completion>) -> u32 {
        let (cta, lane) = (self.cta().number, self.current.lane as u32);
        self.groups.push(Group { cta, lane, kind, completed });
        self.groups.len() as u32 - 1
    }

    /// Takes a tensor map apart.
    pub(crate) fn tensor_map(&mut self, site: u32, map: &[u64; 16]) -> Outcome<TensorMap> {
        TensorMap::decode(map).map_err(|reason| {
            let op = self.sites.get(site).info.op;
            self.operand(op, site, reason)
        })
    }

    /// Checks that `bytes` of shared memory are there and are no mbarrier.
    fn shared_range(
        &mut self,
        site: u32,
        slot: usize,
        address: u32,
        bytes: usize,
        align: u32,
    ) -> Outcome<usize> {
        let op = self.sites.get(site).info.op;
        let limit = self.slots[slot].as_ref().expect("it was found there").shared.bytes().len();
        let describe = || format!("shared address {address:#x}, which starts at {SHARED_BASE:#x}");
        let offset = address.wrapping_sub(SHARED_BASE) as usize;
        if address < SHARED_BASE || offset + bytes > limit {
            return Err(
                self.fail(site, Kind::OutOfBounds { op: op.to_string(), address: describe(), bytes, limit })
            );
        }
        if !address.is_multiple_of(align) {
            return Err(self.fail(site, Kind::Misaligned { op, address: describe(), align: align as usize }));
        }
        self.keeps_off_mbarriers(site, slot, offset, bytes)?;
        Ok(offset)
    }

    /// Checks an access of an asynchronous operation to shared memory of the CTA in this slot and records it. Reads
    /// must find something written.
    pub(crate) fn touch_shared_async(
        &mut self,
        site: u32,
        slot: usize,
        offset: usize,
        bytes: usize,
        (actor, how): (u32, How),
        issuers: &[LaneClock],
    ) -> Outcome<()> {
        let Self { groups, snapshots, slots, .. } = self;
        let shared = &mut slots[slot].as_mut().expect("it was found there").shared;
        let order = Order { groups, snapshots, me: Observer::Async { issuers, space: Some(Space::Shared) } };
        let access = Access::new(Who::group(actor), 0, how, site);
        if let Err((byte, old)) = shared.admit(offset, bytes, access, &order) {
            let fence = order.without_proxies().is_after(&old).then_some(Op::FenceProxyAsyncShared);
            return Err(self.race_of_async(site, shared_name(byte), &old, fence));
        }
        if how == How::Read
            && let Some(byte) = shared.first_poisoned(offset, bytes)
        {
            let op = self.sites.get(site).info.op.to_string();
            return Err(self.fail(site, Kind::Poison { op, address: shared_name(byte) }));
        }
        Ok(())
    }

    /// Likewise for global memory. Reads may find what nobody wrote: they copy that.
    fn touch_global_async(
        &mut self,
        site: u32,
        (region, offset): Place,
        bytes: usize,
        (actor, how): (u32, How),
        issuers: &[LaneClock],
    ) -> Outcome<()> {
        let Self { global, groups, snapshots, .. } = self;
        let Content::Buffer(tracked) = &mut global.region_mut(region).content else {
            return if how.is_write() {
                let op = self.sites.get(site).info.op;
                let address = self.global.describe(address(region, offset));
                Err(self.fail(site, Kind::ReadOnly { op, address }))
            } else {
                Ok(())
            };
        };
        let order = Order { groups, snapshots, me: Observer::Async { issuers, space: Some(Space::Global) } };
        let access = Access::new(Who::group(actor), 0, how, site);
        if let Err((byte, old)) = tracked.admit(offset, bytes, access, &order) {
            let fence = order.without_proxies().is_after(&old).then_some(Op::FenceProxyAsyncGlobal);
            let address = self.global.describe(address(region, byte));
            if how == How::NonCoherentRead || old.kind() == How::NonCoherentRead {
                return Err(self.race(site, How::NonCoherentRead, address, &old));
            }
            return Err(self.race_of_async(site, address, &old, fence));
        }
        Ok(())
    }

    fn race_of_async(&mut self, site: u32, address: String, old: &Access, fence: Option<Op>) -> Stop {
        let op = self.sites.get(site).info.op;
        let other = self.party(old);
        self.fail(
            site,
            match fence {
                Some(fence) => Kind::Proxy { op, address, other, fence },
                None => Kind::Race { op, address, other },
            },
        )
    }

    /// The pieces of a box, each within memory.
    fn pieces(&mut self, site: u32, map: &TensorMap, at: [i32; 2], shared: u32) -> Outcome<Vec<Piece>> {
        map.chunks(at, shared)
            .map(|chunk| {
                let place = match chunk.global {
                    Some(address) => Some(self.locate(site, address, chunk.bytes as usize, 2)?),
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
        at: [i32; 2],
        bar: u32,
        ctas: Option<u16>,
    ) -> Outcome<()> {
        let op = self.sites.get(site).info.op;
        let map = self.tensor_map(site, map)?;
        let targets: SmallVec<[usize; 8]> = match ctas {
            None => SmallVec::from_slice(&[self.current.slot]),
            Some(0) => return Err(self.operand(op, site, "an empty mask of CTAs")),
            Some(mask) => (0..16)
                .filter(|rank| mask >> rank & 1 == 1)
                .map(|rank| self.peer(op, site, rank))
                .collect::<Outcome<_>>()?,
        };
        // Its pieces lie at the same offsets in all of them.
        let bytes = map.box_bytes();
        self.shared_range(site, self.current.slot, to, bytes as usize, BOX_ALIGN)?;
        let pieces = self.pieces(site, &map, at, to)?;
        let how = if matches!(action, Some(Action::NonCoherent)) { How::NonCoherentRead } else { How::Read };
        for slot in targets {
            let signalled = self.receive(site, slot, to, bytes, bar)?;
            let actor = self.new_actor(GroupKind::Bulk, None);
            let issuer = [self.cta().clocks[self.current.lane].clone()];
            for piece in &pieces {
                if let Some(place) = piece.place {
                    self.touch_global_async(site, place, piece.bytes, (actor, how), &issuer)?;
                }
                self.touch_shared_async(site, slot, piece.shared, CELL, (actor, How::Write), &issuer)?;
            }
            self.expect_end(site, slot, actor);
            let way = Way::Load { pieces: pieces.clone(), to: signalled };
            self.begin(Transfer { actor, site, way }, bytes);
        }
        Ok(())
    }

    /// Checks where data arrives and whom it tells.
    fn receive(&mut self, site: u32, slot: usize, to: u32, bytes: u32, bar: u32) -> Outcome<Signalled> {
        let op = self.sites.get(site).info.op;
        let signal = if slot == self.current.slot { Signal::Async } else { Signal::Remote };
        let mbarrier = self.signalled_mbarrier(op, site, slot, bar, signal)?;
        self.keeps_off_mbarriers(site, slot, (to - SHARED_BASE) as usize, bytes as usize)?;
        Ok(Signalled { slot, mbarrier, bytes })
    }

    /// The CTA in this slot must not end before the operation.
    fn expect_end(&mut self, site: u32, slot: usize, actor: u32) {
        let access = Access::new(Who::group(actor), 0, How::Write, site);
        self.slots[slot].as_mut().expect("it was found there").inbound.push(Inbound { access, seen: None });
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
        let op = Op::CpAsyncBulkSharedCluster;
        if bytes == 0 || !bytes.is_multiple_of(CELL as u32) {
            let reason = format!("{bytes} bytes, not a multiple of {CELL}");
            return Err(self.operand(op, site, reason));
        }
        let (slot, to) = self.cluster_address(op, site, to)?;
        let (slot_of_bar, bar) = self.cluster_address(op, site, bar)?;
        if slot != slot_of_bar {
            return Err(self.operand(op, site, "the mbarrier is in another CTA than the destination"));
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
        self.expect_end(site, slot, actor);
        if slot != own {
            self.expect_end(site, own, actor);
        }
        let way = Way::Shared { slot: own, from, offset, to: signalled };
        self.begin(Transfer { actor, site, way }, bytes);
        Ok(())
    }

    /// A tensor store.
    pub(crate) fn tensor_store(
        &mut self,
        site: u32,
        map: &[u64; 16],
        at: [i32; 2],
        from: u32,
    ) -> Outcome<()> {
        let map = self.tensor_map(site, map)?;
        let slot = self.current.slot;
        self.shared_range(site, slot, from, map.box_bytes() as usize, BOX_ALIGN)?;
        let mut pieces = self.pieces(site, &map, at, from)?;
        pieces.retain(|piece| piece.place.is_some());
        let reads = self.new_actor(GroupKind::Bulk, None);
        let writes = self.new_actor(GroupKind::Bulk, None);
        let issuer = [self.cta().clocks[self.current.lane].clone()];
        for Piece { shared, skip, bytes, place } in &pieces {
            self.touch_shared_async(site, slot, shared + skip, *bytes, (reads, How::Read), &issuer)?;
            let place = place.expect("the others were left out");
            self.touch_global_async(site, place, *bytes, (writes, How::Write), &issuer)?;
        }
        self.lane_mut().bulk.open.push(Store { reads, writes, site });
        let bytes = pieces.iter().map(|piece| piece.bytes as u32).sum();
        self.begin(Transfer { actor: writes, site, way: Way::Store { slot, pieces, data: None } }, bytes);
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

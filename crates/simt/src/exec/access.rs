//! Checks of an access: bounds, alignment, mbarriers, races, and whether somebody wrote what is read.

use std::rc::Rc;

use crate::{
    clock::{Actor, LaneClock, Space, WARP, Who, lanes},
    fault::Allowed,
    memory::{Content, Place, SHARED_BASE, address, shared_name},
    report::Kind,
    run::{Outcome, Run, Stop},
    shadow::{Access, CELL, Kind as How, Observer, Order},
    site::Op,
    state::mbarrier::{MBARRIER, Mbarrier},
};

impl Run {
    /// Finds global memory.
    pub(crate) fn locate(&mut self, site: u32, address: u64, bytes: usize, align: usize) -> Outcome<Place> {
        let op = self.op(site);
        let found = self.global.find(address);
        let limit = found.map_or(0, |(region, _)| self.global.region(region).len());
        match found {
            Some((region, offset)) if offset + bytes <= limit => {
                if !offset.is_multiple_of(align) {
                    let address = self.global.describe(address);
                    return Err(self.fail(site, Kind::Misaligned { op, address, align }));
                }
                Ok((region, offset))
            }
            _ => {
                let address = self.global.describe(address);
                Err(self.fail(site, Kind::OutOfBounds { op: op.to_string(), address, bytes, limit }))
            }
        }
    }

    /// Finds shared memory of the current CTA, for an access of so many bytes that are aligned as one.
    pub(crate) fn locate_shared(&mut self, site: u32, address: u32, bytes: usize) -> Outcome<usize> {
        self.shared_offset(site, self.current.slot, address, bytes, bytes as u32)
    }

    /// Checks that `bytes` of shared memory are there and are no mbarrier.
    pub(crate) fn shared_range(
        &mut self,
        site: u32,
        slot: usize,
        address: u32,
        bytes: usize,
        align: u32,
    ) -> Outcome<usize> {
        let offset = self.shared_offset(site, slot, address, bytes, align)?;
        self.keeps_off_mbarriers(site, slot, offset, bytes)?;
        Ok(offset)
    }

    /// Where in shared memory of the CTA in this slot an address is, of which `bytes` must be there.
    fn shared_offset(
        &mut self,
        site: u32,
        slot: usize,
        address: u32,
        bytes: usize,
        align: u32,
    ) -> Outcome<usize> {
        let limit = self.slots[slot].as_ref().expect("it was found there").shared.bytes().len();
        let offset = address.wrapping_sub(SHARED_BASE) as usize;
        let is_outside = address < SHARED_BASE || offset + bytes > limit;
        if !is_outside && address.is_multiple_of(align) {
            return Ok(offset);
        }
        let (op, align) = (self.op(site), align as usize);
        let address = format!("shared address {address:#x}, which starts at {SHARED_BASE:#x}");
        Err(self.fail(
            site,
            if is_outside {
                Kind::OutOfBounds { op: op.to_string(), address, bytes, limit }
            } else {
                Kind::Misaligned { op, address, align }
            },
        ))
    }

    /// Whether ordinary data of `bytes` there would lie on an mbarrier of the CTA in this slot.
    pub(crate) fn keeps_off_mbarriers(
        &mut self,
        site: u32,
        slot: usize,
        offset: usize,
        bytes: usize,
    ) -> Outcome<()> {
        let cta = self.slots[slot].as_ref().expect("whoever accesses it knows it is there");
        let hit = |mbarrier: &&Mbarrier| {
            mbarrier.is_valid && mbarrier.offset < offset + bytes && offset < mbarrier.offset + MBARRIER
        };
        let Some(mbarrier) = cta.mbarriers.iter().find(hit) else { return Ok(()) };
        let reason = format!("touches the mbarrier at {}", shared_name(mbarrier.offset));
        Err(self.operand(site, reason))
    }

    /// Checks an access to global memory for races and records it, by the current lane or, if given, by its
    /// group of copies. Reads must find something written.
    pub(crate) fn touch(
        &mut self,
        site: u32,
        (region, offset): Place,
        bytes: usize,
        how: How,
        group: Option<u32>,
    ) -> Outcome<()> {
        let Self { global, groups, snapshots, slots, current, .. } = self;
        let Content::Buffer(tracked) = &mut global.region_mut(region).content else {
            return self.touch_input(site, address(region, offset), how);
        };
        let cta = slots[current.slot].as_ref().expect("the current lane's CTA is resident");
        let clock = &cta.clocks[current.lane];
        let order = Order { groups, snapshots, me: Observer::Lane(clock) };
        let raced = tracked.admit(offset, bytes, access(clock, group, how, site), &order);
        let poisoned = if how == How::Write { None } else { tracked.first_poisoned(offset, bytes) };
        if let Err((byte, old)) = raced {
            let address = self.global.describe(address(region, byte));
            return Err(self.race(site, how, address, &old));
        }
        if let Some(byte) = poisoned
            // A strong store reads nothing.
            && !matches!(self.op(site), Op::StRelaxed | Op::StRelease)
        {
            let address = self.global.describe(address(region, byte));
            return Err(self.poisoned(site, address));
        }
        Ok(())
    }

    /// Likewise for an input, which is only read.
    fn touch_input(&mut self, site: u32, address: u64, how: How) -> Outcome<()> {
        if !how.is_write() {
            return Ok(());
        }
        let (op, address) = (self.op(site), self.global.describe(address));
        Err(self.fail(site, Kind::ReadOnly { op, address }))
    }

    /// Likewise for shared memory.
    pub(crate) fn touch_shared(
        &mut self,
        site: u32,
        offset: usize,
        bytes: usize,
        how: How,
        group: Option<u32>,
    ) -> Outcome<()> {
        self.touch_shared_with(site, offset, bytes, (how, group), false)
    }

    /// Likewise; `is_same` says that it stores what is there.
    pub(crate) fn touch_shared_with(
        &mut self,
        site: u32,
        offset: usize,
        bytes: usize,
        (how, group): (How, Option<u32>),
        is_same: bool,
    ) -> Outcome<()> {
        self.keeps_off_mbarriers(site, self.current.slot, offset, bytes)?;
        let Self { groups, snapshots, slots, current, .. } = self;
        let cta = slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let clock = &cta.clocks[current.lane];
        let order = Order { groups, snapshots, me: Observer::Lane(clock) };
        let raced = cta.shared.admit(offset, bytes, access(clock, group, how, site), &order);
        if let Err((byte, old)) = raced {
            let are_stores = (how, old.kind(), group) == (How::Write, How::Write, None);
            if are_stores
                && (is_same && self.allows(Allowed::EqualStores, site)
                    || self.allows(Allowed::ConcurrentStores, site))
            {
                return Ok(());
            }
            return Err(self.race(site, how, shared_name(byte), &old));
        }
        let poisoned = if how == How::Write { None } else { cta.shared.first_poisoned(offset, bytes) };
        if let Some(byte) = poisoned
            && !matches!(self.op(site), Op::StRelaxed | Op::StRelease)
        {
            return Err(self.poisoned(site, shared_name(byte)));
        }
        Ok(())
    }

    /// Checks and records the access of a warp to the rows that its first `count` lanes have named: what it
    /// stores there, if it does.
    pub(crate) fn touch_rows(
        &mut self,
        site: u32,
        warp: usize,
        stores: Option<&[[u8; CELL]; WARP as usize]>,
        count: usize,
    ) -> Outcome<()> {
        let how = if stores.is_some() { How::Write } else { How::Read };
        let mut first = 0;
        while let Some((row, byte, old)) = self.fault_of_rows(site, warp, how, first..count) {
            let offset = (self.cta().warps[warp].inbox.rows[row] - SHARED_BASE) as usize;
            let is_same = |rows: &[[u8; CELL]; WARP as usize]| {
                self.cta().shared.bytes()[offset..offset + CELL] == rows[row]
            };
            let are_equal = stores.is_some_and(is_same) && old.is_some_and(|old| old.kind() == How::Write);
            if are_equal && self.allows(Allowed::EqualStores, site) {
                first = row + 1;
                continue;
            }
            // Reported for the lane that gave the address; the one that runs is the current one again.
            let current = std::mem::replace(&mut self.current.lane, warp * WARP as usize + row);
            let stop = match old {
                Some(old) => self.race(site, how, shared_name(byte), &old),
                None => self.poisoned(site, shared_name(byte)),
            };
            self.current.lane = current;
            return Err(stop);
        }
        Ok(())
    }

    /// The first of some rows where the access is at fault, and the byte; with what it races, or nothing
    /// where nobody wrote.
    fn fault_of_rows(
        &mut self,
        site: u32,
        warp: usize,
        how: How,
        rows: std::ops::Range<usize>,
    ) -> Option<(usize, usize, Option<Access>)> {
        let slot = self.current.slot;
        let addresses = self.cta().warps[warp].inbox.rows;
        let Self { groups, snapshots, slots, .. } = self;
        let cta = slots[slot].as_mut().expect("the current lane's CTA is resident");
        let clocks = &cta.clocks[lanes(warp)];
        let snapshot = *cta.warps[warp].snapshot.get_or_insert_with(|| {
            snapshots.push(std::array::from_fn(|lane| clocks[lane].epoch()));
            snapshots.len() as u32 - 1
        });
        let same = clocks.iter().all(|clock| Rc::ptr_eq(clock.view(), clocks[0].view()));
        let who = Who::warp(cta.number, warp as u32);
        let me = Observer::Warp { who, lanes: clocks, view: same.then(|| &**clocks[0].view()) };
        let order = Order { groups, snapshots, me };
        let access = Access::new(who, snapshot, how, site);
        rows.into_iter().find_map(|row| {
            let offset = (addresses[row] - SHARED_BASE) as usize;
            if let Err((byte, old)) = cta.shared.admit(offset, CELL, access, &order) {
                return Some((row, byte, Some(old)));
            }
            let poisoned = if how == How::Read { cta.shared.first_poisoned(offset, CELL) } else { None };
            poisoned.map(|byte| (row, byte, None))
        })
    }

    pub(crate) fn race(&mut self, site: u32, how: How, address: String, old: &Access) -> Stop {
        let op = self.op(site);
        let other = self.party(old);
        let non_coherent = how == How::NonCoherentRead || old.kind() == How::NonCoherentRead;
        self.fail(
            site,
            if non_coherent {
                Kind::NonCoherent { op, address, other }
            } else {
                Kind::Race { op, address, other }
            },
        )
    }

    /// Checks an access of an asynchronous operation to shared memory of the CTA in this slot and records it.
    /// Reads must find something written.
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
            return Err(self.poisoned(site, shared_name(byte)));
        }
        Ok(())
    }

    /// Likewise for global memory. Reads may find what nobody wrote: they copy that.
    pub(crate) fn touch_global_async(
        &mut self,
        site: u32,
        (region, offset): Place,
        bytes: usize,
        (actor, how): (u32, How),
        issuers: &[LaneClock],
    ) -> Outcome<()> {
        let Self { global, groups, snapshots, .. } = self;
        let Content::Buffer(tracked) = &mut global.region_mut(region).content else {
            return self.touch_input(site, address(region, offset), how);
        };
        let order = Order { groups, snapshots, me: Observer::Async { issuers, space: Some(Space::Global) } };
        let access = Access::new(Who::group(actor), 0, how, site);
        if let Err((byte, old)) = tracked.admit(offset, bytes, access, &order) {
            let fence = order.without_proxies().is_after(&old).then_some(Op::FenceProxyAsyncGlobal);
            if how == How::Write
                && self.is_store_of_cta(&old)
                && self.allows(Allowed::RepeatedTensorStores, site)
            {
                return Ok(());
            }
            let address = self.global.describe(address(region, byte));
            if how == How::NonCoherentRead || old.kind() == How::NonCoherentRead {
                return Err(self.race(site, How::NonCoherentRead, address, &old));
            }
            return Err(self.race_of_async(site, address, &old, fence));
        }
        Ok(())
    }

    /// Whether an access is of a tensor store that the current CTA issued.
    fn is_store_of_cta(&self, access: &Access) -> bool {
        let Actor::Group(number) = access.who.actor() else { return false };
        self.op(access.site()) == Op::CpAsyncBulkTensor2dStore
            && self.groups[number as usize].cta == self.cta().number
    }

    fn race_of_async(&mut self, site: u32, address: String, old: &Access, fence: Option<Op>) -> Stop {
        let op = self.op(site);
        let other = self.party(old);
        self.fail(
            site,
            match fence {
                Some(fence) => Kind::Proxy { op, address, other, fence },
                None => Kind::Race { op, address, other },
            },
        )
    }
}

fn access(clock: &LaneClock, group: Option<u32>, how: How, site: u32) -> Access {
    match group {
        Some(group) => Access::new(Who::group(group), 0, how, site),
        None => Access::new(clock.who(), clock.epoch(), how, site),
    }
}

//! What each instruction does, for the current lane of a [`Run`].

use std::rc::Rc;

use bytemuck::Pod;
use rand::RngExt;

use crate::{
    Asynchrony, Kind, banks,
    clock::{LaneClock, WARP, Who},
    cta::{Copy, Issued},
    fault::Action,
    memory::Content,
    run::{Outcome, Run, SHARED_BASE, Stop},
    shadow::{Access, CELL, Completion, Group, GroupKind, Kind as How, Observer, Order},
    site::Op,
    tensor,
};

/// An access to global memory that was checked: region and offset.
pub(crate) type Place = (usize, usize);

/// The only word of a result under [`Action::Word`].
pub(crate) fn changed(action: Option<Action>, value: u32) -> u32 {
    match action {
        Some(Action::Word { word: 0, change }) => change(value),
        _ => value,
    }
}

impl Run {
    /// Finds global memory.
    pub(crate) fn locate(&mut self, site: u32, address: u64, bytes: usize, align: usize) -> Outcome<Place> {
        let op = self.sites.get(site).info.op;
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

    /// Finds shared memory.
    pub(crate) fn locate_shared(&mut self, site: u32, address: u32, bytes: usize) -> Outcome<usize> {
        let op = self.sites.get(site).info.op;
        let limit = self.cta().shared.bytes().len();
        let describe = || format!("shared address {address:#x}, which starts at {SHARED_BASE:#x}");
        let offset = address.wrapping_sub(SHARED_BASE) as usize;
        if address < SHARED_BASE || offset + bytes > limit {
            return Err(
                self.fail(site, Kind::OutOfBounds { op: op.to_string(), address: describe(), bytes, limit })
            );
        }
        if !offset.is_multiple_of(bytes) {
            return Err(self.fail(site, Kind::Misaligned { op, address: describe(), align: bytes }));
        }
        Ok(offset)
    }

    /// Checks an access to global memory for races and records it, by the current lane or, if given, by its group of
    /// copies. Reads must find something written.
    fn touch(
        &mut self,
        site: u32,
        (region, offset): Place,
        bytes: usize,
        how: How,
        group: Option<u32>,
    ) -> Outcome<()> {
        let Self { global, groups, snapshots, slots, current, .. } = self;
        let Content::Buffer(tracked) = &mut global.region_mut(region).content else {
            return if how.is_write() {
                let op = self.sites.get(site).info.op;
                let address = self.global.describe(address(region, offset));
                Err(self.fail(site, Kind::ReadOnly { op, address }))
            } else {
                Ok(())
            };
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
            // A relaxed store reads nothing.
            && self.sites.get(site).info.op != Op::StRelaxed
        {
            let (op, address) =
                (self.sites.get(site).info.op.to_string(), self.global.describe(address(region, byte)));
            return Err(self.fail(site, Kind::Poison { op, address }));
        }
        Ok(())
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
        self.keeps_off_mbarriers(site, self.current.slot, offset, bytes)?;
        let Self { groups, snapshots, slots, current, .. } = self;
        let cta = slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let clock = &cta.clocks[current.lane];
        let order = Order { groups, snapshots, me: Observer::Lane(clock) };
        let raced = cta.shared.admit(offset, bytes, access(clock, group, how, site), &order);
        if let Err((byte, old)) = raced {
            return Err(self.race(site, how, shared_name(byte), &old));
        }
        if how == How::Read
            && let Some(byte) = cta.shared.first_poisoned(offset, bytes)
        {
            let op = self.sites.get(site).info.op.to_string();
            return Err(self.fail(site, Kind::Poison { op, address: shared_name(byte) }));
        }
        Ok(())
    }

    pub(crate) fn race(&mut self, site: u32, how: How, address: String, old: &Access) -> Stop {
        let op = self.sites.get(site).info.op;
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

    pub(crate) fn ld_global<T: Pod>(
        &mut self,
        site: u32,
        action: Option<Action>,
        address: u64,
    ) -> Outcome<T> {
        let bytes = size_of::<T>();
        let place @ (region, offset) = self.locate(site, address, bytes, bytes)?;
        let how = if matches!(action, Some(Action::NonCoherent)) { How::NonCoherentRead } else { How::Read };
        self.touch(site, place, bytes, how, None)?;
        self.stats.global_loaded += bytes as u64;
        let mut value: T =
            bytemuck::pod_read_unaligned(&self.global.region(region).bytes()[offset..offset + bytes]);
        if let Some(Action::Word { word, change }) = action
            && let Some(at) = bytemuck::bytes_of_mut(&mut value).chunks_exact_mut(4).nth(word)
        {
            at.copy_from_slice(&change(bytemuck::pod_read_unaligned(at)).to_ne_bytes());
        }
        Ok(value)
    }

    pub(crate) fn write_global(&mut self, (region, offset): Place, bytes: &[u8]) {
        let Content::Buffer(tracked) = &mut self.global.region_mut(region).content else {
            unreachable!("inputs were refused");
        };
        tracked.write(offset, bytes);
    }

    /// The end of a release sequence: a write that is no read-modify-write. Words are 4 bytes.
    pub(crate) fn break_release(&mut self, address: u64, bytes: usize) {
        if !self.released.is_empty() {
            for word in (address & !3..address + bytes as u64).step_by(4) {
                self.released.remove(&word);
            }
        }
    }

    pub(crate) fn st_global<T: Pod>(&mut self, site: u32, address: u64, value: T) -> Outcome<()> {
        let bytes = size_of::<T>();
        let place = self.locate(site, address, bytes, bytes)?;
        self.touch(site, place, bytes, How::Write, None)?;
        self.write_global(place, bytemuck::bytes_of(&value));
        self.break_release(address, bytes);
        self.stats.global_stored += bytes as u64;
        Ok(())
    }

    pub(crate) fn ld_acquire(&mut self, site: u32, action: Option<Action>, address: u64) -> Outcome<u32> {
        let place @ (region, offset) = self.locate(site, address, 4, 4)?;
        self.touch(site, place, 4, How::StrongRead, None)?;
        let lane = self.current.lane;
        if !matches!(action, Some(Action::Weaken))
            && let Some(view) = self.released.get(&address).cloned()
        {
            let Self { slots, current, joins, .. } = self;
            let cta = slots[current.slot].as_mut().expect("the current lane's CTA is resident");
            cta.clocks[lane].acquire(&view, joins);
        }
        self.lane_mut().poll = Some((site, address, self.version));
        let value = bytemuck::pod_read_unaligned(&self.global.region(region).bytes()[offset..offset + 4]);
        Ok(changed(action, value))
    }

    pub(crate) fn st_relaxed(&mut self, site: u32, address: u64, value: u32) -> Outcome<()> {
        let place = self.locate(site, address, 4, 4)?;
        self.touch(site, place, 4, How::StrongWrite, None)?;
        self.write_global(place, &value.to_ne_bytes());
        self.word_changes();
        self.break_release(address, 4);
        Ok(())
    }

    /// A read-modify-write: continues the release sequence of the word, and starts its own if it releases. Gives what
    /// was there.
    pub(crate) fn atom(
        &mut self,
        site: u32,
        address: u64,
        release: bool,
        new: impl FnOnce(u32) -> u32,
    ) -> Outcome<u32> {
        let place @ (region, offset) = self.locate(site, address, 4, 4)?;
        self.touch(site, place, 4, How::StrongWrite, None)?;
        let old = bytemuck::pod_read_unaligned(&self.global.region(region).bytes()[offset..offset + 4]);
        self.write_global(place, &new(old).to_ne_bytes());
        self.word_changes();
        if release {
            let lane = self.current.lane;
            let mut published = self.cta_mut().clocks[lane].release();
            self.cta_mut().warps[lane / WARP as usize].snapshot = None;
            if let Some(earlier) = self.released.get(&address) {
                published.join(earlier);
            }
            self.released.insert(address, Rc::new(published));
        }
        self.stats.atomics += 1;
        Ok(old)
    }

    pub(crate) fn ld_shared<T: Pod>(&mut self, site: u32, address: u32) -> Outcome<T> {
        let bytes = size_of::<T>();
        let offset = self.locate_shared(site, address, bytes)?;
        self.touch_shared(site, offset, bytes, How::Read, None)?;
        Ok(bytemuck::pod_read_unaligned(&self.cta().shared.bytes()[offset..offset + bytes]))
    }

    pub(crate) fn st_shared<T: Pod>(&mut self, site: u32, address: u32, value: T) -> Outcome<()> {
        let bytes = size_of::<T>();
        let offset = self.locate_shared(site, address, bytes)?;
        self.touch_shared(site, offset, bytes, How::Write, None)?;
        self.cta_mut().shared.write(offset, bytemuck::bytes_of(&value));
        Ok(())
    }

    pub(crate) fn cp_async(
        &mut self,
        site: u32,
        action: Option<Action>,
        to: u32,
        from: u64,
        bytes: u32,
    ) -> Outcome<()> {
        if bytes > 16 {
            let reason = format!("reads {bytes} bytes, of at most 16");
            return Err(self.fail(site, Kind::Operand { op: Op::CpAsync, reason }));
        }
        let bytes = bytes as usize;
        let to = self.locate_shared(site, to, CELL)?;
        let from = if bytes > 0 { self.locate(site, from, bytes, CELL)? } else { (0, 0) };

        let next_actor = self.groups.len() as u32;
        let (cta, lane) = (self.cta().number, self.current.lane as u32);
        let copies = &mut self.lane_mut().copies;
        let open = copies.open.get_or_insert(Issued { actor: next_actor, site, copies: 0 });
        open.copies += 1;
        let actor = open.actor;
        let group = copies.completed + copies.groups.len() as u32;
        if actor == next_actor {
            self.groups.push(Group { cta, lane, kind: GroupKind::Copy, completed: None });
        }
        if bytes > 0 {
            let non_coherent = matches!(action, Some(Action::NonCoherent));
            let how = if non_coherent { How::NonCoherentRead } else { How::Read };
            self.touch(site, from, bytes, how, Some(actor))?;
        }
        self.touch_shared(site, to, CELL, How::Write, Some(actor))?;

        let copy = Copy { group, to, from, bytes };
        let at_once = match self.schedule.asynchrony {
            Asynchrony::Early => true,
            Asynchrony::Late => false,
            Asynchrony::Random => self.rng.random_ratio(1, 4),
        };
        if at_once {
            let slot = self.current.slot;
            let cta = self.slots[slot].as_mut().expect("the current lane's CTA is resident");
            copy.perform(&self.global, &mut cta.shared);
            self.stats.copies_at_issue += 1;
        } else {
            self.lane_mut().copies.pending.push(copy);
        }
        self.stats.cp_async += 1;
        self.stats.cp_async_bytes += bytes as u64;
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        self.stats.cp_async_conflicts += self.cta_mut().warps[warp].stores.add(lane, to as u32);
        Ok(())
    }

    pub(crate) fn cp_async_commit_group(&mut self) {
        let copies = &mut self.lane_mut().copies;
        let group = copies.open.take();
        copies.groups.push_back(group);
    }

    pub(crate) fn cp_async_wait_group(&mut self, pending: u32) {
        let current = self.current;
        let cta = self.slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let epoch = cta.clocks[current.lane].epoch();
        let completion = Completion { cta: cta.number, lane: current.lane as u32, epoch };
        let copies = &mut cta.lanes[current.lane].copies;
        while copies.groups.len() > pending as usize {
            if let Some(group) = copies.groups.pop_front().flatten() {
                self.groups[group.actor as usize].completed = Some(completion);
            }
            copies.completed += 1;
        }
        let completed = copies.completed;
        // Those of one group write distinct bytes, or it were a race: their order does not matter.
        for copy in copies.pending.extract_if(.., |copy| copy.group < completed) {
            copy.perform(&self.global, &mut cta.shared);
            self.stats.copies_at_wait += 1;
        }
    }

    /// The current lane comes to bar.sync.
    pub(crate) fn bar_sync(&mut self, site: u32) -> Outcome<()> {
        if self.arrive(Op::BarSync, site)? {
            let cta = self.cta_mut();
            let lanes = cta.clocks.len();
            LaneClock::barrier(&mut cta.clocks, std::iter::once(0..lanes));
            for warp in &mut cta.warps {
                warp.snapshot = None;
            }
            self.stats.barriers += 1;
        }
        Ok(())
    }

    /// The current lane comes to bar.warp.sync.
    pub(crate) fn bar_warp_sync(&mut self, site: u32) -> Outcome<()> {
        if self.arrive(Op::BarWarpSync, site)? {
            let warp = self.current.lane / WARP as usize;
            let cta = self.cta_mut();
            LaneClock::barrier(&mut cta.clocks, std::iter::once(lanes(warp)));
            cta.warps[warp].snapshot = None;
            self.stats.barriers += 1;
        }
        Ok(())
    }

    /// The current lane comes to mma; what it gets is its lane's `result`.
    pub(crate) fn mma(&mut self, site: u32, a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.a[lane] = a;
        inbox.b[lane] = b;
        inbox.c[lane] = c;
        if self.arrive(Op::Mma, site)? {
            let cta = self.cta_mut();
            let inbox = &mut *cta.warps[warp].inbox;
            tensor::mma_m16n8k16(&inbox.a, &inbox.b, &mut inbox.c);
            for (lane, d) in cta.lanes[lanes(warp)].iter_mut().zip(&inbox.c) {
                lane.result = d.map(f32::to_bits);
            }
            self.stats.mma += 1;
        }
        Ok(())
    }

    /// The current lane comes to shfl.sync.bfly; what it gets is its lane's `result`. No memory is touched, and nothing
    /// ordered.
    pub(crate) fn shfl_bfly(&mut self, site: u32, value: u32, mask: u32) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.b[lane] = [value, mask];
        if self.arrive(Op::ShflBfly, site)? {
            let cta = self.cta_mut();
            let inbox = &cta.warps[warp].inbox.b;
            for (number, lane) in cta.lanes[lanes(warp)].iter_mut().enumerate() {
                let from = number ^ (inbox[number][1] % WARP) as usize;
                lane.result = [inbox[from][0]; 4];
            }
        }
        Ok(())
    }

    /// The current lane comes to ldmatrix, `op` says which; what it gets is its lane's `result`.
    ///
    /// The rows are read by the warp: what others do with them must be ordered before, or after, *all* of its lanes.
    pub(crate) fn ldmatrix(&mut self, site: u32, row: u32, op: Op) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        // A bad address is its own lane's fault.
        self.locate_row(site, row)?;
        self.cta_mut().warps[warp].inbox.rows[lane] = row;
        if !self.arrive(op, site)? {
            return Ok(());
        }
        self.touch_rows(site, warp, How::Read)?;
        let cta = self.cta_mut();
        let addresses = cta.warps[warp].inbox.rows;
        let rows = addresses.map(|address| {
            let offset = (address - SHARED_BASE) as usize;
            let mut row = [0; CELL];
            row.copy_from_slice(&cta.shared.bytes()[offset..offset + CELL]);
            row
        });
        let registers = match op {
            Op::LdmatrixTrans => tensor::ldmatrix_x4_trans(&rows),
            _ => tensor::ldmatrix_x4(&rows),
        };
        for (lane, registers) in cta.lanes[lanes(warp)].iter_mut().zip(registers) {
            lane.result = registers;
        }
        self.stats.ldmatrix += 1;
        self.stats.ldmatrix_conflicts += banks::conflicts(&addresses);
        Ok(())
    }

    /// The current lane comes to stmatrix. The rows are written by the warp, as ldmatrix reads them: a lane that goes
    /// on is ordered after its own part alone.
    pub(crate) fn stmatrix(&mut self, site: u32, row: u32, values: [u32; 4]) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        self.locate_row(site, row)?;
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.rows[lane] = row;
        inbox.a[lane] = values;
        if !self.arrive(Op::Stmatrix, site)? {
            return Ok(());
        }
        let addresses = self.cta().warps[warp].inbox.rows;
        for (lane, address) in addresses.iter().enumerate() {
            if addresses[..lane].contains(address) {
                let name = shared_name((address - SHARED_BASE) as usize);
                return Err(self.operand(
                    Op::Stmatrix,
                    site,
                    format!("the row of lane {lane} goes to {name}, as another"),
                ));
            }
        }
        self.touch_rows(site, warp, How::Write)?;
        let cta = self.cta_mut();
        let rows = tensor::stmatrix_x4(&cta.warps[warp].inbox.a);
        for (address, row) in addresses.iter().zip(&rows) {
            cta.shared.write((address - SHARED_BASE) as usize, row);
        }
        self.stats.stmatrix += 1;
        self.stats.stmatrix_conflicts += banks::conflicts(&addresses);
        Ok(())
    }

    /// Checks the address of a row.
    fn locate_row(&mut self, site: u32, row: u32) -> Outcome<()> {
        let offset = self.locate_shared(site, row, CELL)?;
        self.keeps_off_mbarriers(site, self.current.slot, offset, CELL)
    }

    /// Checks and records the access of a warp to the rows that its lanes have named.
    fn touch_rows(&mut self, site: u32, warp: usize, how: How) -> Outcome<()> {
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

        let fault = addresses.iter().enumerate().find_map(|(lane, &address)| {
            let offset = (address - SHARED_BASE) as usize;
            if let Err((byte, old)) = cta.shared.admit(offset, CELL, access, &order) {
                return Some((lane, byte, Some(old)));
            }
            let poisoned = if how == How::Read { cta.shared.first_poisoned(offset, CELL) } else { None };
            poisoned.map(|byte| (lane, byte, None))
        });
        if let Some((lane, byte, old)) = fault {
            // Reported for the lane that gave the address; the one that runs is the current one again.
            let current = self.current.lane;
            self.current.lane = warp * WARP as usize + lane;
            let stop = match old {
                Some(old) => self.race(site, how, shared_name(byte), &old),
                None => {
                    let op = self.sites.get(site).info.op.to_string();
                    self.fail(site, Kind::Poison { op, address: shared_name(byte) })
                }
            };
            self.current.lane = current;
            return Err(stop);
        }
        Ok(())
    }
}

/// The lanes of a warp in its CTA.
pub(crate) fn lanes(warp: usize) -> std::ops::Range<usize> {
    warp * WARP as usize..(warp + 1) * WARP as usize
}

fn access(clock: &LaneClock, group: Option<u32>, how: How, site: u32) -> Access {
    match group {
        Some(group) => Access::new(Who::group(group), 0, how, site),
        None => Access::new(clock.who(), clock.epoch(), how, site),
    }
}

pub(crate) fn address(region: usize, offset: usize) -> u64 {
    (2 * region as u64 + 1) << 32 | offset as u64
}

pub(crate) fn shared_name(offset: usize) -> String {
    format!("shared memory + {offset:#x}")
}

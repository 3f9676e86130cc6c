//! Loads, stores and atomics of a lane.

use std::rc::Rc;

use bytemuck::Pod;

use crate::{
    clock::{Space, View, WARP},
    fault::Action,
    memory::{Content, Place, address},
    run::{Outcome, Run},
    shadow::Kind as How,
};

/// A word that a strong access is to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) space: Space,
    pub(crate) address: u64,
    /// 2, 4 or 8.
    pub(crate) bytes: usize,
}

impl Word {
    /// One of four bytes in global memory.
    pub(crate) const fn global(address: u64) -> Self {
        Self { space: Space::Global, address, bytes: 4 }
    }

    /// What a poll loop is known by: global addresses are at least 2^32.
    pub(crate) const fn poll(self) -> u64 {
        self.address
    }
}

/// Where a word was found.
#[derive(Clone, Copy)]
enum Found {
    Global(Place),
    Shared(usize),
}

/// The only word of a result under [`Action::Word`].
pub(crate) fn changed(action: Option<Action>, value: u32) -> u32 {
    match action {
        Some(Action::Word { word: 0, change }) => change(value),
        _ => value,
    }
}

impl Run {
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

    /// A strong read; it acquires if it is to.
    pub(crate) fn ld_strong(
        &mut self,
        site: u32,
        action: Option<Action>,
        word: Word,
        acquires: bool,
    ) -> Outcome<u64> {
        let found = self.locate_word(site, word)?;
        self.touch_word(site, found, word.bytes, How::StrongRead)?;
        let key = self.key(found);
        if let Some(view) = self.released.get(&key).cloned()
            && !matches!(action, Some(Action::Weaken))
        {
            self.observe(&view, acquires);
        }
        let version = self.version;
        self.lane_mut().poll = Some((site, word.poll(), version));
        let value = self.read_word(found, word.bytes);
        Ok(u64::from(changed(action, value as u32)) | value & !0xffff_ffff)
    }

    /// What was published with the word that the current lane reads: ordered before at once, or by a fence
    /// that follows.
    fn observe(&mut self, view: &Rc<View>, acquires: bool) {
        let Self { slots, current, joins, .. } = self;
        let cta = slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        if acquires {
            cta.clocks[current.lane].acquire(view, joins);
        } else {
            match &mut cta.lanes[current.lane].observed {
                Some(observed) => observed.join(view),
                none => *none = Some(View::clone(view)),
            }
        }
    }

    /// `fence.acq_rel`, `membar`: what strong reads before it have seen is ordered before what follows, and
    /// strong writes after it publish what came before. PTX ISA, "Memory Consistency Model".
    pub(crate) fn fence(&mut self) {
        let Self { slots, current, joins, .. } = self;
        let cta = slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let clock = &mut cta.clocks[current.lane];
        if let Some(observed) = cta.lanes[current.lane].observed.take() {
            clock.acquire(&Rc::new(observed), joins);
        }
        cta.lanes[current.lane].fenced = Some(Rc::new(clock.release()));
        cta.warps[current.lane / WARP as usize].snapshot = None;
    }

    /// A strong store.
    pub(crate) fn st_strong(&mut self, site: u32, word: Word, value: u64, releases: bool) -> Outcome<()> {
        let found = self.locate_word(site, word)?;
        self.touch_word(site, found, word.bytes, How::StrongWrite)?;
        self.write_word(found, word.bytes, value);
        self.word_changes();
        let key = self.key(found);
        self.break_release(key, word.bytes);
        if let Some(published) = self.published(releases) {
            self.released.insert(key, published);
        }
        Ok(())
    }

    /// What a strong write of the current lane publishes, if it does.
    fn published(&mut self, releases: bool) -> Option<Rc<View>> {
        let lane = self.current.lane;
        if !releases {
            return self.lane_mut().fenced.clone();
        }
        let cta = self.cta_mut();
        cta.warps[lane / WARP as usize].snapshot = None;
        Some(Rc::new(cta.clocks[lane].release()))
    }

    /// A read-modify-write: continues the release sequence of the word, and starts its own if it releases.
    /// Gives what was there.
    pub(crate) fn atom(
        &mut self,
        site: u32,
        word: Word,
        (acquires, releases): (bool, bool),
        new: impl FnOnce(u64) -> u64,
    ) -> Outcome<u64> {
        let found = self.locate_word(site, word)?;
        self.touch_word(site, found, word.bytes, How::StrongWrite)?;
        let old = self.read_word(found, word.bytes);
        self.write_word(found, word.bytes, new(old));
        self.word_changes();
        let key = self.key(found);
        let earlier = self.released.get(&key).cloned();
        if let Some(view) = &earlier {
            self.observe(view, acquires);
        }
        if let Some(mut published) = self.published(releases) {
            if let Some(earlier) = earlier {
                Rc::make_mut(&mut published).join(&earlier);
            }
            self.released.insert(key, published);
        }
        self.stats.atomics += 1;
        Ok(old)
    }

    /// Whether a store changes nothing; asked only where something is allowed.
    fn stores_what_is_there(&self, offset: usize, value: &[u8]) -> bool {
        let shared = &self.cta().shared;
        !self.schedule.allowances.is_empty()
            && shared.first_poisoned(offset, value.len()).is_none()
            && shared.bytes()[offset..offset + value.len()] == *value
    }

    fn locate_word(&mut self, site: u32, word: Word) -> Outcome<Found> {
        Ok(match word.space {
            Space::Global => Found::Global(self.locate(site, word.address, word.bytes, word.bytes)?),
            Space::Shared => Found::Shared(self.locate_shared(site, word.address as u32, word.bytes)?),
        })
    }

    fn touch_word(&mut self, site: u32, found: Found, bytes: usize, how: How) -> Outcome<()> {
        match found {
            Found::Global(place) => self.touch(site, place, bytes, how, None),
            Found::Shared(offset) => self.touch_shared(site, offset, bytes, how, None),
        }
    }

    fn read_word(&self, found: Found, bytes: usize) -> u64 {
        let (from, offset) = match found {
            Found::Global((region, offset)) => (self.global.region(region).bytes(), offset),
            Found::Shared(offset) => (self.cta().shared.bytes(), offset),
        };
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&from[offset..offset + bytes]);
        u64::from_le_bytes(word)
    }

    fn write_word(&mut self, found: Found, bytes: usize, value: u64) {
        let word = &value.to_le_bytes()[..bytes];
        match found {
            Found::Global(place) => self.write_global(place, word),
            Found::Shared(offset) => self.cta_mut().shared.write(offset, word),
        }
    }

    /// A number for a word: its address, of shared memory with the CTA's number in the upper half, and bit
    /// 63.
    fn key(&self, found: Found) -> u64 {
        match found {
            Found::Global((region, offset)) => address(region, offset),
            Found::Shared(offset) => 1 << 63 | u64::from(self.cta().number) << 32 | offset as u64,
        }
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
        let is_same = self.stores_what_is_there(offset, bytemuck::bytes_of(&value));
        self.touch_shared_with(site, offset, bytes, (How::Write, None), is_same)?;
        self.cta_mut().shared.write(offset, bytemuck::bytes_of(&value));
        Ok(())
    }
}

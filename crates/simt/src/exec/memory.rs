//! Loads, stores and atomics of a lane.

use std::rc::Rc;

use bytemuck::Pod;

use crate::{
    clock::WARP,
    fault::Action,
    memory::{Content, Place},
    run::{Outcome, Run},
    shadow::Kind as How,
};

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
}

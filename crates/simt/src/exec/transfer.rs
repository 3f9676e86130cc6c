//! Moves the data of bulk and tensor copies, at some time after their issue.

use std::ops::Range;

use rand::RngExt;

use crate::{
    memory::address,
    report::{Kind, Report},
    run::Run,
    schedule::Asynchrony,
    shadow::{Completion, Group},
    state::transfer::{Transfer, Way, load},
};

impl Run {
    /// A copy was issued.
    pub(crate) fn begin(&mut self, transfer: Transfer, bytes: u32) {
        self.stats.bulk_copies += 1;
        self.stats.bulk_bytes += u64::from(bytes);
        self.transfers.push(transfer);
        let number = self.transfers.len() - 1;
        match self.schedule.asynchrony {
            Asynchrony::Early => {
                self.fetch_at(number);
                self.perform(number);
            }
            Asynchrony::Late => {}
            Asynchrony::Random => {
                if self.rng.random_ratio(1, 4) {
                    self.perform(number);
                }
            }
        }
    }

    /// Moves data of a random copy that somebody may wait for. False if there is none.
    pub(crate) fn perform_one(&mut self) -> bool {
        let count = self.transfers.iter().filter(|transfer| transfer.signals()).count();
        if count == 0 {
            return false;
        }
        let chosen = self.rng.random_range(0..count);
        let number = self.transfers.iter().enumerate().filter(|(_, transfer)| transfer.signals()).nth(chosen);
        let number = number.map(|(number, _)| number).expect("there are so many");
        self.perform(number);
        true
    }

    /// Likewise of any copy.
    pub(crate) fn perform_any(&mut self) {
        if !self.transfers.is_empty() {
            let number = self.rng.random_range(0..self.transfers.len());
            self.perform(number);
        }
    }

    /// The next step of a copy: a store first reads and then writes, others do all at once.
    fn perform(&mut self, number: usize) {
        let Self { global, slots, transfers, .. } = self;
        match &transfers[number].way {
            Way::Store { data: None, .. } => return self.fetch_at(number),
            Way::Store { .. } => return self.land_at(number),
            Way::Load { pieces, to } => {
                let shared = &mut slots[to.slot].as_mut().expect("it must not end before").shared;
                for piece in &**pieces {
                    load(global, piece, shared);
                }
            }
            Way::Shared { slot, from, offset, to } => {
                let source = &slots[*slot].as_ref().expect("it must not end before").shared;
                let data = source.bytes()[*from..from + to.bytes as usize].to_vec();
                slots[to.slot].as_mut().expect("it must not end before").shared.write(*offset, &data);
            }
        }
        let Transfer { actor, site, way } = self.transfers.swap_remove(number);
        let (Way::Load { to, .. } | Way::Shared { to, .. }) = way else { unreachable!("stores were left") };
        let cta = self.slots[to.slot].as_ref().expect("it must not end before");
        let (cta, lane) = (cta.number, cta.lane_of_mbarrier(to.mbarrier));
        match self.complete_tx(to.slot, to.mbarrier, to.bytes) {
            Ok(epoch) => {
                let completion = Completion { cta, lane, epoch: epoch + 1 };
                self.groups[actor as usize].completed = Some(completion);
            }
            Err(reason) => self.fail_actor(actor, site, reason),
        }
    }

    /// Leaves a report of an operation that is no longer its lane's.
    #[cold]
    fn fail_actor(&mut self, actor: u32, site: u32, reason: String) {
        let Group { cta, lane, .. } = self.groups[actor as usize];
        let launch = self.launches.iter().rfind(|launch| launch.first_cta <= cta);
        let launch = launch.expect("CTAs belong to launches");
        let entry = self.sites.get(site);
        self.failure.get_or_insert(Report {
            kernel: launch.name.as_str().into(),
            cta: cta - launch.first_cta,
            lane,
            location: entry.location.clone(),
            kind: Kind::Operand { op: entry.info.op, reason },
        });
    }

    fn transfer_of(&self, actor: u32) -> Option<usize> {
        self.transfers.iter().position(|transfer| transfer.actor == actor)
    }

    pub(crate) fn fetch(&mut self, actor: u32) {
        if let Some(number) = self.transfer_of(actor) {
            self.fetch_at(number);
        }
    }

    fn fetch_at(&mut self, number: usize) {
        let transfer = &mut self.transfers[number];
        if let Way::Store { slot, data: None, .. } = transfer.way {
            transfer.fetch(&self.slots[slot].as_ref().expect("its lane has not ended").shared);
        }
    }

    pub(crate) fn land(&mut self, actor: u32) {
        if let Some(number) = self.transfer_of(actor) {
            self.land_at(number);
        }
    }

    /// A store that has read writes global memory.
    fn land_at(&mut self, number: usize) {
        let Transfer { way, .. } = self.transfers.swap_remove(number);
        let Way::Store { pieces, data: Some(mut data), reduction, .. } = way else {
            unreachable!("it was read before")
        };
        let mut rest = &mut data[..];
        for piece in pieces {
            let (bytes, after) = rest.split_at_mut(piece.bytes);
            rest = after;
            let place = piece.place.expect("the others were left out");
            if let Some(reduction) = &reduction {
                let old = &self.global.region(place.0).bytes()[place.1..][..piece.bytes];
                reduction.apply(old, bytes);
            }
            self.write_global(place, bytes);
            self.break_release(address(place.0, place.1), bytes.len());
        }
    }

    /// The stores of CTAs of a launch that has ended.
    pub(crate) fn flush_stores(&mut self, ctas: &Range<u32>) {
        // Backwards, as each is replaced by the last one.
        for number in (0..self.transfers.len()).rev() {
            let transfer = &self.transfers[number];
            if ctas.contains(&self.groups[transfer.actor as usize].cta) && !transfer.signals() {
                self.land_at(number);
            }
        }
    }
}

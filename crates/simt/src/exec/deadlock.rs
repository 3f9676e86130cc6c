//! Who waits where, when nobody can go on.

use crate::{
    report::{Kind, Report, Wait},
    run::Run,
    site::Place,
    state::lane::LaneRef,
};

impl Run {
    /// The report.
    pub(crate) fn deadlock(&self) -> Report {
        let mut waiting: Vec<Wait> = Vec::new();
        let mut first = None;
        for (slot, cta) in self.slots.iter().enumerate() {
            let Some(cta) = cta else { continue };
            for (number, lane) in cta.lanes.iter().enumerate().filter(|(_, lane)| !lane.exited) {
                let at = LaneRef { slot, lane: number };
                let polls = self.parked.contains(&at) || self.ready.contains(&at);
                let (site, address) = match (lane.waiting, lane.poll) {
                    (Some(site), _) => {
                        (site, lane.waits_for.map(|(bar, parity)| cta.mbarriers[bar].describe(parity)))
                    }
                    (None, Some((site, address, _))) if polls => {
                        let in_shared = address >> 32 == 0;
                        let of_shared = || format!("shared address {address:#x}");
                        let name = if in_shared { of_shared() } else { self.global.describe(address) };
                        (site, Some(name))
                    }
                    // A lane that can go on, and polls for the first time.
                    _ => continue,
                };
                let entry = self.sites.get(site);
                first.get_or_insert_with(|| (at, entry.location.clone()));
                let kernel = &self.launches[cta.launch].name;
                match waiting.last_mut() {
                    Some(last)
                        if last.cta == cta.index
                            && last.kernel == *kernel
                            && last.location == entry.location
                            && last.address == address =>
                    {
                        last.lanes.push(number as u32);
                    }
                    _ => waiting.push(Wait {
                        kernel: kernel.clone(),
                        cta: cta.index,
                        lanes: vec![number as u32],
                        op: entry.info.op,
                        address,
                        location: entry.location.clone(),
                    }),
                }
            }
        }
        let (at, location) = first.unwrap_or_else(|| (self.current, Place::caller()));
        self.report(at, location, Kind::Deadlock { waiting })
    }
}

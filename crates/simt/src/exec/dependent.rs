//! Programmatic dependent launches.

use std::rc::Rc;

use crate::{
    clock::View,
    run::Run,
    shadow::Completion,
    state::{lane::LaneRef, launch::Dependent},
};

impl Run {
    /// Which of the clusters that wait is dispatched next. A dependent launch may begin when all CTAs before
    /// it have begun, so that it does not take the room that these need.
    pub(crate) fn next_to_dispatch(&self) -> Option<usize> {
        let may_begin = |&(launch, _): &(usize, u32)| {
            !self.launches[launch].programmatic
                || self.launches[..launch].iter().all(|before| before.undispatched == 0)
        };
        self.waiting.iter().rposition(may_begin)
    }

    /// The current lane waits for the launches before its own. True if it is set aside.
    pub(crate) fn griddepcontrol_wait(&mut self, site: u32, relaxed: bool) -> bool {
        let launch = self.cta().launch;
        if !self.launches[launch].programmatic {
            return false;
        }
        let dependent = Dependent { lane: self.current, launch, relaxed };
        if self.launches[..launch].iter().all(|before| before.running == 0) {
            self.pass_boundary(&dependent);
            return false;
        }
        self.lane_mut().waiting = Some(site);
        self.dependents.push(dependent);
        true
    }

    /// A lane goes on, ordered after the launches before its own.
    fn pass_boundary(&mut self, dependent: &Dependent) {
        let Dependent { lane: LaneRef { slot, lane }, launch, relaxed } = *dependent;
        let boundary = self.boundary(launch);
        let cta = self.slots[slot].as_mut().expect("a lane that waits is resident");
        if !relaxed {
            cta.clocks[lane].acquire(&boundary, &mut self.joins);
        }
        cta.lanes[lane].waiting = None;
    }

    /// What the end of all launches before this one publishes.
    fn boundary(&mut self, launch: usize) -> Rc<View> {
        if let Some(boundary) = &self.launches[launch].boundary {
            return boundary.clone();
        }
        let before = &self.launches[..launch];
        let ctas = before.iter().flat_map(|before| {
            (before.first_cta..before.first_cta + before.grid).map(|cta| (cta, before.block))
        });
        let boundary = Rc::new(View::of_ended(ctas));
        self.launches[launch].boundary = Some(boundary.clone());
        boundary
    }

    /// A CTA of a launch has ended.
    pub(crate) fn cta_ended(&mut self, launch: usize) {
        self.launches[launch].running -= 1;
        if self.launches[launch].running > 0 {
            return;
        }
        let info = &self.launches[launch];
        let ctas = info.first_cta..info.first_cta + info.grid;
        self.flush_stores(&ctas);
        // What was stored and not waited for is done at the end of the launch.
        for group in &mut self.groups {
            if ctas.contains(&group.cta) && group.completed.is_none() {
                group.completed = Some(Completion { cta: group.cta, lane: group.lane, epoch: u32::MAX });
            }
        }
        let may_go = |run: &Self, dependent: &Dependent| {
            run.launches[..dependent.launch].iter().all(|before| before.running == 0)
        };
        let (go, wait): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dependents).into_iter().partition(|dependent| may_go(self, dependent));
        self.dependents = wait;
        for dependent in go {
            self.pass_boundary(&dependent);
            self.ready.push(dependent.lane);
        }
    }
}

//! Work on a device: what a stream's operations do, and which is done when.
//!
//! Work is done as late as it may be: when somebody waits for it. Then only what is waited for is done, and
//! what that needs, with one exception: before launches run, all copies that other launches still wait for
//! are done, so that as many launches as possible run beside each other. A host that reads a result without
//! waiting for it therefore sees that nothing happened yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fused_lora_simt::Launch;

use crate::{code::Handle, fault::Fault, kernel::Entry, memory::Memory};

/// A piece of work, numbered in the order of calls.
pub(crate) type WorkId = u64;

/// Most launches of a run that overlap the one before them, so that a long chain does not become one run.
const OVERLAPPING: usize = 8;

/// A launch.
#[derive(Clone)]
pub(crate) struct KernelLaunch {
    pub(crate) entry: Entry,
    pub(crate) parameters: Arc<[u8]>,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    /// CTAs of a cluster.
    pub(crate) cluster: [u32; 3],
    /// Whether it may overlap the launch before it in its stream.
    pub(crate) programmatic: bool,
}

impl KernelLaunch {
    /// For the machine. With `label`, reports tell it from others of the same name. `overlaps` says that the
    /// launch before it in the run is the one that it may overlap.
    fn on_machine(self, label: Option<WorkId>, overlaps: bool) -> Launch {
        let Self { entry, parameters, grid, block, shared_bytes, cluster, .. } = self;
        let mut launch = entry.launch(&parameters, shared_bytes).dimensions(grid, block, cluster);
        if let Some(id) = label {
            launch.name = format!("{} (work {id})", launch.name);
        }
        if overlaps { launch.programmatic() } else { launch }
    }
}

/// Host memory that a caller answers for until the work on it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPointer(pub(crate) *mut u8);

// SAFETY: a number; whoever follows it relies on the driver function's contract for what is there.
unsafe impl Send for HostPointer {}

/// Where a copy to the device takes its bytes from.
#[derive(Clone)]
pub(crate) enum Source {
    /// From what was there at the call.
    Staged(Arc<[u8]>),
    /// From host memory, when the copy is done.
    Host(HostPointer, usize),
}

/// An operation of a stream.
#[derive(Clone)]
pub(crate) enum Op {
    /// Launches a kernel.
    Launch(Box<KernelLaunch>),
    /// Copies from the host.
    Write { to: u64, source: Source },
    /// Copies to the host.
    Read { from: u64, to: HostPointer, bytes: usize },
    /// Copies on the device.
    Copy { from: u64, to: u64, bytes: usize },
    /// Repeats a pattern.
    Fill { to: u64, pattern: Arc<[u8]>, count: usize },
    /// Notes the time for an event.
    Record(Handle),
}

struct Work {
    op: Op,
    after: Vec<WorkId>,
    /// The launch among `after` that may still run.
    overlaps: Option<WorkId>,
}

/// What is to be done next.
pub(crate) enum Next {
    /// All that was asked for is done.
    Nothing,
    /// This, which is no launch.
    One(WorkId, Op),
    /// These launches, beside each other; one that overlaps another comes directly behind it.
    Launches(Vec<Launch>),
}

/// Work that is not done yet.
#[derive(Default)]
pub(crate) struct Queue {
    next: WorkId,
    pending: BTreeMap<WorkId, Work>,
}

impl Queue {
    /// Adds work that comes after other work, but may overlap one of that, if both are launches.
    pub(crate) fn push(&mut self, op: Op, after: &[WorkId], overlaps: Option<WorkId>) -> WorkId {
        let after = after.iter().copied().filter(|&id| !self.is_done(id)).collect();
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Work { op, after, overlaps });
        id
    }

    pub(crate) fn is_done(&self, id: WorkId) -> bool {
        !self.pending.contains_key(&id)
    }

    /// All that is not done.
    pub(crate) fn all(&self) -> Vec<WorkId> {
        self.pending.keys().copied().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.pending.clear();
    }

    /// Takes out what is to be done next for `goal` to be done.
    pub(crate) fn take_next(&mut self, goal: &[WorkId]) -> Next {
        let needed = self.with_what_comes_before(goal.iter().copied());
        if needed.is_empty() {
            return Next::Nothing;
        }
        let launches = self.pending.iter().filter(|(_, work)| work.op.is_launch()).map(|(&id, _)| id);
        let before_launches = self.with_what_comes_before(launches);
        let other = [&needed, &before_launches]
            .into_iter()
            .find_map(|ids| ids.iter().find(|id| self.is_ready(**id) && !self.is_launch(**id)));
        if let Some((id, work)) = other.copied().and_then(|id| self.pending.remove_entry(&id)) {
            return Next::One(id, work.op);
        }
        // The first of the needed ones is ready, since work comes after earlier work only; and it is a
        // launch.
        let ready = self.ready_launches(&before_launches);
        let several = ready.len() > 1;
        let launches = ready.iter().filter_map(|&(id, overlaps)| match self.pending.remove(&id)?.op {
            Op::Launch(launch) => Some(launch.on_machine(several.then_some(id), overlaps)),
            _ => None,
        });
        Next::Launches(launches.collect())
    }

    /// The launches of these that may run now, in the order of the run, and whether each overlaps the one
    /// before it.
    ///
    /// On the machine, who overlaps waits for all launches before it in the run. So what is not ordered
    /// before it comes behind, as far as can be.
    fn ready_launches(&self, ids: &BTreeSet<WorkId>) -> Vec<(WorkId, bool)> {
        let mut ready: Vec<(WorkId, bool)> = Vec::new();
        let mut overlapping = 0;
        // By number, so that what is overlapped is found before what overlaps it.
        for &id in ids.iter().filter(|&&id| self.is_launch(id)) {
            let Work { after, overlaps, .. } = &self.pending[&id];
            if after.iter().all(|&id| self.is_done(id)) {
                ready.push((id, false));
                continue;
            }
            let Some(overlapped) = *overlaps else { continue };
            let others_done = after.iter().all(|&id| id == overlapped || self.is_done(id));
            let place = ready.iter().position(|&(id, _)| id == overlapped);
            if let Some(place) = place.filter(|_| others_done && overlapping < OVERLAPPING) {
                ready.insert(place + 1, (id, true));
                overlapping += 1;
            }
        }
        ready
    }

    fn is_launch(&self, id: WorkId) -> bool {
        self.pending.get(&id).is_some_and(|work| work.op.is_launch())
    }

    fn is_ready(&self, id: WorkId) -> bool {
        self.pending.get(&id).is_some_and(|work| work.after.iter().all(|&id| self.is_done(id)))
    }

    /// Pending work of these, and all that they wait for.
    fn with_what_comes_before(&self, ids: impl Iterator<Item = WorkId>) -> BTreeSet<WorkId> {
        let mut found = BTreeSet::new();
        let mut open: Vec<WorkId> = ids.collect();
        while let Some(id) = open.pop() {
            if let Some(work) = self.pending.get(&id)
                && found.insert(id)
            {
                open.extend(&work.after);
            }
        }
        found
    }
}

impl Op {
    pub(crate) fn is_launch(&self) -> bool {
        matches!(self, Self::Launch(_))
    }

    /// Whether it may overlap the launch before it.
    pub(crate) fn is_programmatic(&self) -> bool {
        matches!(self, Self::Launch(launch) if launch.programmatic)
    }

    /// Does it, if it is a copy.
    pub(crate) fn copy(&self, memory: &mut Memory) -> Result<(), Fault> {
        match self {
            Self::Write { to, source: Source::Staged(bytes) } => memory.write(*to, bytes),
            Self::Write { to, source: Source::Host(from, bytes) } => {
                // SAFETY: the caller of the copy answers for the memory until the copy is done.
                let bytes = unsafe { std::slice::from_raw_parts(from.0, *bytes) };
                memory.write(*to, bytes)
            }
            Self::Read { from, to, bytes } => {
                let values = memory.read(*from, *bytes)?;
                // SAFETY: as above, and nobody else touches it until then. The machine's memory is apart from
                // it.
                unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.0, values.len()) };
                Ok(())
            }
            Self::Copy { from, to, bytes } => {
                let values = memory.read(*from, *bytes)?;
                memory.write(*to, &values)
            }
            Self::Fill { to, pattern, count } => memory.write(*to, &pattern.repeat(*count)),
            Self::Launch(_) | Self::Record(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fused_lora_simt::ptx::Module;

    fn launch() -> Op {
        let text = ".version 8.0 .target sm_80 .address_size 64 .entry launch() { ret; }";
        let module = Arc::new(Module::parse("a test", text).expect("PTX"));
        Op::Launch(Box::new(KernelLaunch {
            entry: Entry::of(&module, b"launch").expect("it is there"),
            parameters: Arc::new([]),
            grid: [1; 3],
            block: [32, 1, 1],
            shared_bytes: 0,
            cluster: [1; 3],
            programmatic: false,
        }))
    }

    fn other() -> Op {
        Op::Record(0)
    }

    /// The order in which work is done: its number for what is no launch; launches together by theirs, as far
    /// as they have one, with a `+` at those that overlap.
    fn order(queue: &mut Queue, goal: &[WorkId]) -> Vec<String> {
        let number = |launch: &Launch| {
            let number =
                launch.name.split_once("(work ").map_or("launch", |(_, rest)| rest.trim_end_matches(')'));
            format!("{}{number}", if launch.programmatic { "+" } else { "" })
        };
        std::iter::from_fn(|| match queue.take_next(goal) {
            Next::Nothing => None,
            Next::One(id, _) => Some(format!("{id}")),
            Next::Launches(launches) => Some(launches.iter().map(number).collect::<Vec<_>>().join(" ")),
        })
        .collect()
    }

    #[test]
    fn only_what_is_waited_for_is_done() {
        let mut queue = Queue::default();
        let a = queue.push(other(), &[], None);
        let b = queue.push(other(), &[], None);
        let c = queue.push(other(), &[a], None);
        assert_eq!(order(&mut queue, &[c]), ["0", "2"]);
        assert!(queue.is_done(a) && !queue.is_done(b) && queue.is_done(c));
        assert_eq!(order(&mut queue, &[c]), Vec::<String>::new());
    }

    #[test]
    fn launches_run_beside_each_other_unless_ordered() {
        let mut queue = Queue::default();
        let a = queue.push(launch(), &[], None);
        let copy = queue.push(other(), &[], None);
        queue.push(launch(), &[copy], None);
        let result = queue.push(other(), &[copy + 1], None);
        let after = queue.push(launch(), &[a], None);
        assert_eq!(order(&mut queue, &[a]), ["1", "0 2"], "the copy that a launch waits for is done before");
        assert!(!queue.is_done(result), "what only reads a result is not");
        assert_eq!(order(&mut queue, &[after, result]), ["3", "launch"]);
    }
    #[test]
    fn who_overlaps_runs_directly_behind_what_it_overlaps() {
        let mut queue = Queue::default();
        let a = queue.push(launch(), &[], None);
        let other_stream = queue.push(launch(), &[], None);
        let b = queue.push(launch(), &[a], Some(a));
        let c = queue.push(launch(), &[b], Some(b));
        let d = queue.push(launch(), &[c], None);
        assert_eq!((a, other_stream, b, c, d), (0, 1, 2, 3, 4));
        assert_eq!(order(&mut queue, &[d]), ["0 +2 +3 1", "launch"]);
    }

    #[test]
    fn nothing_else_is_overlapped() {
        // Behind a launch that is done.
        let mut queue = Queue::default();
        let a = queue.push(launch(), &[], None);
        assert_eq!(order(&mut queue, &[a]), ["launch"]);
        let b = queue.push(launch(), &[a], Some(a));
        assert_eq!(order(&mut queue, &[b]), ["launch"]);

        // Behind a launch and another that come one after the other.
        let mut queue = Queue::default();
        let a = queue.push(launch(), &[], None);
        let b = queue.push(launch(), &[a], None);
        let c = queue.push(launch(), &[a, b], Some(a));
        assert_eq!(order(&mut queue, &[c]), ["launch", "launch", "launch"]);
    }

    #[test]
    fn a_long_chain_is_cut() {
        let mut queue = Queue::default();
        let mut last = queue.push(launch(), &[], None);
        for _ in 0..OVERLAPPING + 1 {
            last = queue.push(launch(), &[last], Some(last));
        }
        let runs = order(&mut queue, &[last]);
        assert_eq!(runs, ["0 +1 +2 +3 +4 +5 +6 +7 +8", "launch"]);
    }
}

//! Work on a device: what a stream's operations do, and which is done when.
//!
//! Work is done as late as it may be: when somebody waits for it. Then only what is waited for is done, and what that
//! needs, with one exception: before launches run, all copies that other launches still wait for are done, so that as
//! many launches as possible run beside each other. A host that reads a result without waiting for it therefore sees
//! that nothing happened yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::c_void,
    sync::Arc,
};

use fused_lora_kernels::{params::Params, table::Kernel};
use fused_lora_simt::Launch;

use crate::{driver::Handle, fault::Fault, memory::Memory};

/// A piece of work, numbered in the order of calls.
pub(crate) type WorkId = u64;

/// A launch.
#[derive(Clone, Copy)]
pub(crate) struct KernelLaunch {
    pub(crate) kernel: &'static Kernel,
    pub(crate) grid: u32,
    pub(crate) threads: u32,
    pub(crate) shared_bytes: u32,
    pub(crate) params: Params,
}

impl KernelLaunch {
    /// For the machine. With `label`, reports tell it from others of the same name.
    fn on_machine(&self, label: Option<WorkId>) -> Launch {
        let Self { kernel, grid, threads, shared_bytes, params } = *self;
        let name = label.map_or_else(|| kernel.name.to_owned(), |id| format!("{} (work {id})", kernel.name));
        // SAFETY: the machine checks every access of the kernel; nothing that a kernel does with wrong parameters
        // leaves it.
        Launch::new(name, grid, threads, shared_bytes, move || unsafe { (kernel.run)(params) })
    }
}

/// Host memory that a caller answers for until the work on it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPointer(pub(crate) *mut u8);

// SAFETY: a number; whoever follows it relies on the driver function's contract for what is there.
unsafe impl Send for HostPointer {}

/// A host function with its argument.
#[derive(Clone, Copy)]
pub(crate) struct HostFunction {
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    pub(crate) data: *mut c_void,
}

// SAFETY: the driver's contract: it is called from any thread.
unsafe impl Send for HostFunction {}

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
    /// Calls the host.
    Call(HostFunction),
    /// Notes the time for an event.
    Record(Handle),
}

struct Work {
    op: Op,
    after: Vec<WorkId>,
}

/// What is to be done next.
pub(crate) enum Next {
    /// All that was asked for is done.
    Nothing,
    /// This, which is no launch.
    One(WorkId, Op),
    /// These launches, beside each other.
    Launches(Vec<Launch>),
}

/// Work that is not done yet.
#[derive(Default)]
pub(crate) struct Queue {
    next: WorkId,
    pending: BTreeMap<WorkId, Work>,
}

impl Queue {
    /// Adds work that comes after other work.
    pub(crate) fn push(&mut self, op: Op, after: &[WorkId]) -> WorkId {
        let after = after.iter().copied().filter(|&id| !self.is_done(id)).collect();
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Work { op, after });
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
        let launches =
            self.pending.iter().filter(|(_, work)| matches!(work.op, Op::Launch(_))).map(|(&id, _)| id);
        let before_launches = self.with_what_comes_before(launches);
        let other = [&needed, &before_launches]
            .into_iter()
            .find_map(|ids| ids.iter().find(|id| self.is_ready(**id) && !self.is_launch(**id)));
        if let Some((id, work)) = other.copied().and_then(|id| self.pending.remove_entry(&id)) {
            return Next::One(id, work.op);
        }
        // The first of the needed ones is ready, since work comes after earlier work only; and it is a launch.
        let ready: Vec<WorkId> = before_launches.into_iter().filter(|&id| self.is_ready(id)).collect();
        let several = ready.len() > 1;
        let launches = ready.into_iter().filter_map(|id| match self.pending.remove(&id)?.op {
            Op::Launch(launch) => Some(launch.on_machine(several.then_some(id))),
            _ => None,
        });
        Next::Launches(launches.collect())
    }

    fn is_launch(&self, id: WorkId) -> bool {
        self.pending.get(&id).is_some_and(|work| matches!(work.op, Op::Launch(_)))
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
                // SAFETY: as above, and nobody else touches it until then. The machine's memory is apart from it.
                unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.0, values.len()) };
                Ok(())
            }
            Self::Copy { from, to, bytes } => {
                let values = memory.read(*from, *bytes)?;
                memory.write(*to, &values)
            }
            Self::Fill { to, pattern, count } => memory.write(*to, &pattern.repeat(*count)),
            Self::Launch(_) | Self::Call(_) | Self::Record(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fused_lora_kernels::table::KERNELS;

    fn launch() -> Op {
        let kernel = &KERNELS[0];
        let (threads, shared_bytes) = (kernel.threads, kernel.shared_bytes);
        let params = Params::default();
        Op::Launch(Box::new(KernelLaunch { kernel, grid: 1, threads, shared_bytes, params }))
    }

    fn other() -> Op {
        Op::Record(0)
    }

    /// The order in which work is done: `a` and up for what is no launch, its number for launches.
    fn order(queue: &mut Queue, goal: &[WorkId]) -> Vec<String> {
        std::iter::from_fn(|| match queue.take_next(goal) {
            Next::Nothing => None,
            Next::One(id, _) => Some(format!("{id}")),
            Next::Launches(launches) => Some(format!("{} launches", launches.len())),
        })
        .collect()
    }

    #[test]
    fn only_what_is_waited_for_is_done() {
        let mut queue = Queue::default();
        let a = queue.push(other(), &[]);
        let b = queue.push(other(), &[]);
        let c = queue.push(other(), &[a]);
        assert_eq!(order(&mut queue, &[c]), ["0", "2"]);
        assert!(queue.is_done(a) && !queue.is_done(b) && queue.is_done(c));
        assert_eq!(order(&mut queue, &[c]), Vec::<String>::new());
    }

    #[test]
    fn launches_run_beside_each_other_unless_ordered() {
        let mut queue = Queue::default();
        let a = queue.push(launch(), &[]);
        let copy = queue.push(other(), &[]);
        queue.push(launch(), &[copy]);
        let result = queue.push(other(), &[copy + 1]);
        let after = queue.push(launch(), &[a]);
        assert_eq!(
            order(&mut queue, &[a]),
            ["1", "2 launches"],
            "the copy that a launch waits for is done before"
        );
        assert!(!queue.is_done(result), "what only reads a result is not");
        assert_eq!(order(&mut queue, &[after, result]), ["3", "1 launches"]);
    }
}

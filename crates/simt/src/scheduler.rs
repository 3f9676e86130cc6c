//! Runs lanes, one at a time, as coroutines on this thread.

use std::{
    any::Any,
    cell::RefCell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use corosensei::{Coroutine, CoroutineResult, stack::DefaultStack};

use crate::{
    launch::Launch,
    report::{Kind, Report},
    run::Run,
    state::lane::LaneRef,
    turns::Next,
};

/// Bytes of a lane's stack. Only pages that are touched cost memory; a panic with a backtrace takes many.
const STACK: usize = 256 * 1024;

type Lane = Coroutine<(), (), Result<(), String>, DefaultStack>;

thread_local! {
    /// The run that this thread is in.
    static CURRENT: RefCell<Option<Box<Run>>> = const { RefCell::new(None) };
    /// Stacks that lanes on this thread had, for later ones: making one takes two system calls and page
    /// faults.
    static SPARE: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Lends the run of this thread. `f` must not suspend.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&mut Run) -> T) -> T {
    CURRENT.with_borrow_mut(|run| f(run.as_mut().expect("a device instruction outside of a launch")))
}

/// Gives the thread back to the scheduler, until it resumes the current lane.
#[inline]
pub(crate) fn suspend() {
    let yielder = with(|run| run.lane_mut().yielder);
    // SAFETY: the current lane set it in `start`, from a reference that lives for as long as its coroutine
    // runs; the caller runs in it.
    unsafe { (*yielder).suspend(()) };
}

/// Takes the run out of the thread also when the scheduler panics.
struct Installed;

impl Installed {
    fn new(run: Box<Run>) -> Result<Self, Box<Run>> {
        CURRENT.with_borrow_mut(|current| match current {
            Some(_) => Err(run),
            None => {
                *current = Some(run);
                Ok(Self)
            }
        })
    }

    fn take(self) -> Box<Run> {
        CURRENT.take().expect("it was put there, and nobody else takes it")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        CURRENT.take();
    }
}

/// The coroutines of the resident lanes, by slot and lane.
struct Lanes(Vec<Vec<Option<Lane>>>);

impl Drop for Lanes {
    fn drop(&mut self) {
        for mut lane in std::mem::take(&mut self.0).into_iter().flatten().flatten() {
            // SAFETY: it is suspended in `suspend`, or not started. What the kernel holds on its stack is
            // forgotten, as `Launch::kernel` says; this crate's frames below hold nothing that needs
            // dropping.
            unsafe { lane.force_reset() };
            recycle(lane);
        }
    }
}

/// Runs until all CTAs are done or one has failed.
pub(crate) fn drive(run: Box<Run>, launches: &[Launch]) -> (Box<Run>, Result<(), Report>) {
    let slots = run.slots.len();
    let installed = match Installed::new(run) {
        Ok(installed) => installed,
        Err(run) => {
            let reason = "a kernel starts a launch".to_owned();
            return (run, Err(Report::host(Kind::Launch { reason })));
        }
    };
    let mut lanes = Lanes((0..slots).map(|_| Vec::new()).collect());
    let result = loop {
        while let Some((slots, launch)) = with(Run::dispatch) {
            for &slot in &*slots {
                let block = launches[launch].block as usize;
                lanes.0[slot].clear();
                for _ in 0..block {
                    match start(&launches[launch]) {
                        Ok(lane) => lanes.0[slot].push(Some(lane)),
                        Err(error) => {
                            let reason = format!("no stack for a lane: {error}");
                            with(|run| run.failure = Some(Report::host(Kind::Launch { reason })));
                            break;
                        }
                    }
                }
            }
        }
        let next = with(Run::pick);
        let LaneRef { slot, lane } = match next {
            Next::Resume(lane) => lane,
            Next::Done => break Ok(()),
            Next::Failed(report) => break Err(report),
        };
        let coroutine = lanes.0[slot][lane].as_mut().expect("lanes that are ready have not ended");
        if let CoroutineResult::Return(result) = coroutine.resume(()) {
            let ended = lanes.0[slot][lane].take().expect("it was there");
            recycle(ended);
            with(|run| run.exit(result));
        }
    };
    drop(lanes);
    (installed.take(), result)
}

/// Keeps the stack of a lane that has ended.
fn recycle(lane: Lane) {
    SPARE.with_borrow_mut(|spare| spare.push(lane.into_stack()));
}

/// A lane that will run the kernel.
fn start(launch: &Launch) -> io::Result<Lane> {
    let stack = SPARE.with_borrow_mut(Vec::pop).map_or_else(|| DefaultStack::new(STACK), Ok)?;
    // A plain pointer: a lane that is forgotten must not keep the kernel alive.
    let kernel: *const dyn Fn() = &*launch.kernel;
    Ok(Coroutine::with_stack(stack, move |yielder, ()| {
        with(|run| run.lane_mut().yielder = yielder);
        // SAFETY: `drive` borrows the launch for longer than its lanes run.
        let kernel = unsafe { &*kernel };
        catch_unwind(AssertUnwindSafe(kernel)).map_err(|panic| message(&*panic))
    }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}

//! Whose threads compute: those of torch's OpenMP where its entry points are known, rayon's elsewhere, and
//! the caller's alone in a process that was forked: the threads of its parent do not exist there.

use std::{
    ffi::{c_int, c_uint, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use fused_lora::cpu::{Executor, Rayon, Serial};

/// Runs a function on a team of threads, and returns when all have returned.
pub(crate) type Parallel =
    unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// Returns a number, of a thread or of threads.
pub(crate) type Number = unsafe extern "C" fn() -> c_int;

/// The functions of libgomp's interface that are needed, which LLVM's and Intel's runtimes also export.
pub(crate) struct OpenMp {
    pub(crate) parallel: Parallel,
    /// The calling thread's number in its team.
    pub(crate) thread_num: Number,
    /// The size of the next team of the calling thread: torch's `set_num_threads`.
    pub(crate) max_threads: Number,
}

pub(crate) static OPENMP: OnceLock<OpenMp> = OnceLock::new();

/// Set in a process that was forked.
pub(crate) static FORKED: AtomicBool = AtomicBool::new(false);

pub(crate) fn executor() -> &'static dyn Executor {
    match OPENMP.get() {
        _ if FORKED.load(Ordering::Relaxed) => &Serial,
        Some(openmp) => openmp,
        None => &Rayon,
    }
}

pub(crate) fn name() -> &'static str {
    match OPENMP.get() {
        _ if FORKED.load(Ordering::Relaxed) => "the calling thread alone (the process was forked)",
        Some(_) => "torch's OpenMP threads",
        None => "rayon's threads",
    }
}

/// Runs `work`, which uses the current rayon pool: in a forked process a pool of the calling thread alone.
pub(crate) fn with_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread_local! {
        static ALONE: rayon::ThreadPool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread()
            .build()
            .expect("a pool that starts no threads");
    }
    if FORKED.load(Ordering::Relaxed) { ALONE.with(|pool| pool.install(work)) } else { work() }
}

struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    thread_num: Number,
    panicked: AtomicBool,
}

/// # Safety
///
/// `job` is a [`Job`] that lives until this returns.
unsafe extern "C" fn run(job: *mut c_void) {
    // SAFETY: the caller's contract.
    let (job, number) = unsafe {
        let job = &*job.cast::<Job<'_>>();
        (job, (job.thread_num)())
    };
    // A panic must not unwind through OpenMP's frames, which are C.
    if catch_unwind(AssertUnwindSafe(|| (job.task)(number as usize))).is_err() {
        job.panicked.store(true, Ordering::Relaxed);
    }
}

impl Executor for OpenMp {
    fn threads(&self) -> usize {
        // SAFETY: takes nothing.
        unsafe { (self.max_threads)() }.max(1) as usize
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let job = Job { task, thread_num: self.thread_num, panicked: AtomicBool::new(false) };
        // SAFETY: `parallel` returns when the whole team has returned, so the job lives long enough.
        unsafe { (self.parallel)(run, (&raw const job).cast_mut().cast(), tasks as c_uint, 0) };
        assert!(!job.panicked.into_inner(), "a task on torch's threads panicked");
    }
}

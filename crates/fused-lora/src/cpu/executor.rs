//! Whose threads do the work.

use rayon::prelude::*;

/// Threads that a call may use: rayon's ([`Rayon`], what a call takes unless told otherwise), none but the
/// caller's ([`Serial`]), or those of the program that calls, so that two pools do not compete for the same
/// cores.
///
/// A call hands over as many tasks as there are threads. Each task takes pieces of the work, by number from
/// one counter, until there are none left; a piece waits only for pieces of smaller numbers. So tasks may run
/// at the same time or one after another, late, or not all of them: the results are the same.
pub trait Executor: Sync {
    /// How many tasks can run at the same time; 0 counts as 1.
    fn threads(&self) -> usize;

    /// Runs `task(0)`, …, `task(tasks − 1)`, and returns when all that were started have returned.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// The current rayon pool: that of the calling thread if it belongs to one, the global pool otherwise;
/// `ThreadPool::install` chooses another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rayon;

impl Executor for Rayon {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let run = || (0..tasks).into_par_iter().with_max_len(1).for_each(task);
        // From outside, entering the pool is the one thing in a call for which rayon may allocate (a block of
        // its queue, once in 63 calls).
        if rayon::current_thread_index().is_some() { run() } else { rayon::join(run, || ()).0 }
    }
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Executor for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

//! Work on the threads of the current rayon pool.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// Runs `task(0..tasks)`, each once, on as many threads as there are slots. Whoever is free draws the next
/// one.
pub(crate) fn for_each<S: Send>(slots: &mut [S], tasks: usize, task: impl Fn(usize, &mut S) + Sync) {
    if let ([slot], _) | ([slot, ..], 0 | 1) = (&mut *slots, tasks) {
        return (0..tasks).for_each(|i| task(i, slot));
    }
    let next = AtomicUsize::new(0);
    slots.par_iter_mut().with_max_len(1).for_each(|slot| {
        loop {
            // Relaxed: the number is all that is passed on; the fork and the join order the data.
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= tasks {
                break;
            }
            task(i, slot);
        }
    });
}

/// Runs `f` on a thread of the current rayon pool. From outside, entering it is the one thing in a call for
/// which rayon may allocate (a block of its queue, once in 63 calls).
pub(crate) fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() { f() } else { rayon::join(f, || ()).0 }
}

/// A pointer that the threads of one product share.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: each task of a product writes a part of its own (see where it is used).
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A method, so that closures capture the whole and not the pointer in it.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 5] {
            for tasks in [0, 1, 2, 100] {
                let runs: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for_each(&mut vec![(); threads], tasks, |i, ()| {
                    runs[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }
}

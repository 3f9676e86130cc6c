//! Pieces of work, by number, and what one waits for of another.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::executor::Executor;
use crate::error::Error;

/// Runs `work(0..tickets)`, each once, with one of the slots; at most as many at a time as there are slots.
/// Whoever is free draws the next number, so a ticket may wait for a smaller one ([`Gate`]): that has been
/// drawn, and goes on.
///
/// # Errors
///
/// [`Error::Executor`] if the executor has returned before all was done.
pub(crate) fn share<S: Send>(
    executor: &dyn Executor,
    slots: &mut [S],
    tickets: usize,
    failed: &Failed,
    work: impl Fn(usize, &mut S) + Sync,
) -> Result<(), Error> {
    if let ([slot], _) | ([slot, ..], 0 | 1) = (&mut *slots, tickets) {
        (0..tickets).for_each(|ticket| work(ticket, slot));
        return Ok(());
    }
    let [next, claimed, finished] = [const { AtomicUsize::new(0) }; 3];
    let (count, slots) = (slots.len(), Shared(slots.as_mut_ptr()));
    let worker = |_| {
        // Not by the task's number: an executor that runs a task twice must not give out a slot twice.
        let slot = claimed.fetch_add(1, Ordering::Relaxed);
        if slot >= count {
            return;
        }
        // SAFETY: there are `count` slots, borrowed until `share` returns, and this number was given out
        // once.
        let slot = unsafe { &mut *slots.get().add(slot) };
        let guard = Guard(failed);
        loop {
            // Relaxed: the number is all that is passed on; fork, join and gates order the data.
            let ticket = next.fetch_add(1, Ordering::Relaxed);
            if ticket >= tickets {
                break;
            }
            work(ticket, slot);
            finished.fetch_add(1, Ordering::Release);
        }
        std::mem::forget(guard);
    };
    executor.run(count, &worker);
    if claimed.load(Ordering::Relaxed) == 0 {
        worker(0);
    }
    if finished.load(Ordering::Acquire) == tickets { Ok(()) } else { Err(Error::Executor) }
}

/// Set when a ticket has panicked; what waits for it gives up.
#[derive(Default)]
pub(crate) struct Failed(AtomicBool);

struct Guard<'a>(&'a Failed);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// Opens when a number of tickets have passed it.
pub(crate) struct Gate {
    missing: AtomicUsize,
}

impl Gate {
    pub(crate) fn new(tickets: usize) -> Self {
        Self { missing: AtomicUsize::new(tickets) }
    }

    /// One more is done: what it has written, those see who find the gate open. `last` runs before it opens.
    pub(crate) fn pass(&self, last: impl FnOnce()) {
        // The last one leaves a 1 until all is done.
        let before =
            self.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n > 1).then(|| n - 1));
        if before.is_err() {
            last();
            self.missing.store(0, Ordering::Release);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.missing.load(Ordering::Acquire) == 0
    }

    /// Waits until it is open; false if it will never be.
    pub(crate) fn wait(&self, failed: &Failed) -> bool {
        let mut rounds = 0_u32;
        while !self.is_open() {
            if failed.0.load(Ordering::Acquire) {
                return false;
            }
            // A thread can be held up for as long as it takes.
            rounds = rounds.wrapping_add(1);
            // The other one may wait for this very core.
            if rounds.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        true
    }
}

/// A pointer that the threads of one product share.
pub(crate) struct Shared<T>(pub(crate) *mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: each ticket writes a part of its own, and reads what others wrote behind a gate (see where it is
// used).
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
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::cpu::executor::{Rayon, Serial};

    /// Runs task i so many times, on so many threads.
    struct Odd {
        times: fn(usize) -> usize,
        threads: bool,
    }

    impl Executor for Odd {
        fn threads(&self) -> usize {
            3
        }

        fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| {
                for i in (0..tasks).flat_map(|i| std::iter::repeat_n(i, (self.times)(i))) {
                    if self.threads {
                        scope.spawn(move || task(i));
                    } else {
                        task(i);
                    }
                }
            });
        }
    }

    /// Of a hundred tickets each third one waits for the one before.
    #[test]
    fn each_ticket_runs_once_whatever_the_executor_does() {
        let odd = |times, threads| Odd { times, threads };
        let executors: [&dyn Executor; 7] = [
            &Rayon,
            &Serial,
            &odd(|_| 1, true),
            &odd(|_| 2, true),
            &odd(|_| 2, false),
            &odd(|_| 0, false),
            &odd(|i| usize::from(i == 1), true),
        ];
        for (which, executor) in executors.into_iter().enumerate() {
            for slots in [1, 2, 5] {
                for tickets in [0, 1, 2, 100] {
                    let runs: Vec<_> = (0..tickets).map(|_| (AtomicUsize::new(0), Gate::new(1))).collect();
                    let (failed, mut slots) = (Failed::default(), vec![0; slots]);
                    let work = |i: usize, slot: &mut usize| {
                        if i % 3 == 2 {
                            assert!(runs[i - 1].1.wait(&failed));
                        }
                        *slot += 1;
                        runs[i].0.fetch_add(1, Ordering::Relaxed);
                        runs[i].1.pass(|| ());
                    };
                    share(executor, &mut slots, tickets, &failed, work).unwrap();
                    assert!(runs.iter().all(|(n, _)| n.load(Ordering::Relaxed) == 1), "executor {which}");
                    assert_eq!(slots.iter().sum::<usize>(), tickets);
                }
            }
        }
    }

    #[test]
    fn a_panic_ends_those_who_wait_for_it() {
        let (failed, gate) = (Failed::default(), Gate::new(1));
        let work = |i: usize, _: &mut ()| match i {
            0 => panic!("the first ticket fails"),
            _ => assert!(!gate.wait(&failed)),
        };
        let odd = Odd { times: |_| 1, threads: true };
        let outcome = catch_unwind(AssertUnwindSafe(|| share(&odd, &mut [(); 2], 2, &failed, work)));
        assert!(outcome.is_err());
    }

    /// An executor that loses a panic.
    #[test]
    fn what_was_not_done_is_an_error() {
        struct Swallow;
        impl Executor for Swallow {
            fn threads(&self) -> usize {
                2
            }

            fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
                for i in 0..tasks {
                    let _ = catch_unwind(AssertUnwindSafe(|| task(i)));
                }
            }
        }
        let work = |i: usize, _: &mut ()| assert!(i != 1);
        let outcome = share(&Swallow, &mut [(); 2], 5, &Failed::default(), work);
        assert_eq!(outcome, Err(Error::Executor));
    }
}

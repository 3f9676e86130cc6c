//! What runs have tried of the kernels' instructions, and groups of tests, each of which runs once in a
//! process, whoever asks for it: its own test, or [`coverage`](super::coverage).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
};

use fused_lora_kernels::table::Operation;
use fused_lora_simt::{Stats, ptx::Coverage};

/// What runs have tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried {
    pub(crate) coverage: Coverage,
    /// By kernel and offset of an mbarrier in shared memory, the most phases that one run completed.
    pub(crate) phases: BTreeMap<&'static str, BTreeMap<u32, u32>>,
}

impl Tried {
    pub(crate) fn add_run(&mut self, kernel: &'static str, stats: &Stats) {
        self.coverage.add(&stats.coverage);
        self.add_phases(kernel, &stats.mbarrier_phases);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.coverage.add(&other.coverage);
        for (kernel, phases) in &other.phases {
            self.add_phases(kernel, phases);
        }
    }

    fn add_phases(&mut self, kernel: &'static str, others: &BTreeMap<u32, u32>) {
        let phases = self.phases.entry(kernel).or_default();
        for (&offset, &count) in others {
            let most = phases.entry(offset).or_default();
            *most = count.max(*most);
        }
    }
}

thread_local! {
    /// What this thread has tried since its group of tests began.
    static NOW: RefCell<Tried> = RefCell::default();
}

/// A run that was right.
pub(crate) fn note(kernel: &'static str, stats: &Stats) {
    NOW.with_borrow_mut(|now| now.add_run(kernel, stats));
}

/// Tests that are alike, one for each of some operations.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) test: fn(Operation),
    pub(crate) operations: &'static [Operation],
}

type Results = BTreeMap<(&'static str, String), Arc<OnceLock<Tried>>>;

impl Group {
    /// Runs the test of an operation, if it has not run yet in this process, and gives what it tried.
    ///
    /// # Panics
    ///
    /// If the test fails.
    pub(crate) fn run(&self, operation: Operation) -> Arc<OnceLock<Tried>> {
        static RESULTS: LazyLock<Mutex<Results>> = LazyLock::new(Mutex::default);
        let key = (self.name, format!("{operation:?}"));
        let mut results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
        let result = Arc::clone(results.entry(key).or_default());
        drop(results);
        result.get_or_init(|| {
            // Groups do not nest.
            NOW.take();
            (self.test)(operation);
            NOW.take()
        });
        result
    }
}

//! What is timed: ways to compute a workload at one size, described and ready to be called; and what a
//! workload on a backend has to offer to be measured. All else of the harness, from rounds and budget to
//! intervals and records, does not know what a workload or a backend is.

use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora_records::Record;
use ndarray::Array2;

use crate::size::Size;
use crate::time::Time;
use crate::variant::Variant;

/// A method of one size, as the harness, the records and Criterion see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// What it computes.
    pub task: Task,
    /// The names in the records. The bare layer's second call is recorded as each method at r = 0, all others
    /// have one name.
    pub names: Vec<String>,
    /// Rank of the adapter.
    pub rank: usize,
    /// The ids that select it, within the size's group; the first is the one that Criterion sees.
    pub ids: Vec<String>,
    /// Place of the method that it is compared with; its own for a base, None for a probe.
    pub base: Option<usize>,
    /// Its work.
    pub work: Work,
    /// The slow-down that it cannot do without; none for a base or a probe.
    pub floor: Option<Floor>,
    /// The element type of x, W and y, as records name it.
    pub dtype: &'static str,
    /// Who computes it.
    pub provider: Provider,
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The linear layers.
    Linear(Strategy),
    /// The transformer's layer; PyTorch's variant is [that of its weights](Variant::of_weights).
    Layer(Variant),
    /// Nothing of the workload: what the machine could do at best.
    Probe(Probe),
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The library of that number in the suite's list, the first of which is this one.
    Library(usize),
    /// PyTorch, in a process of its own.
    Torch,
}

/// A limit of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Multiply-adds on all threads, of those that the kernels are made of.
    Peak,
    /// Bytes read from memory by all threads.
    Bandwidth,
}

impl Method {
    /// In f16, under one name, compared with nothing.
    pub fn new(name: &str, rank: usize, task: Task, provider: Provider) -> Method {
        Method {
            task,
            names: vec![name.to_owned()],
            rank,
            ids: vec![format!("r{rank}/{name}")],
            base: None,
            work: Work::default(),
            floor: None,
            dtype: "f16",
            provider,
        }
    }

    /// Whether it is this library's: another may break the tolerance, and is then marked and timed all the
    /// same.
    pub fn is_ours(&self) -> bool {
        self.provider == Provider::Library(0)
    }

    /// Whether Criterion gets its times, under the first of its ids: not those of PyTorch, which are a child
    /// process's, nor of probes.
    pub fn is_for_criterion(&self) -> bool {
        self.provider != Provider::Torch && !self.is_probe()
    }

    /// Whether it is a limit of the machine rather than a way to compute.
    pub fn is_probe(&self) -> bool {
        matches!(self.task, Task::Probe(_))
    }

    /// Whether others are compared with it.
    pub fn is_base(&self, place: usize) -> bool {
        self.base == Some(place)
    }
}

/// Operations and bytes of a forward pass that no method can do without.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Useful operations, a multiply-add counted as two; padding is not work.
    pub flops: f64,
    /// Bytes of all operands that come from memory, and of y.
    pub bytes: f64,
}

/// What a method cannot do without, in percent of the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// At the rank.
    pub pct: f64,
    /// At the rank that its kernels round up to, where that is known.
    pub pad_pct: Option<f64>,
}

/// A method on its operands, ready to be timed: nothing is allocated or packed in a call that could be kept
/// from one to the next.
pub trait Call {
    /// One call on the operands of that slot, and the time of one forward pass. A GPU's call is a graph of
    /// passes that go round all slots.
    fn call(&mut self, slot: usize) -> anyhow::Result<Time>;

    /// Makes y of the first slot NaN. Nothing where y is made anew by each call.
    fn poison(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// y of the first slot, [M, N] of each product, widened.
    fn output(&mut self) -> anyhow::Result<Vec<Array2<f32>>> {
        Ok(Vec::new())
    }
}

/// A method that was made ready, unless it cannot be had here.
pub type Ready = Option<Box<dyn Call>>;

/// What rows of a y should be.
pub struct Expected {
    /// Rows of y that are compared, each with its row of `y` below. All others are looked at for NaN alone.
    pub rows: Vec<(usize, usize)>,
    /// In f64 from the operands as given.
    pub y: Array2<f64>,
    /// By how much an element may be off.
    pub tolerance: Array2<f64>,
    /// By how much all of them may: ‖y − expected‖ / ‖expected‖.
    pub norm_tolerance: f64,
}

/// Between two uses of a slot, so many times the last-level cache is touched.
pub const COLD: usize = 3;

/// The fewest slots with at least `distance` bytes of other slots between two uses of any one.
pub fn slots_apart(slot_bytes: usize, distance: usize) -> usize {
    assert!(slot_bytes > 0, "a slot without operands");
    1 + distance.div_ceil(slot_bytes)
}

/// A workload on a backend.
pub trait Suite {
    /// All methods of a size: each base before what is compared with it.
    fn methods(&self, size: Size) -> Vec<Method>;

    /// How a size is called where its progress is told.
    fn label(&self, size: Size) -> String {
        size.to_string()
    }

    /// Slots of operands, so that between two uses of one `distance` bytes of others are touched: those that
    /// the first base takes from memory. Adapters rotate too, but not every call has any.
    fn slots(&self, size: Size, distance: usize) -> usize {
        slots_apart(self.methods(size)[0].work.bytes as usize, distance)
    }

    /// Makes operands of a size, and those methods ready on them: None for one that cannot be had here, which
    /// is then left out, as is what is compared with it. What was made ready before is no longer used.
    fn prepare(&mut self, size: Size, slots: usize, methods: &[Method]) -> anyhow::Result<Vec<Ready>>;

    /// What y of the first slot should be, one for each product; nothing for a probe.
    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Rc<Vec<Expected>>>;

    /// Adds to a record what only the suite knows: the version of another library.
    fn describe(&self, _method: &Method, _record: &mut Record) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_of_other_slots_lies_between_two_uses() {
        const MIB: usize = 1 << 20;
        for slot_bytes in [MIB / 2, 25 * MIB, 92 * MIB, 200 * MIB] {
            let slots = slots_apart(slot_bytes, 96 * MIB);
            assert!((slots - 1) * slot_bytes >= 96 * MIB, "{slots} slots of {slot_bytes}");
            assert!(slots == 1 || (slots - 2) * slot_bytes < 96 * MIB, "no longer than it must be");
        }
        assert_eq!(slots_apart(25 * MIB, 0), 1, "a test run needs one");
    }
}

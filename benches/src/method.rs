//! What is timed: ways to compute a workload at one size, described and ready to be called.

use fused_lora::Strategy;
use half::f16;
use ndarray::Array2;

use crate::layer::variant::Variant;
use crate::time::Time;
use crate::work::{Floor, Work};

/// A method of one size, as the harness, the records and Criterion see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// What it computes, and with what.
    pub what: What,
    /// The names in the records. The bare layer's second call is recorded as each method at r = 0, all others have one name.
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
    /// Whether it is this library: another may break the tolerance, and is then marked and timed all the same.
    pub ours: bool,
}

/// What is computed, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The linear layers, by the library of that number in the suite's list.
    Linear(usize, Strategy),
    /// The transformer's layer.
    Layer(Variant),
    /// PyTorch's layer; the variant is [that of its weights](Variant::of_weights).
    Torch(Variant),
    /// Nothing of the workload: what the machine could do at best.
    Probe(Probe),
}

/// A limit of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// f32 multiply-adds on all threads.
    Peak,
    /// Bytes read from memory by all threads.
    Bandwidth,
}

impl Method {
    /// Whether Criterion gets its times, under the first of its ids: not those of PyTorch, which are a child process's, nor of probes.
    pub fn is_for_criterion(&self) -> bool {
        matches!(self.what, What::Linear(..) | What::Layer(_))
    }

    /// Whether it is a limit of the machine rather than a way to compute.
    pub fn is_probe(&self) -> bool {
        matches!(self.what, What::Probe(_))
    }

    /// Whether others are compared with it.
    pub fn is_base(&self, place: usize) -> bool {
        self.base == Some(place)
    }
}

/// A method on its operands, ready to be timed: nothing is allocated or packed in a call that could be kept from one to the next.
pub trait Call {
    /// One call on the operands of that slot, and the time of one forward pass. A GPU's call is a graph of passes that go round all
    /// slots.
    fn call(&mut self, slot: usize) -> anyhow::Result<Time>;

    /// Makes y of the first slot NaN. Nothing where y is made anew by each call.
    fn poison(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// y of the first slot, [M, N] of each product.
    fn output(&mut self) -> anyhow::Result<Vec<Output>> {
        Ok(Vec::new())
    }
}

/// A y.
pub enum Output {
    /// In f16.
    F16(Array2<f16>),
    /// In f32.
    F32(Array2<f32>),
}

impl Output {
    /// An element, widened.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        match self {
            Output::F16(y) => y[[row, column]].to_f64(),
            Output::F32(y) => f64::from(y[[row, column]]),
        }
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        match self {
            Output::F16(y) => y.dim(),
            Output::F32(y) => y.dim(),
        }
    }

    /// Elements that are NaN: y was poisoned, so they were not written, or are wrong.
    pub fn missing(&self) -> usize {
        match self {
            Output::F16(y) => y.iter().filter(|value| value.is_nan()).count(),
            Output::F32(y) => y.iter().filter(|value| value.is_nan()).count(),
        }
    }
}

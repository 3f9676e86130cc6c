//! Graphs, and captures that make them.

use std::{collections::BTreeSet, thread::ThreadId};

use crate::{
    code::{Code, Handle, Outcome},
    work::{Op, WorkId},
};

/// What a capture forbids beside its own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Unsafe calls, to all threads.
    Global,
    /// Unsafe calls, to the thread that began it.
    ThreadLocal,
    /// Nothing.
    Relaxed,
}

impl Mode {
    /// `CUstreamCaptureMode`.
    pub(crate) fn from_number(number: u32) -> Outcome<Self> {
        match number {
            0 => Ok(Self::Global),
            1 => Ok(Self::ThreadLocal),
            2 => Ok(Self::Relaxed),
            _ => Err(Code::INVALID_VALUE),
        }
    }
}

/// An operation of a graph.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) op: Op,
    /// Those that it comes directly after.
    pub(crate) after: Vec<usize>,
    /// The launch among them that it may overlap.
    pub(crate) overlaps: Option<usize>,
}

/// Operations in the order of calls, by number.
#[derive(Clone, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// These nodes and all before them.
    pub(crate) fn with_what_comes_before(&self, nodes: &[usize]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open = nodes.to_vec();
        while let Some(node) = open.pop() {
            if found.insert(node) {
                open.extend(&self.nodes[node].after);
            }
        }
        found
    }

    /// The nodes that nothing comes after.
    pub(crate) fn last(&self) -> Vec<usize> {
        let before: BTreeSet<usize> = self.nodes.iter().flat_map(|node| &node.after).copied().collect();
        (0..self.len()).filter(|node| !before.contains(node)).collect()
    }
}

/// A capture under way.
pub(crate) struct Capture {
    pub(crate) origin: Handle,
    pub(crate) mode: Mode,
    pub(crate) thread: ThreadId,
    pub(crate) graph: Graph,
    /// Something that is not allowed happened: it will give no graph.
    pub(crate) invalid: bool,
}

/// An instantiated graph.
pub(crate) struct Executable {
    pub(crate) context: Handle,
    pub(crate) graph: Graph,
    /// The end of its last launch, which the next one comes after.
    pub(crate) last: Vec<WorkId>,
}

impl Executable {
    pub(crate) fn new(context: Handle, graph: Graph) -> Self {
        Self { context, graph, last: Vec::new() }
    }
}

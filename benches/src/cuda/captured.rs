//! A strategy as a graph: what is checked is what is timed.

use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora::cuda::{Error, Graph, Layer, Stream, Workspace};

use crate::cuda::Gpu;
use crate::cuda::operands::Operands;
use crate::method::Method;
use crate::model::{Linear, Slots};
use crate::tokens::Tokens;

/// A method whose passes are in a graph.
pub trait Replay: Method {
    /// Puts all passes into the stream.
    ///
    /// # Errors
    ///
    /// If the driver refuses it.
    fn launch(&self) -> Result<(), Error>;
}

/// Forward passes of a strategy, round and round over all slots of a ring, captured once.
pub struct Captured {
    strategy: Strategy,
    // Before what it refers to: fields are dropped in this order.
    graph: Graph,
    stream: Rc<Stream>,
    operands: Rc<Operands>,
    _layers: Vec<Vec<Layer>>,
    _workspace: Workspace,
}

impl Captured {
    /// So many passes with the adapters of that rank. One slot of weights serves all slots of tokens.
    ///
    /// # Errors
    ///
    /// If there is no memory for the workspace, or a pass cannot be captured.
    pub fn new(
        gpu: &Gpu,
        strategy: Strategy,
        weights: &Slots<Layer>,
        rank: usize,
        operands: &Rc<Operands>,
        m: usize,
        passes: usize,
    ) -> Result<Captured, Error> {
        let of_slot = |slot: &Vec<Linear<Layer>>| -> Vec<Layer> {
            slot.iter().map(|linear| linear.adapter(rank).layer.clone()).collect()
        };
        let layers: Vec<Vec<Layer>> = weights.iter().map(of_slot).collect();
        let bytes = layers.iter().flatten().map(|layer| layer.workspace_size(m)).max().unwrap_or(0);
        let mut workspace = Workspace::new(&gpu.device, bytes)?;
        let graph = Graph::capture(&gpu.stream, |stream| {
            (0..passes).try_for_each(|pass| {
                let slot = pass % operands.slots();
                let layers = &layers[slot % layers.len()];
                operands.forward(slot, strategy, layers, &mut workspace, stream)
            })
        })?;
        Ok(Captured {
            strategy,
            graph,
            stream: Rc::clone(&gpu.stream),
            operands: Rc::clone(operands),
            _layers: layers,
            _workspace: workspace,
        })
    }
}

impl Replay for Captured {
    fn launch(&self) -> Result<(), Error> {
        // SAFETY: layers and workspace are this strategy's own and the buffers are kept by `operands`, which
        // never lets go of one. The workspace is in no other graph, and launches of this one follow each other
        // on the one stream.
        unsafe { self.graph.launch(&self.stream) }
    }
}

/// Computes on the device's own copy of x, and always with the first slot's weights: those of the first slot
/// of tokens.
impl Method for Captured {
    fn name(&self) -> &str {
        self.strategy.name()
    }

    fn computes(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn call(&mut self, _: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        self.operands.write(0, tokens)?;
        self.launch()?;
        Ok(self.operands.read(0, tokens)?)
    }
}

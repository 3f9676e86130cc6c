//! x and y of one size in device memory, once for each slot of a ring.

use std::cell::RefCell;

use fused_lora::Strategy;
use fused_lora::cuda::{Buffer, Device, Error, Layer, Matrix, MatrixMut, Stream, Workspace};

use crate::tokens::Tokens;

/// Input and output of one projection.
struct Pair {
    /// [M, K]
    x: Buffer,
    /// [M, N]
    y: Buffer,
}

/// All slots. Their buffers stay where they are as long as this lives: graphs hold their addresses.
pub struct Operands {
    m: usize,
    /// By slot and projection.
    slots: Vec<RefCell<Vec<Pair>>>,
}

impl Operands {
    /// No slots yet, for that many tokens.
    #[must_use]
    pub fn new(m: usize) -> Operands {
        Operands { m, slots: Vec::new() }
    }

    /// One more slot: a copy of these tokens.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn push(&mut self, device: &Device, tokens: &[Tokens]) -> Result<(), Error> {
        let pair = |tokens: &Tokens| -> Result<Pair, Error> {
            let x = tokens.x.as_slice().expect("x is one row after another");
            Ok(Pair { x: Buffer::from_slice(device, x)?, y: Buffer::from_slice(device, &tokens.y)? })
        };
        self.slots.push(RefCell::new(tokens.iter().map(pair).collect::<Result<_, _>>()?));
        Ok(())
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Where x and y of each projection of a slot are on the device; for a library that takes addresses.
    #[must_use]
    pub fn addresses(&self, slot: usize) -> Vec<(u64, u64)> {
        self.slots[slot].borrow().iter().map(|Pair { x, y }| (x.address(), y.address())).collect()
    }

    /// Puts one forward pass on a slot into the stream, with those weights.
    ///
    /// # Errors
    ///
    /// If the library or the driver refuses it.
    pub fn forward(
        &self,
        slot: usize,
        strategy: Strategy,
        layers: &[Layer],
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        for (layer, Pair { x, y }) in layers.iter().zip(self.slots[slot].borrow_mut().iter_mut()) {
            let x = Matrix::new(x, self.m, layer.in_features())?;
            let y = MatrixMut::new(y, self.m, layer.out_features())?;
            layer.forward_with(strategy, x, y, workspace, stream)?;
        }
        Ok(())
    }

    /// Overwrites y of a slot. Waits for what is under way, and for itself.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn write(&self, slot: usize, tokens: &[Tokens]) -> Result<(), Error> {
        let mut pairs = self.slots[slot].borrow_mut();
        pairs.iter_mut().zip(tokens).try_for_each(|(pair, tokens)| pair.y.write(&tokens.y))
    }

    /// Reads y of a slot. Waits for what is under way.
    ///
    /// # Errors
    ///
    /// If the device fails, now or in what was under way.
    pub fn read(&self, slot: usize, tokens: &mut [Tokens]) -> Result<(), Error> {
        for (Pair { y, .. }, tokens) in self.slots[slot].borrow().iter().zip(tokens) {
            tokens.y = y.to_vec()?;
        }
        Ok(())
    }
}

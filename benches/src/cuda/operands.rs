//! x and y of one size in device memory, once for each slot of a ring.

use std::cell::RefCell;

use fused_lora::cuda::{Buffer, Device, Error, Matrix, MatrixMut};
use half::f16;

/// Input and output of one product.
struct Pair {
    /// [M, K]
    x: Buffer,
    /// [M, N]
    y: Buffer,
}

/// All slots. Their buffers stay where they are as long as this lives: graphs hold their addresses.
#[derive(Default)]
pub struct Operands {
    m: usize,
    /// K and N of each product.
    widths: Vec<(usize, usize)>,
    /// By slot and product.
    slots: Vec<RefCell<Vec<Pair>>>,
}

impl Operands {
    /// No slots yet, for that many tokens.
    pub fn new(m: usize, widths: &[(usize, usize)]) -> Operands {
        Operands { m, widths: widths.to_vec(), slots: Vec::new() }
    }

    /// One more slot: a copy of x, [M, K] of each product one after another. y is poisoned.
    pub fn push(&mut self, device: &Device, mut x: &[f16]) -> Result<(), Error> {
        let mut pairs = Vec::new();
        for &(k, n) in &self.widths {
            let (of_product, rest) = x.split_at(self.m * k);
            x = rest;
            let y = Buffer::poisoned(device, self.m * n)?;
            pairs.push(Pair { x: Buffer::from_slice(device, of_product)?, y });
        }
        self.slots.push(RefCell::new(pairs));
        Ok(())
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Tokens of a slot.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Where x and y of each product of a slot are on the device; for a library that takes addresses.
    pub fn addresses(&self, slot: usize) -> Vec<(u64, u64)> {
        self.slots[slot].borrow().iter().map(|Pair { x, y }| (x.address(), y.address())).collect()
    }

    /// Calls `run` with the number, x and y of each product of a slot.
    pub fn each<E: From<Error>>(
        &self,
        slot: usize,
        mut run: impl FnMut(usize, Matrix<'_>, MatrixMut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pairs = self.slots[slot].borrow_mut();
        for (product, (Pair { x, y }, &(k, n))) in pairs.iter_mut().zip(&self.widths).enumerate() {
            run(product, Matrix::new(x, self.m, k)?, MatrixMut::new(y, self.m, n)?)?;
        }
        Ok(())
    }

    /// Makes y of the first slot NaN. Waits for what is under way, and for itself.
    pub fn poison(&self) -> Result<(), Error> {
        let mut pairs = self.slots[0].borrow_mut();
        pairs.iter_mut().try_for_each(|pair| pair.y.write(&vec![f16::NAN; pair.y.len()]))
    }

    /// y of each product of a slot, with its number of columns. Waits for what is under way.
    pub fn read(&self, slot: usize) -> Result<Vec<(Vec<f16>, usize)>, Error> {
        let pairs = self.slots[slot].borrow();
        pairs.iter().zip(&self.widths).map(|(pair, &(_, n))| Ok((pair.y.to_vec()?, n))).collect()
    }
}

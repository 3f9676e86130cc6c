//! x as a hook on a layer gives it.

use std::path::Path;

use anyhow::{Result, bail};
use fused_lora::{
    DType, Element,
    peft::{TensorError, TensorFile},
};
use ndarray::Array2;

/// What x is called where a file holds more.
const X: &str = "x";

/// A file with the inputs of one module, or of several.
pub(crate) struct Input(TensorFile);

/// x as rows, and the dimensions before its last one.
pub(crate) struct Rows<T> {
    pub(crate) x: Array2<T>,
    pub(crate) leading: Vec<usize>,
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Input> {
        Ok(Input(TensorFile::open(path)?))
    }

    /// The tensor for the only module: `x`, one of the module's name, or the only tensor.
    pub(crate) fn only(&self, module: &str) -> Result<String, TensorError> {
        let names = self.0.names();
        match &names[..] {
            [only] => Ok(only.clone()),
            _ if self.0.contains(X) => Ok(X.to_owned()),
            _ if self.0.contains(module) => Ok(module.to_owned()),
            _ => self.named(X),
        }
    }

    /// The tensor of this name.
    pub(crate) fn named(&self, name: &str) -> Result<String, TensorError> {
        self.0.shape(name).map(|_| name.to_owned())
    }

    pub(crate) fn dtype(&self, tensor: &str) -> Result<DType, TensorError> {
        self.0.dtype(tensor)
    }

    /// Reads `[K]`, `[M, K]`, `[batch, seq, K]` or any other tensor with rows of `k`.
    pub(crate) fn read<T: Element>(&self, tensor: &str, module: &str, k: usize) -> Result<Rows<T>> {
        if let Some(columns) = self.0.shape(tensor)?.last().filter(|columns| **columns != k) {
            let file = self.0.path().display();
            bail!("{file}: tensor {tensor:?} has {columns} columns, but module {module:?} takes {k}");
        }
        let (leading, x) = self.0.read_rows(tensor)?;
        Ok(Rows { x, leading })
    }
}

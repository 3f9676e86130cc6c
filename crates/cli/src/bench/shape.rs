//! Modules of equal shapes and types, which cost the same and are measured once.

use std::collections::BTreeSet;

use fused_lora::{DType, peft::LoraModule};

use crate::survey::OfBase;

/// What the time of a module depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Columns of y.
    pub(super) n: usize,
    /// Columns of x.
    pub(super) k: usize,
    pub(super) rank: usize,
    pub(super) bias: bool,
    /// Of x, W and y.
    pub(super) dtype: DType,
    /// Whether A and B are f32 where W is not.
    pub(super) wide: bool,
}

impl Shape {
    /// Of a module that is computed in its own type, or in `dtype`. As in `apply`, A and B of another type are
    /// widened to f32.
    fn of(lora: &LoraModule, base: &OfBase, dtype: Option<DType>) -> Shape {
        let dtype = dtype.unwrap_or(base.dtype);
        let wide = dtype != DType::F32 && lora.dtypes != [dtype; 2];
        let LoraModule { n, k, rank, .. } = *lora;
        Shape { n, k, rank, bias: base.bias.is_some(), dtype, wide }
    }

    /// Of A and B as they are computed with.
    pub(super) fn adapter_dtype(&self) -> DType {
        if self.wide { DType::F32 } else { self.dtype }
    }

    /// Multiply-adds a token of the base product, and of the adapter.
    pub(super) fn multiply_adds(&self) -> [f64; 2] {
        [self.n * self.k, self.rank * (self.n + self.k)].map(|product| product as f64)
    }
}

/// The modules that have a shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sharers {
    pub(super) count: usize,
    /// The last parts of their names, each once.
    pub(super) names: BTreeSet<String>,
}

impl Sharers {
    pub(super) fn names(&self) -> String {
        self.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Each shape of these modules, the smallest first: it leaves the time that it does not need to the others.
pub(super) fn shapes<'a>(
    modules: impl Iterator<Item = (&'a LoraModule, &'a OfBase)>,
    dtype: Option<DType>,
) -> Vec<(Shape, Sharers)> {
    let mut shapes: Vec<(Shape, Sharers)> = Vec::new();
    for (lora, base) in modules {
        let shape = Shape::of(lora, base, dtype);
        let place = shapes.iter().position(|(other, _)| *other == shape).unwrap_or(shapes.len());
        if place == shapes.len() {
            shapes.push((shape, Sharers::default()));
        }
        let sharers = &mut shapes[place].1;
        sharers.count += 1;
        let leaf = lora.name.rsplit('.').next().unwrap_or(&lora.name);
        sharers.names.insert(leaf.escape_debug().to_string());
    }
    shapes.sort_by_key(|(Shape { n, k, rank, .. }, _)| (n * k, *n, *rank));
    shapes
}

/// A number of tokens in words.
pub(super) fn tokens(count: usize) -> String {
    format!("{count} token{}", if count == 1 { "" } else { "s" })
}

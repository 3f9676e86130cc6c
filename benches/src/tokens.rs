//! x and y of a workload at one M, once for each slot of the ring.

use fused_lora_records::Workload;
use half::f16;
use ndarray::{Array2, ArrayView2};

use crate::normals::Normals;

/// How a method wants y to lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A row of y after the other, as the operation has it.
    RowMajor,
    /// A column of y after the other: what prepacked weights of some peers demand.
    ColumnMajor,
}

/// Input and output of one projection.
pub struct Tokens {
    /// [M, K]
    pub x: Array2<f16>,
    /// M · N elements, laid out as the method that wrote them likes it.
    pub y: Vec<f16>,
    d_out: usize,
}

impl Tokens {
    /// y as the matrix [M, N] that it is.
    ///
    /// # Panics
    ///
    /// Never: y has M · N elements.
    #[must_use]
    pub fn output(&self, layout: Layout) -> ArrayView2<'_, f16> {
        let (m, n) = (self.x.nrows(), self.d_out);
        let view = match layout {
            Layout::RowMajor => ArrayView2::from_shape((m, n), &self.y),
            Layout::ColumnMajor => ArrayView2::from_shape((n, m), &self.y).map(ArrayView2::reversed_axes),
        };
        view.expect("y has M · N elements")
    }
}

/// One slot: the tokens of every projection, each with an x of its own.
pub fn slot(workload: &Workload, m: usize, normals: &mut Normals) -> Vec<Tokens> {
    let tokens = workload.projections().iter().map(|projection| Tokens {
        x: normals.matrix(1.0, m, projection.d_in),
        y: vec![f16::NAN; m * projection.d_out],
        d_out: projection.d_out,
    });
    tokens.collect()
}

/// Bytes of x and y of one slot.
#[must_use]
pub fn slot_bytes(workload: &Workload, m: usize) -> usize {
    let widths: usize = workload.projections().iter().map(|p| p.d_in + p.d_out).sum();
    m * widths * size_of::<f16>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_projection_has_tokens_of_its_widths() {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let mut normals = Normals::new(1);
        let tokens = slot(workload, 3, &mut normals);
        let shapes: Vec<_> = tokens.iter().map(|t| (t.x.dim(), t.output(Layout::RowMajor).dim())).collect();
        assert_eq!(
            shapes,
            [((3, 1024), (3, 3072)), ((3, 1024), (3, 1024)), ((3, 1024), (3, 4096)), ((3, 4096), (3, 1024)),]
        );
        let bytes: usize = tokens.iter().map(|t| 2 * (t.x.len() + t.y.len())).sum();
        assert_eq!(slot_bytes(workload, 3), bytes);
        assert_ne!(tokens[0].x, tokens[1].x);
        assert_ne!(tokens[0].x, slot(workload, 3, &mut normals)[0].x);
    }

    #[test]
    fn the_layout_says_where_an_element_is() {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        let mut tokens = slot(workload, 2, &mut Normals::new(1)).remove(0);
        tokens.y[1] = f16::ONE;
        assert_eq!(tokens.output(Layout::RowMajor)[[0, 1]], f16::ONE);
        assert_eq!(tokens.output(Layout::ColumnMajor)[[1, 0]], f16::ONE);
        assert_eq!(tokens.output(Layout::ColumnMajor).dim(), (2, 1024));
    }
}

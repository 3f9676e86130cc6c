//! Products as this project writes them, and as cuBLASLt wants them.
//!
//! All matrices here are row-major; cuBLASLt's are column-major by default, and a row-major matrix is the
//! transpose of a column-major one with the same leading dimension. So out = x·wᵀ, with out [m, n], x [m, k]
//! and w [n, k], is asked for as outᵀ = w·xᵀ:
//!
//! | | stored, column-major | op | op(·) |
//! |---|---|---|---|
//! | A = w | k × n, ld ≥ k | T | n × k |
//! | B = x | k × m, ld ≥ k | N | k × m |
//! | C = D = out | n × m, ld ≥ n | – | |
//!
//! This is the form "TN", which has the most kernels: both operands run along k.

/// out ← α·x·wᵀ, or out ← α·x·wᵀ + out. Sizes and strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of x and out.
    pub m: usize,
    /// Rows of w, columns of out.
    pub n: usize,
    /// Columns of x and w.
    pub k: usize,
    /// From row to row of x.
    pub x_stride: usize,
    /// From row to row of w.
    pub w_stride: usize,
    /// From row to row of out.
    pub out_stride: usize,
    /// Whether it is added to what is in out.
    pub accumulates: bool,
}

/// A column-major matrix as it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its rows: those that are next to each other.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// From column to column.
    pub ld: usize,
}

impl Product {
    /// Of matrices without gaps between their rows.
    #[must_use]
    pub fn dense(m: usize, n: usize, k: usize) -> Product {
        Product { m, n, k, x_stride: k, w_stride: k, out_stride: n, accumulates: false }
    }

    /// Added to what is in out.
    #[must_use]
    pub fn accumulating(self) -> Product {
        Product { accumulates: true, ..self }
    }

    /// BLAS's A, to be transposed.
    #[must_use]
    pub fn a(&self) -> Stored {
        Stored { rows: self.k, columns: self.n, ld: self.w_stride }
    }

    /// BLAS's B, to be taken as it is.
    #[must_use]
    pub fn b(&self) -> Stored {
        Stored { rows: self.k, columns: self.m, ld: self.x_stride }
    }

    /// BLAS's C and D.
    #[must_use]
    pub fn d(&self) -> Stored {
        Stored { rows: self.n, columns: self.m, ld: self.out_stride }
    }

    /// BLAS's β.
    #[must_use]
    pub fn beta(&self) -> f32 {
        if self.accumulates { 1.0 } else { 0.0 }
    }

    /// Operations, a multiply-add counted as two.
    #[must_use]
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table above with numbers: y [128, 3072] = x [128, 1024] · Wᵀ, W [3072, 1024].
    #[test]
    fn a_row_major_product_in_columns() {
        let product = Product::dense(128, 3072, 1024);
        assert_eq!(product.a(), Stored { rows: 1024, columns: 3072, ld: 1024 });
        assert_eq!(product.b(), Stored { rows: 1024, columns: 128, ld: 1024 });
        assert_eq!(product.d(), Stored { rows: 3072, columns: 128, ld: 3072 });
        assert_eq!((product.beta(), product.accumulating().beta()), (0.0, 1.0));
        assert_eq!(product.flops(), 2.0 * 128.0 * 3072.0 * 1024.0);
    }
}

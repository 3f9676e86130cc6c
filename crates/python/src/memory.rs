//! Matrices and vectors in torch's memory.

use std::borrow::Cow;

use fused_lora::{DType, Element};
use half::{bf16, f16};
use ndarray::{ArrayView2, ShapeBuilder};
use twox_hash::XxHash3_64;

/// A dense matrix in memory that belongs to torch, as Python passed it.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub(crate) pointer: usize,
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Columns are adjacent in memory, as in a Conv1D.
    pub(crate) transposed: bool,
}

impl Matrix {
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// # Safety
    ///
    /// The memory holds this matrix, and nobody frees it for `'a`.
    pub(crate) unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: the caller's contract; a dense matrix has no gaps.
        unsafe { std::slice::from_raw_parts(self.pointer as *const u8, self.len() * self.dtype.size()) }
    }

    /// # Safety
    ///
    /// As [`bytes`](Self::bytes), and T is the type of its elements.
    pub(crate) unsafe fn view<'a, T: Element>(&self) -> ArrayView2<'a, T> {
        debug_assert_eq!(T::DTYPE, self.dtype);
        let strides = if self.transposed { (1, self.rows) } else { (self.columns, 1) };
        // SAFETY: the caller's contract; torch aligns tensors to their elements.
        unsafe {
            ArrayView2::from_shape_ptr((self.rows, self.columns).strides(strides), self.pointer as *const T)
        }
    }

    /// Row by row in f32: copied unless it is f32 already.
    ///
    /// # Safety
    ///
    /// As [`bytes`](Self::bytes); the matrix is not transposed.
    pub(crate) unsafe fn widened<'a>(&self) -> Cow<'a, [f32]> {
        /// # Safety
        ///
        /// As [`Matrix::widened`], and T is the type of its elements.
        unsafe fn elements<'a, T>(matrix: &Matrix) -> &'a [T] {
            // SAFETY: the caller's contract.
            unsafe { std::slice::from_raw_parts(matrix.pointer as *const T, matrix.len()) }
        }
        // SAFETY: the caller's contract, and `dtype` is the type of its elements.
        unsafe {
            match self.dtype {
                DType::F16 => elements::<f16>(self).iter().map(|v| v.to_f32()).collect(),
                DType::Bf16 => elements::<bf16>(self).iter().map(|v| v.to_f32()).collect(),
                _ => Cow::Borrowed(elements(self)),
            }
        }
    }
}

/// 64 bits that differ, but for an accident of 2⁻⁶⁴, if any bit of the contents does.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// A copy of some of a matrix's lines of 64 bytes, spread over all of it, to see that it was changed.
pub(crate) struct Sample {
    /// Where each line begins.
    at: Vec<usize>,
    /// Of all lines, one after another.
    copy: Vec<u8>,
    line: usize,
}

impl Sample {
    /// One line of each of 16 to 32 parts of `bytes` of equal length: at most 1.5 % of a matrix of 68 KB or
    /// more. Where in its part a line lies differs from part to part, so that they do not all miss the same
    /// columns.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let line = bytes.len().clamp(1, 64);
        let all = bytes.len() / line;
        let count = (all * 15 / 1000).clamp(16, 32).min(all);
        let begin = |part: usize| {
            let (first, end) = (part * all / count, (part + 1) * all / count);
            // Multiples of the golden ratio are spread evenly, modulo 1.
            let within = (part as f64 * 0.618_033_988_749_894_9).fract() * (end - first) as f64;
            (first + within as usize) * line
        };
        let at: Vec<_> = (0..count).map(begin).collect();
        let copy = at.iter().flat_map(|&at| &bytes[at..at + line]).copied().collect();
        Self { at, copy, line }
    }

    /// Whether `bytes`, as many as it was made of, still hold these lines.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let mut lines = self.at.iter().zip(self.copy.chunks_exact(self.line));
        lines.all(|(&at, line)| bytes[at..at + self.line] == *line)
    }
}

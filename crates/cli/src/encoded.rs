//! y as a tensor of a file.

use std::borrow::Cow;

use anyhow::Result;
use fused_lora::{DType, Element, Error, check_finite};
use half::{bf16, f16};
use ndarray::Array2;
use safetensors::{Dtype, View};

/// A tensor in the bytes of its type.
pub(crate) struct Encoded {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Encoded {
    /// y, `[M, N]`, in `dtype`, with these dimensions in the place of M.
    ///
    /// # Errors
    ///
    /// A row that is not finite, as it was computed or in `dtype`, though that row of x is.
    pub(crate) fn new<T: Element>(
        dtype: DType,
        x: &Array2<T>,
        y: &Array2<T>,
        leading: &[usize],
    ) -> Result<Encoded> {
        check_finite(x.view(), y.view())?;
        let (name, bytes) = match dtype {
            DType::Bf16 => (Dtype::BF16, bytes(x, y, bf16::to_le_bytes)?),
            DType::F32 => (Dtype::F32, bytes(x, y, f32::to_le_bytes)?),
            DType::F16 => (Dtype::F16, bytes(x, y, f16::to_le_bytes)?),
            other => anyhow::bail!("{other} is not implemented"),
        };
        let shape = leading.iter().copied().chain([y.ncols()]).collect();
        Ok(Encoded { dtype: name, shape, bytes })
    }
}

fn bytes<T: Element, U: Element, const SIZE: usize>(
    x: &Array2<T>,
    y: &Array2<T>,
    to_bytes: impl Fn(U) -> [u8; SIZE],
) -> Result<Vec<u8>, Error> {
    let y = y.mapv(|value| U::from_f32(value.to_f32()));
    check_finite(x.view(), y.view())?;
    Ok(y.iter().flat_map(|value| to_bytes(*value)).collect())
}

impl View for Encoded {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

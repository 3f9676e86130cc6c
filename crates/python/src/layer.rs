//! A packed weight, as Python has it.

use fused_lora::DType;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    adapters::Lora,
    memory::Matrix,
    packed::{Linear, Operands, linear},
};

/// The element types by the numbers that Python gives them.
const DTYPES: [DType; 3] = [DType::F16, DType::Bf16, DType::F32];

fn dtype(number: usize) -> PyResult<DType> {
    DTYPES.get(number).copied().ok_or_else(|| PyValueError::new_err(format!("no element type {number}")))
}

fn refused(error: fused_lora::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A weight W: [N, K] of torch's, packed. It is packed again when a sample of it no longer matches.
#[pyclass(frozen)]
pub(crate) struct Layer {
    pub(crate) linear: Box<dyn Linear>,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// Addresses of A: [r, K] and B: [N, r], their element types, r and the scale.
type Adapter = (usize, usize, usize, usize, usize, f32);

#[pymethods]
impl Layer {
    /// Packs the `n` × `k` elements at `address`; `transposed` where they lie as [K, N]. The memory must stay
    /// until the last call.
    #[new]
    fn new(
        py: Python<'_>,
        address: usize,
        number: usize,
        n: usize,
        k: usize,
        transposed: bool,
    ) -> PyResult<Self> {
        let weight = Matrix { pointer: address, dtype: dtype(number)?, rows: n, columns: k, transposed };
        // SAFETY: Python holds a tensor of this type and size while it calls.
        let linear = py.detach(|| unsafe { linear(weight) }).map_err(refused)?;
        Ok(Self { linear, n, k })
    }

    /// y: [rows, N] of x: [rows, K], whose rows lie `stride` elements apart, both of W's type. `bias` is an
    /// address or 0. All rows use all `adapters`; with `sequences` a batch is as many runs of equally many
    /// rows, and each uses the adapter with this index, or none if it is negative.
    #[allow(clippy::too_many_arguments, reason = "Python's call, by position, which costs least")]
    fn forward(
        &self,
        py: Python<'_>,
        x: usize,
        rows: usize,
        stride: usize,
        y: usize,
        bias: usize,
        adapters: Vec<Adapter>,
        sequences: Option<Vec<isize>>,
    ) -> PyResult<()> {
        let lora = |(a, b, type_of_a, type_of_b, rank, scale): Adapter| {
            let matrix = |pointer, number, rows, columns| -> PyResult<Matrix> {
                Ok(Matrix { pointer, dtype: dtype(number)?, rows, columns, transposed: false })
            };
            Ok(Lora { a: matrix(a, type_of_a, rank, self.k)?, b: matrix(b, type_of_b, self.n, rank)?, scale })
        };
        let loras = adapters.into_iter().map(lora).collect::<PyResult<Vec<_>>>()?;
        let sequences: Option<Vec<_>> =
            sequences.map(|of| of.into_iter().map(|index| usize::try_from(index).ok()).collect());
        let bias = (bias != 0).then_some(bias);
        let operands = Operands { x, rows, stride, y, bias, loras: &loras, sequences: sequences.as_deref() };
        // SAFETY: Python holds tensors of these sizes while it calls, and y is new.
        py.detach(|| unsafe { self.linear.forward(&operands) }).map_err(refused)
    }

    /// Packs W again at the next call.
    fn refresh(&self) {
        self.linear.refresh();
    }

    /// How often W was packed.
    #[getter]
    fn packs(&self, py: Python<'_>) -> usize {
        py.detach(|| self.linear.packs())
    }
}

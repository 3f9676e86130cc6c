//! A call of a layer that needs no checks: what they looked at when a call was fused is still the same.
//!
//! The checks are Python's and read some hundred attributes. All of these are in the dictionaries of the
//! layer's modules, in what torch says of the tensors, and in torch's modes: to compare all of that with a
//! copy of it costs a fraction. If anything differs the checks run again, and decide.

use std::sync::atomic::{AtomicU64, Ordering};

use fused_lora::DType;
use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple, PyType},
};

use crate::{
    adapters::Lora,
    dlpack::{self, Description},
    layer::Layer,
    memory::Matrix,
    packed::Operands,
    snapshot::{Kinds, Snapshot},
};

/// What Python says once.
struct Watched {
    /// Functions that tell of torch's modes, and what they return, the same object, where there is none.
    modes: Vec<(Py<PyAny>, Py<PyAny>)>,
    /// Dictionaries of hooks on all modules, which are empty.
    hooks: Vec<Py<PyDict>>,
    is_grad_enabled: Py<PyAny>,
    /// torch's `Module`, `Tensor` and `Parameter`.
    module: Py<PyType>,
    tensors: [Py<PyType>; 2],
    /// Classes of values in the state of a module that are compared by identity.
    leaves: Vec<Py<PyType>>,
}

static WATCHED: PyOnceLock<Watched> = PyOnceLock::new();

/// Lets plans be made. `modes` are functions without arguments, each with what it returns where there is no
/// such mode; `hooks` are dictionaries that have to be empty; `leaves` are classes of values without parts.
/// `capsule` is torch's `Tensor.__dlpack_c_exchange_api__`.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "a call once, by name")]
#[pyo3(signature = (*, capsule, modes, hooks, is_grad_enabled, module, tensors, leaves))]
pub(crate) fn watch(
    py: Python<'_>,
    capsule: &Bound<'_, PyAny>,
    modes: Vec<(Py<PyAny>, Py<PyAny>)>,
    hooks: Vec<Py<PyDict>>,
    is_grad_enabled: Py<PyAny>,
    module: Py<PyType>,
    tensors: [Py<PyType>; 2],
    leaves: Vec<Py<PyType>>,
) -> PyResult<()> {
    dlpack::set(capsule)?;
    let _ = WATCHED.set(py, Watched { modes, hooks, is_grad_enabled, module, tensors, leaves });
    Ok(())
}

impl Watched {
    /// Whether no mode and no hook of torch's is in the way.
    fn is_quiet(&self, py: Python<'_>) -> PyResult<bool> {
        for (function, expected) in &self.modes {
            if !function.bind(py).call0()?.is(expected) {
                return Ok(false);
            }
        }
        Ok(self.hooks.iter().all(|hooks| hooks.bind(py).is_empty()))
    }

    fn is_tensor(&self, value: &Bound<'_, PyAny>) -> bool {
        let class = value.get_type();
        self.tensors.iter().any(|tensor| class.is(tensor))
    }
}

/// A weight, a bias, A or B as it was.
struct Operand {
    tensor: Py<PyAny>,
    description: Description,
}

impl Operand {
    fn of(watched: &Watched, tensor: &Bound<'_, PyAny>) -> Option<Self> {
        // SAFETY: its class was looked at.
        let description = watched.is_tensor(tensor).then(|| unsafe { Description::of(tensor) })??;
        Some(Self { tensor: tensor.clone().unbind(), description })
    }

    fn matrix(&self, rows: usize, columns: usize) -> Matrix {
        let Description { pointer, dtype, .. } = self.description;
        Matrix { pointer, dtype, rows, columns, transposed: false }
    }
}

/// The next calls of a layer, as long as nothing changes.
#[pyclass(frozen)]
pub(crate) struct Plan {
    layer: Snapshot,
    native: Py<Layer>,
    dtype: DType,
    /// W, B and A of all adapters, and the bias.
    operands: Vec<Operand>,
    bias: Option<usize>,
    loras: Vec<Lora>,
    /// How often torch's operators had changed W.
    version: Option<u64>,
    calls: AtomicU64,
}

#[pymethods]
impl Plan {
    /// Of the PEFT layer `layer`, whose modules `inside` count for it, or None: there is something in its state
    /// that cannot be compared. `native` holds W, whose version is `version` if it has one; `adapters` are A's and
    /// B's weight, and the scale, all of them dense.
    #[staticmethod]
    #[allow(clippy::too_many_arguments, reason = "what a call has")]
    fn of(
        py: Python<'_>,
        layer: &Bound<'_, PyAny>,
        inside: Vec<Bound<'_, PyAny>>,
        native: Py<Layer>,
        weight: &Bound<'_, PyAny>,
        version: Option<u64>,
        bias: Option<Bound<'_, PyAny>>,
        adapters: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>, f32)>,
    ) -> PyResult<Option<Self>> {
        let Some(watched) = WATCHED.get(py) else { return Ok(None) };
        let leaves: Vec<_> = watched.leaves.iter().map(|class| class.bind(py).clone()).collect();
        let kinds = Kinds { module: watched.module.bind(py), leaves: &leaves, inside: &inside };
        let (n, k) = (native.get().n, native.get().k);
        let operand = |tensor: &Bound<'_, PyAny>| Operand::of(watched, tensor);
        let make = || {
            let mut operands = vec![operand(weight)?];
            let dtype = operands[0].description.dtype;
            let bias = match bias {
                Some(bias) => {
                    operands.push(operand(&bias)?);
                    Some(operands[1].description.pointer)
                }
                None => None,
            };
            let mut loras = Vec::new();
            for (a, b, scale) in &adapters {
                let (a, b) = (operand(a)?, operand(b)?);
                let rank = a
                    .description
                    .dense_rows()
                    .filter(|&rank| a.description.shape() == [rank as i64, k as i64])?;
                b.description.dense_rows().filter(|_| b.description.shape() == [n as i64, rank as i64])?;
                loras.push(Lora { a: a.matrix(rank, k), b: b.matrix(n, rank), scale: *scale });
                operands.extend([a, b]);
            }
            Some((operands, dtype, bias, loras))
        };
        let Some((operands, dtype, bias, loras)) = make() else { return Ok(None) };
        let Some(layer) = Snapshot::of(layer, &kinds)? else { return Ok(None) };
        let calls = AtomicU64::new(0);
        Ok(Some(Self { layer, native, dtype, operands, bias, loras, version, calls }))
    }

    /// y of `layer`, the one that the plan is of, with `x`; None where the checks have to be made.
    fn run<'py>(
        &self,
        py: Python<'py>,
        layer: &Bound<'py, PyAny>,
        x: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(watched) = WATCHED.get(py) else { return Ok(None) };
        let (n, k) = (self.native.get().n, self.native.get().k);
        if !watched.is_tensor(x) {
            return Ok(None);
        }
        // SAFETY: its class was looked at.
        let Some(input) = (unsafe { Description::of(x) }) else { return Ok(None) };
        let Some(rows) = input.dense_rows().filter(|&rows| rows > 0) else { return Ok(None) };
        let fits = input.dtype == self.dtype && input.shape().last() == Some(&(k as i64));
        if !fits || !watched.is_quiet(py)? || is(x, intern!(py, "is_neg"))? || !self.holds(layer)? {
            return Ok(None);
        }
        let requires_grad = intern!(py, "requires_grad");
        if watched.is_grad_enabled.bind(py).call0()?.is_truthy()? {
            for tensor in self.operands.iter().map(|operand| operand.tensor.bind(py)).chain([x]) {
                if tensor.getattr(requires_grad)?.is_truthy()? {
                    return Ok(None);
                }
            }
        }
        let mut shape = input.shape().to_vec();
        *shape.last_mut().expect("it has a last dimension") = n as i64;
        let y = x.call_method1(intern!(py, "new_empty"), (PyTuple::new(py, shape)?,))?;
        // SAFETY: no function mode is active, so it is a tensor of torch's own.
        let Some(output) = (unsafe { Description::of(&y) }) else { return Ok(None) };
        let operands = Operands {
            x: input.pointer,
            rows,
            stride: k,
            y: output.pointer,
            bias: self.bias,
            loras: &self.loras,
            sequences: None,
        };
        let linear = &self.native.get().linear;
        // SAFETY: `x`, `y` and the operands are held by this call, of the types and sizes that were looked at.
        if py.detach(|| unsafe { linear.forward(&operands) }).is_err() {
            // The checks are followed by the same call, and say why.
            return Ok(None);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(Some(y))
    }

    /// Whether the layer and its tensors are as they were.
    fn holds(&self, layer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = layer.py();
        let Some(watched) = WATCHED.get(py).filter(|_| self.layer.is_still(layer)) else { return Ok(false) };
        for Operand { tensor, description } in &self.operands {
            let tensor = tensor.bind(py);
            if !watched.is_tensor(tensor) {
                return Ok(false);
            }
            // SAFETY: its class was looked at.
            let now = unsafe { Description::of(tensor) };
            if now != Some(*description) || is(tensor, intern!(py, "is_neg"))? {
                return Ok(false);
            }
        }
        let version = || self.operands[0].tensor.bind(py).getattr(intern!(py, "_version"))?.extract::<u64>();
        Ok(match self.version {
            Some(known) => version()? == known,
            None => true,
        })
    }

    /// How many calls it made.
    #[getter]
    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// What a method without arguments says.
fn is(tensor: &Bound<'_, PyAny>, method: &Bound<'_, pyo3::types::PyString>) -> PyResult<bool> {
    tensor.call_method0(method)?.is_truthy()
}

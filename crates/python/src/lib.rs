//! The native side of the Python package `fused_lora`: layers over the memory of torch's tensors, which
//! Python passes as addresses. torch is neither linked nor imported here.

mod adapters;
mod dlpack;
mod layer;
mod memory;
mod packed;
mod plan;
mod snapshot;
mod threads;

use std::sync::atomic::Ordering;

use pyo3::{exceptions::PyValueError, prelude::*};

/// Computes on the threads of an OpenMP runtime from now on: the addresses of its `GOMP_parallel`,
/// `omp_get_thread_num` and `omp_get_max_threads`.
#[pyfunction]
fn use_openmp(parallel: usize, thread_num: usize, max_threads: usize) -> PyResult<()> {
    if [parallel, thread_num, max_threads].contains(&0) {
        return Err(PyValueError::new_err("the address of a function is 0"));
    }
    // SAFETY: Python has looked the addresses up by these names, whose signatures are OpenMP's.
    let openmp = unsafe {
        threads::OpenMp {
            parallel: std::mem::transmute::<usize, threads::Parallel>(parallel),
            thread_num: std::mem::transmute::<usize, threads::Number>(thread_num),
            max_threads: std::mem::transmute::<usize, threads::Number>(max_threads),
        }
    };
    // The first one stays: torch loads one runtime.
    let _ = threads::OPENMP.set(openmp);
    Ok(())
}

/// Computes on the calling thread alone from now on: the process was forked.
#[pyfunction]
fn after_fork() {
    threads::FORKED.store(true, Ordering::Relaxed);
}

/// Whose threads compute.
#[pyfunction]
fn threads_name() -> &'static str {
    threads::name()
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<layer::Layer>()?;
    module.add_class::<plan::Plan>()?;
    module.add_function(wrap_pyfunction!(plan::watch, module)?)?;
    module.add_function(wrap_pyfunction!(use_openmp, module)?)?;
    module.add_function(wrap_pyfunction!(after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(threads_name, module)?)
}

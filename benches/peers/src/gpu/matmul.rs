//! A product as this project writes it, and as cuBLASLt wants it.
//!
//! All matrices here are row-major; cuBLASLt's are column-major by default, and a row-major matrix is the
//! transpose of a column-major one with the same leading dimension. So out = x·wᵀ, with out [m, n], x [m, k]
//! and w [n, k], is asked for as outᵀ = w·xᵀ:
//!
//! | | stored, column-major | op | op(·) |
//! |---|---|---|---|
//! | A = w | k × n, ld = k | T | n × k |
//! | B = x | k × m, ld = k | N | k × m |
//! | C = D = out | n × m, ld = n | – | |
//!
//! This is the form "TN", which has the most kernels: both operands run along k.

use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::{result, sys};

use super::library::{Handle, Owned, done};
use super::steps::{Product, Step};

/// Algorithms that the heuristics are asked for.
const CANDIDATES: usize = 32;
/// Scratch memory that the library gets: what NVIDIA recommends on Hopper.
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;

/// An algorithm for one product, with all that the library wants to know of it.
pub(super) type Algorithm = sys::cublasLtMatmulHeuristicResult_t;

/// The descriptors of a product: f16 in and out, sums and scales in f32.
pub(super) struct Matmul {
    operation: Owned<sys::cublasLtMatmulDesc_t>,
    a: Owned<sys::cublasLtMatrixLayout_t>,
    b: Owned<sys::cublasLtMatrixLayout_t>,
    d: Owned<sys::cublasLtMatrixLayout_t>,
}

impl Matmul {
    /// Fails if the library refuses a descriptor.
    pub(super) fn new(Product { m, n, k, .. }: Product) -> anyhow::Result<Matmul> {
        let (compute, scale) = (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F);
        let made = result::create_matmul_desc(compute, scale);
        let operation = Owned::new("cublasLtMatmulDescCreate", made, result::destroy_matmul_desc)?;
        // CUBLAS_OP_T, a C enum. That of B is N unless it is set.
        let transposed = 1i32;
        // SAFETY: the descriptor is alive, and the attribute of four bytes.
        done("cublasLtMatmulDescSetAttribute", unsafe {
            result::set_matmul_desc_attribute(
                operation.raw,
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
                ptr::from_ref(&transposed).cast(),
                size_of_val(&transposed),
            )
        })?;
        let layout = |rows: usize, columns: usize| {
            let element = sys::cudaDataType::CUDA_R_16F;
            let made = result::create_matrix_layout(element, rows as u64, columns as u64, rows as i64);
            Owned::new("cublasLtMatrixLayoutCreate", made, result::destroy_matrix_layout)
        };
        Ok(Matmul { operation, a: layout(k, n)?, b: layout(k, m)?, d: layout(n, m)? })
    }

    /// What the heuristics offer, up to [`CANDIDATES`] within [`WORKSPACE_BYTES`], the likely fastest first.
    /// Empty if they know of none; fails if they cannot be asked.
    pub(super) fn candidates(&self, handle: &Handle) -> anyhow::Result<Vec<Algorithm>> {
        let made = result::create_matmul_pref();
        let preference = Owned::new("cublasLtMatmulPreferenceCreate", made, result::destroy_matmul_pref)?;
        let bytes = WORKSPACE_BYTES as u64;
        // SAFETY: the preference is alive, and the attribute of eight bytes.
        done("cublasLtMatmulPreferenceSetAttribute", unsafe {
            result::set_matmul_pref_attribute(
                preference.raw,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                ptr::from_ref(&bytes).cast(),
                size_of_val(&bytes),
            )
        })?;
        let (mut algorithms, mut found) = (Vec::with_capacity(CANDIDATES), 0);
        // SAFETY: the descriptors are alive, and there is room for as many results as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle.raw,
                self.operation.raw,
                self.a.raw,
                self.b.raw,
                self.d.raw,
                self.d.raw,
                preference.raw,
                CANDIDATES as i32,
                algorithms.as_mut_ptr(),
                &mut found,
            )
        };
        if status == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED {
            return Ok(Vec::new());
        }
        done("cublasLtMatmulAlgoGetHeuristic", status.result())?;
        // SAFETY: there is room for so many, and the library wrote them.
        unsafe { algorithms.set_len(usize::try_from(found).unwrap_or(0).min(CANDIDATES)) };
        algorithms.retain(|algorithm: &Algorithm| {
            algorithm.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS
                && algorithm.workspaceSize <= WORKSPACE_BYTES
        });
        Ok(algorithms)
    }

    /// Puts the product on the step's matrices into a stream; fails if the library refuses it.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of the handle's context, or null for its default. Until the work is done, and
    /// each time that it runs if the stream is in capture: at the step's addresses are matrices as large as
    /// the product says, at `scratch` is as much memory as the library gets, nothing else writes to any of
    /// it, and nothing reads `out`.
    pub(super) unsafe fn enqueue(
        &self,
        handle: &Handle,
        algorithm: &Algorithm,
        step: &Step,
        scratch: u64,
        stream: *mut c_void,
    ) -> anyhow::Result<()> {
        let beta = if step.product.accumulates { 1.0f32 } else { 0.0 };
        // SAFETY: descriptors, algorithm and both scales are alive during the call, after which they are not
        // looked at (the pointer mode is that of the host); the rest is the caller's contract.
        done("cublasLtMatmul", unsafe {
            result::matmul(
                handle.raw,
                self.operation.raw,
                ptr::from_ref(&step.alpha).cast(),
                ptr::from_ref(&beta).cast(),
                step.w as *const c_void,
                self.a.raw,
                step.x as *const c_void,
                self.b.raw,
                step.out as *const c_void,
                self.d.raw,
                step.out as *mut c_void,
                self.d.raw,
                &algorithm.algo,
                scratch as *mut c_void,
                algorithm.workspaceSize,
                stream.cast(),
            )
        })
    }
}

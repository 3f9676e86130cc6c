//! A product as cuBLASLt's descriptors.

use std::ffi::c_void;
use std::mem::{self, MaybeUninit};
use std::ptr;

use cudarc::cublaslt::sys;
use sys::cublasLtMatmulDescAttributes_t as DescAttribute;
use sys::cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute;

use crate::gpu::library::{Failed, Handle, done};
use crate::gpu::product::{Product, Stored};

/// Algorithms that the heuristics are asked for.
pub const CANDIDATES: usize = 32;
/// Scratch memory that the library gets: what NVIDIA recommends on Hopper.
pub const WORKSPACE_BYTES: usize = 32 << 20;

/// `cublasOperation_t`, a C enum: N takes a matrix as it is stored, T transposed.
const OP_N: i32 = 0;
const OP_T: i32 = 1;

/// An algorithm for one product, with all that the library wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Algorithm {
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace_bytes: usize,
}

/// Addresses of one call, on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Of x.
    pub x: u64,
    /// Of w.
    pub w: u64,
    /// Of out.
    pub out: u64,
}

/// Scratch memory on the device, of [`WORKSPACE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch(pub u64);

/// The descriptors of a product: f16 in and out, sums and scales in f32.
pub struct Matmul {
    product: Product,
    operation: Operation,
    a: Layout,
    b: Layout,
    d: Layout,
}

impl Matmul {
    /// Of that product.
    ///
    /// # Errors
    ///
    /// If the library refuses a descriptor.
    pub fn new(product: Product) -> Result<Matmul, Failed> {
        let operation = Operation::new()?;
        operation.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, OP_T)?;
        operation.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB, OP_N)?;
        let [a, b, d] = [product.a(), product.b(), product.d()].map(Layout::new);
        Ok(Matmul { product, operation, a: a?, b: b?, d: d? })
    }

    /// What it computes.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// What the heuristics offer, up to [`CANDIDATES`] within [`WORKSPACE_BYTES`], the likely fastest first.
    /// Empty if they know of none.
    ///
    /// # Errors
    ///
    /// If they cannot be asked.
    pub fn candidates(&self, handle: &Handle) -> Result<Vec<Algorithm>, Failed> {
        let preference = Preference::within(WORKSPACE_BYTES)?;
        let mut results =
            [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed() }; CANDIDATES];
        let mut found = 0;
        // SAFETY: the descriptors are alive, and there is room for as many results as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle.raw(),
                self.operation.0,
                self.a.0,
                self.b.0,
                self.d.0,
                self.d.0,
                preference.0,
                CANDIDATES as i32,
                results.as_mut_ptr().cast(),
                &mut found,
            )
        };
        if status == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED {
            return Ok(Vec::new());
        }
        done("cublasLtMatmulAlgoGetHeuristic", status)?;
        let found = usize::try_from(found).unwrap_or(0).min(CANDIDATES);
        // SAFETY: the library wrote the first `found`; they were zero before, which is a value of the type.
        let results = results[..found].iter().map(|result| unsafe { result.assume_init() });
        let supported = results
            .filter(|result| result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS)
            .map(|result| Algorithm { algorithm: result.algo, workspace_bytes: result.workspaceSize });
        Ok(supported.filter(|algorithm| algorithm.workspace_bytes <= WORKSPACE_BYTES).collect())
    }

    /// Puts out ← alpha·x·wᵀ (+ out) into a stream.
    ///
    /// # Errors
    ///
    /// If the library refuses it.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of the handle's context, or null for its default. Until the work is done, and each
    /// time that it runs if the stream is in capture: at `addresses` are matrices as large as
    /// [`product`](Self::product) says, at `scratch` is as much memory as the library gets, nothing else writes to
    /// any of it, and nothing reads `out`.
    pub unsafe fn enqueue(
        &self,
        handle: &Handle,
        algorithm: &Algorithm,
        alpha: f32,
        addresses: Addresses,
        scratch: Scratch,
        stream: *mut c_void,
    ) -> Result<(), Failed> {
        let beta = self.product.beta();
        let Addresses { x, w, out } = addresses;
        // SAFETY: descriptors, algorithm and both scales are alive during the call, after which they are not
        // looked at (the pointer mode is that of the host); the rest is the caller's contract.
        let status = unsafe {
            sys::cublasLtMatmul(
                handle.raw(),
                self.operation.0,
                ptr::from_ref(&alpha).cast(),
                w as *const c_void,
                self.a.0,
                x as *const c_void,
                self.b.0,
                ptr::from_ref(&beta).cast(),
                out as *const c_void,
                self.d.0,
                out as *mut c_void,
                self.d.0,
                &algorithm.algorithm,
                scratch.0 as *mut c_void,
                algorithm.workspace_bytes,
                stream.cast(),
            )
        };
        done("cublasLtMatmul", status)
    }
}

/// What is computed.
struct Operation(sys::cublasLtMatmulDesc_t);

impl Operation {
    fn new() -> Result<Operation, Failed> {
        let mut raw = ptr::null_mut();
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let scale = sys::cudaDataType::CUDA_R_32F;
        // SAFETY: `raw` is writable.
        done("cublasLtMatmulDescCreate", unsafe { sys::cublasLtMatmulDescCreate(&mut raw, compute, scale) })?;
        Ok(Operation(raw))
    }

    fn set(&self, attribute: DescAttribute, value: i32) -> Result<(), Failed> {
        // SAFETY: the descriptor is alive; both attributes that are set are C enums, of four bytes.
        done("cublasLtMatmulDescSetAttribute", unsafe {
            sys::cublasLtMatmulDescSetAttribute(
                self.0,
                attribute,
                ptr::from_ref(&value).cast(),
                mem::size_of_val(&value),
            )
        })
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
        let _ = unsafe { sys::cublasLtMatmulDescDestroy(self.0) };
    }
}

/// An f16 matrix; column-major, as layouts are unless told otherwise.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(stored: Stored) -> Result<Layout, Failed> {
        let Stored { rows, columns, ld } = stored;
        let mut raw = ptr::null_mut();
        let element = sys::cudaDataType::CUDA_R_16F;
        // SAFETY: `raw` is writable.
        done("cublasLtMatrixLayoutCreate", unsafe {
            sys::cublasLtMatrixLayoutCreate(&mut raw, element, rows as u64, columns as u64, ld as i64)
        })?;
        Ok(Layout(raw))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
        let _ = unsafe { sys::cublasLtMatrixLayoutDestroy(self.0) };
    }
}

/// What the heuristics may take.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn within(workspace_bytes: usize) -> Result<Preference, Failed> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable.
        done("cublasLtMatmulPreferenceCreate", unsafe { sys::cublasLtMatmulPreferenceCreate(&mut raw) })?;
        let preference = Preference(raw);
        let bytes = workspace_bytes as u64;
        // SAFETY: the preference is alive; the attribute is a number of eight bytes.
        done("cublasLtMatmulPreferenceSetAttribute", unsafe {
            sys::cublasLtMatmulPreferenceSetAttribute(
                preference.0,
                PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                ptr::from_ref(&bytes).cast(),
                mem::size_of_val(&bytes),
            )
        })?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
        let _ = unsafe { sys::cublasLtMatmulPreferenceDestroy(self.0) };
    }
}

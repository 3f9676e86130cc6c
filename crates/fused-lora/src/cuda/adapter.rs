use std::{fmt, ops::Range, sync::Arc};

use fused_lora_kernels::{Global, params};
use half::f16;
use ndarray::{Array2, ArrayView2, s};

use super::{
    adapters::Adapters,
    count::count,
    device::Device,
    error::Error,
    memory::Memory,
    pad::{elements, padded, pitch, rank16},
};
use crate::{
    error::Operand,
    shape::{require, require_nonzero},
};

/// A low-rank adapter on a device, for all rows of a call. Clones share it.
#[derive(Clone)]
pub struct Adapter {
    inner: Arc<Inner>,
}

struct Inner {
    slabs: Slabs,
    rank: u32,
    scale: f32,
    in_features: usize,
    out_features: usize,
    /// The columns of y that it adds to.
    columns: Range<u32>,
}

/// A `[R_total, K]` and B `[N, R_total]` on the device, of one adapter or of several.
#[derive(Debug)]
pub(super) struct Slabs {
    pub(super) a: Memory,
    pub(super) b: Memory,
    /// Elements from row to row of A.
    pub(super) lda: u32,
    /// Elements from row to row of B: R_total.
    pub(super) ldb: u32,
}

impl Adapter {
    /// Copies `a: [r, K]` and `b: [N, r]` to the device. `scale` is `alpha / r`, or `alpha / sqrt(r)` for
    /// rsLoRA. r may be zero: such an adapter takes the base path.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] as for [`cpu::Adapter::new`](crate::cpu::Adapter::new), [`Error::OutOfMemory`],
    /// [`Error::TooLarge`], [`Error::Driver`].
    pub fn new(
        device: &Device,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> Result<Self, Error> {
        let out_features = b.nrows();
        Self::on_columns(device, a, b, scale, 0..out_features, out_features)
    }

    /// As [`new`](Self::new), for some columns of y alone, which has `out_features`: one projection of a fused QKV.
    /// `b: [columns, r]`. Tiles of y beside those columns cost what the base costs.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Error::Columns`] for columns that are none or beyond y's.
    pub fn on_columns(
        device: &Device,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
        columns: Range<usize>,
        out_features: usize,
    ) -> Result<Self, Error> {
        check(a, b, scale)?;
        if columns.is_empty() || columns.end > out_features {
            return Err(Error::Columns { index: 0, columns: (columns.start, columns.end), out_features });
        }
        require(Operand::B, "rows", columns.len(), b.nrows())?;
        let (rank, in_features) = a.dim();
        let [rank_count, ..] = [count("r", rank)?, count("K", in_features)?, count("N", out_features)?];
        let rank16 = rank16(rank_count) as usize;
        let a = padded(a, rank16, pitch(in_features));
        // Zero beside its columns, as Hopper's kernels want it.
        let mut b_slab = Array2::zeros((out_features, rank16));
        b_slab.slice_mut(s![columns.clone(), ..rank]).assign(&b);
        let slabs = Slabs::new(device, elements(&a), pitch(in_features), elements(&b_slab), rank16)?;
        // Columns are at most N, which was counted.
        let columns = columns.start as u32..columns.end as u32;
        let inner = Inner { slabs, rank: rank_count, scale, in_features, out_features, columns };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// r
    pub fn rank(&self) -> usize {
        self.inner.rank as usize
    }

    /// K
    pub fn in_features(&self) -> usize {
        self.inner.in_features
    }

    /// N
    pub fn out_features(&self) -> usize {
        self.inner.out_features
    }

    /// The columns of y that it adds to.
    pub fn columns(&self) -> Range<usize> {
        self.inner.columns.start as usize..self.inner.columns.end as usize
    }

    /// s
    pub fn scale(&self) -> f32 {
        self.inner.scale
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.inner.slabs.a.device()
    }

    pub(super) fn adapters(&self) -> Adapters<'static> {
        let Inner { slabs, rank, scale, columns, .. } = &*self.inner;
        let uniform = params::Adapter {
            rank: *rank,
            scale: *scale,
            first_column: columns.start,
            last_column: columns.end,
            ..Default::default()
        };
        Adapters::uniform(params::Lora { uniform, ..slabs.lora() })
    }
}

impl Slabs {
    pub(super) fn new(device: &Device, a: &[f16], lda: usize, b: &[f16], ldb: usize) -> Result<Self, Error> {
        let (lda, ldb) = (count("the pitch of A", lda)?, count("the ranks of all adapters", ldb)?);
        Ok(Self { a: Memory::from_slice(device, a)?, b: Memory::from_slice(device, b)?, lda, ldb })
    }

    /// Their part of the kernels' parameters.
    pub(super) fn lora(&self) -> params::Lora {
        params::Lora {
            a: Global::from_address(self.a.address()),
            b: Global::from_address(self.b.address()),
            lda: self.lda,
            ldb: self.ldb,
            ..params::Lora::default()
        }
    }
}

/// Shapes and scale, as on the CPU.
pub(super) fn check(a: ArrayView2<'_, f16>, b: ArrayView2<'_, f16>, scale: f32) -> Result<(), crate::Error> {
    require_nonzero(Operand::A, &a.shape()[1..])?;
    require_nonzero(Operand::B, &b.shape()[..1])?;
    require(Operand::B, "columns", a.nrows(), b.ncols())?;
    if scale.is_finite() { Ok(()) } else { Err(crate::Error::Scale { scale }) }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("rank", &self.rank())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("columns", &self.columns())
            .field("scale", &self.scale())
            .field("device", &self.device().ordinal())
            .finish()
    }
}

use std::{fmt, sync::Arc};

use half::f16;
use ndarray::ArrayView2;

use super::{
    panels::Panels,
    simd::{Simd, dispatch},
};
use crate::{error::Error, shape::check_adapter};

/// A low-rank adapter, packed. Clones share the packed matrices.
#[derive(Clone)]
pub struct Adapter {
    inner: Arc<Packed>,
}

pub(crate) struct Packed {
    /// A as the weight of the shrink: r columns, K steps.
    pub(crate) a: Panels,
    /// B as the weight of the expand: N columns, r steps.
    pub(crate) b: Panels,
    pub(crate) scale: f32,
    simd: Simd,
}

impl Adapter {
    /// Packs `a: [r, K]` and `b: [N, r]` for this machine. `scale` is `alpha / r`, or `alpha / sqrt(r)` for
    /// rsLoRA. r may be zero: such an adapter adds nothing, and only the base product is computed.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`] if K or N is zero, [`Error::Shape`] if `a` and `b` differ in r, [`Error::Scale`]
    /// if `scale` is not finite, and the errors of [`Simd::detect`].
    pub fn new(a: ArrayView2<'_, f16>, b: ArrayView2<'_, f16>, scale: f32) -> Result<Self, Error> {
        Self::with_simd(Simd::detect()?, a, b, scale)
    }

    /// As [`new`](Self::new), for the given SIMD level.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Error::SimdUnavailable`].
    pub fn with_simd(
        simd: Simd,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> Result<Self, Error> {
        let simd = simd.require()?;
        check_adapter(&a, &b, scale)?;
        let [a, b] = [a, b].map(|view| dispatch!(simd, Kernel => Panels::pack::<Kernel>(view)));
        Ok(Self { inner: Arc::new(Packed { a, b, scale, simd }) })
    }

    /// r: the rank.
    pub fn rank(&self) -> usize {
        self.inner.a.rows()
    }

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.inner.a.k()
    }

    /// N: the number of output features.
    pub fn out_features(&self) -> usize {
        self.inner.b.rows()
    }

    /// s: the scale.
    pub fn scale(&self) -> f32 {
        self.inner.scale
    }

    /// The SIMD level that it is packed for.
    pub fn simd(&self) -> Simd {
        self.inner.simd
    }

    pub(crate) fn packed(&self) -> &Packed {
        &self.inner
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("rank", &self.rank())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("scale", &self.scale())
            .field("simd", &self.simd())
            .finish()
    }
}

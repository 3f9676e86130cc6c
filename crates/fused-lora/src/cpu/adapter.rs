use std::{fmt, marker::PhantomData, sync::Arc};

use half::f16;
use ndarray::ArrayView2;

use super::{
    kernel::levels::Level,
    panels::Panels,
    simd::{Simd, dispatch},
};
use crate::{
    element::{AdapterElement, Element},
    error::Error,
    problem::DType,
    shape::check_adapter,
};

/// A low-rank adapter for layers of `T`, packed. Clones share the packed matrices.
pub struct Adapter<T: Element = f16> {
    inner: Arc<Packed>,
    of: PhantomData<fn() -> T>,
}

impl<T: Element> Clone for Adapter<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), of: PhantomData }
    }
}

pub(crate) struct Packed {
    /// A as the weight of the shrink: r columns, or 2r where it is in parts.
    pub(crate) a: Panels,
    /// B as the weight of the expand: N columns; K is r, or 3r in parts.
    pub(crate) b: Panels,
    pub(crate) scale: f32,
    simd: Simd,
    rank: usize,
    in_features: usize,
    /// Of A, B and h.
    dtype: DType,
}

impl<T: Element> Adapter<T> {
    /// Packs `a: [r, K]` and `b: [N, r]` for this machine. They are of the layer's type, and h is rounded to
    /// it; or they are f32, and h is not rounded. `scale` is `alpha / r`, or `alpha / sqrt(r)` for rsLoRA. r
    /// may be zero: such an adapter adds nothing, and only the base product is computed.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`] if K or N is zero, [`Error::Shape`] if `a` and `b` differ in r, [`Error::Scale`]
    /// if `scale` is not finite, and the errors of [`Simd::detect`].
    pub fn new<H: AdapterElement<T>>(
        a: ArrayView2<'_, H>,
        b: ArrayView2<'_, H>,
        scale: f32,
    ) -> Result<Self, Error> {
        Self::with_simd(Simd::detect()?, a, b, scale)
    }

    /// As [`new`](Self::new), for the given SIMD level.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Error::SimdUnavailable`].
    pub fn with_simd<H: AdapterElement<T>>(
        simd: Simd,
        a: ArrayView2<'_, H>,
        b: ArrayView2<'_, H>,
        scale: f32,
    ) -> Result<Self, Error> {
        let simd = simd.require()?.serving(T::DTYPE);
        check_adapter(&a, &b, scale)?;
        let (rank, in_features) = a.dim();
        let [a, b] = dispatch!(simd, T, H => pack(a, b));
        let inner = Arc::new(Packed { a, b, scale, simd, rank, in_features, dtype: H::DTYPE });
        Ok(Self { inner, of: PhantomData })
    }

    /// r: the rank.
    pub fn rank(&self) -> usize {
        self.inner.rank
    }

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.inner.in_features
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

    /// Element type of A, B and h.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    pub(crate) fn packed(&self) -> &Packed {
        &self.inner
    }
}

impl Packed {
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }
}

fn pack<L: Level>(a: ArrayView2<'_, L::H>, b: ArrayView2<'_, L::H>) -> [Panels; 2] {
    L::pack_adapter(a, b)
}

impl<T: Element> fmt::Debug for Adapter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("rank", &self.rank())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("scale", &self.scale())
            .field("simd", &self.simd())
            .field("dtype", &self.dtype())
            .finish()
    }
}

use std::{fmt, marker::PhantomData, ops::Range, sync::Arc};

use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, CowArray, Ix2, s};

use super::{
    concrete::view,
    kernel::{MicroKernel, levels::Level},
    loras::{ALL_ROWS, Loras, Packed},
    simd::{Simd, dispatch},
};
use crate::{
    element::{AdapterElement, Element},
    error::{Error, Operand},
    problem::DType,
    shape::{check_adapter, check_columns, require},
};

/// A low-rank adapter for layers of `T`, packed. Clones share the packed matrices.
pub struct Adapter<T: Element = f16> {
    inner: Arc<Inner>,
    of: PhantomData<fn() -> T>,
}

impl<T: Element> Clone for Adapter<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), of: PhantomData }
    }
}

struct Inner {
    parts: Vec<Arc<Packed>>,
    /// The parts, on all rows.
    loras: Loras,
    simd: Simd,
    rank: usize,
    scale: f32,
    in_features: usize,
    out_features: usize,
    /// Of A, B and h.
    dtype: DType,
}

impl<T: Element> Adapter<T> {
    /// Packs `a: [r, K]` and `b: [N, r]` for this machine. They are of the layer's type or f32. h stays f32,
    /// but for bf16 on AMX and AVX512-BF16, where an adapter of bf16 has it rounded to bf16. `scale` is `alpha / r`, or `alpha / sqrt(r)` for rsLoRA. r
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
        let out_features = b.nrows();
        Self::on_columns(simd, a, b, scale, 0..out_features, out_features)
    }

    /// As [`with_simd`](Self::with_simd), for some columns of y only, for example one projection of a fused
    /// QKV: `b: [columns, r]`, and y has `out_features` columns. The others cost what they cost in the base
    /// product. Where h is infinite or NaN, so may be y's columns up to a panel's width (48) beside them.
    ///
    /// # Errors
    ///
    /// As [`with_simd`](Self::with_simd), and [`Error::Columns`] if `columns` is empty or reaches beyond y.
    pub fn on_columns<H: AdapterElement<T>>(
        simd: Simd,
        a: ArrayView2<'_, H>,
        b: ArrayView2<'_, H>,
        scale: f32,
        columns: Range<usize>,
        out_features: usize,
    ) -> Result<Self, Error> {
        let simd = simd.require()?.serving(T::DTYPE);
        check_adapter(&a, &b, scale)?;
        check_columns(&columns, out_features)?;
        require(Operand::B, "rows", columns.len(), b.nrows())?;
        let (rank, in_features) = a.dim();
        let parts = if rank == 0 {
            Vec::new()
        } else {
            let to = (scale, columns, out_features);
            let packed = match (T::DTYPE, H::DTYPE) {
                (DType::F16, DType::F16) => pack_f16(simd, [view(a), view(b)], to),
                (DType::Bf16, DType::Bf16) => pack_bf16(simd, [view(a), view(b)], to),
                (DType::F16, _) => pack_f32_for_f16(simd, [view(a), view(b)], to),
                (DType::Bf16, _) => pack_f32_for_bf16(simd, [view(a), view(b)], to),
                (DType::F32, _) => pack_f32(simd, [view(a), view(b)], to),
            };
            vec![Arc::new(packed)]
        };
        let (loras, dtype) = (on_all_rows(&parts), H::DTYPE);
        let inner = Inner { parts, loras, simd, rank, scale, in_features, out_features, dtype };
        Ok(Self { inner: Arc::new(inner), of: PhantomData })
    }

    /// This adapter and another one of the same rows of x, each on columns of its own: LoRA on q and v of a
    /// fused QKV. Its rank is the sum of both.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if they differ in K or N, [`Error::SimdMismatch`] and [`Error::AdapterType`] if they
    /// are packed for different levels or types, [`Error::ColumnsOverlap`].
    pub fn beside(&self, other: &Self) -> Result<Self, Error> {
        let (one, two) = (&*self.inner, &*other.inner);
        require(Operand::A, "columns", one.in_features, two.in_features)?;
        require(Operand::B, "rows", one.out_features, two.out_features)?;
        if one.simd != two.simd {
            return Err(Error::SimdMismatch { layer: one.simd, adapter: two.simd });
        }
        if one.dtype != two.dtype {
            return Err(Error::AdapterType { expected: one.dtype, found: two.dtype });
        }
        for (a, b) in one.parts.iter().flat_map(|a| two.parts.iter().map(move |b| (&a.columns, &b.columns))) {
            if a.start < b.end && b.start < a.end {
                let [one, other] = [a, b].map(|columns| (columns.start, columns.end));
                return Err(Error::ColumnsOverlap { one, other });
            }
        }
        let parts: Vec<_> = one.parts.iter().chain(&two.parts).cloned().collect();
        let inner = Inner { loras: on_all_rows(&parts), parts, rank: one.rank + two.rank, ..*one };
        Ok(Self { inner: Arc::new(inner), of: PhantomData })
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
        self.inner.out_features
    }

    /// s: the scale; of adapters beside each other, the first one's.
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

    /// On all rows; none of a rank of zero.
    pub(crate) fn loras(&self) -> &Loras {
        &self.inner.loras
    }

    /// What it consists of: one A and B, or several, on columns of their own.
    pub(crate) fn parts(&self) -> &[Arc<Packed>] {
        &self.inner.parts
    }
}

fn on_all_rows(parts: &[Arc<Packed>]) -> Loras {
    Loras::new([(ALL_ROWS, parts)])
}

/// B is packed for whole panels of W, with zeros beside its columns.
fn pack<L: Level>(
    [a, b]: [ArrayView2<'_, L::Lora>; 2],
    (scale, columns, out_features): (f32, Range<usize>, usize),
) -> Packed {
    let width = L::Main::NV * L::Main::LANES;
    let first = columns.start / width * width;
    let end = columns.end.next_multiple_of(width).min(out_features);
    let mut b: CowArray<'_, L::Lora, Ix2> = b.into();
    if (first, end) != (columns.start, columns.end) {
        let mut padded = Array2::default((end - first, b.ncols()));
        padded.slice_mut(s![columns.start - first..columns.end - first, ..]).assign(&b);
        b = padded.into();
    }
    let [a, b] = L::pack_adapter(a, b.view());
    Packed { a, b, scale, first_panel: first / width, columns }
}

macro_rules! pack_of {
    ($name:ident, $T:ty, $H:ty) => {
        fn $name(simd: Simd, [a, b]: [ArrayView2<'_, $H>; 2], to: (f32, Range<usize>, usize)) -> Packed {
            dispatch!(simd, $T, $H => pack([a, b], to))
        }
    };
}
pack_of!(pack_f16, f16, f16);
pack_of!(pack_bf16, bf16, bf16);
pack_of!(pack_f32_for_f16, f16, f32);
pack_of!(pack_f32_for_bf16, bf16, f32);
pack_of!(pack_f32, f32, f32);

impl<T: Element> fmt::Debug for Adapter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.parts().iter().map(|part| &part.columns).collect();
        f.debug_struct("Adapter")
            .field("rank", &self.rank())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("columns", &columns)
            .field("scale", &self.scale())
            .field("simd", &self.simd())
            .field("dtype", &self.dtype())
            .finish()
    }
}

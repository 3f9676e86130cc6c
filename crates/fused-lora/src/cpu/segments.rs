use std::{fmt, ops::Range, sync::Arc};

use half::f16;

use super::{loras::Loras, simd::Simd, table::AdapterTable};
use crate::{element::Element, error::Error, problem::DType, shape::check_segments};

/// Which rows of a batch use which adapter of a table, for any number of calls with the same number of rows.
/// Clones share it; the adapters stay as they were in the table.
pub struct Segments<T: Element = f16> {
    inner: Arc<Inner>,
    of: std::marker::PhantomData<fn() -> T>,
}

struct Inner {
    loras: Loras,
    m: usize,
    simd: Simd,
    in_features: usize,
    out_features: usize,
    /// Of A, B and h; of x where no row has an adapter.
    dtype: DType,
}

impl<T: Element> Clone for Segments<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), ..*self }
    }
}

impl<T: Element> Segments<T> {
    /// Segments for calls with `m` rows: `rows` lists ranges of rows, in order and without overlap, and the
    /// adapter of each (None for no adapter). Rows in no range have no adapter.
    ///
    /// # Errors
    ///
    /// [`Error::SegmentRows`] for a range that is not in order or not within `m`, [`Error::SegmentAdapter`]
    /// for an adapter that the table has not.
    pub fn new(
        table: &AdapterTable<T>,
        m: usize,
        rows: &[(Range<usize>, Option<usize>)],
    ) -> Result<Self, Error> {
        let segments = check_segments(m, rows, table.len(), |index| table.get(index))?;
        let segments = || segments.iter().filter(|(rows, _)| !rows.is_empty());
        let dtype = segments().map(|(_, adapter)| adapter.dtype()).next().unwrap_or(T::DTYPE);
        let loras = Loras::new(segments().map(|(rows, adapter)| (rows.clone(), adapter.parts())));
        let [in_features, out_features] = [table.in_features(), table.out_features()];
        let inner = Inner { loras, m, simd: table.simd(), in_features, out_features, dtype };
        Ok(Self { inner: Arc::new(inner), of: std::marker::PhantomData })
    }

    /// The number of rows of the calls that use it.
    pub fn m(&self) -> usize {
        self.inner.m
    }

    pub(super) fn loras(&self) -> &Loras {
        &self.inner.loras
    }

    pub(super) fn simd(&self) -> Simd {
        self.inner.simd
    }

    pub(super) fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// N and K.
    pub(super) fn features(&self) -> [usize; 2] {
        [self.inner.out_features, self.inner.in_features]
    }
}

impl<T: Element> fmt::Debug for Segments<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments").field("m", &self.m()).finish_non_exhaustive()
    }
}

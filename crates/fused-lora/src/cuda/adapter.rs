use std::{ops::Range, sync::Arc};

use fused_lora_kernels::params;
use half::f16;
use ndarray::ArrayView2;

use super::{
    device::Device,
    error::Error,
    slabs::{Region, Slabs},
};
use crate::{TableEntry, plan::adapters::Adapters};

/// A low-rank adapter on a device, for all rows of a call. Clones share the device memory.
#[derive(Clone, Debug)]
pub struct Adapter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    region: Region,
    in_features: usize,
    out_features: usize,
}

impl Adapter {
    /// Copies `a: [r, K]` and `b: [N, r]` to the device. `scale` is `alpha / r`, or `alpha / sqrt(r)` for
    /// rsLoRA. r may be zero: such an adapter adds nothing, and only the base product is computed.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] as for [`cpu::Adapter::new`](crate::cpu::Adapter::new), [`Error::OutOfMemory`],
    /// [`Error::Plan`], [`Error::Driver`].
    pub fn new(
        device: &Device,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> Result<Self, Error> {
        let out_features = b.nrows();
        Self::on_columns(device, a, b, scale, 0..out_features, out_features)
    }

    /// As [`new`](Self::new), for some columns of y only, for example one projection of a fused QKV: `b:
    /// [columns, r]`, and y has `out_features` columns. Tiles of y without those columns cost as much as in
    /// the base product.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Columns`](crate::Error::Columns) if `columns` is empty or reaches beyond
    /// y.
    pub fn on_columns(
        device: &Device,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
        columns: Range<usize>,
        out_features: usize,
    ) -> Result<Self, Error> {
        let in_features = a.ncols();
        let entries = [TableEntry { a, b, scale, columns }];
        let made = Slabs::new(device, in_features, out_features, &entries, false);
        let (_, mut regions) = made.map_err(|error| match error {
            Error::Problem(crate::Error::Entry { source, .. }) => (*source).into(),
            error => error,
        })?;
        Ok(Self::of(regions.remove(0), in_features, out_features))
    }

    pub(super) fn of(region: Region, in_features: usize, out_features: usize) -> Self {
        Self { inner: Arc::new(Inner { region, in_features, out_features }) }
    }

    /// r: the rank.
    pub fn rank(&self) -> usize {
        self.entry().rank as usize
    }

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.inner.in_features
    }

    /// N: the number of output features.
    pub fn out_features(&self) -> usize {
        self.inner.out_features
    }

    /// The columns of y that it adds to.
    pub fn columns(&self) -> Range<usize> {
        let entry = self.entry();
        entry.first_column as usize..entry.last_column as usize
    }

    /// s: the scale.
    pub fn scale(&self) -> f32 {
        self.entry().scale
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.region().slabs.device()
    }

    pub(super) fn region(&self) -> &Region {
        &self.inner.region
    }

    pub(super) fn entry(&self) -> &params::Adapter {
        &self.region().entry
    }

    pub(super) fn adapters(&self) -> Adapters<'static> {
        Adapters::uniform(params::Lora { uniform: *self.entry(), ..self.region().slabs.lora() })
    }
}

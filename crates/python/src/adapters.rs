//! Adapters, packed once for each content.

use fused_lora::{
    AdapterElement, Element, Error,
    cpu::{Adapter, AdapterTable, Layer, Segments},
};
use ndarray::{ArrayView2, Ix2, concatenate, prelude::*};

use crate::memory::{Matrix, hash};

/// A and B of an adapter in torch's memory, and its scale.
#[derive(Clone, Copy)]
pub(crate) struct Lora {
    /// `[r, K]`
    pub(crate) a: Matrix,
    /// `[N, r]`
    pub(crate) b: Matrix,
    pub(crate) scale: f32,
}

/// What an adapter was packed from.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    hash: u64,
    rank: usize,
    scale: u32,
    /// Packed as f32.
    wide: bool,
}

/// The adapters used last, by content: pointers and versions of tensors miss some changes of what they hold.
pub(crate) struct Adapters<T: Element> {
    /// The one used last comes first.
    packed: Vec<(Box<[Key]>, Adapter<T>)>,
}

/// How many are kept, unless a call has more.
const KEPT: usize = 8;

impl<T: AdapterElement<T>> Adapters<T> {
    pub(crate) fn new() -> Self {
        Self { packed: Vec::new() }
    }

    /// All of `loras` at once, on every row; None if there are none.
    ///
    /// # Safety
    ///
    /// The matrices lie in memory that nobody frees meanwhile.
    pub(crate) unsafe fn joined(&mut self, loras: &[Lora]) -> Result<Option<Adapter<T>>, Error> {
        // SAFETY: the caller's contract.
        if loras.is_empty() { Ok(None) } else { unsafe { self.get(loras, is_wide::<T>(loras)).map(Some) } }
    }

    /// A batch of rows, as many for each sequence, whose sequences use these adapters, or none.
    ///
    /// # Safety
    ///
    /// As [`joined`](Self::joined).
    pub(crate) unsafe fn mixed(
        &mut self,
        layer: &Layer<T>,
        loras: &[Lora],
        rows: usize,
        sequences: &[Option<usize>],
    ) -> Result<Segments<T>, Error> {
        let (k, n, simd) = (layer.in_features(), layer.out_features(), layer.simd());
        let mut table = AdapterTable::with_simd::<T>(simd, k, n, &[])?;
        let wide = loras.iter().any(|lora| is_wide::<T>(std::slice::from_ref(lora)));
        for (slot, lora) in loras.iter().enumerate() {
            // SAFETY: the caller's contract.
            let adapter = unsafe { self.get(std::slice::from_ref(lora), wide)? };
            table = table.with(slot, adapter)?;
        }
        self.packed.truncate(KEPT.max(loras.len()));
        let each = rows / sequences.len().max(1);
        let ranges = sequences.iter().enumerate().map(|(i, &of)| (i * each..(i + 1) * each, of));
        Segments::new(&table, rows, &ranges.collect::<Vec<_>>())
    }

    /// # Safety
    ///
    /// As [`joined`](Self::joined).
    unsafe fn get(&mut self, loras: &[Lora], wide: bool) -> Result<Adapter<T>, Error> {
        let key = |lora: &Lora| {
            // SAFETY: the caller's contract.
            let hash = unsafe { hash(hash(0, lora.a.bytes()), lora.b.bytes()) };
            Key { hash, rank: lora.a.rows, scale: lora.scale.to_bits(), wide }
        };
        let keys: Box<[Key]> = loras.iter().map(key).collect();
        if let Some(at) = self.packed.iter().position(|(of, _)| *of == keys) {
            self.packed[..=at].rotate_right(1);
        } else {
            // SAFETY: the caller's contract.
            let adapter = unsafe { pack(loras, wide)? };
            self.packed.insert(0, (keys, adapter));
        }
        Ok(self.packed[0].1.clone())
    }

    /// Drops those that were not used lately.
    pub(crate) fn trim(&mut self) {
        self.packed.truncate(KEPT);
    }
}

/// Whether they have to be packed as f32: some are not of the layer's type, or they are joined, which
/// multiplies A by the scale.
fn is_wide<T: Element>(loras: &[Lora]) -> bool {
    loras.len() > 1 || loras.iter().any(|lora| [lora.a, lora.b].iter().any(|matrix| matrix.dtype != T::DTYPE))
}

/// # Safety
///
/// As [`Adapters::joined`].
unsafe fn pack<T: AdapterElement<T>>(loras: &[Lora], wide: bool) -> Result<Adapter<T>, Error> {
    if let (false, [lora]) = (wide, loras) {
        // SAFETY: the caller's contract; what is not wide is of type T.
        return unsafe { Adapter::new::<T>(lora.a.view(), lora.b.view(), lora.scale) };
    }
    if let Some(Lora { scale, .. }) = loras.iter().find(|lora| !lora.scale.is_finite()) {
        return Err(Error::Scale { scale: *scale });
    }
    let matrix = |of: &Matrix, scale: f32| -> Array2<f32> {
        // SAFETY: the caller's contract.
        let elements = unsafe { of.widened() };
        let view = ArrayView2::from_shape((of.rows, of.columns), &elements).expect("as many as it has");
        &view * scale
    };
    let join = |axis, parts: Vec<Array<f32, Ix2>>| {
        concatenate(Axis(axis), &parts.iter().map(|part| part.view()).collect::<Vec<_>>())
            .expect("shapes that were checked")
    };
    // A single adapter keeps its scale, which is then applied to the sums of the shrink.
    let (scale, of_a): (f32, fn(&Lora) -> f32) =
        if let [lora] = loras { (lora.scale, |_| 1.0) } else { (1.0, |lora| lora.scale) };
    let a = join(0, loras.iter().map(|lora| matrix(&lora.a, of_a(lora))).collect());
    let b = join(1, loras.iter().map(|lora| matrix(&lora.b, 1.0)).collect());
    Adapter::new::<f32>(a.view(), b.view(), scale)
}

use std::{borrow::Cow, ops::Range};

use anyhow::Result;
use fused_lora::{
    AdapterElement, Element, Epilogue, Strategy,
    cpu::{Adapter, AdapterTable, Layer, Segments, Simd, TableEntry, Workspace},
    peft::{LoraFile, LoraModule, LoraWeights, PeftError},
};
use ndarray::{Array1, Array2};

use crate::level::Level;

/// Rows of x, and the number of their adapter.
pub(crate) type Segment = (Range<usize>, Option<usize>);

/// What is to be computed, in T.
pub(crate) struct Job<'a, T> {
    pub(crate) x: &'a Array2<T>,
    pub(crate) weight: &'a Array2<T>,
    pub(crate) bias: Option<Array1<T>>,
    pub(crate) loras: &'a [Source<'a>],
    /// The rows of x that each adapter has; none where there is at most one adapter, for all rows.
    pub(crate) segments: Option<Vec<Segment>>,
    pub(crate) strategy: Strategy,
    pub(crate) level: &'a Level,
}

/// A module of an adapter: each device reads it in a type of its own.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a LoraFile,
    pub(crate) module: LoraModule,
}

/// An adapter, in the layer's type or in f32.
enum Lora<T> {
    Same(LoraWeights<T>),
    Wide(LoraWeights<f32>),
}

impl<T: Element> Lora<T> {
    /// As it is in the file, if that is T; in f32 otherwise.
    fn unrounded(Source { file, module }: &Source<'_>) -> Result<Self, PeftError> {
        let LoraWeights { a, b, scale } = file.load_f32(&module.name)?;
        Ok(if module.dtypes == [T::DTYPE; 2] {
            let [a, b] = [a, b].map(|matrix| matrix.mapv(T::from_f32));
            Self::Same(LoraWeights { a, b, scale })
        } else {
            Self::Wide(LoraWeights { a, b, scale })
        })
    }

    /// In f32.
    fn wide(&self) -> Cow<'_, LoraWeights<f32>> {
        match self {
            Self::Wide(lora) => Cow::Borrowed(lora),
            Self::Same(LoraWeights { a, b, scale }) => {
                let [a, b] = [a, b].map(|matrix| matrix.mapv(T::to_f32));
                Cow::Owned(LoraWeights { a, b, scale: *scale })
            }
        }
    }
}

impl<T: Element + AdapterElement<T>> Job<'_, T> {
    /// y, and the SIMD level that computed it.
    pub(super) fn on_cpu(&self) -> Result<(Array2<T>, String)> {
        let simd = self.level.simd()?;
        let mut layer = Layer::with_simd(simd, self.weight.view())?.with_epilogue(&self.epilogue())?;
        let mut segments = None;
        let loras = self.loras.iter().map(Lora::<T>::unrounded).collect::<Result<Vec<_>, _>>()?;
        match (&self.segments, &*loras) {
            (_, []) => {}
            (None, [Lora::Same(lora)]) => {
                layer = layer.with_adapter(pack(simd, lora)?)?;
            }
            (None, [Lora::Wide(lora)]) => {
                layer = layer.with_adapter(pack(simd, lora)?)?;
            }
            (rows, adapters) => {
                // All in one type: that of the layer, if all are.
                let same = adapters.iter().map(|lora| match lora {
                    Lora::Same(lora) => Some(lora),
                    Lora::Wide(_) => None,
                });
                let table = match same.collect::<Option<Vec<_>>>() {
                    Some(same) => table(simd, &layer, same)?,
                    None => {
                        let wide: Vec<_> = adapters.iter().map(Lora::wide).collect();
                        table(simd, &layer, wide.iter().map(|lora| &**lora))?
                    }
                };
                segments = Some(Segments::new(&table, self.x.nrows(), rows.as_deref().unwrap_or_default())?);
            }
        }
        let mut call = layer.call(self.x.view()).strategy(self.strategy);
        if let Some(segments) = &segments {
            call = call.segments(segments);
        }
        let mut y = Array2::default((self.x.nrows(), layer.out_features()));
        call.run(y.view_mut(), &mut Workspace::new())?;
        Ok((y, layer.simd().to_string()))
    }

    pub(super) fn epilogue(&self) -> Epilogue<T> {
        self.bias.clone().map_or_else(Epilogue::default, Epilogue::bias)
    }
}

fn pack<T: Element, H: AdapterElement<T>>(simd: Simd, lora: &LoraWeights<H>) -> Result<Adapter<T>> {
    Ok(Adapter::with_simd(simd, lora.a.view(), lora.b.view(), lora.scale)?)
}

fn table<'a, T: Element, H: AdapterElement<T>>(
    simd: Simd,
    layer: &Layer<T>,
    adapters: impl IntoIterator<Item = &'a LoraWeights<H>>,
) -> Result<AdapterTable<T>> {
    let entries: Vec<_> = adapters.into_iter().map(entry).collect();
    Ok(AdapterTable::with_simd(simd, layer.in_features(), layer.out_features(), &entries)?)
}

/// An adapter of all columns.
pub(super) fn entry<H>(LoraWeights { a, b, scale }: &LoraWeights<H>) -> TableEntry<'_, H> {
    TableEntry { a: a.view(), b: b.view(), scale: *scale, columns: 0..b.nrows() }
}

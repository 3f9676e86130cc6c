use anyhow::Result;
use fused_lora::{
    AdapterElement, Element, Epilogue, Strategy,
    cpu::{Adapter, Layer, Workspace},
    peft::{LoraFile, LoraWeights, PeftError},
};
use half::f16;
use ndarray::{Array1, Array2};

use crate::level::Level;

/// What is to be computed, in T.
pub(crate) struct Job<'a, T> {
    pub(crate) x: &'a Array2<T>,
    pub(crate) weight: &'a Array2<T>,
    pub(crate) bias: Option<Array1<T>>,
    pub(crate) lora: &'a Lora<T>,
    pub(crate) strategy: Strategy,
    pub(crate) level: &'a Level,
}

/// An adapter, in the layer's type or in f32.
pub(crate) enum Lora<T> {
    Same(LoraWeights<T>),
    Wide(LoraWeights<f32>),
}

impl Lora<f16> {
    /// f16 as it is in the file, or rounded: with powers of two moved between A and B, so that no value is
    /// lost.
    pub(crate) fn of_f16(file: &LoraFile, module: &str) -> Result<Self, PeftError> {
        Ok(Self::Same(file.load(module)?))
    }
}

impl<T: Element> Lora<T> {
    /// As it is in the file, if that is T; in f32 otherwise.
    pub(crate) fn unrounded(file: &LoraFile, module: &str) -> Result<Self, PeftError> {
        let LoraWeights { a, b, scale } = file.load_f32(module)?;
        Ok(if file.dtypes(module)? == [T::DTYPE; 2] {
            let [a, b] = [a, b].map(|matrix| matrix.mapv(T::from_f32));
            Self::Same(LoraWeights { a, b, scale })
        } else {
            Self::Wide(LoraWeights { a, b, scale })
        })
    }

    /// N, K and r.
    pub(crate) fn sizes(&self) -> [usize; 3] {
        let ((rank, k), n) = match self {
            Self::Same(lora) => (lora.a.dim(), lora.b.nrows()),
            Self::Wide(lora) => (lora.a.dim(), lora.b.nrows()),
        };
        [n, k, rank]
    }
}

impl<T: Element + AdapterElement<T>> Job<'_, T> {
    /// y, and the SIMD level that computed it.
    pub(super) fn on_cpu(&self) -> Result<(Array2<T>, String)> {
        let simd = self.level.simd()?;
        let adapter = match self.lora {
            Lora::Same(lora) => Adapter::with_simd(simd, lora.a.view(), lora.b.view(), lora.scale),
            Lora::Wide(lora) => Adapter::with_simd(simd, lora.a.view(), lora.b.view(), lora.scale),
        };
        let layer = Layer::with_simd(simd, self.weight.view())?.with_adapter(adapter?)?;
        let layer = layer.with_epilogue(&self.epilogue())?;
        let mut y = Array2::default((self.x.nrows(), layer.out_features()));
        layer.call(self.x.view()).strategy(self.strategy).run(y.view_mut(), &mut Workspace::new())?;
        Ok((y, layer.simd().to_string()))
    }

    pub(super) fn epilogue(&self) -> Epilogue<T> {
        self.bias.clone().map_or_else(Epilogue::default, Epilogue::bias)
    }
}

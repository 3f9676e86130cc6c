use std::{fmt, sync::Arc};

use half::{bf16, f16};
use ndarray::ArrayView2;

use super::{
    adapter::Adapter,
    buffer::Buffer,
    call::Call,
    concrete::view,
    executor::Rayon,
    kernel::{MicroKernel, levels::Level},
    panels::Panels,
    simd::{Simd, dispatch},
};
use crate::{
    element::Element,
    epilogue::{Activation, Epilogue, Residual},
    error::{Error, Operand},
    problem::{DType, Problem, Strategy},
    shape::{check_fit, require, require_nonzero},
};

/// A linear layer, W packed, optionally with an adapter and an epilogue. x, W and y are of type `T`: f16,
/// bf16 or f32; sums are f32. Clones share the packed W, so that one weight can be used with many adapters:
///
/// ```
/// use fused_lora::{Strategy, cpu::{Adapter, Layer, Workspace}};
/// use half::f16;
/// use ndarray::{Array2, array};
///
/// # fn main() -> Result<(), fused_lora::Error> {
/// let one = f16::ONE;
/// let layer = Layer::new(Array2::from_elem((2, 3), one).view())?; // W: [2, 3]
/// let adapter = |scale| Adapter::new(array![[one, one, one]].view(), array![[one], [one]].view(), scale);
/// let english = layer.clone().with_adapter(adapter(1.0)?)?;
/// let french = layer.clone().with_adapter(adapter(2.0)?)?;
///
/// let (x, mut y, mut workspace) = (Array2::from_elem((1, 3), one), Array2::zeros((1, 2)), Workspace::new());
/// for (layer, expected) in [(layer, 3.0), (english, 6.0), (french, 9.0)] {
///     layer.call(x.view()).run(y.view_mut(), &mut workspace)?;
///     assert_eq!(y[[0, 1]].to_f32(), expected);
///     layer.call(x.view()).strategy(Strategy::Base).run(y.view_mut(), &mut workspace)?;
///     assert_eq!(y[[0, 1]].to_f32(), 3.0);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Layer<T: Element = f16> {
    simd: Simd,
    weight: Arc<Panels>,
    adapter: Option<Adapter<T>>,
    /// f32, padded with zeros to whole vectors.
    bias: Option<Arc<Buffer>>,
    activation: Option<Activation>,
}

impl<T: Element> Clone for Layer<T> {
    fn clone(&self) -> Self {
        let Self { simd, weight, adapter, bias, activation } = self;
        let (weight, adapter, bias) = (Arc::clone(weight), adapter.clone(), bias.clone());
        Self { simd: *simd, weight, adapter, bias, activation: *activation }
    }
}

impl<T: Element> Layer<T> {
    /// Packs `w: [N, K]` for this machine.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`] if N or K is zero, and the errors of [`Simd::detect`].
    pub fn new(w: ArrayView2<'_, T>) -> Result<Self, Error> {
        Self::with_simd(Simd::detect()?, w)
    }

    /// As [`new`](Self::new), for the given SIMD level.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], and [`Error::SimdUnavailable`].
    pub fn with_simd(simd: Simd, w: ArrayView2<'_, T>) -> Result<Self, Error> {
        let simd = simd.require()?.serving(T::DTYPE);
        require_nonzero(Operand::W, w.shape())?;
        let weight = Arc::new(match T::DTYPE {
            DType::F16 => pack_f16(simd, view(w)),
            DType::Bf16 => pack_bf16(simd, view(w)),
            DType::F32 => pack_f32(simd, view(w)),
        });
        Ok(Self { simd, weight, adapter: None, bias: None, activation: None })
    }

    /// Sets the adapter, for a chain of calls: [`set_adapter`](Self::set_adapter).
    ///
    /// # Errors
    ///
    /// As [`set_adapter`](Self::set_adapter).
    pub fn with_adapter(mut self, adapter: Adapter<T>) -> Result<Self, Error> {
        self.set_adapter(Some(adapter))?;
        Ok(self)
    }

    /// Replaces or removes the adapter and returns the previous one. W is not packed again.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if A or B does not fit W, [`Error::SimdMismatch`] if it is packed for another level.
    /// The layer then keeps its adapter.
    pub fn set_adapter(&mut self, adapter: Option<Adapter<T>>) -> Result<Option<Adapter<T>>, Error> {
        if let Some(adapter) = &adapter {
            let of_adapter = [adapter.out_features(), adapter.in_features()];
            check_fit([self.out_features(), self.in_features()], of_adapter)?;
            if adapter.simd() != self.simd {
                return Err(Error::SimdMismatch { layer: self.simd, adapter: adapter.simd() });
            }
        }
        Ok(std::mem::replace(&mut self.adapter, adapter))
    }

    /// Sets the epilogue, for a chain of calls: [`set_epilogue`](Self::set_epilogue).
    ///
    /// # Errors
    ///
    /// As [`set_epilogue`](Self::set_epilogue).
    pub fn with_epilogue(mut self, epilogue: &Epilogue<T>) -> Result<Self, Error> {
        self.set_epilogue(epilogue)?;
        Ok(self)
    }

    /// Sets the epilogue, which is applied to the sums before they are rounded. It replaces the previous one.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the bias does not have N elements. The layer then keeps its epilogue.
    pub fn set_epilogue(&mut self, epilogue: &Epilogue<T>) -> Result<(), Error> {
        let Epilogue { bias, activation } = epilogue;
        if let Some(bias) = bias {
            require(Operand::Bias, "elements", self.out_features(), bias.len())?;
        }
        self.bias = bias.as_ref().map(|bias| {
            let lanes = dispatch!(self.simd, T, T => lanes());
            let mut padded = Buffer::zeroed::<f32>(&[bias.len().next_multiple_of(lanes)]);
            for (to, from) in padded.as_mut_slice::<f32>().iter_mut().zip(bias) {
                *to = from.to_f32();
            }
            Arc::new(padded)
        });
        self.activation = *activation;
        Ok(())
    }

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.weight.k()
    }

    /// N: the number of output features.
    pub fn out_features(&self) -> usize {
        self.weight.rows()
    }

    /// The rank of the adapter; 0 without an adapter.
    pub fn rank(&self) -> usize {
        self.adapter.as_ref().map_or(0, Adapter::rank)
    }

    /// The adapter, if the layer has one.
    pub fn adapter(&self) -> Option<&Adapter<T>> {
        self.adapter.as_ref()
    }

    /// The SIMD level that it is packed for: the one asked for, or the one that serves T there.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// Element type of x, W and y.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The size of a call with `m` rows.
    pub fn problem(&self, m: usize) -> Problem {
        Problem::new(m, self.out_features(), self.in_features(), self.rank())
    }

    /// A call with `x: [M, K]`, fused unless other options are set.
    pub fn call<'a>(&'a self, x: ArrayView2<'a, T>) -> Call<'a, T> {
        Call {
            simd: self.simd,
            weight: &self.weight,
            adapter: self.adapter.as_ref(),
            segments: None,
            bias: self.bias.as_deref(),
            activation: self.activation,
            x,
            residual: Residual::None,
            strategy: Strategy::Fused,
            executor: &Rayon,
        }
    }
}

fn pack<L: Level>(w: ArrayView2<'_, L::In>) -> Panels {
    L::pack_weight(w)
}

macro_rules! pack_of {
    ($name:ident, $T:ty) => {
        fn $name(simd: Simd, w: ArrayView2<'_, $T>) -> Panels {
            dispatch!(simd, $T, $T => pack(w))
        }
    };
}
pack_of!(pack_f16, f16);
pack_of!(pack_bf16, bf16);
pack_of!(pack_f32, f32);

fn lanes<L: Level>() -> usize {
    L::Main::LANES
}

impl<T: Element> fmt::Debug for Layer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("dtype", &T::DTYPE)
            .field("simd", &self.simd)
            .field("adapter", &self.adapter)
            .field("bias", &self.bias.is_some())
            .field("activation", &self.activation)
            .finish()
    }
}

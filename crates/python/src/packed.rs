//! A weight of torch's, packed, and calls with it.

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
};

use fused_lora::{
    AdapterElement, DType, Element, Epilogue, Error,
    cpu::{Layer, Workspace},
};
use half::{bf16, f16};
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

use crate::{
    adapters::{Adapters, Lora},
    memory::{Matrix, Sample},
    threads,
};

/// The operands of a call besides W.
pub(crate) struct Operands<'a> {
    /// `[rows, K]`, the elements of a row adjacent.
    pub(crate) x: usize,
    pub(crate) rows: usize,
    /// From one row of x to the next, in elements.
    pub(crate) stride: usize,
    /// `[rows, N]`, dense.
    pub(crate) y: usize,
    /// `[N]`
    pub(crate) bias: Option<usize>,
    pub(crate) loras: &'a [Lora],
    /// Which adapter each sequence of the batch uses; all use all of them without it.
    pub(crate) sequences: Option<&'a [Option<usize>]>,
}

/// A packed weight of any element type.
pub(crate) trait Linear: Send + Sync {
    /// # Safety
    ///
    /// All operands and the weight lie in memory that nobody frees before this returns; y is nobody else's.
    unsafe fn forward(&self, operands: &Operands<'_>) -> Result<(), Error>;

    /// Packs the weight again at the next call.
    fn refresh(&self);

    /// How often it was packed.
    fn packs(&self) -> usize;
}

/// # Safety
///
/// The memory of `weight` holds that matrix, and nobody frees it before this returns.
pub(crate) unsafe fn linear(weight: Matrix) -> Result<Box<dyn Linear>, Error> {
    // SAFETY: the caller's contract.
    unsafe {
        Ok(match weight.dtype {
            DType::F16 => Box::new(Packed::<f16>::new(weight)?),
            DType::Bf16 => Box::new(Packed::<bf16>::new(weight)?),
            _ => Box::new(Packed::<f32>::new(weight)?),
        })
    }
}

struct Packed<T: Element> {
    weight: Matrix,
    state: Mutex<State<T>>,
}

struct State<T: Element> {
    layer: Layer<T>,
    /// Of the weight, when it was packed; None where it is to be packed again.
    sample: Option<Sample>,
    /// The bytes of the layer's bias.
    bias: Option<Vec<u8>>,
    adapters: Adapters<T>,
    packs: usize,
}

impl<T: AdapterElement<T>> Packed<T> {
    /// # Safety
    ///
    /// As [`linear`].
    unsafe fn new(weight: Matrix) -> Result<Self, Error> {
        // SAFETY: the caller's contract.
        let (layer, sample) = unsafe { pack(&weight)? };
        let state = State { layer, sample: Some(sample), bias: None, adapters: Adapters::new(), packs: 1 };
        Ok(Self { weight, state: Mutex::new(state) })
    }

    /// # Safety
    ///
    /// As [`Linear::forward`].
    unsafe fn prepare(&self, state: &mut State<T>, bias: Option<usize>) -> Result<(), Error> {
        // SAFETY: the caller's contract.
        unsafe {
            let bytes = self.weight.bytes();
            if !state.sample.as_ref().is_some_and(|sample| sample.matches(bytes)) {
                let (layer, sample) = pack(&self.weight)?;
                (state.layer, state.sample, state.bias) = (layer, Some(sample), None);
                state.packs += 1;
            }
            let bias = bias.map(|pointer| Matrix {
                pointer,
                rows: 1,
                columns: self.weight.rows,
                transposed: false,
                ..self.weight
            });
            if state.bias.as_deref() != bias.map(|bias| bias.bytes()) {
                let vector = bias.map(|bias| Epilogue::bias(bias.view::<T>().row(0).to_owned()));
                state.layer.set_epilogue(&vector.unwrap_or_default())?;
                state.bias = bias.map(|bias| bias.bytes().to_vec());
            }
        }
        Ok(())
    }
}

/// # Safety
///
/// As [`linear`].
unsafe fn pack<T: Element>(weight: &Matrix) -> Result<(Layer<T>, Sample), Error> {
    // SAFETY: the caller's contract. The sample comes first: what is written meanwhile is then seen.
    unsafe {
        let sample = Sample::of(weight.bytes());
        let view = weight.view::<T>();
        Ok((threads::with_pool(|| Layer::new(view))?, sample))
    }
}

thread_local! {
    /// The scratch memory of a Python thread. No call is made within another one on the same thread.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
}

impl<T: AdapterElement<T>> Linear for Packed<T> {
    unsafe fn forward(&self, operands: &Operands<'_>) -> Result<(), Error> {
        let Operands { x, rows, stride, y, bias, loras, sequences } = *operands;
        let (layer, segments) = {
            // What a panic left behind is whole: a layer and what it was made from are set together.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the caller's contract.
            unsafe {
                self.prepare(&mut state, bias)?;
                let State { layer, adapters, .. } = &mut *state;
                match sequences {
                    Some(sequences) => (layer.clone(), Some(adapters.mixed(layer, loras, rows, sequences)?)),
                    None => {
                        let mut layer = layer.clone();
                        layer.set_adapter(adapters.joined(loras)?)?;
                        adapters.trim();
                        (layer, None)
                    }
                }
            }
        };
        // SAFETY: the caller's contract.
        let (x, y) = unsafe {
            let shape = (rows, self.weight.columns).strides((stride, 1));
            (
                ArrayView2::from_shape_ptr(shape, x as *const T),
                ArrayViewMut2::from_shape_ptr((rows, self.weight.rows), y as *mut T),
            )
        };
        let call = layer.call(x).on(threads::executor());
        let call = if let Some(segments) = &segments { call.segments(segments) } else { call };
        WORKSPACE.with_borrow_mut(|workspace| call.run(y, workspace))
    }

    fn refresh(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sample = None;
    }

    fn packs(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).packs
    }
}

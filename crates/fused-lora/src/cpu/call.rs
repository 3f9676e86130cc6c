use half::{bf16, f16};
use ndarray::{ArrayView2, ArrayViewMut2};

use super::{
    adapter::Adapter,
    buffer::Buffer,
    concrete::same,
    executor::Executor,
    kernel::{Finishing, Input, levels::Level},
    loras::Loras,
    operands::Product,
    panels::Panels,
    product::run_unfused,
    segments::Segments,
    simd::{Simd, dispatch},
    view::{Rows, RowsMut},
    workspace::Workspace,
};
use crate::{
    element::Element,
    epilogue::{Activation, Residual},
    error::{Error, Operand},
    finite::{check_rows, finite_rows},
    problem::{DType, Strategy},
    shape::{check_fit, check_fits, require},
};

/// A call of a [`Layer`](super::Layer) with x and options. [`run`](Self::run) computes y.
#[derive(Clone, Copy)]
#[must_use = "nothing is computed before `run`"]
pub struct Call<'a, T: Element = f16> {
    /// What all of the layer is packed for, required of this machine.
    pub(super) simd: Simd,
    pub(super) weight: &'a Panels,
    /// The layer's own, which fits the weight.
    pub(super) adapter: Option<&'a Adapter<T>>,
    pub(super) segments: Option<&'a Segments<T>>,
    /// As long as the weight has rows, padded to whole vectors.
    pub(super) bias: Option<&'a Buffer>,
    pub(super) activation: Option<Activation>,
    pub(super) x: ArrayView2<'a, T>,
    pub(super) residual: Residual<ArrayView2<'a, T>>,
    pub(super) strategy: Strategy,
    pub(super) executor: &'a dyn Executor,
}

impl<'a, T: Element> Call<'a, T> {
    /// Uses the adapters that `segments` assign to the rows of x in place of the layer's own, still in one
    /// pass; its cost follows the ranks that are present.
    pub fn segments(self, segments: &'a Segments<T>) -> Self {
        Self { segments: Some(segments), ..self }
    }

    /// Adds `residual: [M, N]` in the same pass.
    pub fn residual(self, residual: Residual<ArrayView2<'a, T>>) -> Self {
        Self { residual, ..self }
    }

    /// Uses another strategy than [`Strategy::Fused`], to measure the strategies or to check them against
    /// each other.
    pub fn strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// Runs on other threads than those of the current rayon pool.
    pub fn on(self, executor: &'a dyn Executor) -> Self {
        Self { executor, ..self }
    }

    /// `y = round( activation( x Wᵀ + (s · x Aᵀ) Bᵀ + bias ) + residual )` in one pass: `x: [M, K]`,
    /// `y: [M, N]`. M may be 0: y is then empty, and nothing is computed. `s · x Aᵀ` is f32;
    /// with a bf16 adapter, levels that multiply bf16 round it to that.
    ///
    /// The row stride of x, y and residuals is arbitrary; the elements of a row are adjacent. y is
    /// overwritten; memory between its rows is not touched. [`cpu`](crate::cpu) says which threads do the
    /// work.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::ColumnStride`] and [`Error::SimdMismatch`]; y is then unchanged.
    /// [`Error::Executor`] if the executor breaks its contract; y then holds anything.
    pub fn run(self, mut y: ArrayViewMut2<'_, T>, workspace: &mut Workspace) -> Result<(), Error> {
        let weight = [self.weight.rows(), self.weight.k()];
        if let Some(segments) = self.segments {
            check_fit(weight, segments.features())?;
            require(Operand::X, "rows", segments.m(), self.x.nrows())?;
            if segments.simd() != self.simd {
                return Err(Error::SimdMismatch { layer: self.simd, adapter: segments.simd() });
            }
        }
        let shape = |view: &ArrayView2<'_, T>| view.dim().into();
        let residuals = self.residual.matrices();
        let added = residuals.into_iter().flatten().map(|residual| (Operand::Residual, shape(residual)));
        let outputs = [(Operand::Y, y.dim().into())].into_iter().chain(added);
        check_fits(weight, (Operand::X, shape(&self.x)), outputs)?;

        let output = RowsMut::new(Operand::Y, &mut y)?;
        let input = |residual: Option<&ArrayView2<'_, T>>| {
            let rows = residual.map(|residual| Rows::new(Operand::Residual, residual)).transpose()?;
            Ok(rows.map_or(Input::NONE, |Rows { ptr, ld, .. }| Input { ptr, ld }))
        };
        let residuals = match (self.residual, residuals) {
            (Residual::Output, _) => [Input { ptr: output.ptr, ld: output.ld }, Input::NONE],
            (_, [one, other]) => [input(one)?, input(other)?],
        };
        let finishing = Finishing { activation: self.activation, residuals };
        let operands = Operands { x: Rows::new(Operand::X, &self.x)?, y: output, finishing };
        if self.x.nrows() == 0 {
            return Ok(());
        }
        let (loras, dtype) = self.adapters();
        let wide = dtype != T::DTYPE;
        // SAFETY: calls and operands of T, as those of the type of its DTYPE, with their lifetimes.
        unsafe {
            match T::DTYPE {
                DType::F16 => run_f16(
                    same::<T, f16, _, _>(&self),
                    same::<T, f16, _, _>(&operands),
                    loras,
                    wide,
                    workspace,
                ),
                DType::Bf16 => run_bf16(
                    same::<T, bf16, _, _>(&self),
                    same::<T, bf16, _, _>(&operands),
                    loras,
                    wide,
                    workspace,
                ),
                DType::F32 => run_f32(
                    same::<T, f32, _, _>(&self),
                    same::<T, f32, _, _>(&operands),
                    loras,
                    wide,
                    workspace,
                ),
            }
        }
    }

    /// As [`run`](Self::run); then checks that y is finite in every row in which x and residuals are. Use it
    /// where f16 may be too narrow: models trained in bf16, massive activations, an adapter with a large scale.
    /// It reads x, residuals and y once more, which costs little beside the product unless tokens are few.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and [`Error::NotFinite`] with the first such element; y holds the result.
    pub fn run_checked(self, mut y: ArrayViewMut2<'_, T>, workspace: &mut Workspace) -> Result<(), Error> {
        let m = self.x.nrows();
        let residuals = match self.residual {
            // It will be overwritten.
            Residual::Output => [Some(y.view()), None],
            _ => self.residual.matrices().map(|residual| residual.copied()),
        };
        let inputs: Vec<_> = [Some(self.x)].into_iter().chain(residuals).flatten().collect();
        let fits = inputs.iter().all(|input| input.nrows() == m);
        // What does not fit is `run`'s to refuse.
        let rows = if fits { finite_rows(m, &inputs) } else { Vec::new() };
        drop(inputs);
        self.run(y.view_mut(), workspace)?;
        check_rows(&rows, y.view())
    }

    /// The call's adapters, and the type of A and B.
    fn adapters(&self) -> (&'a Loras, DType) {
        match (self.strategy, self.segments, self.adapter) {
            (Strategy::Base, ..) | (_, None, None) => (Loras::NONE, T::DTYPE),
            (_, Some(segments), _) => (segments.loras(), segments.dtype()),
            (_, None, Some(adapter)) => (adapter.loras(), adapter.dtype()),
        }
    }
}

/// Those of a call whose shapes fit, with `M ≥ 1`; y is borrowed mutably for as long as they live.
struct Operands<T> {
    x: Rows<T>,
    y: RowsMut<T>,
    finishing: Finishing<T>,
}

macro_rules! run_of {
    ($name:ident, $T:ty) => {
        fn $name(
            call: &Call<'_, $T>,
            operands: &Operands<$T>,
            loras: &Loras,
            wide: bool,
            workspace: &mut Workspace,
        ) -> Result<(), Error> {
            if wide {
                dispatch!(call.simd, $T, f32 => compute(call, loras, operands, workspace))
            } else {
                dispatch!(call.simd, $T, $T => compute(call, loras, operands, workspace))
            }
        }
    };
}
run_of!(run_f16, f16);
run_of!(run_bf16, bf16);
run_of!(run_f32, f32);

/// L is the call's level, for its adapters.
fn compute<L: Level<In: Element>>(
    call: &Call<'_, L::In>,
    loras: &Loras,
    operands: &Operands<L::In>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    let Operands { x, y, finishing } = *operands;
    let (weight, bias, addend) = (call.weight, call.bias, Input::NONE);
    let product = Product::<L> { x, weight, loras, base: true, y, scale: 1.0, bias, addend, finishing };
    // SAFETY: `Operands` says that shapes fit and y is nobody else's; those of adapters and the bias were
    // checked against W when they were set, those of segments by `run`; a residual is y itself or shares
    // nothing with it; layer and adapters are packed for the call's level, which was required of this machine
    // when they were made.
    unsafe {
        if call.strategy == Strategy::Unfused && !loras.is_empty() {
            run_unfused(&product, call.executor, workspace)
        } else {
            product.run(call.executor, workspace)
        }
    }
}

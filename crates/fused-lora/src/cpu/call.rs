use half::f16;
use ndarray::{ArrayView2, ArrayViewMut2};

use super::{
    adapter::Packed,
    buffer::Buffer,
    kernel::{Finishing, Input},
    panels::Panels,
    product::{Lora, Product},
    simd::{Simd, dispatch},
    view::{Rows, RowsMut},
    workspace::Workspace,
};
use crate::{
    epilogue::{Activation, Residual},
    error::{Error, Operand},
    problem::Strategy,
    shape::check_call,
};

/// A call of a [`Layer`](super::Layer) with x and options. [`run`](Self::run) computes y.
#[derive(Clone, Copy)]
#[must_use = "nothing is computed before `run`"]
pub struct Call<'a> {
    /// What all of the layer is packed for, required of this machine.
    pub(super) simd: Simd,
    pub(super) weight: &'a Panels,
    /// Fits the weight; of a rank above 0.
    pub(super) adapter: Option<&'a Packed>,
    /// As long as the weight has rows, padded to whole vectors.
    pub(super) bias: Option<&'a Buffer>,
    pub(super) activation: Option<Activation>,
    pub(super) x: ArrayView2<'a, f16>,
    pub(super) residual: Residual<ArrayView2<'a, f16>>,
    pub(super) strategy: Strategy,
}

impl<'a> Call<'a> {
    /// Adds `residual: [M, N]` in the same pass.
    pub fn residual(self, residual: Residual<ArrayView2<'a, f16>>) -> Self {
        Self { residual, ..self }
    }

    /// Uses another strategy than [`Strategy::Fused`], to measure the strategies or to check them against
    /// each other.
    pub fn strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// `y = f16( activation( x Wᵀ + f16(s · x Aᵀ) Bᵀ + bias ) + residual )` in one pass: `x: [M, K]`,
    /// `y: [M, N]`.
    ///
    /// The row stride of x, y and residuals is arbitrary; the elements of a row are adjacent. y is
    /// overwritten; memory between its rows is not touched. [`cpu`](crate::cpu) says which threads do the
    /// work.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], [`Error::Shape`] and [`Error::ColumnStride`]; y is then unchanged.
    pub fn run(self, mut y: ArrayViewMut2<'_, f16>, workspace: &mut Workspace) -> Result<(), Error> {
        let shape = |view: &ArrayView2<'_, f16>| view.dim().into();
        let residuals = self.residual.matrices();
        let added = residuals.into_iter().flatten().map(|residual| (Operand::Residual, shape(residual)));
        let outputs = [(Operand::Y, y.dim().into())].into_iter().chain(added);
        check_call([self.weight.rows(), self.weight.k()], (Operand::X, shape(&self.x)), outputs)?;

        let output = RowsMut::new(Operand::Y, &mut y)?;
        let input = |residual: Option<&ArrayView2<'_, f16>>| {
            let rows = residual.map(|residual| Rows::new(Operand::Residual, residual)).transpose()?;
            Ok(rows.map_or(Input::NONE, |Rows { ptr, ld, .. }| Input { ptr, ld }))
        };
        let residuals = match (self.residual, residuals) {
            (Residual::Output, _) => [Input { ptr: output.ptr, ld: output.ld }, Input::NONE],
            (_, [one, other]) => [input(one)?, input(other)?],
        };
        let base = Product {
            x: Rows::new(Operand::X, &self.x)?,
            weight: self.weight,
            lora: None,
            y: output,
            scale: 1.0,
            bias: self.bias,
            addend: Input::NONE,
            finishing: Finishing { activation: self.activation, residuals },
        };
        // SAFETY: `check_call` has seen the shapes of x, y and the residuals, those of A, B and the bias were
        // checked against W when they were set; `y` is borrowed mutably until this function returns, so a
        // residual is y itself or shares nothing with it; layer and adapter are packed for `self.simd`, which
        // was required of this machine when they were made.
        dispatch!(self.simd, Kernel => unsafe {
            match (self.strategy, self.adapter) {
                (Strategy::Base, _) | (_, None) => base.run::<Kernel>(workspace),
                (Strategy::Fused, Some(adapter)) => {
                    let lora = Lora { a: &adapter.a, b: &adapter.b, scale: adapter.scale };
                    Product { lora: Some(lora), ..base }.run::<Kernel>(workspace);
                }
                (Strategy::Unfused, Some(adapter)) => base.run_unfused::<Kernel>(adapter, workspace),
            }
        });
        Ok(())
    }
}

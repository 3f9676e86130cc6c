use fused_lora_kernels::Global;

use super::{
    buffer::Buffer,
    device::Device,
    error::Error,
    launch::arguments,
    matrix::{Matrix, MatrixMut},
    segments::Segments,
    stream::Stream,
    weights::Weight,
    workspace::Workspace,
};
use crate::{
    Activation, Residual, Strategy,
    error::Operand,
    plan::{
        Launch, Plan, Request,
        adapters::Adapters,
        layout::{Layout, workspace_size},
        params::{Added, Operands},
        place::Place,
        sizes::count,
    },
    shape::{check_call, check_fit, require},
};

/// A call of a [`Layer`](super::Layer) with x and options. [`run`](Self::run) queues it.
#[derive(Clone, Copy)]
#[must_use = "nothing is queued before `run`"]
pub struct Call<'a> {
    pub(super) weight: &'a Weight,
    pub(super) bias: Option<&'a Buffer>,
    pub(super) activation: Option<Activation>,
    /// The layer's adapters.
    pub(super) adapters: Adapters<'a>,
    pub(super) segments: Option<&'a Segments>,
    pub(super) x: Matrix<'a>,
    pub(super) residual: Residual<Matrix<'a>>,
    pub(super) strategy: Strategy,
    pub(super) allow: Option<&'a dyn Fn(&Launch) -> bool>,
}

impl<'a> Call<'a> {
    /// Uses the adapters that `segments` assign to the rows of x in place of the layer's own, still in one
    /// launch; its cost follows the ranks that are present.
    pub fn segments(self, segments: &'a Segments) -> Self {
        Self { segments: Some(segments), ..self }
    }

    /// Adds `residual: [M, N]` before the single rounding. Keep it as long as x.
    ///
    /// `unfused` rounds the base product and stores it in y. With an adapter and [`Residual::Output`] it is
    /// stored in the workspace beside h, which then needs `workspace_size(m, rank.next_multiple_of(16) + n)`
    /// ([`workspace_size`](super::workspace_size)).
    pub fn residual(self, residual: Residual<Matrix<'a>>) -> Self {
        Self { residual, ..self }
    }

    /// Uses another strategy than [`Strategy::Fused`], to measure the strategies or to check them against
    /// each other. `unfused` is three launches.
    pub fn strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// Uses the fastest launch among those that `allow` accepts, to test each kernel and each cluster size,
    /// and to tune. Such plans are not cached.
    pub fn among(self, allow: &'a dyn Fn(&Launch) -> bool) -> Self {
        Self { allow: Some(allow), ..self }
    }

    /// What [`run`](Self::run) would launch if y has no gaps and is aligned as far as N allows, and the
    /// workspace has the [`workspace_size`](super::workspace_size) of the largest rank.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), except the errors about y, workspace and stream.
    pub fn plan(&self) -> Result<Plan, Error> {
        let n = self.weight.rows as usize;
        let y = Place { address: 0, rows: self.x.rows(), columns: n, stride: n, device: None };
        self.check(y)?;
        self.choose(y, 0)
    }

    /// `y = f16( activation( x Wᵀ + f16(s · x Aᵀ) Bᵀ + bias ) + residual )` in one launch: `x: [M, K]`,
    /// `y: [M, N]`.
    ///
    /// The work is queued on the stream; y is complete when the stream has executed it. y is overwritten;
    /// memory between its rows is not touched. Keep x, y, the layer and its adapter until then; dropping them
    /// earlier waits for the device.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`], [`Error::Plan`], [`Error::OtherDevice`], [`Error::WorkspaceTooSmall`],
    /// [`Error::WorkspaceStream`]: nothing has then been queued. [`Error::Driver`], or [`Error::Plan`] with
    /// the operand that has no tensor map, if the launch fails.
    pub fn run(self, y: MatrixMut<'_>, workspace: &mut Workspace, stream: &Stream) -> Result<(), Error> {
        let y = y.place();
        self.check(y)?;
        self.device().require("the stream", stream.device().ordinal())?;
        let plan = self.choose(y, workspace.bytes())?;
        let operands = self.operands(y, workspace, stream)?;
        let device = self.device();
        let _entered = device.enter()?;
        for launch in plan.launches() {
            let arguments = arguments(&operands, launch)?;
            // SAFETY: the context is entered, and the stream of its device. `check` has seen shapes and
            // devices, strides and bounds were checked when matrices, layer, adapter, table and segments were
            // made; the plan took x's and y's alignment into account. y is borrowed mutably, so that
            // residuals are y itself or share nothing with it. x, W, A, B, residuals and tables stay until
            // the launch is over: dropping them waits for it, and of matrices of somebody else, and of
            // graphs, it is promised. The workspace is as large as the plan's kernel needs, ours while it is
            // borrowed, and bound to this stream, where launches run one after another, or wait for the one
            // before.
            unsafe { device.module().launch(launch, &arguments, stream.raw(), stream.is_programmatic())? };
        }
        Ok(())
    }

    fn device(&self) -> &Device {
        self.weight.memory.device()
    }

    /// The adapters that the call has, whose checks are [`check`](Self::check)'s.
    fn adapters(&self) -> Adapters<'a> {
        match (self.strategy, self.segments) {
            (Strategy::Base, _) => Adapters::None,
            (_, Some(segments)) => segments.adapters(),
            (_, None) => self.adapters,
        }
    }

    /// Everything about the operands that does not depend on the plan: shapes and devices.
    fn check(&self, y: Place) -> Result<(), Error> {
        let (device, x) = (self.device(), self.x.place());
        let weight = [self.weight.rows, self.weight.columns].map(|size| size as usize);
        if let Some(segments) = self.segments {
            let table = segments.table();
            check_fit(weight, [table.out_features(), table.in_features()])?;
            require(Operand::X, "rows", segments.m(), x.rows)?;
            device.require("the adapter table", table.device().ordinal())?;
        }
        let residuals = self.residual.matrices().map(|residual| residual.map(Matrix::place));
        let added = residuals.into_iter().flatten().map(|residual| (Operand::Residual, residual.shape()));
        check_call(weight, (Operand::X, x.shape()), [(Operand::Y, y.shape())].into_iter().chain(added))?;
        device.require_all([("x", x), ("y", y)])?;
        device.require_all(residuals.into_iter().flatten().map(|residual| ("the residual", residual)))
    }

    /// `workspace` in bytes; one that is too small for the call counts as just large enough.
    fn choose(&self, y: Place, workspace: usize) -> Result<Plan, Error> {
        let (x, adapters) = (self.x.place(), self.adapters());
        let request = Request {
            m: count("M", x.rows)?,
            n: self.weight.rows,
            k: self.weight.columns,
            aligned: x.is_aligned(),
            boxed: x.is_boxed() && y.is_boxed(),
            strategy: self.strategy,
            adapters,
            workspace: workspace.max(workspace_size(x.rows, adapters.max_rank16() as usize)),
        };
        let gpu = self.device().gpu();
        let plan = match self.allow {
            None => Plan::of(&request, gpu),
            Some(allow) => Plan::among(&request, gpu, allow),
        };
        Ok(plan?)
    }

    fn operands(&self, y: Place, workspace: &mut Workspace, stream: &Stream) -> Result<Operands<'a>, Error> {
        let (x, adapters) = (self.x.place(), self.adapters());
        let added = |what, place: Place| {
            Ok::<_, Error>(Added {
                from: Global::from_address(place.address),
                ld: count(what, place.row_stride())?,
            })
        };
        let ldx = count("the stride of x", x.row_stride())?;
        let in_y = added("the stride of y", y)?;
        let residual = |matrix: Option<&Matrix<'_>>| {
            matrix.map_or(Ok(Added::NONE), |matrix| added("the stride of the residual", matrix.place()))
        };
        let residuals = match (self.residual, self.residual.matrices()) {
            (Residual::Output, _) => [in_y, Added::NONE],
            (_, [one, other]) => [residual(one)?, residual(other)?],
        };
        let rank16 = adapters.max_rank16() as usize;
        // Of a base product that waits for its expand where y cannot take it, rows are like those of h.
        let beside_h = match (self.strategy, self.residual) {
            (Strategy::Unfused, Residual::Output) => self.weight.rows.next_multiple_of(8),
            _ => 0,
        };
        let layout = match rank16 {
            0 => Layout::default(),
            rank => workspace.lay_out(stream, x.rows, rank + beside_h as usize)?,
        };
        let base = match self.strategy {
            Strategy::Unfused if rank16 > 0 && beside_h > 0 => {
                Added { from: layout.h.offset((x.rows * rank16) as u64), ld: beside_h }
            }
            Strategy::Unfused if rank16 > 0 => in_y,
            _ => Added::NONE,
        };
        Ok(Operands {
            x: Global::from_address(x.address),
            w: Global::from_address(self.weight.memory.address()),
            y: in_y.from,
            bias: self.bias.map_or(Global::NULL, |bias| Global::from_address(bias.address())),
            activation: self.activation,
            residuals,
            base,
            // Counted by the plan.
            m: x.rows as u32,
            n: self.weight.rows,
            k: self.weight.columns,
            ldx,
            ldw: self.weight.pitch,
            ldy: in_y.ld,
            adapters,
            layout,
        })
    }
}

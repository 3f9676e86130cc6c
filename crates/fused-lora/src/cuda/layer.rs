use std::{fmt, sync::Arc};

use fused_lora_kernels::Global;
use half::f16;
use ndarray::ArrayView2;

use super::{
    adapter::Adapter,
    adapters::Adapters,
    buffer::Buffer,
    count::count,
    device::Device,
    error::Error,
    launch::{Added, Operands},
    layout::{Layout, workspace_size},
    matrix::{Matrix, MatrixMut, Place},
    plan::{Launch, Plan, Request},
    residual::Residual,
    segments::Segments,
    stream::Stream,
    table::AdapterTable,
    weight::Weight,
    workspace::Workspace,
};
use crate::{
    Activation, Epilogue, Problem, Strategy,
    error::Operand,
    problem::DType,
    shape::{require, require_nonzero},
};

/// A linear layer on a device, optionally with an adapter and an epilogue. Clones share W, so that one weight
/// can serve with many adapters.
///
/// `forward` and its kin put kernels into a stream and return: they allocate nothing, copy nothing and wait
/// for nothing. So they can be captured in a [`Graph`](super::Graph), which reads, when it is launched, what
/// x holds then.
#[derive(Clone)]
pub struct Layer {
    weight: Arc<Weight>,
    adapter: Option<Adapter>,
    bias: Option<Arc<Buffer>>,
    activation: Option<Activation>,
}

/// Lets every launch pass.
fn any(_: &Launch) -> bool {
    true
}

impl Layer {
    /// Copies `w: [N, K]` to the device.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if N or K is zero, [`Error::OutOfMemory`], [`Error::TooLarge`], [`Error::Driver`].
    pub fn new(device: &Device, w: ArrayView2<'_, f16>) -> Result<Self, Error> {
        Ok(Self { weight: Arc::new(Weight::new(device, w)?), adapter: None, bias: None, activation: None })
    }

    /// [`set_adapter`](Self::set_adapter) on the way.
    ///
    /// # Errors
    ///
    /// As [`set_adapter`](Self::set_adapter).
    pub fn with_adapter(mut self, adapter: Adapter) -> Result<Self, Error> {
        self.set_adapter(Some(adapter))?;
        Ok(self)
    }

    /// Changes or drops the adapter and returns the one there was. W is not touched. What is in a stream or a
    /// graph keeps the adapter that it was queued with, which has to be kept as long.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if A or B does not fit W, [`Error::OtherDevice`]. The layer keeps its adapter then.
    pub fn set_adapter(&mut self, adapter: Option<Adapter>) -> Result<Option<Adapter>, Error> {
        if let Some(adapter) = &adapter {
            require(Operand::A, "columns", self.in_features(), adapter.in_features())?;
            require(Operand::B, "rows", self.out_features(), adapter.out_features())?;
            self.device().require("the adapter", adapter.device().ordinal())?;
        }
        Ok(std::mem::replace(&mut self.adapter, adapter))
    }

    /// [`set_epilogue`](Self::set_epilogue) on the way.
    ///
    /// # Errors
    ///
    /// As [`set_epilogue`](Self::set_epilogue).
    pub fn with_epilogue(mut self, epilogue: &Epilogue) -> Result<Self, Error> {
        self.set_epilogue(epilogue)?;
        Ok(self)
    }

    /// Sets what happens to the sums before they are rounded, in place of what was set before.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if the bias has not N elements, [`Error::OutOfMemory`], [`Error::Driver`]. The layer keeps its
    /// epilogue then.
    pub fn set_epilogue(&mut self, epilogue: &Epilogue) -> Result<(), Error> {
        let Epilogue { bias, activation } = epilogue;
        let bias = match bias {
            None => None,
            Some(bias) => {
                require(Operand::Bias, "elements", self.out_features(), bias.len())?;
                Some(Arc::new(Buffer::from_slice(self.device(), &bias.to_vec())?))
            }
        };
        (self.bias, self.activation) = (bias, *activation);
        Ok(())
    }

    /// K
    pub fn in_features(&self) -> usize {
        self.weight.columns as usize
    }

    /// N
    pub fn out_features(&self) -> usize {
        self.weight.rows as usize
    }

    /// The adapter's r, 0 without one.
    pub fn rank(&self) -> usize {
        self.adapter.as_ref().map_or(0, Adapter::rank)
    }

    /// The adapter.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.weight.memory.device()
    }

    /// Element type of x, W, A, B and y.
    pub fn dtype(&self) -> DType {
        DType::F16
    }

    /// The size of a call with `m` rows.
    pub fn problem(&self, m: usize) -> Problem {
        Problem::new(m, self.out_features(), self.in_features(), self.rank())
    }

    /// Bytes that a workspace needs for calls of up to `m_max` rows with the layer's adapter.
    pub fn workspace_size(&self, m_max: usize) -> usize {
        workspace_size(m_max, self.rank())
    }

    /// `y = f16( activation( x Wᵀ + f16(s · x Aᵀ) Bᵀ + bias ) )` in one launch: `x: [M, K]`, `y: [M, N]`.
    ///
    /// Queued on the stream; y is there when the stream has passed it. What y held is overwritten, and
    /// nothing between its rows is touched. x, y, the layer and its adapter have to be kept until then:
    /// dropped earlier, they wait for the device.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`], [`Error::TooLarge`], [`Error::OtherDevice`], [`Error::WorkspaceTooSmall`],
    /// [`Error::WorkspaceStream`]: nothing is queued then. [`Error::Driver`] or [`Error::TensorMap`] if the launch
    /// fails.
    pub fn forward(
        &self,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.forward_with(Strategy::Fused, x, y, workspace, stream)
    }

    /// As [`forward`](Self::forward), with the strategy given: for measuring, and for checking one against
    /// the other. `unfused` is three launches.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_with(
        &self,
        strategy: Strategy,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.forward_among(any, strategy, x, y, workspace, stream)
    }

    /// As [`forward_with`](Self::forward_with), and `residual: [M, N]` is added before the one rounding:
    /// `y = f16( activation( x Wᵀ + f16(s · x Aᵀ) Bᵀ + bias ) + residual )`.
    ///
    /// Residuals are to be kept as x is. `unfused` rounds the base product on its way, which lies in y; but with an adapter
    /// and [`Residual::Output`] beside h in the workspace, which then needs
    /// `workspace_size(m, rank.next_multiple_of(16) + n)` ([`workspace_size`]).
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_residual(
        &self,
        strategy: Strategy,
        x: Matrix<'_>,
        residual: Residual<'_>,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.forward_residual_among(any, strategy, x, residual, y, workspace, stream)
    }

    /// As [`forward_residual`](Self::forward_residual), with the fastest of the launches that `allow` lets pass.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and [`Error::NoKernel`].
    #[expect(clippy::too_many_arguments, reason = "one operand each, all of different types")]
    pub fn forward_residual_among(
        &self,
        allow: impl Fn(&Launch) -> bool,
        strategy: Strategy,
        x: Matrix<'_>,
        residual: Residual<'_>,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.run(&allow, strategy, x, residual, y, self.adapters(), workspace, stream)
    }

    /// As [`forward_with`](Self::forward_with), with the fastest of the launches that `allow` lets pass: for
    /// tests of each kernel, each size of clusters, and for tuning.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and [`Error::NoKernel`].
    pub fn forward_among(
        &self,
        allow: impl Fn(&Launch) -> bool,
        strategy: Strategy,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.run(&allow, strategy, x, Residual::None, y, self.adapters(), workspace, stream)
    }

    /// As [`forward`](Self::forward), with the adapters that `segments` give the rows of x in place of the
    /// layer's own: still one launch, whose cost follows the ranks that are there.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and [`Error::OtherTable`] if the segments were made for another table.
    pub fn forward_batch(
        &self,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        table: &AdapterTable,
        segments: &Segments,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.forward_batch_with(Strategy::Fused, x, y, table, segments, workspace, stream)
    }

    /// As [`forward_batch`](Self::forward_batch), with the strategy given.
    ///
    /// # Errors
    ///
    /// As [`forward_batch`](Self::forward_batch).
    #[expect(clippy::too_many_arguments, reason = "one operand each, all of different types")]
    pub fn forward_batch_with(
        &self,
        strategy: Strategy,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        table: &AdapterTable,
        segments: &Segments,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.forward_batch_among(any, strategy, x, y, table, segments, workspace, stream)
    }

    /// As [`forward_batch_with`](Self::forward_batch_with), with the fastest of the launches that `allow` lets
    /// pass.
    ///
    /// # Errors
    ///
    /// As [`forward_batch`](Self::forward_batch), and [`Error::NoKernel`].
    #[expect(clippy::too_many_arguments, reason = "one operand each, all of different types")]
    pub fn forward_batch_among(
        &self,
        allow: impl Fn(&Launch) -> bool,
        strategy: Strategy,
        x: Matrix<'_>,
        y: MatrixMut<'_>,
        table: &AdapterTable,
        segments: &Segments,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        let adapters = self.batch(x.rows(), table, segments)?;
        self.run(&allow, strategy, x, Residual::None, y, adapters, workspace, stream)
    }

    /// What a call with `m` rows launches, if x and y are without gaps and aligned as far as K and N allow, and the
    /// workspace is of the size that [`workspace_size`](Self::workspace_size) says.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn plan(&self, m: usize, strategy: Strategy) -> Result<Plan, Error> {
        let k = self.in_features();
        let x = Place { address: 0, rows: m, columns: k, stride: k, device: None };
        self.plan_of(&any, strategy, x, self.usual_y(m), self.adapters(), 0)
    }

    /// What a call with this x launches, if y and the workspace are as [`plan`](Self::plan) says.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`], [`Error::TooLarge`], [`Error::OtherDevice`].
    pub fn plan_for(&self, x: &Matrix<'_>, strategy: Strategy) -> Result<Plan, Error> {
        self.plan_of(&any, strategy, x.place(), self.usual_y(x.rows()), self.adapters(), 0)
    }

    /// What a call with this x and these segments launches, if y is as [`plan`](Self::plan) says and the workspace of
    /// the size that [`workspace_size`] says for the largest rank.
    ///
    /// # Errors
    ///
    /// As [`plan_for`](Self::plan_for), and [`Error::OtherTable`].
    pub fn plan_batch(
        &self,
        x: &Matrix<'_>,
        strategy: Strategy,
        table: &AdapterTable,
        segments: &Segments,
    ) -> Result<Plan, Error> {
        let adapters = self.batch(x.rows(), table, segments)?;
        self.plan_of(&any, strategy, x.place(), self.usual_y(x.rows()), adapters, 0)
    }

    /// A y without gaps, aligned as far as N allows.
    fn usual_y(&self, m: usize) -> Place {
        let n = self.out_features();
        Place { address: 0, rows: m, columns: n, stride: n, device: None }
    }

    fn adapters(&self) -> Adapters<'_> {
        self.adapter.as_ref().map_or(Adapters::None, Adapter::adapters)
    }

    /// The adapters of a batch, checked against the layer.
    fn batch<'a>(
        &self,
        m: usize,
        table: &AdapterTable,
        segments: &'a Segments,
    ) -> Result<Adapters<'a>, Error> {
        if !segments.table().is(table) {
            return Err(Error::OtherTable);
        }
        require(Operand::A, "columns", self.in_features(), table.in_features())?;
        require(Operand::B, "rows", self.out_features(), table.out_features())?;
        require(Operand::X, "rows", segments.m(), m)?;
        self.device().require("the adapter table", table.device().ordinal())?;
        Ok(segments.adapters())
    }

    /// `workspace` in bytes; one that is too small for the call counts as just large enough.
    fn plan_of(
        &self,
        allow: &dyn Fn(&Launch) -> bool,
        strategy: Strategy,
        x: Place,
        y: Place,
        adapters: Adapters<'_>,
        workspace: usize,
    ) -> Result<Plan, Error> {
        require_nonzero(Operand::X, &[x.rows, x.columns])?;
        require(Operand::X, "columns", self.in_features(), x.columns)?;
        if let Some(ordinal) = x.device {
            self.device().require("x", ordinal)?;
        }
        let request = Request {
            m: count("M", x.rows)?,
            n: self.weight.rows,
            k: self.weight.columns,
            aligned: x.is_aligned(),
            boxed: x.is_boxed() && y.is_boxed(),
            strategy,
            adapters,
            workspace: workspace.max(workspace_size(x.rows, adapters.max_rank16() as usize)),
        };
        Plan::new(&request, self.device().gpu(), allow)
    }

    /// A residual of a call with `m` rows.
    fn added(&self, matrix: Matrix<'_>, m: usize) -> Result<Added, Error> {
        let place = matrix.place();
        require(Operand::Residual, "rows", m, place.rows)?;
        require(Operand::Residual, "columns", self.out_features(), place.columns)?;
        if let Some(ordinal) = place.device {
            self.device().require("the residual", ordinal)?;
        }
        let ld = count("the stride of the residual", place.row_stride())?;
        Ok(Added { from: Global::from_address(place.address), ld })
    }

    #[expect(clippy::too_many_arguments, reason = "one operand each, all of different types")]
    fn run(
        &self,
        allow: &dyn Fn(&Launch) -> bool,
        strategy: Strategy,
        x: Matrix<'_>,
        residual: Residual<'_>,
        y: MatrixMut<'_>,
        adapters: Adapters<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        let device = self.device();
        let (x, y) = (x.place(), y.place());
        let adapters = if strategy == Strategy::Base { Adapters::None } else { adapters };
        let plan = self.plan_of(allow, strategy, x, y, adapters, workspace.bytes())?;
        require(Operand::Y, "rows", x.rows, y.rows)?;
        require(Operand::Y, "columns", self.out_features(), y.columns)?;
        if let Some(ordinal) = y.device {
            device.require("y", ordinal)?;
        }
        device.require("the stream", stream.device().ordinal())?;
        let (ldx, ldy) =
            (count("the stride of x", x.row_stride())?, count("the stride of y", y.row_stride())?);
        let residuals = match residual {
            Residual::None => [Added::NONE; 2],
            Residual::Output => [Added { from: Global::from_address(y.address), ld: ldy }, Added::NONE],
            Residual::Matrix(matrix) => [self.added(matrix, x.rows)?, Added::NONE],
            Residual::Sum(one, other) => [self.added(one, x.rows)?, self.added(other, x.rows)?],
        };
        let rank16 = adapters.max_rank16() as usize;
        // Of a base product that waits for its expand where y cannot take it, rows are like those of h.
        let beside_h = match (strategy, residual) {
            (Strategy::Unfused, Residual::Output) => self.out_features().next_multiple_of(8),
            _ => 0,
        };
        let layout = match rank16 {
            0 => Layout::default(),
            rank => workspace.lay_out(stream, x.rows, rank + beside_h)?,
        };
        let base = match strategy {
            Strategy::Unfused if rank16 > 0 && beside_h > 0 => {
                let h_elements = (x.rows * rank16) as u64;
                // At most N rounded up to 8, and N was counted.
                Added { from: layout.h.offset(h_elements), ld: beside_h as u32 }
            }
            Strategy::Unfused if rank16 > 0 => Added { from: Global::from_address(y.address), ld: ldy },
            _ => Added::NONE,
        };
        let operands = Operands {
            x: Global::from_address(x.address),
            w: Global::from_address(self.weight.memory.address()),
            y: Global::from_address(y.address),
            bias: self.bias.as_ref().map_or(Global::NULL, |bias| Global::from_address(bias.address())),
            activation: self.activation,
            residuals,
            base,
            // Counted by the plan.
            m: x.rows as u32,
            n: self.weight.rows,
            k: self.weight.columns,
            ldx,
            ldw: self.weight.pitch,
            ldy,
            adapters,
            layout,
        };
        let _entered = device.enter()?;
        for launch in plan.launches() {
            let arguments = operands.arguments(launch)?;
            // SAFETY: the context is entered, and the stream of its device. Shapes, strides and bounds were
            // checked above and when matrices, layer, adapter, table and segments were made; the plan took
            // x's and y's alignment into account. y is borrowed mutably, so that residuals are y itself or share
            // nothing with it. x, W, A, B, residuals and tables stay until the launch is over: dropping
            // them waits for it, and of matrices of somebody else, and of graphs, it is promised. The workspace is
            // as large as the plan's kernel needs, ours while it is borrowed, and bound to this stream, where
            // launches run one after another, or wait for the one before.
            unsafe { device.module().launch(launch, &arguments, stream.raw(), stream.is_programmatic())? };
        }
        Ok(())
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("adapter", &self.adapter)
            .field("bias", &self.bias.is_some())
            .field("activation", &self.activation)
            .field("device", &self.device().ordinal())
            .finish()
    }
}

use std::sync::Arc;

use half::f16;
use ndarray::ArrayView2;

use super::{
    adapter::Adapter, buffer::Buffer, call::Call, device::Device, error::Error, matrix::Matrix,
    weights::Weight,
};
use crate::{
    Activation, Epilogue, Problem, Residual, Strategy,
    error::Operand,
    plan::{adapters::Adapters, workspace_size},
    problem::DType,
    shape::{check_fit, require},
};

/// A linear layer on a device, optionally with an adapter and an epilogue. Clones share W, so that one weight
/// can be used with many adapters.
///
/// A [call](Self::call) queues kernels and returns. It does not allocate, copy or wait, so it can be captured
/// in a [`Graph`](super::Graph); the graph reads the content that x has when the graph is launched.
#[derive(Clone, Debug)]
pub struct Layer {
    weight: Arc<Weight>,
    adapter: Option<Adapter>,
    bias: Option<Arc<Buffer>>,
    activation: Option<Activation>,
}

impl Layer {
    /// Copies `w: [N, K]` to the device.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if N or K is zero, [`Error::OutOfMemory`], [`Error::Plan`], [`Error::Driver`].
    pub fn new(device: &Device, w: ArrayView2<'_, f16>) -> Result<Self, Error> {
        Ok(Self { weight: Arc::new(Weight::new(device, w)?), adapter: None, bias: None, activation: None })
    }

    /// Sets the adapter, for a chain of calls: [`set_adapter`](Self::set_adapter).
    ///
    /// # Errors
    ///
    /// As [`set_adapter`](Self::set_adapter).
    pub fn with_adapter(mut self, adapter: Adapter) -> Result<Self, Error> {
        self.set_adapter(Some(adapter))?;
        Ok(self)
    }

    /// Replaces or removes the adapter and returns the previous one. W is not copied again. Work that is
    /// already queued or captured uses the adapter that it was queued with; keep that adapter until the work
    /// is done.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if A or B does not fit W, [`Error::OtherDevice`]. The layer then keeps its adapter.
    pub fn set_adapter(&mut self, adapter: Option<Adapter>) -> Result<Option<Adapter>, Error> {
        if let Some(adapter) = &adapter {
            let of_adapter = [adapter.out_features(), adapter.in_features()];
            check_fit([self.out_features(), self.in_features()], of_adapter)?;
            self.device().require("the adapter", adapter.device().ordinal())?;
        }
        Ok(std::mem::replace(&mut self.adapter, adapter))
    }

    /// Sets the epilogue, for a chain of calls: [`set_epilogue`](Self::set_epilogue).
    ///
    /// # Errors
    ///
    /// As [`set_epilogue`](Self::set_epilogue).
    pub fn with_epilogue(mut self, epilogue: &Epilogue) -> Result<Self, Error> {
        self.set_epilogue(epilogue)?;
        Ok(self)
    }

    /// Sets the epilogue, which is applied to the sums before they are rounded. It replaces the previous one.
    ///
    /// # Errors
    ///
    /// [`Error::Problem`] if the bias does not have N elements, [`Error::OutOfMemory`], [`Error::Driver`].
    /// The layer then keeps its epilogue.
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

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.weight.columns as usize
    }

    /// N: the number of output features.
    pub fn out_features(&self) -> usize {
        self.weight.rows as usize
    }

    /// The rank of the adapter; 0 without an adapter.
    pub fn rank(&self) -> usize {
        self.adapter.as_ref().map_or(0, Adapter::rank)
    }

    /// The adapter, if the layer has one.
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

    /// A call with `x: [M, K]`, fused and with the layer's adapter unless other options are set:
    ///
    /// ```no_run
    /// # use fused_lora::{Residual, Strategy, cuda::*};
    /// # fn call(layer: &Layer, x: Matrix<'_>, mut y: MatrixMut<'_>, segments: &Segments,
    /// #     workspace: &mut Workspace, stream: &Stream) -> Result<(), Error> {
    /// layer.call(x).run(y.reborrow(), workspace, stream)?;
    /// layer.call(x).residual(Residual::Output).segments(segments).run(y.reborrow(), workspace, stream)?;
    /// println!("{}", layer.call(x).strategy(Strategy::Unfused).plan()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<'a>(&'a self, x: Matrix<'a>) -> Call<'a> {
        Call {
            weight: &self.weight,
            bias: self.bias.as_deref(),
            activation: self.activation,
            adapters: self.adapter.as_ref().map_or(Adapters::None, Adapter::adapters),
            segments: None,
            x,
            residual: Residual::None,
            strategy: Strategy::Fused,
            allow: None,
        }
    }
}

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
/// can serve with many adapters.
///
/// A [call](Self::call) puts kernels into a stream and returns: it allocates nothing, copies nothing and
/// waits for nothing. So it can be captured in a [`Graph`](super::Graph), which reads, when it is launched,
/// what x holds then.
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
            let of_adapter = [adapter.out_features(), adapter.in_features()];
            check_fit([self.out_features(), self.in_features()], of_adapter)?;
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
    /// [`Error::Problem`] if the bias has not N elements, [`Error::OutOfMemory`], [`Error::Driver`]. The
    /// layer keeps its epilogue then.
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

    /// A call with `x: [M, K]`, fused and with the layer's adapter unless it is asked for something else:
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

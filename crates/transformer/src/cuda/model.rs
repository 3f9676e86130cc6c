use fused_lora::cuda::{Device, Error as CudaError, Graph, Matrix, MatrixMut, Stream};

use super::{
    layer::{Layer, check},
    workspace::Workspace,
};
use crate::{AdapterWeights, Config, Error, LayerWeights, Method, Targets, expect_shape, of_layer};

/// Layers on a device, one after another. Clones share the weights.
#[derive(Clone, Debug)]
pub struct Model {
    config: Config,
    layers: Vec<Layer>,
}

impl Model {
    /// A model of these layers.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validated`], and [`Error::Shape`] if there are not `config.layers` layers, of these sizes.
    pub fn new(config: Config, layers: Vec<Layer>) -> Result<Self, Error> {
        let config = config.made_of(layers.iter().map(Layer::config))?;
        Ok(Self { config, layers })
    }

    /// [Random](LayerWeights::random) layers without adapters: those of [`cpu::Model::random`](crate::cpu::Model::random).
    ///
    /// # Errors
    ///
    /// Those of [`Layer::new`].
    pub fn random(device: &Device, config: Config, seed: u64) -> Result<Self, Error> {
        let layers = (0..config.layers as u64)
            .map(|i| Layer::new(device, config, &LayerWeights::random(config, of_layer(seed, i))?))
            .collect::<Result<_, _>>()?;
        Self::new(config, layers)
    }

    /// The same model, its weights shared, with [random](AdapterWeights::random) adapters in every layer. Rank 0 is
    /// [`Method::None`].
    ///
    /// # Errors
    ///
    /// Those of [`Layer::with_adapters`].
    pub fn with_random_adapters(
        &self,
        method: Method,
        targets: Targets,
        rank: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let of_layer = |i| AdapterWeights::random(self.config, method, targets, rank, of_layer(seed, i));
        self.with_adapters(&(0..self.config.layers as u64).map(of_layer).collect::<Result<Vec<_>, _>>()?)
    }

    /// The same model, its weights shared, with these adapters, one layer's after another's, in place of what it has.
    ///
    /// # Errors
    ///
    /// Those of [`Layer::with_adapters`], and [`Error::Shape`] if there are not `config.layers` of them.
    pub fn with_adapters(&self, adapters: &[AdapterWeights]) -> Result<Self, Error> {
        expect_shape("the model's adapters", &[self.config.layers], &[adapters.len()])?;
        let layers = self.layers.iter().zip(adapters).map(|(layer, adapters)| layer.with_adapters(adapters));
        Ok(Self { config: self.config, layers: layers.collect::<Result<_, _>>()? })
    }

    /// Its sizes.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All layers: as [`Layer::forward`].
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn forward(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        check(&self.config, &x, seq_len, &y, workspace)?;
        Ok(self.run(x, seq_len, y, workspace, stream)?)
    }

    /// [`forward`](Self::forward), recorded in a graph instead of run: a pass is one launch of it.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn capture(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<Graph, Error> {
        check(&self.config, &x, seq_len, &y, workspace)?;
        Ok(Graph::capture(stream, |stream| self.run(x, seq_len, y, workspace, stream))?)
    }

    fn run(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        mut y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        let Workspace { buffers, hidden: [from, to], .. } = workspace;
        let (m, last) = (x.rows(), self.layers.len() - 1);
        for (i, layer) in self.layers.iter().enumerate() {
            let x = if i == 0 { x } else { from.view()? };
            let y = if i == last { y.reborrow() } else { to.shaped(m, self.config.d)? };
            layer.run(x, seq_len, y, buffers, stream, |_, _| Ok(()))?;
            std::mem::swap(from, to);
        }
        Ok(())
    }
}

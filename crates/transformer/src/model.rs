use crate::{
    backend::Backend,
    config::Config,
    error::{Error, expect_shape},
    layer::Layer,
    method::{Method, Targets},
    weights::{AdapterWeights, LayerWeights, of_layer},
    workspace::Workspace,
};

/// Layers, one after another. Clones share the weights.
#[derive(Clone, Debug)]
pub struct Model<B: Backend> {
    config: Config,
    layers: Vec<Layer<B>>,
}

impl<B: Backend> Model<B> {
    /// A model of these layers.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::validated`], and [`Error::Shape`] if there are not `config.layers` layers, or
    /// their sizes differ from the configuration's.
    pub fn new(config: Config, layers: Vec<Layer<B>>) -> Result<Self, Error> {
        let config = config.validated()?;
        let sizes = |config: Config| [config.d, config.heads, config.mlp];
        expect_shape("the model", &[config.layers], &[layers.len()])?;
        for layer in &layers {
            expect_shape("a layer", &sizes(config), &sizes(layer.config))?;
        }
        Ok(Self { config, layers })
    }

    /// [Random](LayerWeights::random) layers without adapters. One seed gives the same weights on each
    /// backend.
    ///
    /// # Errors
    ///
    /// The errors of [`Layer::new`].
    pub fn random(backend: &B, config: Config, seed: u64) -> Result<Self, Error> {
        let layers = (0..config.layers as u64)
            .map(|i| Layer::new(backend, config, &LayerWeights::random(config, of_layer(seed, i))?))
            .collect::<Result<_, _>>()?;
        Self::new(config, layers)
    }

    /// The same model, its weights shared, with [random](AdapterWeights::random) adapters in every layer.
    /// Rank 0 is [`Method::None`].
    ///
    /// # Errors
    ///
    /// The errors of [`Layer::with_adapters`].
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

    /// The same model, its weights shared, with these adapters, one item for each layer, in place of its own.
    ///
    /// # Errors
    ///
    /// The errors of [`Layer::with_adapters`], and [`Error::Shape`] if there are not `config.layers` items.
    pub fn with_adapters(&self, adapters: &[AdapterWeights]) -> Result<Self, Error> {
        expect_shape("the model's adapters", &[self.config.layers], &[adapters.len()])?;
        let layers = self.layers.iter().zip(adapters).map(|(layer, adapters)| layer.with_adapters(adapters));
        Ok(Self { config: self.config, layers: layers.collect::<Result<_, _>>()? })
    }

    /// The model's layers.
    pub fn layers(&self) -> &[Layer<B>] {
        &self.layers
    }

    /// Runs all layers, as [`Layer::forward`].
    ///
    /// # Errors
    ///
    /// As [`Layer::forward`].
    pub fn forward(
        &self,
        x: B::Matrix<'_>,
        seq_len: usize,
        y: B::MatrixMut<'_>,
        workspace: &mut Workspace<B>,
        stream: &B::Stream,
    ) -> Result<(), Error> {
        workspace.check(&self.config, &x, seq_len, &y)?;
        let (m, d) = (B::shapes(&x, &y)[0][0], self.config.d);
        let Workspace { buffers, hidden: [from, to], .. } = workspace;
        let (last, before) = self.layers.split_last().expect("a model has at least one layer");
        for (i, layer) in before.iter().enumerate() {
            let x = if i == 0 { B::reborrow(&x) } else { from.view()? };
            layer.run(x, seq_len, to.shaped(m, d)?, buffers, stream, |_, _| Ok(()))?;
            std::mem::swap(from, to);
        }
        let x = if before.is_empty() { B::reborrow(&x) } else { from.view()? };
        last.run(x, seq_len, y, buffers, stream, |_, _| Ok(()))
    }
}

//! A transformer's layer: bare, with sequential adapters, and with LoRA un-merged.
//!
//! The bare layer runs twice in a round, beyond the calls that others are compared with: as its own record,
//! and once more as what each method is at r = 0, where there is no adapter. That second call is recorded
//! under each method's name, and shows the noise.
//!
//! x is two sequences again and again over the batch, so that every row of every y can be compared with a
//! plain f32 computation of the layer on those two.

use std::collections::HashMap;
use std::rc::Rc;

use fused_lora_records::Record;
use fused_lora_transformer::{Config, Error, Layer, Model, Targets};
use ndarray::Array2;

use crate::executor::{LayerExecutor, LayerSetup, Setup};
use crate::method::{Expected, Method, Provider, Ready, Suite, Task};
use crate::settings::Cache;
use crate::size::Size;
use crate::torch::Torch;
use methods::methods;
use variant::Variant;
use weights::Weights;

pub mod conclusion;
mod exchange;
pub mod methods;
mod reference;
#[cfg(test)]
mod tests;
pub use fused_lora_measure::variant;
pub mod weights;

/// ‖y − reference‖ / ‖reference‖ of one layer, as `crates/transformer/tests/pytorch.rs` has it: one rounding
/// to f16 is 2.8 · 10⁻⁴ of that, and y has more than one behind it.
const TOLERANCE: f64 = 7e-4;
/// |y − reference| of an element in units of the root mean square, from the same place.
const ELEMENT_TOLERANCE: f64 = 5e-3;

/// The layer on a backend, and PyTorch's beside it.
pub struct Layers<E: LayerExecutor> {
    targets: Targets,
    setup: LayerSetup<E>,
    /// By slot. The bare model is always there.
    models: Vec<HashMap<Variant, Model<E::Backend>>>,
    /// y of the sequences at one `seq_len` at a time, by [`Variant::of_weights`].
    references: (usize, HashMap<Variant, Array2<f32>>),
    /// None where PyTorch does not run.
    torch: Option<Torch>,
}

impl<E: LayerExecutor> Layers<E> {
    /// With LoRA on these projections. PyTorch joins the rounds where it is given. An error if there can be
    /// no such model.
    pub fn new(
        backend: E,
        config: Config,
        targets: Targets,
        cache: Cache,
        torch: Option<Torch>,
    ) -> anyhow::Result<Layers<E>> {
        let setup = Setup::new(backend, Weights::new(config)?, cache);
        let (models, references) = (Vec::new(), (0, HashMap::new()));
        Ok(Layers { targets, setup, models, references, torch })
    }

    /// The model of a variant in each slot of weights. Slots beyond are let go, with their memory.
    fn models(&mut self, variant: Variant) -> Result<Vec<Model<E::Backend>>, Error> {
        let Setup { backend, weights, weight_slots, .. } = &self.setup;
        self.models.truncate(*weight_slots);
        while self.models.len() < *weight_slots {
            let layer = |layer| Layer::new(backend.backend(), weights.config, layer);
            let layers = weights.layers.iter().map(layer).collect::<Result<_, _>>()?;
            self.models.push(HashMap::from([(Variant::NONE, Model::new(weights.config, layers)?)]));
        }
        let of_slot = |slot: &mut HashMap<Variant, Model<E::Backend>>| {
            if let Some(model) = slot.get(&variant) {
                return Ok(model.clone());
            }
            let model = slot[&Variant::NONE].with_adapters(&weights.adapters(variant))?;
            slot.insert(variant, model.clone());
            Ok(model)
        };
        self.models.iter_mut().map(of_slot).collect()
    }
}

impl<E: LayerExecutor> Suite for Layers<E> {
    fn methods(&self, size: Size) -> Vec<Method> {
        let Layers { targets, setup, torch, .. } = self;
        let granule = setup.backend.granule();
        let mut methods =
            methods(&setup.weights.config, *targets, setup.cache, granule, size, torch.is_some());
        methods.extend(setup.probes(methods[0].work.flops));
        methods
    }

    fn prepare(&mut self, size: Size, slots: usize, methods: &[Method]) -> anyhow::Result<Vec<Ready>> {
        let Config { d, .. } = self.setup.weights.config;
        let flops = methods[0].work.flops;
        self.setup.resize(size.m(), &[(d, d)], slots, flops, |weights, x| weights.tokens(size.seq_len, x))?;
        // All adapters before PyTorch is told of those that there are.
        for method in methods {
            if let Task::Layer(variant) = method.task {
                self.setup.weights.ensure(variant)?;
            }
        }
        if let Some(torch) =
            self.torch.as_ref().filter(|_| methods.iter().any(|m| m.provider == Provider::Torch))
        {
            let Setup { weights, passes, .. } = &self.setup;
            let mut x = Array2::zeros((size.m(), d));
            weights.tokens(size.seq_len, x.as_slice_mut().expect("a new array is one slice"));
            let all = |tensors: &mut _| exchange::put(tensors, weights);
            let kinds = weights.variants().len();
            torch.prepare((kinds, all), |tensors| tensors.put("x", &x), slots, *passes, size.seq_len)?;
        }
        let ready = |method: &Method| -> anyhow::Result<Ready> {
            match (method.task, method.provider, &self.torch) {
                (Task::Layer(_), Provider::Torch, Some(torch)) => torch.ready(method, Box::new(|| ())),
                (Task::Layer(variant), Provider::Library(0), _) => {
                    let models = self.models(variant)?;
                    let made = E::layers(&self.setup, models, size.seq_len, variant.rank);
                    self.setup.backend.or_left_out(&method.ids[0], made)
                }
                (Task::Probe(probe), ..) => self.setup.probe(probe, flops).map(Some),
                _ => anyhow::bail!("{} is no layer of a transformer", method.names[0]),
            }
        };
        methods.iter().map(ready).collect()
    }

    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Rc<Vec<Expected>>> {
        let Task::Layer(variant) = method.task else { return Ok(Rc::default()) };
        let (seq_len, references) = &mut self.references;
        if *seq_len != size.seq_len {
            references.clear();
            *seq_len = size.seq_len;
        }
        let of_sequences = references
            .entry(variant.of_weights())
            .or_insert_with_key(|&variant| reference::forward(&self.setup.weights, variant, size.seq_len));
        let y = of_sequences.mapv(f64::from);
        // The errors of layers, independent of each other, add up like a random walk.
        let growth = (self.setup.weights.config.layers as f64).sqrt();
        let mean_square = y.iter().map(|value| value * value).sum::<f64>() / y.len() as f64;
        Ok(Rc::new(vec![Expected {
            rows: (0..size.m()).map(|row| (row, row % y.nrows())).collect(),
            tolerance: Array2::from_elem(y.dim(), ELEMENT_TOLERANCE * growth * mean_square.sqrt()),
            y,
            norm_tolerance: TOLERANCE * growth,
        }]))
    }

    fn describe(&self, method: &Method, record: &mut Record) {
        if let (Provider::Torch, Some(torch)) = (method.provider, &self.torch) {
            torch.describe(record);
        }
    }
}

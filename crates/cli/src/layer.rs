//! The base layer of a module, on which several adapters must agree.

use anyhow::{Result, bail};
use fused_lora::{
    DType, Element,
    peft::{BaseModel, LoraFile, Resolved},
};
use ndarray::{Array1, Array2};

use crate::device::Source;

/// One module of a base model, as each of some adapters needs it.
pub(crate) struct BaseLayer<'a> {
    base: &'a BaseModel,
    adapters: &'a [LoraFile],
    /// For each adapter.
    pub(crate) modules: Vec<Resolved>,
}

impl<'a> BaseLayer<'a> {
    /// Fails where two adapters need different weights or biases: one pass has one of each.
    pub(crate) fn new(base: &'a BaseModel, adapters: &'a [LoraFile], modules: Vec<Resolved>) -> Result<Self> {
        for (module, adapter) in modules.iter().zip(adapters).skip(1) {
            let first = &modules[0];
            let differs = if module.weight != first.weight || module.layout != first.layout {
                "weight"
            } else if module.bias != first.bias {
                "bias"
            } else {
                continue;
            };
            let [one, other] = [&adapters[0], adapter].map(|file| file.paths()[1].display());
            bail!(
                "{one} and {other} need a different {differs} for {:?}: apply them one by one",
                first.lora.name
            );
        }
        Ok(Self { base, adapters, modules })
    }

    /// The adapters of those that are not excluded, in their order.
    pub(crate) fn loras(&self) -> Vec<Source<'a>> {
        let adapted =
            self.modules.iter().zip(self.adapters).filter(|(module, _)| module.lora.excluded.is_none());
        adapted.map(|(module, file)| Source { file, module: module.lora.clone() }).collect()
    }

    /// The number of an adapter among those that are not excluded.
    pub(crate) fn number(&self, adapter: usize) -> Option<usize> {
        let before = (0..adapter).filter(|other| !self.is_excluded(*other)).count();
        (!self.is_excluded(adapter)).then_some(before)
    }

    /// The element type of W in its file.
    pub(crate) fn dtype(&self) -> Result<DType> {
        Ok(self.modules[0].weight_dtype(self.base, &self.adapters[0])?)
    }

    /// W, `[N, K]`.
    pub(crate) fn weight<T: Element>(&self) -> Result<Array2<T>> {
        Ok(self.modules[0].read_weight(self.base, &self.adapters[0])?)
    }

    /// The bias, `[N]`.
    pub(crate) fn bias<T: Element>(&self) -> Result<Option<Array1<T>>> {
        Ok(self.modules[0].read_bias(self.base, &self.adapters[0])?)
    }

    /// Whether the configuration of an adapter leaves the module out.
    pub(crate) fn is_excluded(&self, adapter: usize) -> bool {
        self.modules[adapter].lora.excluded.is_some()
    }

    /// What the user should know, a line each.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        self.modules.iter().flat_map(Resolved::notes)
    }
}

//! Every module of an adapter, judged by the adapter and, where it is given, by the base model. Headers are
//! read, no data.

use std::path::Path;

use anyhow::Result;
use fused_lora::{
    DType,
    peft::{BaseModel, Choices, Layout, Location, LoraFile, LoraModule, TensorFile},
};

/// An adapter, and what is to be said of it.
pub(crate) struct Survey {
    pub(crate) modules: Vec<Module>,
    /// What of the adapter is ignored, as PEFT does.
    pub(crate) warnings: Vec<String>,
}

/// A module of the adapter.
pub(crate) struct Module {
    pub(crate) name: String,
    /// None if the adapter alone is refused.
    pub(crate) lora: Option<LoraModule>,
    /// None if there is no base model, or the module is refused.
    pub(crate) base: Option<OfBase>,
    /// Why it cannot be applied.
    pub(crate) refused: Option<String>,
}

/// What the base model has for a module.
pub(crate) struct OfBase {
    pub(crate) weight: Location,
    /// Of the weight.
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
    pub(crate) bias: Option<Location>,
    /// The embedding whose weight it shares.
    pub(crate) tied_to: Option<String>,
}

impl Module {
    /// A module whose adapter changes the result.
    pub(crate) fn applied(&self) -> Option<&LoraModule> {
        self.lora.as_ref().filter(|lora| self.refused.is_none() && lora.excluded.is_none())
    }

    /// Such a module, with what the base model has for it.
    pub(crate) fn measurable(&self) -> Option<(&LoraModule, &OfBase)> {
        self.applied().zip(self.base.as_ref())
    }
}

/// An error only if adapter or base cannot be opened: a module that is refused says so itself. `layout` is that
/// of weights that do not say it themselves.
pub(crate) fn survey(adapter: &Path, base: Option<&Path>, layout: Option<Layout>) -> Result<Survey> {
    let adapter = LoraFile::open(adapter)?;
    let base = base.map(BaseModel::open).transpose()?;
    let modules = adapter.modules().map(|name| module(&adapter, base.as_ref(), name, layout)).collect();
    Ok(Survey { modules, warnings: adapter.warnings().collect() })
}

fn module(adapter: &LoraFile, base: Option<&BaseModel>, name: &str, layout: Option<Layout>) -> Module {
    let told = |error: anyhow::Error| format!("{error:#}");
    let (lora, mut refused) = match adapter.module(name) {
        Ok(lora) => (Some(lora), None),
        Err(error) => (None, Some(told(error.into()))),
    };
    let mut found = None;
    if let (Some(base), Some(_)) = (base, &lora) {
        match of_base(adapter, base, name, layout) {
            Ok(of_base) => found = Some(of_base),
            Err(error) => refused = Some(told(error)),
        }
    }
    Module { name: name.to_owned(), lora, base: found, refused }
}

fn of_base(adapter: &LoraFile, base: &BaseModel, name: &str, layout: Option<Layout>) -> Result<OfBase> {
    let found = base.resolve(adapter, name, Choices { layout, ..Choices::default() })?;
    let weight = found.weight;
    let dtype = match weight.from_adapter {
        true => TensorFile::open(&weight.file)?.dtype(&weight.tensor)?,
        false => base.dtype(&weight.tensor)?,
    };
    Ok(OfBase { weight, dtype, layout: found.layout, bias: found.bias, tied_to: found.tied_to })
}

//! A module of an adapter together with its base model: where W and the bias lie, and which way round.

use std::path::PathBuf;

use ndarray::{Array1, Array2};

use super::{
    adapter::{LoraFile, LoraModule},
    base::BaseModel,
    base_error::BaseError,
    error::PeftError,
    layout::{self, Layout},
    names::{leaf, nearest},
    shown::shown,
    tensors::{TensorError, TensorFile, TensorProblem},
};
use crate::element::Element;

/// The output layer, which may share its weight with the embedding.
const HEAD: &str = "lm_head";
/// The embedding, by the last part of its name in the models of transformers.
const EMBEDDINGS: &[&str] = &["embed_tokens", "wte", "word_embeddings", "embed_in", "shared"];

/// What a user decided about a base model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choices<'a> {
    /// The module's name in the base model, where it is not found by its own.
    pub base_module: Option<&'a str>,
    /// Which way round W lies, where its shape does not say.
    pub layout: Option<Layout>,
}

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The file.
    pub file: PathBuf,
    /// The tensor's name in it.
    pub tensor: String,
    /// Whether the adapter brings it, in the place of the base's.
    pub from_adapter: bool,
}

/// A module that can be applied: the adapter's A and B, and what the base model has for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// What the adapter says. Where that is [`excluded`](LoraModule::excluded), y is the base product alone.
    pub lora: LoraModule,
    /// W.
    pub weight: Location,
    /// Which way round W lies in its file.
    pub layout: Layout,
    /// The bias, `[N]`, if the module has one.
    pub bias: Option<Location>,
    /// The embedding whose weight is also this module's, if it has none of its own.
    pub tied_to: Option<String>,
}

impl BaseModel {
    /// Finds what `module` of `adapter` needs of this model. Headers are read, no data.
    ///
    /// # Errors
    ///
    /// Those of [`LoraFile::module`]; no weight, or two, under names that differ by known prefixes alone; a
    /// weight of another shape; a square one of which it is not known which way round it lies; a bias that
    /// may be in a part of the model that is missing.
    pub fn resolve(
        &self,
        adapter: &LoraFile,
        module: &str,
        choices: Choices<'_>,
    ) -> Result<Resolved, PeftError> {
        let lora = adapter.module(module)?;
        let own = adapter.own_weight(&lora);
        let (module, tied_to) = match choices.base_module {
            Some(name) => (self.named(name)?, None),
            None => match self.module(&lora.name)? {
                Some(module) => (module.to_owned(), None),
                None if own.is_some() => (lora.name.clone(), None),
                None => (lora.name.clone(), Some(self.embedding(adapter, &lora)?)),
            },
        };
        let says_tied =
            leaf(&lora.name) == HEAD && self.config().and_then(|config| config.tied) == Some(true);
        if tied_to.is_some() || says_tied {
            adapter.check_tied(&lora.name)?;
        }
        let replaced = match &tied_to {
            _ if own.is_some() => own,
            Some(embedding) => adapter.shared_weight(embedding)?,
            None if says_tied && choices.base_module.is_none() => self.check_embeddings(adapter, &lora)?,
            None => None,
        };
        let from_base = format!("{}.weight", tied_to.as_ref().unwrap_or(&module));
        let weight = match replaced {
            Some(tensor) => Location::of(adapter.tensors(), tensor, true),
            None => Location::of(self.file_of(&from_base)?, &from_base, false),
        };
        let layout = self.layout(adapter, &lora, &module, &weight, choices.layout)?;
        let bias = self.bias(adapter, &lora, &module, &from_base)?;
        if let Some(bias) = &bias {
            let found = bias.file(self, adapter)?.shape(&bias.tensor)?;
            if found != [lora.n] {
                let (file, tensor) = (bias.file.clone(), bias.tensor.clone());
                let (found, weight, n) = (found.to_vec(), weight.tensor, lora.n);
                return Err(BaseError::BiasShape { file, bias: tensor, found, weight, n }.into());
            }
        }
        Ok(Resolved { lora, weight, layout, bias, tied_to })
    }

    /// The module that a user named.
    fn named(&self, name: &str) -> Result<String, BaseError> {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        match self.contains(&format!("{module}.weight")) {
            true => Ok(module.to_owned()),
            false => Err(self.no_weight(module)),
        }
    }

    fn no_weight(&self, module: &str) -> BaseError {
        let packed = format!("{module}.qweight");
        if self.contains(&packed) {
            let problem = TensorProblem::Quantised { dtype: "GPTQ or AWQ".to_owned(), beside: packed };
            let (file, tensor) = (self.path().to_owned(), format!("{module}.weight"));
            return TensorError::Tensor { file, tensor, problem }.into();
        }
        let weights = self.names().filter_map(|name| name.strip_suffix(".weight"));
        let nearest = nearest(module, weights).into_iter().map(|name| name + ".weight").collect();
        BaseError::NoWeight { path: self.path().to_owned(), module: module.to_owned(), nearest }
    }

    /// The names of the embeddings.
    fn embeddings(&self) -> impl Iterator<Item = &str> {
        let modules = self.names().filter_map(|name| name.strip_suffix(".weight"));
        modules.filter(|module| EMBEDDINGS.contains(&leaf(module)))
    }

    /// Fails where an output layer has a weight of its own although it is said to be tied, and the adapter
    /// replaces the embedding's: whether they are tied depends on their values.
    fn check_embeddings(
        &self,
        adapter: &LoraFile,
        lora: &LoraModule,
    ) -> Result<Option<&'static str>, PeftError> {
        for embedding in self.embeddings() {
            if adapter.shared_weight(embedding)?.is_some() {
                let (path, module) = (self.path().to_owned(), lora.name.clone());
                return Err(BaseError::Tied { path, module, embedding: embedding.to_owned() }.into());
            }
        }
        Ok(None)
    }

    /// The embedding that an output layer without a weight of its own shares.
    fn embedding(&self, adapter: &LoraFile, lora: &LoraModule) -> Result<String, PeftError> {
        let untied = self.config().and_then(|config| config.tied) == Some(false);
        if leaf(&lora.name) != HEAD || untied || self.missing().is_some() {
            return Err(self.no_weight(&lora.name).into());
        }
        let mut found: Vec<&str> = Vec::new();
        for module in self.embeddings() {
            let shape = match adapter.shared_weight(module)? {
                Some(tensor) => adapter.tensors().shape(tensor)?,
                None => self.shape(&format!("{module}.weight"))?,
            };
            if shape == [lora.n, lora.k] {
                found.push(module);
            }
        }
        match found[..] {
            [one] => Ok(one.to_owned()),
            [] => Err(self.no_weight(&lora.name).into()),
            [one, other, ..] => Err(BaseError::TwoWeights {
                path: self.path().to_owned(),
                module: lora.name.clone(),
                tensors: [one, other].map(|module| format!("{module}.weight")),
            }
            .into()),
        }
    }

    /// Which way round W lies.
    fn layout(
        &self,
        adapter: &LoraFile,
        lora: &LoraModule,
        module: &str,
        weight: &Location,
        asked: Option<Layout>,
    ) -> Result<Layout, PeftError> {
        let (file, tensor, sizes) = (weight.file.clone(), weight.tensor.clone(), [lora.n, lora.k]);
        let found = self.matrix_at(adapter, weight)?;
        let reversed = [lora.k, lora.n];
        if found != sizes && found != reversed {
            let adapter = adapter.tensors().path().to_owned();
            let expected = if asked == Some(Layout::InOut) { reversed } else { sizes };
            return Err(BaseError::Shape { file, tensor, found: found.to_vec(), adapter, expected }.into());
        }
        match (layout::by_shape(&found, sizes), asked) {
            (Some(found), Some(asked)) if found != asked => {
                Err(BaseError::OtherLayout { file, tensor, found, asked }.into())
            }
            (Some(layout), _) | (None, Some(layout)) => Ok(layout),
            (None, None) => {
                let evidence = self.evidence(adapter, &lora.name, module);
                layout::square(&lora.name, &evidence, adapter.fan_in_fan_out())
                    .map_err(|reason| BaseError::Layout { file, tensor, reason }.into())
            }
        }
    }

    /// What says which way round the square weight of `module` lies. Shards that cannot be read say nothing.
    fn evidence(&self, adapter: &LoraFile, name: &str, module: &str) -> Vec<(Layout, String)> {
        let mut found = Vec::new();
        // The other adapted modules of the same name, which have the same class.
        for other in adapter.modules().filter(|other| leaf(other) == leaf(name) && *other != name) {
            if let (Some(sizes), Ok(Some(base))) = (adapter.sizes(other), self.module(other))
                && let Some(layout) =
                    self.shape(&format!("{base}.weight")).ok().and_then(|s| layout::by_shape(s, sizes))
            {
                found.push((layout, format!("the adapted module {other:?}")));
            }
        }
        if let Some(config) = self.config()
            && let Some(layout) = layout::by_type(name, &config.types, config.remote)
        {
            found.push((layout, format!("model_type {:?} of config.json", config.types[0])));
        }
        found.extend(self.siblings(adapter, module));
        found
    }

    /// What the weights beside that of `module` say: those of its layer, or of its parent where the layer has
    /// both kinds.
    fn siblings(&self, adapter: &LoraFile, module: &str) -> Option<(Layout, String)> {
        let parent = module.rsplit_once('.').map_or("", |(parent, _)| parent);
        let start = |scope: &str| if scope.is_empty() { String::new() } else { format!("{scope}.") };
        let hidden = self.hidden();
        for scope in [layer(module).unwrap_or(parent), parent] {
            let start = start(scope);
            let mut said: Option<(Layout, String)> = None;
            let mut mixed = false;
            for sibling in self.below(&start).filter_map(|name| name.strip_suffix(".weight")) {
                // At the top of a model stand embeddings and heads, each with a class of its own.
                if start.is_empty() && sibling.contains('.') || sibling == module {
                    continue;
                }
                let Some(layout) = self.sibling(adapter, sibling, hidden) else { continue };
                mixed |= said.as_ref().is_some_and(|(other, _)| *other != layout);
                said.get_or_insert((layout, format!("tensor \"{sibling}.weight\"")));
            }
            if !mixed && said.is_some() {
                return said;
            }
        }
        None
    }

    /// What shape and bias of one weight say.
    fn sibling(&self, adapter: &LoraFile, module: &str, hidden: Option<usize>) -> Option<Layout> {
        let shape = self.shape(&format!("{module}.weight")).ok()?;
        let bias = self.shape(&format!("{module}.bias")).ok();
        let by_bias = bias.filter(|bias| bias.len() == 1).and_then(|bias| layout::by_bias(shape, bias[0]));
        by_bias
            .or_else(|| adapter.sizes(module).and_then(|sizes| layout::by_shape(shape, sizes)))
            .or_else(|| layout::by_role(module, shape, hidden?))
    }

    /// The hidden size: the columns of the embedding.
    fn hidden(&self) -> Option<usize> {
        let mut sizes =
            self.embeddings().filter_map(|module| match self.shape(&format!("{module}.weight")) {
                Ok([_, hidden]) => Some(*hidden),
                _ => None,
            });
        let first = sizes.next()?;
        sizes.all(|size| size == first).then_some(first)
    }

    /// Where the bias lies, if there is one.
    fn bias(
        &self,
        adapter: &LoraFile,
        lora: &LoraModule,
        module: &str,
        weight: &str,
    ) -> Result<Option<Location>, PeftError> {
        if let Some(tensor) = adapter.own_bias(lora) {
            return Ok(Some(Location::of(adapter.tensors(), tensor, true)));
        }
        let bias = format!("{module}.bias");
        if self.contains(&bias) {
            return Ok(Some(Location::of(self.file_of(&bias)?, &bias, false)));
        }
        let unknown =
            |reason: String| BaseError::Bias { path: self.path().to_owned(), bias: bias.clone(), reason };
        if let Some(missing) = self.missing() {
            return Err(unknown(format!("{missing}; put them there")).into());
        }
        // A shard that holds what its index does not list was written by something else.
        match self.contains(weight).then(|| self.file_of(weight)).transpose()? {
            Some(file) if file.contains(&bias) => {
                let reason = format!("{} holds it, but the index does not list it", shown(file.path()));
                Err(unknown(reason).into())
            }
            _ => Ok(None),
        }
    }

    fn matrix_at(&self, adapter: &LoraFile, at: &Location) -> Result<[usize; 2], PeftError> {
        let file = at.file(self, adapter)?;
        // A quantised weight is not known by its shape.
        file.dtype(&at.tensor)?;
        Ok(file.matrix_shape(&at.tensor)?)
    }
}

impl Resolved {
    /// Reads W as `T`: `[N, K]`, whichever way round it lies.
    ///
    /// # Errors
    ///
    /// Those of [`TensorFile::read_matrix`].
    pub fn read_weight<T: Element>(
        &self,
        base: &BaseModel,
        adapter: &LoraFile,
    ) -> Result<Array2<T>, PeftError> {
        let file = self.weight.file(base, adapter)?;
        let stored = file.read_matrix(&self.weight.tensor)?;
        Ok(match self.layout {
            Layout::OutIn => stored,
            Layout::InOut => stored.t().as_standard_layout().into_owned(),
        })
    }

    /// Reads the bias as `T`, `[N]`, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`TensorFile::read_vector`].
    pub fn read_bias<T: Element>(
        &self,
        base: &BaseModel,
        adapter: &LoraFile,
    ) -> Result<Option<Array1<T>>, PeftError> {
        let Some(bias) = &self.bias else { return Ok(None) };
        Ok(Some(bias.file(base, adapter)?.read_vector(&bias.tensor)?))
    }

    /// The element type of W in its file.
    ///
    /// # Errors
    ///
    /// Those of [`TensorFile::dtype`].
    pub fn weight_dtype(&self, base: &BaseModel, adapter: &LoraFile) -> Result<crate::DType, PeftError> {
        Ok(self.weight.file(base, adapter)?.dtype(&self.weight.tensor)?)
    }

    /// What a user should know about this module: a line each.
    pub fn notes(&self) -> Vec<String> {
        let module = &self.lora.name;
        let mut notes = Vec::new();
        if let Some(reason) = &self.lora.excluded {
            notes.push(format!("{module}: the base product alone, since {reason}"));
        }
        if let Some(embedding) = &self.tied_to {
            let whose = if self.weight.from_adapter { "the adapter's " } else { "" };
            notes.push(format!(
                "{module}: its weight is tied to {embedding}: {whose}{} is used",
                self.weight.tensor
            ));
        } else if self.weight.from_adapter {
            notes.push(format!("{module}: the adapter's own weight {} is used", self.weight.tensor));
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.from_adapter) {
            notes.push(format!("{module}: the adapter's own bias {} is used", bias.tensor));
        }
        notes
    }
}

impl Location {
    fn of(file: &TensorFile, tensor: &str, from_adapter: bool) -> Location {
        Location { file: file.path().to_owned(), tensor: tensor.to_owned(), from_adapter }
    }

    fn file<'a>(&self, base: &'a BaseModel, adapter: &'a LoraFile) -> Result<&'a TensorFile, PeftError> {
        Ok(if self.from_adapter { adapter.tensors() } else { base.file_of(&self.tensor)? })
    }
}

/// `h.0` of `h.0.attn.c_proj`: the name up to the first number.
fn layer(module: &str) -> Option<&str> {
    let mut end = 0;
    for part in module.split('.') {
        end += part.len();
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            return (end < module.len()).then(|| &module[..end]);
        }
        end += 1;
    }
    None
}

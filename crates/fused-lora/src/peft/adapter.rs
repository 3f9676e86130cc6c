//! An adapter's folder, and what it alone says of each module.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    config::Config,
    error::{LoraProblem, PeftError},
    modules::{self, Modules, bad},
    normalise::{self, LoraWeights, Overflow},
    targets::Exclusion,
    tensors::{Matrix, TensorFile},
};
use crate::problem::DType;

/// The configuration's file name in an adapter folder.
pub const CONFIG_NAME: &str = "adapter_config.json";
/// The weights' file name in an adapter folder.
pub const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// What older PEFT versions wrote instead; a pickle, so it is never opened.
const PICKLE_NAME: &str = "adapter_model.bin";
/// What MLX writes instead.
const MLX_NAME: &str = "adapters.safetensors";

/// An adapter folder, opened: the configuration is read, the tensors are read by [`load`](Self::load).
#[derive(Debug)]
pub struct LoraFile {
    config: Config,
    tensors: TensorFile,
    modules: Modules,
}

/// What an adapter says of one module.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoraModule {
    /// The module's name in the base model, as the adapter spells it.
    pub name: String,
    /// The names of A, `[r, K]`, and of B, `[N, r]`.
    pub tensors: [String; 2],
    /// Columns of y.
    pub n: usize,
    /// Columns of x.
    pub k: usize,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// s: `alpha / r`, or `alpha / sqrt(r)`.
    pub scale: f64,
    /// The element types of A and B in the file.
    pub dtypes: [DType; 2],
    /// Why PEFT leaves A and B out, so that the base product is the result; none for an adapted module.
    pub excluded: Option<Exclusion>,
}

impl LoraFile {
    /// Opens an adapter: its folder, or one of its two files.
    ///
    /// # Errors
    ///
    /// A file that is missing, malformed or of another format; a value of the configuration that has the
    /// wrong type. What an adapter asks for and is not implemented is an error of the modules that it changes.
    pub fn open(path: &Path) -> Result<LoraFile, PeftError> {
        let folder = adapter_folder(path)?;
        let config_file = folder.join(CONFIG_NAME);
        let weights = folder.join(WEIGHTS_NAME);
        if folder.is_dir() && !config_file.exists() {
            let hint = without_config(&folder);
            return Err(PeftError::NoAdapter { folder, hint });
        }
        let config = Config::read(&config_file)?;
        let other = |name| Some(folder.join(name)).filter(|file| !weights.exists() && file.exists());
        if let Some(file) = other(PICKLE_NAME) {
            return Err(PeftError::Pickle { file });
        }
        let tensors = TensorFile::open(&weights)?;
        let modules = Modules::sort(&tensors);
        Ok(LoraFile { config, tensors, modules })
    }

    /// The modules for which the file holds LoRA tensors, by their names in the base model, sorted.
    ///
    /// Embeddings, convolutions, and what the configuration leaves out are included; [`module`](Self::module)
    /// rejects the former and says so of the latter.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.names()
    }

    /// What is ignored, as PEFT does, or read although PEFT would not: to be shown to the user.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let [config, tensors] = self.paths().map(Path::display);
        let respelled = self.modules.respelled.iter().map(move |[name, usual]| {
            format!("{tensors}: names such as {name:?}, which PEFT would not load, are read as {usual:?}")
        });
        self.config.warnings.iter().map(move |warning| format!("{config}: {warning}")).chain(respelled)
    }

    /// `fan_in_fan_out` of the configuration: whether most of the adapted weights are stored as `[in, out]`
    /// (GPT-2's `Conv1D`) instead of `[out, in]`. A hint: [`BaseModel::resolve`](super::BaseModel::resolve)
    /// says it of each weight. A and B are not affected.
    pub fn fan_in_fan_out(&self) -> bool {
        self.config.fan_in_fan_out
    }

    /// The two files of the folder: configuration and weights.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.config.file, self.tensors.path()]
    }

    /// Judges a module by the adapter alone, without reading its data. The name may have other prefixes than
    /// the file's (`model.`, `transformer.`, `language_model.`, `base_model.model.`, `_orig_mod.`).
    ///
    /// # Errors
    ///
    /// A module that is missing or not a linear layer; something about it that is not implemented and would
    /// change the result; a rank that differs from the configuration's; tensors of another type than f16,
    /// bf16 or f32.
    pub fn module(&self, name: &str) -> Result<LoraModule, PeftError> {
        let name = self.modules.find(name, &self.tensors)?;
        self.config.check(name, false)?;
        let excluded = self.config.exclusion(name)?;
        let tensors = self.modules.linear(name, &self.tensors, excluded == Some(Exclusion::Saved))?;
        let [a, b] = &tensors;
        let ([rank, k], [n, columns]) = (self.tensors.matrix_shape(a)?, self.tensors.matrix_shape(b)?);
        // A configuration that leaves a module out need not have its rank.
        let expected = if excluded.is_none() { self.config.rank(name)? } else { rank };
        for (tensor, found) in [(a, rank), (b, columns)] {
            if found != expected {
                return Err(bad(&self.tensors, tensor, LoraProblem::Rank { found, config: expected }));
            }
        }
        let scale = self.config.scale(name)?;
        let dtypes = [self.tensors.dtype(a)?, self.tensors.dtype(b)?];
        Ok(LoraModule { name: name.to_owned(), n, k, rank, scale, dtypes, excluded, tensors })
    }

    /// Reads the adapter of `module` as f16.
    ///
    /// # Errors
    ///
    /// Those of [`module`](Self::module); NaN or infinite elements, or values that f16 cannot represent.
    pub fn load(&self, module: &str) -> Result<LoraWeights, PeftError> {
        let LoraModule { tensors: [name_a, name_b], scale, .. } = self.module(module)?;
        let a = self.tensors.matrix(&name_a)?;
        let b = self.tensors.matrix(&name_b)?;
        normalise::to_f16(a, b, scale).map_err(|Overflow { of_a, value, magnitude }| {
            let problem = LoraProblem::Overflow { value, scale, magnitude };
            bad(&self.tensors, if of_a { &name_a } else { &name_b }, problem)
        })
    }

    /// Reads the adapter of `module` as f32, which holds every f16 and every bf16.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but no value is too large.
    pub fn load_f32(&self, module: &str) -> Result<LoraWeights<f32>, PeftError> {
        let LoraModule { tensors, scale, .. } = self.module(module)?;
        let [a, b] = tensors.map(|name| self.tensors.matrix(&name).map(Matrix::into_f32));
        Ok(LoraWeights { a: a?, b: b?, scale: scale as f32 })
    }

    /// The element types of A and B of `module` in the file.
    ///
    /// # Errors
    ///
    /// Those of [`module`](Self::module).
    pub fn dtypes(&self, module: &str) -> Result<[DType; 2], PeftError> {
        Ok(self.module(module)?.dtypes)
    }

    pub(super) fn tensors(&self) -> &TensorFile {
        &self.tensors
    }

    /// The tensor that replaces the weight of a module, where the adapter brings one.
    pub(super) fn own_weight(&self, module: &LoraModule) -> Option<&str> {
        self.own(module, [modules::BASE_WEIGHT, modules::WEIGHT])
    }

    /// The tensor that replaces the bias of a module, where the adapter brings one.
    pub(super) fn own_bias(&self, module: &LoraModule) -> Option<&str> {
        self.own(module, [modules::BASE_BIAS, modules::BIAS])
    }

    /// The part of an adapted module, or of one that is saved as a whole. Of others PEFT loads neither.
    fn own(&self, module: &LoraModule, [adapted, saved]: [&str; 2]) -> Option<&str> {
        match module.excluded {
            None => self.modules.part(&module.name, adapted),
            Some(Exclusion::Saved) => self.modules.part(&module.name, saved),
            Some(_) => None,
        }
    }

    /// The tensor that the adapter puts in the place of the weight of `embedding`, which a module shares.
    /// A copy in `modules_to_save` is not shared any more.
    pub(super) fn shared_weight(&self, embedding: &str) -> Result<Option<&str>, PeftError> {
        let copied = self.config.exclusion(embedding)? == Some(Exclusion::Saved);
        Ok(self.modules.weight_of(embedding).filter(|_| !copied))
    }

    /// Fails if the configuration changes a module whose weight is tied to an embedding.
    pub(super) fn check_tied(&self, module: &str) -> Result<(), PeftError> {
        Ok(self.config.check(module, true)?)
    }

    /// N and K of another module whose tensors are matrices, whatever else is the matter with it.
    pub(super) fn sizes(&self, module: &str) -> Option<[usize; 2]> {
        let [a, b] = self.modules.linear(module, &self.tensors, false).ok()?;
        let ([_, k], [n, _]) = (self.tensors.matrix_shape(&a).ok()?, self.tensors.matrix_shape(&b).ok()?);
        Some([n, k])
    }
}

/// The folder of an adapter that may be given by one of its files.
fn adapter_folder(path: &Path) -> Result<PathBuf, PeftError> {
    let is_part = path.file_name().is_some_and(|name| name == WEIGHTS_NAME || name == CONFIG_NAME);
    if is_part && path.is_file() {
        return Ok(path.parent().unwrap_or(Path::new("")).to_owned());
    }
    if !path.exists() {
        return Err(PeftError::NotThere { path: path.to_owned() });
    }
    if path.is_file() {
        // Says what the file is, if that is known.
        TensorFile::open(path)?;
        return Err(PeftError::NotAnAdapter { file: path.to_owned() });
    }
    Ok(path.to_owned())
}

/// What a folder without a configuration holds, for an error.
fn without_config(folder: &Path) -> String {
    let subfolder = fs::read_dir(folder).into_iter().flatten().flatten().find_map(|entry| {
        let inside = entry.path().join(CONFIG_NAME).exists();
        inside.then(|| entry.file_name().to_string_lossy().into_owned())
    });
    if let Some(name) = subfolder {
        return format!(", but its folder {name:?} does: give that");
    }
    if folder.join(MLX_NAME).exists() {
        return format!(": {MLX_NAME} in it is an adapter of MLX, to be converted to PEFT's format");
    }
    let safetensors = ["pytorch_lora_weights.safetensors", WEIGHTS_NAME];
    match safetensors.iter().find(|name| folder.join(name).exists()) {
        Some(name) => format!(" beside {name}: rank and alpha are not known without it"),
        None => String::new(),
    }
}

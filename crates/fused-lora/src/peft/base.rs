//! A base model: which file holds which tensor, known from an index and headers alone.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ndarray::{Array1, Array2};

use super::{
    base_error::BaseError,
    files,
    index::{self, Files},
    json::Json,
    names::{core, nearest},
    shown::shown,
    tensors::{TensorError, TensorFile},
};
use crate::{element::Element, problem::DType};

/// A base model as people have it: a safetensors file, a folder, or shards with their index.
///
/// Opening reads the index, or the headers where there is none. Of a tensor that is asked for, the header of
/// its shard is read; of one that is [read](Self::read_matrix), its own bytes.
#[derive(Debug)]
pub struct BaseModel {
    path: PathBuf,
    shards: Vec<Shard>,
    /// Each tensor's shard.
    tensors: BTreeMap<String, usize>,
    /// The modules with a weight, by what is left of their names without prefixes.
    cores: HashMap<String, Vec<String>>,
    index: Option<PathBuf>,
    missing: Option<String>,
    config: Option<ModelConfig>,
}

#[derive(Debug)]
struct Shard {
    file: PathBuf,
    opened: OnceLock<TensorFile>,
}

/// What `config.json` beside a model says about its modules.
#[derive(Debug, Default)]
pub(super) struct ModelConfig {
    /// Every `model_type` in it: those of parts, too.
    pub(super) types: Vec<String>,
    /// Whether the code comes with the model, so that a type says nothing.
    pub(super) remote: bool,
    /// `tie_word_embeddings`, if it is there.
    pub(super) tied: Option<bool>,
}

impl BaseModel {
    /// Opens a safetensors file, a folder with a model, or a `*.safetensors.index.json`. Of a shard beside
    /// its index, or beside all other shards, the whole model is opened.
    ///
    /// # Errors
    ///
    /// There is nothing at `path`, or something else than a model in safetensors files; an index or a header
    /// is broken; two shards without an index hold the same tensor.
    pub fn open(path: &Path) -> Result<BaseModel, BaseError> {
        let mut model = BaseModel {
            path: path.to_owned(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            cores: HashMap::new(),
            index: None,
            missing: None,
            config: None,
        };
        match index::files(path)? {
            Files::Indexed { index, map } => {
                let folder = index.parent().unwrap_or(Path::new(""));
                let mut numbers = HashMap::new();
                for (tensor, file) in map {
                    let number = *numbers.entry(file).or_insert_with_key(|file| {
                        model.shards.push(Shard { file: folder.join(file), opened: OnceLock::new() });
                        model.shards.len() - 1
                    });
                    model.tensors.insert(tensor, number);
                }
                model.index = Some(index);
            }
            Files::Listed(files) => files.into_iter().try_for_each(|file| model.add(file))?,
            Files::Shard { file, missing } => {
                model.add(file)?;
                model.missing = Some(missing);
            }
        }
        for tensor in model.tensors.keys() {
            if let Some(module) = tensor.strip_suffix(".weight") {
                model.cores.entry(core(module)).or_default().push(module.to_owned());
            }
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        model.config = ModelConfig::read(&folder.join("config.json"));
        Ok(model)
    }

    /// Adds a file without an index, and what its header lists.
    fn add(&mut self, file: PathBuf) -> Result<(), BaseError> {
        let opened = TensorFile::open(&file)?;
        let number = self.shards.len();
        for tensor in opened.names() {
            if let Some(other) = self.tensors.insert(tensor.clone(), number) {
                let problem =
                    format!("it has tensor {tensor:?}, which {} has, too", shown(&self.shards[other].file));
                return Err(BaseError::Index { file, problem });
            }
        }
        self.shards.push(Shard { file, opened: OnceLock::from(opened) });
        Ok(())
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files of the model: the index, if there is one, and the shards, whether they exist or not.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.index.as_deref().into_iter().chain(self.shards.iter().map(|shard| shard.file.as_path()))
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The file that holds a tensor, opened.
    ///
    /// # Errors
    ///
    /// There is no such tensor, its shard is missing or broken, or the shard lacks what the index lists.
    pub fn file_of(&self, tensor: &str) -> Result<&TensorFile, BaseError> {
        let Some(number) = self.tensors.get(tensor) else {
            let (file, tensor) = (self.path.clone(), tensor.to_owned());
            let tensors = nearest(&tensor, self.names());
            return Err(TensorError::Missing { file, tensor, tensors }.into());
        };
        let Shard { file, opened } = &self.shards[*number];
        let shard = match opened.get() {
            Some(shard) => shard,
            None => {
                let shard = TensorFile::open(file)?;
                opened.get_or_init(|| shard)
            }
        };
        match &self.index {
            Some(index) if !shard.contains(tensor) => Err(BaseError::Index {
                file: index.clone(),
                problem: format!("it says that {} holds tensor {tensor:?}, which it does not", shown(file)),
            }),
            _ => Ok(shard),
        }
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    ///
    /// Those of [`file_of`](Self::file_of).
    pub fn shape(&self, tensor: &str) -> Result<&[usize], BaseError> {
        Ok(self.file_of(tensor)?.shape(tensor)?)
    }

    /// The element type of a tensor.
    ///
    /// # Errors
    ///
    /// Those of [`file_of`](Self::file_of); a type other than f16, bf16 and f32.
    pub fn dtype(&self, tensor: &str) -> Result<DType, BaseError> {
        Ok(self.file_of(tensor)?.dtype(tensor)?)
    }

    /// Reads a matrix as `T`, by [`TensorFile::read_matrix`].
    ///
    /// # Errors
    ///
    /// Those of [`file_of`](Self::file_of) and of [`TensorFile::read_matrix`].
    pub fn read_matrix<T: Element>(&self, tensor: &str) -> Result<Array2<T>, BaseError> {
        Ok(self.file_of(tensor)?.read_matrix(tensor)?)
    }

    /// Reads a vector as `T`, by [`TensorFile::read_vector`].
    ///
    /// # Errors
    ///
    /// Those of [`file_of`](Self::file_of) and of [`TensorFile::read_vector`].
    pub fn read_vector<T: Element>(&self, tensor: &str) -> Result<Array1<T>, BaseError> {
        Ok(self.file_of(tensor)?.read_vector(tensor)?)
    }

    /// What is missing of the model, if that is known.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    pub(super) fn config(&self) -> Option<&ModelConfig> {
        self.config.as_ref()
    }

    /// The module whose weight is that of `module` under another prefix, or none. An equal name is certain;
    /// two others are an error.
    pub(super) fn module(&self, module: &str) -> Result<Option<&str>, BaseError> {
        if let Some((tensor, _)) = self.tensors.get_key_value(&format!("{module}.weight")) {
            return Ok(tensor.strip_suffix(".weight"));
        }
        match self.cores.get(&core(module)).map_or(&[][..], Vec::as_slice) {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [one, other, ..] => Err(BaseError::TwoWeights {
                path: self.path.clone(),
                module: module.to_owned(),
                tensors: [format!("{one}.weight"), format!("{other}.weight")],
            }),
        }
    }

    /// The names of the tensors that begin with `start`.
    pub(super) fn below<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        let from =
            self.tensors.range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        from.map(|(name, _)| name.as_str()).take_while(move |name| name.starts_with(start))
    }
}

impl ModelConfig {
    /// Reads a `config.json`. One that is missing or broken says nothing.
    fn read(file: &Path) -> Option<ModelConfig> {
        let json = Json::parse(&files::read_text(file).ok()?).ok()?;
        let mut config = ModelConfig::default();
        config.collect(&json);
        Some(config)
    }

    fn collect(&mut self, json: &Json) {
        let Json::Object(entries) = json else { return };
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("model_type", Json::String(name)) => self.types.push(name.clone()),
                ("auto_map", Json::Object(_)) => self.remote = true,
                // The outermost counts.
                ("tie_word_embeddings", Json::Bool(tied)) if self.tied.is_none() => self.tied = Some(*tied),
                _ => {}
            }
        }
        entries.iter().for_each(|(_, value)| self.collect(value));
    }
}

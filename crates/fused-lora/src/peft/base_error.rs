use std::{io, path::PathBuf};

use super::{layout::Layout, shown::shown, tensors::TensorError};

/// Why a base model, or a module of it, was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// A file cannot be read, or a tensor is not as required.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// What was given is not there, and looks like a name on a hub.
    #[error("{}: {hint}", shown(path))]
    NotThere {
        /// The path.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A folder holds no model, or several.
    #[error("{}: {problem}", shown(folder))]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is there, and what to do.
        problem: String,
    },
    /// An index cannot be read.
    #[error("cannot read {}", shown(file))]
    Io {
        /// The index.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An index of shards is not as required.
    #[error("{}: {problem}", shown(file))]
    Index {
        /// The index.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No tensor is the module's weight.
    #[error(
        "{}: no tensor {:?}, nor one whose name differs by a known prefix{}; --base-module names another",
        shown(path), format!("{module}.weight"), near(nearest)
    )]
    NoWeight {
        /// The base model.
        path: PathBuf,
        /// The module asked for.
        module: String,
        /// The tensors with the most similar names.
        nearest: Vec<String>,
    },
    /// Two tensors may be the module's weight.
    #[error(
        "{}: the weight of {module:?} may be {:?} or {:?}: choose with --base-module",
        shown(path), tensors[0], tensors[1]
    )]
    TwoWeights {
        /// The base model.
        path: PathBuf,
        /// The module asked for.
        module: String,
        /// Two that fit.
        tensors: [String; 2],
    },
    /// The weight does not have the shape that the adapter needs.
    #[error(
        "{}: tensor {tensor:?} has shape {found:?}, but {} adapts one of {expected:?}",
        shown(file),
        shown(adapter)
    )]
    Shape {
        /// The file of the weight.
        file: PathBuf,
        /// The weight.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The adapter's weights.
        adapter: PathBuf,
        /// `[N, K]` of the adapter, the other way round where the layout says so.
        expected: [usize; 2],
    },
    /// The weight is square, and nothing says which way round it lies.
    #[error(
        "{}: tensor {tensor:?} is square, and {reason}: say with --layout out-in (as nn.Linear) or --layout \
         in-out (as Conv1D of GPT-2) which way round it lies",
        shown(file)
    )]
    Layout {
        /// The file of the weight.
        file: PathBuf,
        /// The weight.
        tensor: String,
        /// What is contradictory or unknown.
        reason: String,
    },
    /// The layout that was asked for contradicts the shapes.
    #[error("{}: tensor {tensor:?} lies {found}, but {asked} was asked for", shown(file))]
    OtherLayout {
        /// The file of the weight.
        file: PathBuf,
        /// The weight.
        tensor: String,
        /// What the shapes of A, B and W say.
        found: Layout,
        /// What was asked for.
        asked: Layout,
    },
    /// Parts of the model are missing, and the bias may be in one of them.
    #[error("{}: whether there is a tensor {bias:?} is not known: {reason}", shown(path))]
    Bias {
        /// The base model.
        path: PathBuf,
        /// The bias that may be there.
        bias: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The base has a weight for an output layer and says that the embedding's is used, which the adapter
    /// replaces.
    #[error(
        "{}: config.json ties {module:?} to {embedding:?}, which the adapter replaces, but {module:?} has a \
         weight of its own: name it with --base-module to use that",
        shown(path)
    )]
    Tied {
        /// The base model.
        path: PathBuf,
        /// The output layer.
        module: String,
        /// The embedding.
        embedding: String,
    },
    /// The bias does not fit the weight.
    #[error("{}: tensor {bias:?} has shape {found:?}, but {weight:?} gives {n} columns of y", shown(file))]
    BiasShape {
        /// The file of the bias.
        file: PathBuf,
        /// The bias.
        bias: String,
        /// Its shape.
        found: Vec<usize>,
        /// The weight.
        weight: String,
        /// N.
        n: usize,
    },
}

fn near(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; the nearest are {}", super::tensors::list(names))
}

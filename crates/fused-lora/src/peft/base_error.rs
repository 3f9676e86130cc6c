use std::{io, path::PathBuf};

use super::{layout::Layout, tensors::TensorError};

/// Why a base model, or a module of it, was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// A file cannot be read, or a tensor is not as required.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// What was given is not there, and looks like a name on a hub.
    #[error("{}: {hint}", path.display())]
    NotThere {
        /// The path.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A folder holds no model, or several.
    #[error("{}: {problem}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is there, and what to do.
        problem: String,
    },
    /// An index cannot be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// The index.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An index of shards is not as required.
    #[error("{}: {problem}", file.display())]
    Index {
        /// The index.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No tensor is the module's weight.
    #[error(
        "{}: no tensor {:?}, nor one whose name differs by a known prefix{}; --base-module names another",
        path.display(), format!("{module}.weight"), near(nearest)
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
        path.display(), tensors[0], tensors[1]
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
        file.display(), adapter.display()
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
        file.display()
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
    #[error("{}: tensor {tensor:?} lies {found}, but {asked} was asked for", file.display())]
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
    #[error("{}: whether there is a tensor {bias:?} is not known: {reason}", path.display())]
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
        "{}: config.json ties {module:?} to {embedding:?}, which the adapter replaces, but {module:?} has a weight \
         of its own: name it with --base-module to use that",
        path.display()
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
    #[error("{}: tensor {bias:?} has shape {found:?}, but {weight:?} gives {n} columns of y", file.display())]
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

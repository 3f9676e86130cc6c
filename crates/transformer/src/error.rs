/// Why a model, an adapter or a call was refused. Nothing has been computed or written then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size of the model is zero.
    #[error("the model's {what} is 0: it must be at least 1")]
    ZeroSize {
        /// Which size.
        what: &'static str,
    },
    /// Heads do not divide the width.
    #[error("{heads} heads do not divide the width d = {d}")]
    Heads {
        /// Number of heads.
        heads: usize,
        /// The model's width.
        d: usize,
    },
    /// A sequence is longer than the model's limit, or empty.
    #[error("seq_len is {seq_len}: it must be 1 to {limit}")]
    SeqLen {
        /// Tokens of a sequence.
        seq_len: usize,
        /// The most that there may be.
        limit: usize,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{tensor} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's name.
        tensor: &'static str,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What was found.
        found: Vec<usize>,
    },
    /// A word that names no choice of projections.
    #[error("unknown projections {name:?} for LoRA; known are \"all\", \"q,v\"")]
    UnknownTargets {
        /// The word.
        name: String,
    },
    /// A product or attention refused its operands.
    #[error(transparent)]
    Library(#[from] fused_lora::Error),
    /// A call has more rows than its workspace was made for.
    #[error("{rows} rows of x: the workspace was made for {limit}")]
    WorkspaceRows {
        /// Rows of x.
        rows: usize,
        /// The most that there may be.
        limit: usize,
    },
    /// The device refused something, or failed.
    #[cfg(all(feature = "cuda", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[error(transparent)]
    Cuda(#[from] fused_lora::cuda::Error),
}

/// [`Error::Shape`] unless the two are one.
pub(crate) fn expect_shape(tensor: &'static str, expected: &[usize], found: &[usize]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Shape { tensor, expected: expected.to_vec(), found: found.to_vec() })
}

/// Why a model, an adapter or a call was rejected. Nothing has been computed or written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size of the model is zero.
    #[error("the model's {0} is 0: it must be at least 1")]
    ZeroSize(&'static str),
    /// The number of heads does not divide the width.
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
        /// The largest number allowed.
        limit: usize,
    },
    /// A tensor's shape differs from the configuration's.
    #[error("{tensor} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's name.
        tensor: &'static str,
        /// The shape that the configuration requires.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A name that is no choice of projections.
    #[error("unknown projections {0:?} for LoRA; known are \"all\", \"q,v\"")]
    UnknownTargets(String),
    /// A product or attention rejected its operands.
    #[error(transparent)]
    Library(#[from] fused_lora::Error),
    /// A call has more rows than its workspace was made for.
    #[error("{rows} rows of x: the workspace was made for {limit}")]
    WorkspaceRows {
        /// Rows of x.
        rows: usize,
        /// The largest number allowed.
        limit: usize,
    },
    /// A call on the device was rejected, or failed.
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

//! Why the driver's library is not loaded.

/// Why there is no CUDA driver to call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The dynamic loader did not find the library, or found one that it cannot open.
    #[error("cannot load the CUDA driver's library `{library}`: {reason}")]
    Open {
        /// Name or path as given to the dynamic loader.
        library: String,
        /// The dynamic loader's message (`dlerror`).
        reason: String,
    },
    /// The crate has no trampolines for this operating system or processor.
    #[error("the CUDA driver is supported on Linux with x86-64 or aarch64 alone")]
    UnsupportedTarget,
}

//! The trampolines, and the library behind them.

#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
mod arch;
mod fallback;
mod functions;
mod library;
mod trampolines;

use crate::LoadError;

pub(crate) fn load() -> Result<(), LoadError> {
    library::library().map(|_| ()).map_err(Clone::clone)
}

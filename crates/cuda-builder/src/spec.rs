//! What is demanded of a kernel.

use crate::LaunchBounds;

/// One row of the table of kernels: how an entry is launched, and what its code must keep to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSpec {
    /// Its name, and how it is launched.
    pub bounds: LaunchBounds,
    /// Registers that a thread may have.
    pub max_registers: u32,
    /// Dynamic shared memory, in bytes: ptxas does not know it.
    pub dynamic_shared: u32,
    /// Whether it multiplies matrices, so that its code must have `HMMA`.
    pub product: bool,
    /// Whether all its operands are aligned, so that its main loops must load 16 bytes at a time.
    pub aligned: bool,
    /// An instruction that its code must have, by parts of the mnemonic: `LDG 128` is in `LDG.E.128`. Empty for none.
    pub machine_code: String,
}

impl KernelSpec {
    /// The entry's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.bounds.entry
    }
}

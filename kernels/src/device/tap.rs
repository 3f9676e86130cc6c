//! A place where tests reach into a kernel.

/// `value`, unless the strict machine was told to change the value of this name: that is how a fault is
/// seeded in arithmetic (an instruction is broken where the machine executes it). Compiles to nothing.
#[inline(always)]
#[must_use]
pub fn tap(name: &'static str, value: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let _ = name;
        value
    }
    #[cfg(not(target_arch = "nvptx64"))]
    simt::ops::tap(name, value)
}

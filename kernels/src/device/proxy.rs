//! Fences between the generic proxy, through which threads load and store, and the async proxy, through which
//! the copy engine and `wgmma` do. PTX ISA, "membar, fence", "Proxies".

use core::arch::asm;

use super::instruction::instructions;

instructions! {
    /// `fence.proxy.async.shared::cta`: orders generic accesses to shared memory before it before those of
    /// the async proxy that come after it.
    ///
    /// # Safety
    ///
    /// None of its own.
    pub unsafe fn fence_proxy_async_shared() {
        asm!("fence.proxy.async.shared::cta;", options(nostack))
    }

    /// `fence.proxy.async.global`: the same for global memory.
    ///
    /// # Safety
    ///
    /// None of its own.
    pub unsafe fn fence_proxy_async_global() {
        asm!("fence.proxy.async.global;", options(nostack))
    }
}

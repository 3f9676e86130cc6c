//! Asynchronous copies from global to shared memory. PTX ISA, "cp.async".

use core::arch::asm;

use super::{SharedAddr, instruction::instructions};
use crate::Global;

instructions! {
    /// `cp.async.cg.shared.global [to], [from], 16, bytes`: starts copying `bytes` (0 to 16) to shared memory
    /// and fills up to 16 with zeros. Goes through L2 alone, so that it never reads a stale line of L1.
    ///
    /// # Safety
    ///
    /// `to` and, if `bytes` is not 0, `from` are multiples of 16; `bytes` are readable there, 16 writable at
    /// `to`; nobody touches them until this thread has waited for the group, and others until they are
    /// ordered after that wait.
    pub unsafe fn cp_async_16(to: SharedAddr, from: Global<u16>, bytes: u32) {
        asm!("cp.async.cg.shared.global [{0}], [{1}], 16, {2};",
            in(reg32) to.address(), in(reg64) from.address(), in(reg32) bytes, options(nostack))
    }

    /// `cp.async.commit_group`: what this thread started since the last one becomes a group; the group may be
    /// empty.
    ///
    /// # Safety
    ///
    /// None beyond that of the copies.
    pub unsafe fn cp_async_commit_group() {
        asm!("cp.async.commit_group;", options(nostack))
    }

    /// `cp.async.wait_group PENDING`: waits until at most the newest PENDING groups of this thread are under
    /// way. Orders the copies before what *this thread* does next; other threads need a barrier after it.
    ///
    /// # Safety
    ///
    /// None beyond that of the copies.
    pub unsafe fn cp_async_wait_group<const PENDING: u32>() {
        asm!("cp.async.wait_group {0};", const PENDING, options(nostack))
    }
}

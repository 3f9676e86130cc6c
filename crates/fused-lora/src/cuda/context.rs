//! Which context is current.

use std::marker::PhantomData;

use super::{
    driver::{
        self,
        types::{CUcontext, CUdevice},
    },
    error::Error,
};

/// A reference to a device's primary context.
pub(super) struct PrimaryContext {
    device: CUdevice,
    context: CUcontext,
}

impl PrimaryContext {
    /// Creates the context, unless CUDA's runtime or other code has created it.
    pub(super) fn retain(device: CUdevice) -> Result<Self, Error> {
        let mut context = CUcontext::NULL;
        // SAFETY: `context` is writable.
        unsafe { driver::primary_ctx_retain(&mut context, device)? };
        Ok(Self { device, context })
    }

    /// Makes it the calling thread's current context until the guard is dropped, which restores the previous
    /// one.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Error> {
        // SAFETY: the context is retained.
        unsafe { driver::ctx_push_current(self.context)? };
        Ok(Entered { context: PhantomData })
    }
}

impl Drop for PrimaryContext {
    fn drop(&mut self) {
        // SAFETY: retained once, released once. Nobody is there to hear of a failure.
        let _ = unsafe { driver::primary_ctx_release(self.device) };
    }
}

/// While it lives, a device's context is the current one of its thread.
pub(super) struct Entered<'a> {
    /// Not `Send`: a thread's stack of contexts is its own.
    context: PhantomData<(&'a PrimaryContext, *const ())>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = CUcontext::NULL;
        // SAFETY: pops what `enter` pushed; guards are dropped in the reverse order of their making.
        let _ = unsafe { driver::ctx_pop_current(&mut popped) };
    }
}

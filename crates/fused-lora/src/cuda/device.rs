use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use cust::sys::{CUcontext, CUdevice, CUstream};
use fused_lora_kernels::table::{Kernel, Target};

use super::{
    driver::{self, call},
    error::Error,
    gpu::Gpu,
    module::Module,
    properties::{Properties, handle},
    stream,
};

/// The first compute capability with `cp.async` and `mma.sync.m16n8k16`.
const FIRST_CAPABILITY: (u32, u32) = (8, 0);

/// A GPU that can run the kernels: its primary context, and the kernels loaded into it.
///
/// Clones, and what is opened again while one is alive, share them. The primary context is the one that
/// CUDA's runtime, and with it PyTorch, uses, so their memory and streams can be passed to this library.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

// SAFETY: the stream's handle is the driver's, which may be called from any thread.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

struct Inner {
    module: Module,
    /// For copies that are waited for.
    transfers: CUstream,
    context: PrimaryContext,
}

impl Device {
    /// How many devices the driver shows this process, at least 1.
    ///
    /// # Errors
    ///
    /// [`Error::NoDriver`], [`Error::NoDevice`], and [`Error::Driver`] for a driver that does not start.
    pub fn count() -> Result<u32, Error> {
        driver::initialise()?;
        let mut count = 0;
        // SAFETY: `count` is writable.
        unsafe { call!(cuDeviceGetCount(&mut count))? };
        match u32::try_from(count) {
            Ok(0) | Err(_) => Err(Error::NoDevice),
            Ok(count) => Ok(count),
        }
    }

    /// What the driver says of each of them, also of those that cannot run the kernels. Never empty.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub fn list() -> Result<Vec<Properties>, Error> {
        (0..Self::count()?).map(Properties::query).collect()
    }

    /// Opens device number `ordinal` and loads the kernels, unless it is open. The driver compiles them for
    /// the device, which takes some seconds the first time; it keeps the result on disk.
    ///
    /// # Errors
    ///
    /// Those of [`count`](Self::count), [`Error::BadOrdinal`], [`Error::Unsupported`] for a compute
    /// capability below 8.0, [`Error::DriverTooOld`], and [`Error::Module`] if the driver's compiler fails.
    pub fn open(ordinal: u32) -> Result<Self, Error> {
        static OPEN: OnceLock<Mutex<HashMap<u32, Weak<Inner>>>> = OnceLock::new();
        // Held while the kernels are loaded, so that two threads do not both do it. A thread that panicked
        // left the map as it was.
        let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = open.get(&ordinal).and_then(Weak::upgrade) {
            return Ok(Self { inner });
        }
        let inner = Arc::new(Inner::new(ordinal)?);
        open.insert(ordinal, Arc::downgrade(&inner));
        Ok(Self { inner })
    }

    /// Its number.
    pub fn ordinal(&self) -> u32 {
        self.properties().ordinal
    }

    /// What the driver says of it.
    pub fn properties(&self) -> &Properties {
        self.gpu().properties()
    }

    /// What the newest of its kernels are compiled for. On compute capability 9.0 [`Target::Sm80`] means slower kernels;
    /// [`without_sm90a`](Self::without_sm90a) says why.
    pub fn target(&self) -> Target {
        self.gpu().target()
    }

    /// Why the kernels for compute capability 9.0 are not used, where the device is one of that and the driver new
    /// enough, but would not load them. Those for 8.0 serve then.
    pub fn without_sm90a(&self) -> Option<&Error> {
        self.module().without_sm90a()
    }

    /// Device memory that is free now, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn free_memory(&self) -> Result<usize, Error> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are writable.
        unsafe { call!(cuMemGetInfo_v2(&mut free, &mut total))? };
        Ok(free)
    }

    /// Waits until all work on the device that this process has queued is done. Not while a stream of it is
    /// in capture.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], that of a kernel that failed among them.
    pub fn synchronize(&self) -> Result<(), Error> {
        let _entered = self.enter()?;
        // SAFETY: a context is current.
        unsafe { call!(cuCtxSynchronize()) }
    }

    /// How many CTAs of a kernel an SM of this device holds at a time, as registers and shared memory allow.
    /// 0 if it cannot run it.
    pub fn resident(&self, kernel: &Kernel) -> u32 {
        self.gpu().resident(kernel)
    }

    /// As a plan sees it.
    pub fn gpu(&self) -> &Gpu {
        self.module().gpu()
    }

    /// A stream for copies that are waited for. Nothing else is in it: the default stream would wait for
    /// others, and could not be used while one of them is in capture.
    pub(super) fn transfers(&self) -> CUstream {
        self.inner.transfers
    }

    pub(super) fn module(&self) -> &Module {
        &self.inner.module
    }

    /// Makes the device's context the calling thread's, until the guard is dropped. What was current is so
    /// again then.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Error> {
        self.inner.context.enter()
    }

    /// Whether `found`, where something is, is this device.
    pub(super) fn require(&self, what: &'static str, found: u32) -> Result<(), Error> {
        let expected = self.ordinal();
        if expected == found { Ok(()) } else { Err(Error::OtherDevice { what, expected, found }) }
    }
}

impl Inner {
    fn new(ordinal: u32) -> Result<Self, Error> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(Error::BadOrdinal { ordinal, count });
        }
        let properties = Properties::query(ordinal)?;
        if properties.compute_capability < FIRST_CAPABILITY {
            return Err(Error::Unsupported { name: properties.name, found: properties.compute_capability });
        }
        let context = PrimaryContext::retain(handle(ordinal)?)?;
        let (module, transfers) = {
            let _entered = context.enter()?;
            let module = Module::load(properties)?;
            (module, stream::create()?)
        };
        Ok(Self { module, transfers, context })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            self.module.unload();
            // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
            let _ = unsafe { call!(cuStreamDestroy_v2(self.transfers)) };
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(self.properties()).finish()
    }
}

/// A reference to a device's primary context.
struct PrimaryContext {
    device: CUdevice,
    context: CUcontext,
}

// SAFETY: the handles are the driver's, which may be called from any thread.
unsafe impl Send for PrimaryContext {}
// SAFETY: as above.
unsafe impl Sync for PrimaryContext {}

impl PrimaryContext {
    fn retain(device: CUdevice) -> Result<Self, Error> {
        let mut context = std::ptr::null_mut();
        // SAFETY: `context` is writable.
        unsafe { call!(cuDevicePrimaryCtxRetain(&mut context, device))? };
        Ok(Self { device, context })
    }

    fn enter(&self) -> Result<Entered<'_>, Error> {
        // SAFETY: the context is retained.
        unsafe { call!(cuCtxPushCurrent_v2(self.context))? };
        Ok(Entered { context: PhantomData })
    }
}

impl Drop for PrimaryContext {
    fn drop(&mut self) {
        // SAFETY: retained once, released once. Nobody is there to hear of a failure.
        let _ = unsafe { call!(cuDevicePrimaryCtxRelease_v2(self.device)) };
    }
}

/// While it lives, a device's context is the current one of its thread.
pub(super) struct Entered<'a> {
    /// Not `Send`: a thread's stack of contexts is its own.
    context: PhantomData<(&'a PrimaryContext, *const ())>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what `enter` pushed; guards are dropped in the reverse order of their making.
        let _ = unsafe { call!(cuCtxPopCurrent_v2(&mut popped)) };
    }
}

use std::{
    collections::HashMap,
    ffi::c_char,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use fused_lora_kernels::table::{Kernel, Target};

use super::{
    context::{Entered, PrimaryContext},
    driver::{
        self,
        types::{CUdevice, CUstream, STREAM_NON_BLOCKING, attribute},
    },
    error::Error,
    module::Module,
};
use crate::plan::{Gpu, Properties, place::Place};

/// The first compute capability with `cp.async` and `mma.sync.m16n8k16`.
const FIRST_CAPABILITY: (u32, u32) = (8, 0);

/// A GPU that can run the kernels: its primary context, and the kernels loaded into it.
///
/// Clones share them, and so does a device that is opened again while one is alive. CUDA's runtime, and with
/// it PyTorch, uses the same primary context, so their memory and streams can be passed to this library.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

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
        unsafe { driver::device_get_count(&mut count)? };
        match u32::try_from(count) {
            Ok(0) | Err(_) => Err(Error::NoDevice),
            Ok(count) => Ok(count),
        }
    }

    /// The properties of each device that the driver shows this process, also of those that cannot run the
    /// kernels. Never empty.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub fn list() -> Result<Vec<Properties>, Error> {
        (0..Self::count()?).map(query).collect()
    }

    /// Opens device number `ordinal` and loads the kernels, unless it is open. The driver compiles them for
    /// the device, which takes some seconds the first time; it keeps the result on disk.
    ///
    /// # Errors
    ///
    /// The errors of [`count`](Self::count), [`Error::BadOrdinal`], [`Error::Unsupported`] for a compute
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

    /// The device's number.
    pub fn ordinal(&self) -> u32 {
        self.properties().ordinal
    }

    /// The device's properties, as the driver reports them.
    pub fn properties(&self) -> &Properties {
        self.gpu().properties()
    }

    /// The target of the newest kernels that it runs. On compute capability 9.0 [`Target::Sm80`] means slower
    /// kernels; [`without_sm90a`](Self::without_sm90a) says why.
    pub fn target(&self) -> Target {
        self.gpu().target()
    }

    /// Why the kernels for compute capability 9.0 are not used, if the device has that capability and the
    /// driver is new enough, but could not load them. The kernels for 8.0 are then used.
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
        unsafe { driver::mem_get_info(&mut free, &mut total)? };
        Ok(free)
    }

    /// Waits until all work that this process has queued on the device is done. Not allowed while a stream of
    /// the device is in capture.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], also if a kernel has failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        let _entered = self.enter()?;
        // SAFETY: a context is current.
        unsafe { driver::ctx_synchronize() }
    }

    /// How many CTAs of a kernel fit on an SM of this device at a time, given registers and shared memory. 0
    /// if the device cannot run the kernel.
    pub fn resident(&self, kernel: &Kernel) -> u32 {
        self.gpu().resident(kernel)
    }

    /// The GPU as plans use it.
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

    /// Makes the device's context the calling thread's current one until the guard is dropped, which restores
    /// the previous one.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Error> {
        self.inner.context.enter()
    }

    /// A new stream that has nothing to do with the default stream; whoever asks for it destroys it.
    pub(super) fn create_stream(&self) -> Result<CUstream, Error> {
        let _entered = self.enter()?;
        create_stream()
    }

    /// Whether `found`, where something is, is this device.
    pub(super) fn require(&self, what: &'static str, found: u32) -> Result<(), Error> {
        let expected = self.ordinal();
        if expected == found { Ok(()) } else { Err(Error::OtherDevice { what, expected, found }) }
    }

    /// The same check for matrices whose device is known.
    pub(super) fn require_all(
        &self,
        matrices: impl IntoIterator<Item = (&'static str, Place)>,
    ) -> Result<(), Error> {
        matrices
            .into_iter()
            .try_for_each(|(what, place)| place.device.map_or(Ok(()), |ordinal| self.require(what, ordinal)))
    }
}

impl Inner {
    fn new(ordinal: u32) -> Result<Self, Error> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(Error::BadOrdinal { ordinal, count });
        }
        let properties = query(ordinal)?;
        if properties.compute_capability < FIRST_CAPABILITY {
            return Err(Error::Unsupported { name: properties.name, found: properties.compute_capability });
        }
        let context = PrimaryContext::retain(handle(ordinal)?)?;
        let (module, transfers) = {
            let _entered = context.enter()?;
            let module = Module::load(properties)?;
            (module, create_stream()?)
        };
        Ok(Self { module, transfers, context })
    }
}

/// What the driver says of device number `ordinal`, which exists. Makes no context.
fn query(ordinal: u32) -> Result<Properties, Error> {
    let driver_version = driver::initialise()?;
    let device = handle(ordinal)?;
    let mut name = [0u8; 256];
    let mut uuid = [0; 16];
    let mut memory_bytes = 0;
    // SAFETY: all pointers are to writable locals; the driver writes at most `name.len()` bytes, a NUL
    // among them.
    unsafe {
        driver::device_get_name(name.as_mut_ptr().cast::<c_char>(), name.len() as i32, device)?;
        driver::device_get_uuid(&mut uuid, device)?;
        driver::device_total_mem(&mut memory_bytes, device)?;
    }
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let ask = |attribute| attribute_of(device, attribute);
    Ok(Properties {
        ordinal,
        name: String::from_utf8_lossy(name).into_owned(),
        uuid,
        compute_capability: (
            ask(attribute::COMPUTE_CAPABILITY_MAJOR)?,
            ask(attribute::COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: ask(attribute::MULTIPROCESSOR_COUNT)?,
        shared_bytes_per_cta: ask(attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        shared_bytes_per_sm: ask(attribute::MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?,
        registers_per_sm: ask(attribute::MAX_REGISTERS_PER_MULTIPROCESSOR)?,
        threads_per_sm: ask(attribute::MAX_THREADS_PER_MULTIPROCESSOR)?,
        memory_bytes: memory_bytes as u64,
        l2_bytes: ask(attribute::L2_CACHE_SIZE)?,
        clock_khz: ask(attribute::CLOCK_RATE)?,
        memory_clock_khz: ask(attribute::MEMORY_CLOCK_RATE)?,
        memory_bus_bits: ask(attribute::GLOBAL_MEMORY_BUS_WIDTH)?,
        driver_version,
    })
}

/// The driver's handle of a device.
pub(crate) fn handle(ordinal: u32) -> Result<CUdevice, Error> {
    let mut device = 0;
    let number = i32::try_from(ordinal).unwrap_or(i32::MAX);
    // SAFETY: `device` is writable.
    unsafe { driver::device_get(&mut device, number)? };
    Ok(device)
}

fn attribute_of(device: CUdevice, attribute: u32) -> Result<u32, Error> {
    let mut value = 0;
    // SAFETY: `value` is writable.
    unsafe { driver::device_get_attribute(&mut value, attribute, device)? };
    Ok(u32::try_from(value).unwrap_or(0))
}

/// A stream of the current context that has nothing to do with the default stream.
fn create_stream() -> Result<CUstream, Error> {
    let mut stream = CUstream::NULL;
    // SAFETY: `stream` is writable, and the caller has entered a context.
    unsafe { driver::stream_create(&mut stream, STREAM_NON_BLOCKING)? };
    Ok(stream)
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            self.module.unload();
            // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
            let _ = unsafe { driver::stream_destroy(self.transfers) };
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.ordinal()).finish()
    }
}

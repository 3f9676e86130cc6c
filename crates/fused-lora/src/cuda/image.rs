//! PTX, as the driver has compiled it, and its entries.

use std::ffi::{CStr, CString, c_void};

use fused_lora_kernels::{layer_table::LayerKernel, table::Kernel};

use super::{
    driver::{
        self,
        structures::{LaunchAttribute, LaunchConfig},
        types::{
            CUfunction, CUmodule, CUstream, JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            MAX_DYNAMIC_SHARED_SIZE_BYTES, result,
        },
    },
    error::Error,
};
use crate::plan::{
    Properties,
    clusters::{CLUSTER_SIZES, has_clusters},
    gpu::{Entry, Occupancy},
};

/// Bytes for what the driver's compiler has to say.
const LOG_BYTES: usize = 8192;

/// PTX that the driver has compiled, unloaded when it is dropped.
pub(super) struct Image(CUmodule);

/// Entries of an image.
pub(super) type Functions = Vec<(CUfunction, Entry)>;

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once, in the same context. Nobody is there to hear of a failure.
        let _ = unsafe { driver::module_unload(self.0) };
    }
}

/// Loads PTX and looks up all of `kernels` in it.
pub(super) fn load(
    text: &str,
    kernels: &'static [Kernel],
    properties: &Properties,
) -> Result<(Image, Functions), Error> {
    let needed = first_cuda_version(text);
    if properties.driver_version < needed {
        return Err(Error::DriverTooOld { found: properties.driver_version, needed });
    }
    let text = CString::new(text).map_err(|_| Error::Module { log: "the PTX has a NUL in it".into() })?;
    let image = Image(load_image(&text, needed, properties)?);
    let functions =
        kernels.iter().map(|kernel| image.function(kernel, properties)).collect::<Result<_, _>>()?;
    Ok((image, functions))
}

impl Image {
    /// An entry by name.
    fn find(&self, name: &str) -> Result<CUfunction, Error> {
        let missing = || Error::Module { log: format!("it has no entry {name}") };
        let name = CString::new(name).map_err(|_| missing())?;
        let mut function = CUfunction::NULL;
        // SAFETY: the module is loaded, the name a C string, `function` writable.
        unsafe { driver::module_get_function(&mut function, self.0, name.as_ptr()) }
            .map_err(|_| missing())?;
        Ok(function)
    }

    /// The entry of LayerNorm or attention, with the shared memory that it needs, where the device has so
    /// much.
    pub(super) fn layer_function(
        &self,
        kernel: &LayerKernel,
        properties: &Properties,
    ) -> Result<CUfunction, Error> {
        let function = self.find(kernel.name)?;
        if kernel.shared_bytes <= properties.shared_bytes_per_cta {
            // SAFETY: the function is this module's.
            unsafe { ask_for_shared(function, kernel.shared_bytes)? };
        }
        Ok(function)
    }

    /// A kernel's entry, and how much of it the device holds.
    fn function(
        &self,
        kernel: &'static Kernel,
        properties: &Properties,
    ) -> Result<(CUfunction, Entry), Error> {
        let function = self.find(kernel.name)?;
        let mut occupancy = Occupancy::default();
        if kernel.shared_bytes <= properties.shared_bytes_per_cta {
            // SAFETY: the function is this module's, and the kernel's.
            occupancy = unsafe { occupancy_of(function, kernel, properties)? };
        }
        Ok((function, Entry { kernel, occupancy }))
    }
}

/// Asks for dynamic shared memory.
///
/// # Safety
///
/// The function is of a module of the current context.
unsafe fn ask_for_shared(function: CUfunction, bytes: u32) -> Result<(), Error> {
    // SAFETY: the caller's contract.
    unsafe { driver::func_set_attribute(function, MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes as i32) }
}

/// Asks for a kernel's shared memory, and how much of it the device holds then.
///
/// # Safety
///
/// The function is the kernel's, of a module of the current context.
unsafe fn occupancy_of(
    function: CUfunction,
    kernel: &Kernel,
    properties: &Properties,
) -> Result<Occupancy, Error> {
    let mut resident = 0;
    // SAFETY: the caller's contract; `resident` is writable.
    unsafe {
        ask_for_shared(function, kernel.shared_bytes)?;
        driver::max_active_blocks(
            &mut resident,
            function,
            kernel.threads as i32,
            kernel.shared_bytes as usize,
        )?;
    }
    let mut occupancy = Occupancy::without_clusters(u32::try_from(resident).unwrap_or(0), properties);
    if has_clusters(kernel) {
        for (size, clusters) in CLUSTER_SIZES.iter().zip(&mut occupancy.clusters).skip(1) {
            let attributes = [LaunchAttribute::cluster(*size)];
            let (threads, shared_bytes) = (kernel.threads, kernel.shared_bytes);
            let config = LaunchConfig::new(*size, threads, shared_bytes, CUstream::NULL, &attributes);
            let mut found = 0;
            // SAFETY: the caller's contract; `found` is writable, and the attributes are alive.
            let asked = unsafe { driver::max_active_clusters(&mut found, function, &config) };
            // A size that the driver refuses is one of which the device holds none.
            *clusters = asked.map_or(0, |()| u32::try_from(found).unwrap_or(0));
        }
    }
    Ok(occupancy)
}

fn load_image(image: &CStr, needed: (u32, u32), properties: &Properties) -> Result<CUmodule, Error> {
    let mut module = CUmodule::NULL;
    let mut log = vec![0u8; LOG_BYTES];
    let mut options = [JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // Values, not pointers to them: that is how this function takes its options.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), LOG_BYTES as *mut c_void];
    // SAFETY: a context is current; the image is a C string; options and values are two each, and the log has
    // the size given.
    let loaded = unsafe {
        driver::module_load_data_ex(
            &mut module,
            image.as_ptr().cast::<c_void>(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    match loaded {
        Ok(()) => Ok(module),
        Err(Error::Driver { code: result::UNSUPPORTED_PTX_VERSION, .. }) => {
            Err(Error::DriverTooOld { found: properties.driver_version, needed })
        }
        Err(error) => {
            let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
            let said = String::from_utf8_lossy(said);
            let log =
                if said.trim().is_empty() { error.to_string() } else { format!("{error}: {}", said.trim()) };
            Err(Error::Module { log })
        }
    }
}

/// The first CUDA version whose driver takes this PTX, by its `.version` (*PTX ISA*, Release Notes): 7.x came
/// with CUDA 11.x, 8.x with 12.x, 9.x with 13.x.
fn first_cuda_version(ptx: &str) -> (u32, u32) {
    let version = ptx.lines().find_map(|line| line.trim().strip_prefix(".version"));
    let parsed = version.and_then(|version| {
        let (major, minor) = version.trim().split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    match parsed {
        Some((major, minor)) if major >= 7 => (major + 4, minor),
        // `cp.async` and `mma.m16n8k16` are of PTX ISA 7.0.
        _ => (11, 0),
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_kernels::ptx;

    use super::*;

    #[test]
    fn the_needed_driver_follows_from_the_ptx() {
        for (ptx, version) in [
            ("//\n.version 7.0\n.target sm_80\n", (11, 0)),
            (".version 7.8", (11, 8)),
            ("  .version 8.5  \r\n", (12, 5)),
            (".version 9.0", (13, 0)),
            (".version 6.5", (11, 0)),
            (".version seven", (11, 0)),
            ("", (11, 0)),
        ] {
            assert_eq!(first_cuda_version(ptx), version, "{ptx:?}");
        }
        assert_eq!(first_cuda_version(ptx::SM90A), (12, 0));
    }
}

//! The kernels, as the driver has loaded them.

use std::ffi::{CStr, CString, c_void};

use cust::sys::{CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUstream};
use fused_lora_kernels::{
    params::Params,
    ptx,
    table::{KERNELS, Kernel},
};

use super::{
    driver::{call, result},
    error::Error,
    plan::Launch,
    properties::Properties,
};

/// Bytes for what the driver's compiler has to say.
const LOG_BYTES: usize = 8192;

pub(super) struct Module {
    module: CUmodule,
    /// The entries, one for each of [`KERNELS`].
    functions: Vec<CUfunction>,
    /// For each of them, how many of its CTAs an SM holds at a time.
    resident: Vec<u32>,
}

// SAFETY: the handles are the driver's, which may be called from any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Loads the kernels into the current context, looks up every entry, and asks for the shared memory it
    /// needs.
    ///
    /// There is one image: PTX for compute capability 8.0, which the driver compiles for whatever is there.
    pub(super) fn load(properties: &Properties) -> Result<Self, Error> {
        let needed = first_cuda_version(ptx::SM80);
        if properties.driver_version < needed {
            return Err(Error::DriverTooOld { found: properties.driver_version, needed });
        }
        let image =
            CString::new(ptx::SM80).map_err(|_| Error::Module { log: "the PTX has a NUL in it".into() })?;
        let module = load_image(&image, needed, properties)?;
        let mut module = Self { module, functions: Vec::new(), resident: Vec::new() };
        for kernel in KERNELS {
            match module.function(kernel, properties) {
                Ok((function, resident)) => {
                    module.functions.push(function);
                    module.resident.push(resident);
                }
                Err(error) => {
                    module.unload();
                    return Err(error);
                }
            }
        }
        Ok(module)
    }

    /// A kernel's entry, and how many of its CTAs an SM holds.
    fn function(&self, kernel: &Kernel, properties: &Properties) -> Result<(CUfunction, u32), Error> {
        let missing = || Error::Module { log: format!("it has no entry {}", kernel.name) };
        let name = CString::new(kernel.name).map_err(|_| missing())?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is loaded, the name a C string, `function` writable.
        unsafe { call!(cuModuleGetFunction(&mut function, self.module, name.as_ptr())) }
            .map_err(|_| missing())?;
        if kernel.shared_bytes > properties.shared_bytes_per_cta {
            return Ok((function, 0));
        }
        let mut resident = 0;
        // SAFETY: the function is the module's, `resident` writable.
        unsafe {
            call!(cuFuncSetAttribute(
                function,
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                kernel.shared_bytes as i32,
            ))?;
            call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &mut resident,
                function,
                kernel.threads as i32,
                kernel.shared_bytes as usize,
            ))?;
        }
        Ok((function, u32::try_from(resident).unwrap_or(0)))
    }

    /// For each of [`KERNELS`], how many of its CTAs an SM holds at a time; 0 where it does not fit.
    pub(super) fn resident(&self) -> &[u32] {
        &self.resident
    }

    /// Queues a launch on `stream` and returns at once.
    ///
    /// # Safety
    ///
    /// The module's context is current. The stream is of it. The operands are as [`Params`] says for the
    /// launch's kernel, until the launch is over; no other launch uses the same workspace at the same time.
    pub(super) unsafe fn launch(
        &self,
        launch: &Launch,
        params: &Params,
        stream: CUstream,
    ) -> Result<(), Error> {
        let kernel = launch.kernel;
        // The driver copies what the pointer points to before it returns, and does not write to it.
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast::<c_void>()];
        // SAFETY: the entry is the kernel's: plans number kernels as `load` did. It takes one argument, a
        // `Params` of the same layout; the rest is the caller's contract.
        unsafe {
            call!(cuLaunchKernel(
                self.functions[launch.index],
                launch.grid,
                1,
                1,
                kernel.threads,
                1,
                1,
                kernel.shared_bytes,
                stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            ))
        }
    }

    /// Once, with the module's context current. Nothing can be launched afterwards.
    pub(super) fn unload(&mut self) {
        self.functions.clear();
        // SAFETY: loaded once, unloaded once. Nobody is there to hear of a failure.
        let _ = unsafe { call!(cuModuleUnload(self.module)) };
    }
}

fn load_image(image: &CStr, needed: (u32, u32), properties: &Properties) -> Result<CUmodule, Error> {
    let mut module = std::ptr::null_mut();
    let mut log = vec![0u8; LOG_BYTES];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // Values, not pointers to them: that is how this function takes its options.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), LOG_BYTES as *mut c_void];
    // SAFETY: a context is current; the image is a C string; options and values are two each, and the log has
    // the size given.
    let loaded = unsafe {
        call!(cuModuleLoadDataEx(
            &mut module,
            image.as_ptr().cast::<c_void>(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        ))
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
    }

    /// The size and alignment that the PTX gives an entry's parameter are those of the structure that is
    /// passed.
    #[test]
    fn entries_take_what_is_passed() {
        let parameter = format!(".param .align {} .b8", align_of::<Params>());
        let size = format!("[{}]", size_of::<Params>());
        for kernel in KERNELS {
            let Some((_, entry)) = ptx::SM80.split_once(&format!(".entry {}(", kernel.name)) else {
                assert!(ptx::SM80.is_empty(), "the PTX has no entry {}", kernel.name);
                continue;
            };
            let declared = entry.split(')').next().unwrap_or_default().trim();
            assert!(
                declared.starts_with(&parameter) && declared.ends_with(&size),
                "{}: {declared}",
                kernel.name
            );
        }
    }
}

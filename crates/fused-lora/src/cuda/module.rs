//! The kernels, as the driver has loaded them.

use std::ffi::{CStr, CString, c_void};

use cust::sys::{CUfunction, CUfunction_attribute, CUjit_option, CUmodule};
use fused_lora_kernels::{
    layer_table::{LAYER_KERNELS, LayerKernel},
    ptx,
    table::{KERNELS, Kernel, SM90_KERNELS, Target},
};

use super::{
    driver::{
        call,
        ext::{self, LaunchAttribute, LaunchConfig},
        result,
    },
    error::Error,
    gpu::{CLUSTER_SIZES, Entry, Gpu, Occupancy, has_clusters},
    launch::Arguments,
    plan::Launch,
    properties::Properties,
    stream::Stream,
};

/// Bytes for what the driver's compiler has to say.
const LOG_BYTES: usize = 8192;

pub(super) struct Module {
    images: Vec<Image>,
    /// The entries, one for each of the GPU's.
    functions: Vec<CUfunction>,
    /// Those of LayerNorm and attention.
    layer_functions: Vec<(&'static LayerKernel, CUfunction)>,
    gpu: Gpu,
    /// Why the kernels for compute capability 9.0 are not there, where they could have been.
    without_sm90a: Option<Error>,
}

// SAFETY: the handles are the driver's, which may be called from any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// PTX that the driver has compiled, unloaded when it is dropped.
struct Image(CUmodule);

/// Entries of an image.
type Functions = Vec<(CUfunction, Entry)>;

impl Module {
    /// Loads the kernels into the current context, looks up every entry, and asks for the shared memory it
    /// needs.
    ///
    /// There is PTX for compute capability 8.0, which the driver compiles for whatever is there; and on 9.0 that for its
    /// own instructions. If the driver does not take the latter, the former serve.
    pub(super) fn load(properties: Properties) -> Result<Self, Error> {
        let (image, mut entries) = load(ptx::SM80, KERNELS, &properties)?;
        let layer_functions = LAYER_KERNELS
            .iter()
            .map(|kernel| Ok((kernel, image.layer_function(kernel, &properties)?)))
            .collect::<Result<_, Error>>()?;
        let mut images = vec![image];
        let mut without_sm90a = None;
        if properties.target() == Target::Sm90a {
            match load(ptx::SM90A, SM90_KERNELS, &properties) {
                Ok((image, more)) => {
                    images.push(image);
                    entries.extend(more);
                }
                Err(error) => without_sm90a = Some(error),
            }
        }
        let (functions, entries) = entries.into_iter().unzip();
        let gpu = Gpu::new(properties, entries);
        Ok(Self { images, functions, layer_functions, gpu, without_sm90a })
    }

    /// The device with the kernels that were loaded.
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn without_sm90a(&self) -> Option<&Error> {
        self.without_sm90a.as_ref()
    }

    /// Queues a launch on `stream` and returns at once.
    ///
    /// # Safety
    ///
    /// The module's context is current. The stream is of it. The operands are as
    /// [`Params`](fused_lora_kernels::params::Params) says for the launch's kernel, until the launch is over; no other
    /// launch uses the same workspace at the same time.
    pub(super) unsafe fn launch(
        &self,
        launch: &Launch,
        arguments: &Arguments,
        stream: &Stream,
    ) -> Result<(), Error> {
        let Launch { kernel, grid, cluster, index, .. } = *launch;
        // Plans number kernels as `load` did.
        let function = self.functions[index];
        // The driver copies what the pointer points to before it returns, and does not write to it.
        let mut parameters = [arguments.as_ptr().cast_mut()];
        match arguments {
            // SAFETY: the entry is the kernel's, and takes one argument of this layout; the rest is the caller's
            // contract.
            Arguments::Params(_) => unsafe {
                launch_plainly(function, grid, kernel.threads, kernel.shared_bytes, &mut parameters, stream)
            },
            Arguments::TensorParams(_) => {
                let all = [LaunchAttribute::cluster(cluster), LaunchAttribute::programmatic()];
                let attributes = match (cluster > 1, stream.is_programmatic()) {
                    (true, true) => &all[..],
                    (true, false) => &all[..1],
                    (false, true) => &all[1..],
                    (false, false) => &[],
                };
                let config =
                    LaunchConfig::new(grid, kernel.threads, kernel.shared_bytes, stream.raw(), attributes);
                // SAFETY: as above. Kernels of this kind wait for the one before them before they touch memory, so
                // that they may be launched programmatically.
                unsafe { ext::launch_kernel(&config, function, &mut parameters) }
            }
        }
    }

    /// Queues a launch of LayerNorm or attention on `stream` and returns at once. It begins when what is ahead of it in the
    /// stream has ended, whatever that is.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    ///
    /// # Safety
    ///
    /// The module's context is current. The stream is of it. `P` is what the kernel's
    /// [operation](fused_lora_kernels::layer_table::LayerOperation) takes, and the operands are as it says, until the launch
    /// is over.
    pub(super) unsafe fn launch_layer<P>(
        &self,
        kernel: &LayerKernel,
        grid: u32,
        params: &P,
        stream: &Stream,
    ) -> Result<(), Error> {
        let found = self.layer_functions.iter().find(|(of, _)| of.name == kernel.name);
        let Some(&(_, function)) = found else {
            return Err(Error::Module { log: format!("it has no entry {}", kernel.name) });
        };
        let mut parameters = [std::ptr::from_ref(params).cast::<c_void>().cast_mut()];
        // SAFETY: the entry is the kernel's, and takes one argument of this layout; the rest is the caller's contract.
        unsafe {
            launch_plainly(function, grid, kernel.threads, kernel.shared_bytes, &mut parameters, stream)
        }
    }

    /// Once, with the module's context current. Nothing can be launched afterwards.
    pub(super) fn unload(&mut self) {
        self.functions.clear();
        self.layer_functions.clear();
        self.images.clear();
    }
}

/// A launch without attributes, of one parameter. The driver copies what the pointer points to before it returns, and does
/// not write to it.
///
/// # Safety
///
/// The function is of a module of the current context, the stream is of that context, and the parameter is what the
/// function takes.
unsafe fn launch_plainly(
    function: CUfunction,
    grid: u32,
    threads: u32,
    shared_bytes: u32,
    parameter: &mut [*mut c_void; 1],
    stream: &Stream,
) -> Result<(), Error> {
    // SAFETY: the caller's contract.
    unsafe {
        call!(cuLaunchKernel(
            function,
            grid,
            1,
            1,
            threads,
            1,
            1,
            shared_bytes,
            stream.raw(),
            parameter.as_mut_ptr(),
            std::ptr::null_mut(),
        ))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once, in the same context. Nobody is there to hear of a failure.
        let _ = unsafe { call!(cuModuleUnload(self.0)) };
    }
}

/// Loads PTX and looks up all of `kernels` in it.
fn load(
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
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is loaded, the name a C string, `function` writable.
        unsafe { call!(cuModuleGetFunction(&mut function, self.0, name.as_ptr())) }.map_err(|_| missing())?;
        Ok(function)
    }

    /// The entry of LayerNorm or attention, with the shared memory that it needs, where the device has so much.
    fn layer_function(&self, kernel: &LayerKernel, properties: &Properties) -> Result<CUfunction, Error> {
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
    unsafe {
        call!(cuFuncSetAttribute(
            function,
            CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            bytes as i32,
        ))
    }
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
        call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &mut resident,
            function,
            kernel.threads as i32,
            kernel.shared_bytes as usize,
        ))?;
    }
    let mut occupancy = Occupancy::without_clusters(u32::try_from(resident).unwrap_or(0), properties);
    if has_clusters(kernel) {
        for (size, clusters) in CLUSTER_SIZES.iter().zip(&mut occupancy.clusters).skip(1) {
            let attributes = [LaunchAttribute::cluster(*size)];
            let config = LaunchConfig::new(
                *size,
                kernel.threads,
                kernel.shared_bytes,
                std::ptr::null_mut(),
                &attributes,
            );
            // A size that the driver refuses is one of which the device holds none.
            // SAFETY: the caller's contract; the attributes are alive.
            *clusters = unsafe { ext::max_active_clusters(function, &config) }.unwrap_or(0);
        }
    }
    Ok(occupancy)
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
    use fused_lora_kernels::{
        layer_params::{AttentionParams, LayerNormParams},
        layer_table::LayerOperation,
        params::Params,
        tensor_map::TensorParams,
    };

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
    /// passed. That of tensor maps is aligned for the copy engine.
    #[test]
    fn entries_take_what_is_passed() {
        let params = (align_of::<Params>(), size_of::<Params>());
        let tensor_params = (64, size_of::<TensorParams>());
        let of_layer = |kernel: &LayerKernel| match kernel.operation {
            LayerOperation::LayerNorm => (align_of::<LayerNormParams>(), size_of::<LayerNormParams>()),
            LayerOperation::Attention => (align_of::<AttentionParams>(), size_of::<AttentionParams>()),
        };
        let entries = KERNELS.iter().map(|kernel| (ptx::SM80, kernel.name, params));
        let entries = entries.chain(SM90_KERNELS.iter().map(|k| (ptx::SM90A, k.name, tensor_params)));
        let entries = entries.chain(LAYER_KERNELS.iter().map(|k| (ptx::SM80, k.name, of_layer(k))));
        for (text, name, (align, size)) in entries {
            let (parameter, size) = (format!(".param .align {align} .b8"), format!("[{size}]"));
            let Some((_, entry)) = text.split_once(&format!(".entry {name}(")) else {
                panic!("the PTX has no entry {name}");
            };
            let declared = entry.split(')').next().unwrap_or_default().trim();
            assert!(declared.starts_with(&parameter) && declared.ends_with(&size), "{name}: {declared}");
        }
        assert_eq!(first_cuda_version(ptx::SM90A), (12, 0));
    }
}

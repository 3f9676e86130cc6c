//! The kernels, as the driver has loaded them.

use std::{ffi::c_void, ptr};

use fused_lora_kernels::{
    layer_table::{LAYER_KERNELS, LayerKernel},
    ptx,
    table::{KERNELS, SM90_KERNELS, Target},
};

use super::{
    driver::{
        self,
        structures::{LaunchAttribute, LaunchConfig},
        types::{CUfunction, CUstream},
    },
    error::Error,
    image::{Image, load},
    launch::Arguments,
};
use crate::plan::{Gpu, Launch, Properties};

pub(super) struct Module {
    images: Vec<Image>,
    /// The entries, one for each of the GPU's.
    functions: Vec<CUfunction>,
    /// The entries of LayerNorm and attention.
    layer_functions: Vec<(&'static LayerKernel, CUfunction)>,
    gpu: Gpu,
    /// Why the kernels for compute capability 9.0 could not be loaded, if they should have been.
    without_sm90a: Option<Error>,
}

impl Module {
    /// Loads the kernels into the current context, looks up every entry, and asks for the shared memory it
    /// needs.
    ///
    /// There is PTX for compute capability 8.0, which the driver compiles for whatever is there; and on 9.0
    /// that for its own instructions. If the driver does not take the latter, the former serve.
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

    /// Queues a launch on `stream` and returns at once; a `programmatic` one may begin before the launch in
    /// front of it has ended, if its kernel knows that.
    ///
    /// # Safety
    ///
    /// The module's context is current. The stream is of it. The operands are as
    /// [`Params`](fused_lora_kernels::params::Params) says for the launch's kernel, until the launch is over;
    /// no other launch uses the same workspace at the same time.
    pub(super) unsafe fn launch(
        &self,
        launch: &Launch,
        arguments: &Arguments,
        stream: CUstream,
        programmatic: bool,
    ) -> Result<(), Error> {
        let Launch { kernel, grid, cluster, index, .. } = *launch;
        // Plans number kernels as `load` did.
        let function = self.functions[index];
        // The driver copies what the pointer points to before it returns, and does not write to it.
        let mut parameters = [arguments.as_ptr().cast_mut()];
        match arguments {
            // SAFETY: the entry is the kernel's, and takes one argument of this layout; the rest is the
            // caller's contract.
            Arguments::Params(_) => unsafe {
                launch_plainly(function, grid, kernel.threads, kernel.shared_bytes, &mut parameters, stream)
            },
            Arguments::TensorParams(_) => {
                let all = [LaunchAttribute::cluster(cluster), LaunchAttribute::programmatic()];
                let attributes = match (cluster > 1, programmatic) {
                    (true, true) => &all[..],
                    (true, false) => &all[..1],
                    (false, true) => &all[1..],
                    (false, false) => &[],
                };
                let config = LaunchConfig::new(grid, kernel.threads, kernel.shared_bytes, stream, attributes);
                // SAFETY: as above. Kernels of this kind wait for the one before them before they touch
                // memory, so that they may be launched programmatically.
                unsafe {
                    let parameters = parameters.as_mut_ptr();
                    driver::launch_kernel_ex(&config, function, parameters, ptr::null_mut())
                }
            }
        }
    }

    /// Queues a launch of LayerNorm or attention on `stream` and returns at once. It begins when what is
    /// ahead of it in the stream has ended, whatever that is.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    ///
    /// # Safety
    ///
    /// The module's context is current. The stream is of it. `P` is what the kernel's
    /// [operation](fused_lora_kernels::layer_table::LayerOperation) takes, and the operands are as it says,
    /// until the launch is over.
    pub(super) unsafe fn launch_layer<P>(
        &self,
        kernel: &LayerKernel,
        grid: u32,
        params: &P,
        stream: CUstream,
    ) -> Result<(), Error> {
        let found = self.layer_functions.iter().find(|(of, _)| of.name == kernel.name);
        let Some(&(_, function)) = found else {
            return Err(Error::Module { log: format!("it has no entry {}", kernel.name) });
        };
        let mut parameters = [ptr::from_ref(params).cast::<c_void>().cast_mut()];
        // SAFETY: the entry is the kernel's, and takes one argument of this layout; the rest is the caller's
        // contract.
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

/// A launch without attributes, of one parameter. The driver copies what the pointer points to before it
/// returns, and does not write to it.
///
/// # Safety
///
/// The function is of a module of the current context, the stream is of that context, and the parameter is
/// what the function takes.
unsafe fn launch_plainly(
    function: CUfunction,
    grid: u32,
    threads: u32,
    shared_bytes: u32,
    parameter: &mut [*mut c_void; 1],
    stream: CUstream,
) -> Result<(), Error> {
    // SAFETY: the caller's contract.
    unsafe {
        driver::launch_kernel(
            function,
            grid,
            1,
            1,
            threads,
            1,
            1,
            shared_bytes,
            stream,
            parameter.as_mut_ptr(),
            ptr::null_mut(),
        )
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
    }
}

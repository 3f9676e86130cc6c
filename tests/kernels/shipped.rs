//! The PTX that ships, on the machine.

use std::sync::OnceLock;

use fused_lora_kernels::{ptx, table::Target};
use fused_lora_simt::{Launch, ptx::Module};

/// The modules, each read once.
pub(crate) fn module(target: Target) -> &'static Module {
    static SM80: OnceLock<Module> = OnceLock::new();
    static SM90A: OnceLock<Module> = OnceLock::new();
    let (module, name, text) = match target {
        Target::Sm80 => (&SM80, "sm_80.ptx", ptx::SM80),
        Target::Sm90a => (&SM90A, "sm_90a.ptx", ptx::SM90A),
    };
    module.get_or_init(|| Module::parse(name, text).unwrap_or_else(|refused| panic!("{name}: {refused}")))
}

/// A launch of an entry with one parameter.
pub(crate) fn launch<T: Copy>(
    target: Target,
    name: &str,
    params: &T,
    [grid, threads, shared_bytes]: [u32; 3],
) -> Launch {
    let module = module(target);
    let entry = module.entry(name).unwrap_or_else(|| panic!("no entry {name}"));
    let bytes = entry.parameter_bytes() as usize;
    assert!(bytes <= size_of::<T>());
    // SAFETY: `params` is a live value of at least so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast::<u8>(), bytes) };
    module.launch(entry, bytes, grid, threads, shared_bytes)
}

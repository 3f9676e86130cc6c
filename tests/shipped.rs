//! The PTX that ships, on the strict machine.

use std::sync::LazyLock;

use fused_lora_kernels::ptx;
use fused_lora_simt::{
    Launch, Place,
    ptx::{Entry, Lines, Module},
};

use crate::functions::function_at;

/// The modules, each read once: the kernels', and those of single instructions.
static MODULES: LazyLock<[Module; 4]> = LazyLock::new(|| {
    [
        ("sm_80.ptx", ptx::SM80, include_str!("../kernels/ptx/sm_80.lines")),
        ("sm_90a.ptx", ptx::SM90A, include_str!("../kernels/ptx/sm_90a.lines")),
        (
            "sm_80_instructions.ptx",
            ptx::SM80_INSTRUCTIONS,
            include_str!("../kernels/ptx/sm_80_instructions.lines"),
        ),
        (
            "sm_90a_instructions.ptx",
            ptx::SM90A_INSTRUCTIONS,
            include_str!("../kernels/ptx/sm_90a_instructions.lines"),
        ),
    ]
    .map(|(name, text, lines)| {
        let lines = Lines::parse(lines).unwrap_or_else(|line| panic!("line {line} of the lines of {name}"));
        let module = Module::parse(name, text).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        module.with_lines(lines, speaks_for_its_caller)
    })
});

/// An entry, and its module.
pub fn entry(name: &str) -> (&'static Module, &'static Entry) {
    let find = |module: &'static Module| Some((module, module.entry(name)?));
    MODULES.iter().find_map(find).unwrap_or_else(|| panic!("no entry {name}"))
}

/// A launch of an entry with one parameter, of so many CTAs, threads of each, and bytes of shared memory.
pub fn launch<T: Copy>(name: &str, params: &T, [grid, threads, shared_bytes]: [u32; 3]) -> Launch {
    let (module, entry) = entry(name);
    let bytes = entry.parameter_bytes() as usize;
    assert!(bytes <= size_of::<T>(), "{name} takes {bytes} bytes");
    // SAFETY: `params` is a live value of at least so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast::<u8>(), bytes) };
    module.launch(entry, bytes, grid, threads, shared_bytes)
}

/// Whether a place is in the standard library, among the wrappers of instructions in `src/device`, or in
/// another function of the kernels that is marked `#[track_caller]`: reports and faults name where it is
/// called.
fn speaks_for_its_caller(place: &Place) -> bool {
    place.file.starts_with("library/")
        || place.file.contains("/src/device/")
        || function_at(place.file, place.line).is_some_and(|function| function.is_tracked)
}

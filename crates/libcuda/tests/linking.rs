//! What the linker made of a binary with `cust` and the trampolines: this one.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

#[path = "../src/driver/functions.rs"]
mod functions;

use std::collections::HashSet;

use cust::sys;
use functions::for_each_driver_function;
use fused_lora_libcuda as _;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol, SymbolScope};

/// What the driver has and `cust_raw` does not declare. Nobody calls it here.
mod newer {
    unsafe extern "C" {
        pub(super) fn cuLaunchKernelEx();
        pub(super) fn cuOccupancyMaxActiveClusters();
        pub(super) fn cuTensorMapEncodeTiled();
    }
}

macro_rules! addresses {
    ($($name:ident)*) => {{
        // A name of both would be ambiguous.
        use {newer::*, sys::*};
        vec![$((stringify!($name), $name as *const ())),*]
    }};
}

/// Each name that has a trampoline is a function of `cust_raw`, or one of the newer ones, and its own.
#[test]
fn every_function_here_is_declared_once() {
    let functions = for_each_driver_function!(addresses);
    let distinct: HashSet<_> = functions.iter().map(|(_, address)| address).collect();
    assert_eq!(distinct.len(), functions.len());
    assert_eq!(functions.len(), 353 + 3);
}

#[test]
fn a_binary_neither_needs_nor_exports_nor_imports_the_driver() {
    // Without a call the question would be easy.
    assert_ne!(sys::cuInit as *const (), std::ptr::null());
    let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = ElfFile64::<Endianness>::parse(&*binary).unwrap();

    // For ELF these are the dynamic section's DT_NEEDED entries.
    let libraries = elf.import_libraries().unwrap().map(|library| library.unwrap().name());
    let needed: Vec<_> = libraries.map(String::from_utf8_lossy).collect();
    assert!(needed.iter().any(|library| library.starts_with("libc.so")), "the reader works: {needed:?}");
    assert!(!needed.iter().any(|library| library.contains("cuda")), "{needed:?}");

    let trampoline = |name: &str| name.starts_with("cu") && name[2..].starts_with(char::is_uppercase);
    let defined: Vec<_> = elf.symbols().filter(|symbol| symbol.name().is_ok_and(trampoline)).collect();
    assert!(defined.len() >= 353 + 3, "the reader works: {}", defined.len());
    // Hidden, or made local by the linker for that. It keeps them out of a cdylib's exports too.
    assert!(defined.iter().all(|symbol| symbol.scope() != SymbolScope::Dynamic));
    let dynamic: Vec<_> = elf.dynamic_symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(!dynamic.is_empty());
    assert!(!dynamic.iter().any(|name| trampoline(name)), "{dynamic:?}");
}

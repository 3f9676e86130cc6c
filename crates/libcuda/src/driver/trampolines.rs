//! One symbol for every driver function, and the slots that they jump through.
//!
//! A trampoline does two things: it puts its index into a register that no argument uses, and jumps to the
//! address in its slot. All slots start with [`arch::resolve_and_jump`], which saves the argument registers,
//! asks [`resolve`] for the function's address, restores them and jumps there. [`resolve`] writes the address
//! to the slot, so the way leads through it once a function, or as often as threads make that first call at
//! the same time.
//!
//! Nothing here depends on a function's signature: the stack is left as the caller made it, and every
//! register of the calling convention is passed on.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::functions::for_each_driver_function;
use super::{arch, fallback, library};

macro_rules! define {
    ($($name:ident)*) => {
        /// A driver function, as the index of its slot.
        #[allow(non_camel_case_types, clippy::enum_variant_names, reason = "the driver's names")]
        #[derive(Clone, Copy)]
        #[repr(u16)]
        enum Function { $($name),* }

        /// The driver's names by index.
        const NAMES: &[&CStr] = &[$(
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("an identifier holds no NUL"),
            }
        ),*];

        $(arch::trampoline!($name, slots = SLOTS, index = Function::$name);)*
    };
}

for_each_driver_function!(define);

/// Where each trampoline jumps to: [`arch::resolve_and_jump`], after the first call the function itself or
/// its fallback.
static SLOTS: [AtomicPtr<c_void>; NAMES.len()] =
    [const { AtomicPtr::new(arch::resolve_and_jump as *const c_void as *mut c_void) }; NAMES.len()];

/// Finds the function with this index, and lets its slot point to it from now on.
///
/// Called by [`arch::resolve_and_jump`] alone. Does not unwind: a panic here would abort the process, and
/// nothing in it panics for an index that a trampoline passes.
pub(crate) extern "C" fn resolve(index: usize) -> *const c_void {
    let name = NAMES[index];
    let library = library::library();
    let address = library
        .ok()
        .and_then(|library| library::address(library, name))
        .unwrap_or_else(|| fallback::address(name, library.is_ok()));
    // Release: with the trampoline's acquire, a thread that jumps through the slot sees the library as its
    // opening left it. Threads that resolve at the same time store the same address.
    SLOTS[index].store(address.cast_mut(), Ordering::Release);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a driver is here does not matter: its function or a fallback has to end up in the slot.
    #[test]
    fn resolving_points_one_slot_to_what_was_found_and_leaves_the_others() {
        let unresolved = arch::resolve_and_jump as *const c_void;
        let index = Function::cuMemHostAlloc as usize;
        let neighbours = [index - 1, index + 1];
        assert_eq!(NAMES[index], c"cuMemHostAlloc");

        let address = resolve(index);

        assert!(!address.is_null());
        assert_ne!(address, unresolved);
        assert_eq!(SLOTS[index].load(Ordering::Acquire).cast_const(), address);
        for neighbour in neighbours {
            assert_eq!(
                SLOTS[neighbour].load(Ordering::Acquire).cast_const(),
                unresolved,
                "{:?}",
                NAMES[neighbour]
            );
        }
    }

    #[test]
    fn a_trampoline_jumps_through_its_own_slot() {
        extern "C" fn marked<const MARK: u32>() -> u32 {
            MARK
        }
        let index = Function::cuGraphLaunch as usize;
        for (slot, mark) in [
            (index - 1, marked::<1> as *mut c_void),
            (index, marked::<2> as _),
            (index + 1, marked::<3> as _),
        ] {
            SLOTS[slot].store(mark, Ordering::Release);
        }
        let trampoline = cuGraphLaunch as *const c_void;
        // SAFETY: what the slot points to has this signature.
        let trampoline = unsafe { std::mem::transmute::<*const c_void, extern "C" fn() -> u32>(trampoline) };
        assert_eq!(trampoline(), 2);
    }

    #[test]
    fn a_call_patches_its_slot() {
        let index = Function::cuProfilerInitialize as usize;
        // Without arguments, as no driver should be given: so only where there is none.
        if library::library().is_ok() {
            return;
        }
        cuProfilerInitialize();
        let fallback = fallback::driver_not_loaded as *const c_void;
        assert_eq!(SLOTS[index].load(Ordering::Acquire).cast_const(), fallback);
    }
}

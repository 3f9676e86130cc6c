//! aarch64, AAPCS64 (sections 6.1 "Machine Registers" and 6.4 "Parameter Passing"). Its tests ran under
//! qemu-user alone.
//!
//! Arguments are in x0 to x7, q0 to q7 and on the stack; x8 holds the address of a result in memory. x16 and
//! x17, the intra-procedure-call registers, are scratch between caller and callee: x17 carries the index, x16
//! the address.

use core::arch::naked_asm;

/// Defines the symbol `$name`: index to x17, jump through the slot, loaded with acquire.
macro_rules! trampoline {
    ($name:ident, slots = $slots:path, index = $index:path) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            ::core::arch::naked_asm!(
                // A cdylib must not export it, nor may a driver that calls its own functions by name find it.
                concat!(".hidden ", stringify!($name)),
                ".cfi_startproc",
                "adrp x16, {slots} + 8 * {index}",
                "add x16, x16, :lo12:{slots} + 8 * {index}",
                "mov w17, #{index}",
                "ldar x16, [x16]",
                "br x16",
                ".cfi_endproc",
                index = const $index as usize,
                slots = sym $slots,
            )
        }
    };
}
pub(crate) use trampoline;

/// Where every slot points at first: resolves the function with the index in x17, and jumps to it with the
/// arguments as they came.
#[unsafe(naked)]
pub(crate) extern "C" fn resolve_and_jump() {
    naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "mov x29, sp",
        ".cfi_def_cfa_register x29",
        // 72 bytes for x0 to x8, 8 to stay a multiple of 16, 128 for q0 to q7.
        "sub sp, sp, #208",
        "stp q0, q1, [sp, #0]",
        "stp q2, q3, [sp, #32]",
        "stp q4, q5, [sp, #64]",
        "stp q6, q7, [sp, #96]",
        "stp x0, x1, [sp, #128]",
        "stp x2, x3, [sp, #144]",
        "stp x4, x5, [sp, #160]",
        "stp x6, x7, [sp, #176]",
        "str x8, [sp, #192]",
        "mov w0, w17",
        "bl {resolve}",
        "mov x16, x0",
        "ldp q0, q1, [sp, #0]",
        "ldp q2, q3, [sp, #32]",
        "ldp q4, q5, [sp, #64]",
        "ldp q6, q7, [sp, #96]",
        "ldp x0, x1, [sp, #128]",
        "ldp x2, x3, [sp, #144]",
        "ldp x4, x5, [sp, #160]",
        "ldp x6, x7, [sp, #176]",
        "ldr x8, [sp, #192]",
        "add sp, sp, #208",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa sp, 0",
        "br x16",
        ".cfi_endproc",
        resolve = sym crate::driver::trampolines::resolve,
    )
}

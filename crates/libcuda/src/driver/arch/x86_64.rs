//! x86-64, System V ABI (psABI 1.0, section 3.2.3 "Parameter Passing").
//!
//! Arguments are in rdi, rsi, rdx, rcx, r8, r9, xmm0 to xmm7 and on the stack. r11 is scratch that neither
//! arguments nor returns use, so it carries the index, then the address. al, the count of vector registers of
//! a variadic call, and r10, the static chain of nested functions, are not kept: no driver function has
//! either.

use core::arch::naked_asm;

/// Defines the symbol `$name`: index to r11, jump through the slot. On x86-64 a plain load acquires.
macro_rules! trampoline {
    ($name:ident, slots = $slots:path, index = $index:path) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            ::core::arch::naked_asm!(
                // A cdylib must not export it, nor may a driver that calls its own functions by name find it.
                concat!(".hidden ", stringify!($name)),
                ".cfi_startproc",
                "mov r11d, {index}",
                "jmp qword ptr [rip + {slots} + 8 * {index}]",
                ".cfi_endproc",
                index = const $index as usize,
                slots = sym $slots,
            )
        }
    };
}
pub(crate) use trampoline;

/// Where every slot points at first: resolves the function with the index in r11, and jumps to it with the
/// arguments as they came.
#[unsafe(naked)]
pub(crate) extern "C" fn resolve_and_jump() {
    naked_asm!(
        // The caller's call left rsp 8 below a multiple of 16. This push makes it one, the six and the 128
        // bytes after it keep it one: `movaps` and the call below need that.
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "sub rsp, 128",
        "movaps [rsp + 0], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "mov edi, r11d",
        "call {resolve}",
        "mov r11, rax",
        "movaps xmm0, [rsp + 0]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "jmp r11",
        ".cfi_endproc",
        resolve = sym crate::driver::trampolines::resolve,
    )
}

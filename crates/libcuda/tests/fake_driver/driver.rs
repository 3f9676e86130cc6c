//! A `libcuda.so.1` that records what it is called with. `tests/common` compiles it, with `--cfg old` to one
//! that lacks functions. The signatures are those of the driver API, with handles and pointers as `u64`, but
//! for [`cuArrayCreate_v2`].

#![allow(non_snake_case, clippy::too_many_arguments, reason = "the driver's functions")]

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SUCCESS: u32 = 0;
const LAUNCH_FAILED: u32 = 719;

static LAST_CALL: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static OCCUPANCY_CALLS: AtomicU64 = AtomicU64::new(0);

/// Copies the last recorded arguments to `to` and returns how many there are.
///
/// # Safety
///
/// `to` is valid for writes of `capacity` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_last_call(to: *mut u64, capacity: usize) -> usize {
    let arguments = LAST_CALL.lock().unwrap();
    let copied = arguments.len().min(capacity);
    // SAFETY: `copied` is within both; the caller's memory cannot overlap the vector's.
    unsafe { to.copy_from_nonoverlapping(arguments.as_ptr(), copied) };
    arguments.len()
}

#[unsafe(no_mangle)]
pub extern "C" fn fake_occupancy_calls() -> u64 {
    OCCUPANCY_CALLS.load(Ordering::SeqCst)
}

/// Runs when the library is opened, within the first call of a trampoline: no argument register keeps its
/// value by chance.
#[used]
#[unsafe(link_section = ".init_array")]
static OVERWRITE_ARGUMENT_REGISTERS: extern "C" fn() = overwrite_argument_registers;

extern "C" fn overwrite_argument_registers() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every register written is declared.
    unsafe {
        std::arch::asm!(
            "mov rdi, -1", "mov rsi, -1", "mov rdx, -1", "mov rcx, -1", "mov r8, -1", "mov r9, -1",
            "pcmpeqd xmm0, xmm0", "pcmpeqd xmm1, xmm1", "pcmpeqd xmm2, xmm2", "pcmpeqd xmm3, xmm3",
            "pcmpeqd xmm4, xmm4", "pcmpeqd xmm5, xmm5", "pcmpeqd xmm6, xmm6", "pcmpeqd xmm7, xmm7",
            out("rdi") _, out("rsi") _, out("rdx") _, out("rcx") _, out("r8") _, out("r9") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: every register written is declared.
    unsafe {
        std::arch::asm!(
            "mov x0, #-1", "mov x1, #-1", "mov x2, #-1", "mov x3, #-1", "mov x4, #-1",
            "mov x5, #-1", "mov x6, #-1", "mov x7, #-1", "mov x8, #-1",
            "movi v0.16b, #255", "movi v1.16b, #255", "movi v2.16b, #255", "movi v3.16b, #255",
            "movi v4.16b, #255", "movi v5.16b, #255", "movi v6.16b, #255", "movi v7.16b, #255",
            out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _,
            out("x5") _, out("x6") _, out("x7") _, out("x8") _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
        );
    }
}

#[repr(align(16))]
struct Aligned([u8; 16]);

fn record(arguments: &[u64]) {
    // A function may rely on a stack pointer that was a multiple of 16 before its call. The compiler does so
    // for this local, and its address then shows whether it was right to.
    let local = Aligned([0; 16]);
    let address = black_box(&raw const local.0) as usize;
    if black_box(address) % 16 != 0 {
        std::process::abort();
    }
    *LAST_CALL.lock().unwrap() = arguments.to_vec();
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: u32) -> u32 {
    record(&[flags.into()]);
    SUCCESS
}

/// # Safety
///
/// `version` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut i32) -> u32 {
    // SAFETY: this function's contract.
    unsafe { version.write(12_340) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    record(&[]);
    LAUNCH_FAILED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetMipmapLevelClamp(texture: u64, low: f32, high: f32) -> u32 {
    record(&[texture, low.to_bits().into(), high.to_bits().into()]);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    to_ctx: u64,
    from: u64,
    from_ctx: u64,
    bytes: usize,
    stream: u64,
) -> u32 {
    record(&[to, to_ctx, from, from_ctx, bytes as u64, stream]);
    SUCCESS
}

/// Writes `limit` and `flags` where the result belongs: what each of many threads gave.
///
/// # Safety
///
/// `grid` and `block` are valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: *mut i32,
    block: *mut i32,
    _function: u64,
    _callback: u64,
    _dynamic_shared: usize,
    limit: i32,
    flags: u32,
) -> u32 {
    OCCUPANCY_CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: this function's contract.
    unsafe {
        grid.write(limit);
        block.write(flags as i32);
    }
    SUCCESS
}

#[cfg(not(old))]
#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared: u32,
    stream: u64,
    parameters: u64,
    extra: u64,
) -> u32 {
    let [x, y, z] = [grid_x, grid_y, grid_z].map(u64::from);
    let [bx, by, bz, shared] = [block_x, block_y, block_z, shared].map(u64::from);
    record(&[function, x, y, z, bx, by, bz, shared, stream, parameters, extra]);
    SUCCESS
}

#[cfg(not(old))]
#[unsafe(no_mangle)]
pub extern "C" fn cuTensorMapEncodeTiled(
    map: u64,
    data_type: u32,
    rank: u32,
    address: u64,
    dimensions: u64,
    strides: u64,
    box_dimensions: u64,
    element_strides: u64,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
) -> u32 {
    let [data_type, rank] = [data_type, rank].map(u64::from);
    let modes = [interleave, swizzle, promotion, fill].map(u64::from);
    let places = [map, data_type, rank, address, dimensions, strides, box_dimensions, element_strides];
    record(&[places.as_slice(), &modes].concat());
    SUCCESS
}

/// Not the driver's signature: it takes every register that can hold an argument, on x86-64 and on aarch64,
/// and some of each kind on the stack.
#[unsafe(no_mangle)]
pub extern "C" fn cuArrayCreate_v2(
    i0: u64,
    i1: u64,
    i2: u64,
    i3: u64,
    i4: u64,
    i5: u64,
    i6: u64,
    i7: u64,
    i8: u64,
    f0: f64,
    f1: f64,
    f2: f64,
    f3: f64,
    f4: f64,
    f5: f64,
    f6: f64,
    f7: f64,
    f8: f64,
) -> u32 {
    let floats = [f0, f1, f2, f3, f4, f5, f6, f7, f8].map(f64::to_bits);
    record(&[&[i0, i1, i2, i3, i4, i5, i6, i7, i8], floats.as_slice()].concat());
    SUCCESS
}

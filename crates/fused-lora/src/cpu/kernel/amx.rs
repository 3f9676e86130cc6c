//! AMX: 32 rows × 32 columns in four tiles of sums, 16 × 16 each.
//!
//! ```text
//!              W₀ 16 pairs × 16 columns   W₁
//! x₀ ≤ 16 rows × 16 pairs    sums₀₀       sums₀₁      a step: 4 tiles loaded, 4 products,
//! x₁                         sums₁₀       sums₁₁      32 elements of K
//! ```
//!
//! A product of tiles takes a cycle for each row of x, 16, and does 16 · 16 · 32 multiply-adds: 16 times the
//! rate of two FMAs (Intel SDM, "TDPBF16PS"; Intel Optimization Reference Manual, "Intel AMX"). A step's four
//! tiles are 4 KiB in 64 cycles. Rows of a tile that do not exist cost nothing: 20 rows are two tiles of 10.
//!
//! Panels of W are those of [`avx512_bf16`](super::avx512_bf16) but for their width, and K is padded to 32.
//! Packed x holds, for each 32 elements of K, the rows one after another, 64 bytes each. Sums leave through
//! memory, and [`store`](super::store) takes them to y.
//!
//! Numbers are as those of `vdpbf16ps`, subnormals are zero. A process must ask the system for the tiles once
//! ([`permitted`]).

use std::{
    arch::{asm, x86_64::*},
    mem::offset_of,
};

use half::bf16;
use ndarray::ArrayView2;

use super::{
    Finish, Finishing, Init, Job, MicroKernel, Pack, Run as Kernel, Storage, Tile, TileOf, Vector,
    avx512::{self, Zmm},
    avx512_bf16::{Pair, Pairs},
    levels::{Kernels, Level},
    split::{self, is_split},
    store::Store,
    table,
};
use crate::cpu::panels::Panels;

/// Rows and columns of a tile of sums.
const TILE: usize = 16;
/// Elements of K in a step of tiles.
const DEPTH: usize = 32;
/// Bytes in a row of any tile.
const ROW: usize = 64;

/// Whether this CPU has the instructions and the system lets this process use them.
pub(crate) fn permitted() -> bool {
    static PERMITTED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        // CPUID leaf 7: AMX-BF16 and AMX-TILE.
        let leaf = __cpuid_count(7, 0);
        leaf.edx & (1 << 22) != 0 && leaf.edx & (1 << 24) != 0 && ask()
    });
    *PERMITTED
}

/// Asks Linux for the tiles' data (arch_prctl(2), ARCH_REQ_XCOMP_PERM); it holds for every thread.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call on integers alone.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

/// y of `Out`.
pub(crate) struct Tiles<Out>(std::marker::PhantomData<Out>);

impl<Out: Storage> MicroKernel for Tiles<Out> {
    type X = Pair;
    type W = Pair;
    type B = Pair;
    type Out = Out;
    type Vector = Zmm;
    const MR: usize = 2 * TILE;
    const NV: usize = 2;
    const DEPTH: usize = 2;
    const K_GRANULE: usize = DEPTH;
    // Half a MiB: CPUs with AMX have 2 MiB of L2. Of 64 rows a panel of W would have to come from memory in 3
    // µs.
    const BLOCK: [usize; 2] = [256, 1024];
    const APART: usize = 64;

    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>) {
        let mut sums = Sums([0.0; 4 * TILE * TILE]);
        let mut at = tile.partial;
        if tile.finish == Finish::Output {
            at = sums.0.as_mut_ptr();
        }
        // SAFETY: the caller's contract; `sums` has room for the largest tile.
        unsafe {
            let from = match tile.init {
                Init::Zero => std::ptr::null(),
                Init::Partial => tile.partial.cast_const(),
                Init::Addend => {
                    avx512::vectorize(Addend { rows, vectors, tile, to: at });
                    at.cast_const()
                }
            };
            let segments = [tile.base, tile.expand].map(|segment| Run {
                x: segment.x.addr(),
                step_x: segment.x_rows * ROW,
                w: segment.w.addr(),
                steps: segment.steps * 2 / DEPTH,
                ahead: segment.ahead.from.addr(),
                step_ahead: segment.ahead.stride * (DEPTH / 2),
            });
            products(rows, vectors, segments, from, at);
            if tile.finish == Finish::Output {
                let finishing = &Finishing::NONE;
                avx512::vectorize(Store { rows, vectors, sums: at, output: &tile.output, finishing });
            }
        }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { avx512::vectorize(job) }
    }
}

/// The sums of a whole tile.
#[repr(align(64))]
struct Sums([f32; 4 * TILE * TILE]);

/// Widens the addend into sums.
struct Addend<'a, Out: Storage> {
    rows: usize,
    vectors: usize,
    tile: &'a TileOf<Tiles<Out>>,
    to: *mut f32,
}

impl<X: Vector, Out: Storage> Job<X> for Addend<'_, Out> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let columns = self.tile.output.columns;
        for (r, v) in (0..self.rows).flat_map(|r| (0..self.vectors).map(move |v| (r, v))) {
            // SAFETY: `run`'s contract; a vector begins before `columns`.
            unsafe {
                let from = self.tile.addend.at(r, v * X::LANES).ptr;
                let value: X = Out::load_first(from, (columns - v * X::LANES).min(X::LANES));
                value.store(self.to.add((r * self.vectors + v) * X::LANES));
            }
        }
    }
}

/// Intel SDM, "LDTILECFG": memory operand.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Of a row, in bytes.
    columns: [u16; 16],
    rows: [u8; 16],
}

/// What the loop reads from memory, since registers are few. Addresses and distances are in bytes.
#[repr(C)]
struct Arguments {
    config: Config,
    /// Of the segment that runs: from step to step.
    step_ahead: usize,
    step_x: usize,
    /// The expand; its steps are zeroed when it begins.
    second: Run,
    /// Where sums start; null for zero.
    from: *const f32,
    to: *mut f32,
    /// To the second half of the rows, in a step of packed x and in the sums.
    half_x: usize,
    half_sums: usize,
    /// From step to step.
    step_w: usize,
}

/// A run of the loop: addresses, and steps of 32 elements of K.
#[derive(Clone, Copy)]
#[repr(C)]
struct Run {
    x: usize,
    /// From step to step of x.
    step_x: usize,
    w: usize,
    steps: usize,
    /// What is prefetched, and how many bytes further it is in each step.
    ahead: usize,
    step_ahead: usize,
}

/// `to = from + Σ segments`, `from` null for zero.
///
/// # Safety
///
/// As [`MicroKernel::run`].
unsafe fn products(
    rows: usize,
    vectors: usize,
    [Run { x, step_x, w, steps, ahead, step_ahead }, second]: [Run; 2],
    from: *const f32,
    to: *mut f32,
) {
    let halves = if rows > TILE { [rows.div_ceil(2), rows / 2] } else { [rows, 0] };
    let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], columns: [0; 16], rows: [0; 16] };
    // Sums are in 0 to 3, x in 4 and 5, W in 6 and 7.
    let of_tiles = [halves[0], halves[0], halves[1], halves[1], halves[0], halves[1], TILE, TILE];
    for (tile, rows) in of_tiles.into_iter().enumerate().filter(|(_, rows)| *rows > 0) {
        config.rows[tile] = rows as u8;
        config.columns[tile] = ROW as u16;
    }
    // From row to row of W's tiles and of the sums.
    let stride = vectors * ROW;
    let mut arguments = Arguments {
        config,
        step_ahead,
        step_x,
        second,
        from,
        to,
        half_x: halves[0] * ROW,
        half_sums: halves[0] * stride,
        step_w: TILE * stride,
    };
    /// The loop for one number of tiles: `lower`, there is a second half of the rows; `right`, there is a
    /// second vector of columns.
    macro_rules! run {
        (lower: $lower:ident, right: $right:ident, both: $both:ident) => {
            asm!(
                "ldtilecfg [{args}]", // zeroes all tiles
                "mov {t}, [{args} + {FROM}]",
                "test {t}, {t}",
                "jz 2f",
                "tileloadd tmm0, [{t} + {stride}]",
                run!(@$right "tileloadd tmm1, [{t} + {stride} + 64]"),
                run!(@$lower "add {t}, [{args} + {HALF_SUMS}]"),
                run!(@$lower "tileloadd tmm2, [{t} + {stride}]"),
                run!(@$both "tileloadd tmm3, [{t} + {stride} + 64]"),
                "2:",
                "test {steps}, {steps}",
                "jz 4f",
                "3:",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "add {ahead}, [{args} + {STEP_AHEAD}]",
                "tileloadd tmm6, [{w} + {stride}]",
                "tileloadd tmm4, [{x} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                run!(@$right "tileloadd tmm7, [{w} + {stride} + 64]"),
                run!(@$right "tdpbf16ps tmm1, tmm4, tmm7"),
                run!(@$lower "mov {t}, {x}"),
                run!(@$lower "add {t}, [{args} + {HALF_X}]"),
                run!(@$lower "tileloadd tmm5, [{t} + {row}]"),
                run!(@$lower "tdpbf16ps tmm2, tmm5, tmm6"),
                run!(@$both "tdpbf16ps tmm3, tmm5, tmm7"),
                "add {x}, [{args} + {STEP_X}]",
                "add {w}, [{args} + {STEP_W}]",
                "dec {steps}",
                "jnz 3b",
                "4:",
                // The expand; then no more.
                "mov {x}, [{args} + {SECOND_X}]",
                "mov {w}, [{args} + {SECOND_W}]",
                "mov {ahead}, [{args} + {SECOND_AHEAD}]",
                "mov {t}, [{args} + {SECOND_STEP_AHEAD}]",
                "mov [{args} + {STEP_AHEAD}], {t}",
                "mov {t}, [{args} + {SECOND_STEP_X}]",
                "mov [{args} + {STEP_X}], {t}",
                "mov {steps}, [{args} + {SECOND_STEPS}]",
                "mov qword ptr [{args} + {SECOND_STEPS}], 0",
                "test {steps}, {steps}",
                "jnz 3b",
                "mov {t}, [{args} + {TO}]",
                "tilestored [{t} + {stride}], tmm0",
                run!(@$right "tilestored [{t} + {stride} + 64], tmm1"),
                run!(@$lower "add {t}, [{args} + {HALF_SUMS}]"),
                run!(@$lower "tilestored [{t} + {stride}], tmm2"),
                run!(@$both "tilestored [{t} + {stride} + 64], tmm3"),
                "tilerelease",
                // What is not used above.
                "/* {HALF_X} {HALF_SUMS} */",
                args = in(reg) &raw mut arguments,
                x = inout(reg) x => _,
                w = inout(reg) w => _,
                steps = inout(reg) steps => _,
                stride = in(reg) stride,
                row = in(reg) ROW,
                t = out(reg) _,
                ahead = inout(reg) ahead => _,
                SECOND_X = const offset_of!(Arguments, second.x),
                SECOND_STEP_X = const offset_of!(Arguments, second.step_x),
                SECOND_W = const offset_of!(Arguments, second.w),
                SECOND_STEPS = const offset_of!(Arguments, second.steps),
                SECOND_AHEAD = const offset_of!(Arguments, second.ahead),
                SECOND_STEP_AHEAD = const offset_of!(Arguments, second.step_ahead),
                FROM = const offset_of!(Arguments, from),
                TO = const offset_of!(Arguments, to),
                HALF_X = const offset_of!(Arguments, half_x),
                HALF_SUMS = const offset_of!(Arguments, half_sums),
                STEP_X = const offset_of!(Arguments, step_x),
                STEP_W = const offset_of!(Arguments, step_w),
                STEP_AHEAD = const offset_of!(Arguments, step_ahead),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            )
        };
        (@yes $line:literal) => { $line };
        (@no $line:literal) => { "" };
    }
    // SAFETY: the caller's contract: AMX is there and permitted, tiles are loaded from and stored to rows
    // that exist. The configuration names all tiles that are used.
    unsafe {
        match (halves[1] > 0, vectors > 1) {
            (true, true) => run!(lower: yes, right: yes, both: yes),
            (true, false) => run!(lower: yes, right: no, both: no),
            (false, true) => run!(lower: no, right: yes, both: no),
            (false, false) => run!(lower: no, right: no, both: no),
        }
    }
}

/// As [`Tiles`], but small products by `vdpbf16ps`, which need no tiles to be set up. Measured with 64
/// adapters of r = 16, one row each, K = N = 1024, everything in cache: twice the base less (from 205 to
/// 108 % over it, single looks).
pub(crate) struct Pieces<Out>(std::marker::PhantomData<Out>);

impl<Out: Storage> Pieces<Out> {
    const TABLE: [[Kernel<Pair, Pair, Pair, Out>; 2]; 8] = table!(small [Out]; 1 2 3 4 5 6 7 8; [1 2]);
    /// Rows times steps up to which a product is small.
    const SMALL: usize = 128;
}

impl<Out: Storage> MicroKernel for Pieces<Out> {
    type X = Pair;
    type W = Pair;
    type B = Pair;
    type Out = Out;
    type Vector = Zmm;
    const MR: usize = Tiles::<Out>::MR;
    const NV: usize = Tiles::<Out>::NV;
    const DEPTH: usize = Tiles::<Out>::DEPTH;
    const K_GRANULE: usize = Tiles::<Out>::K_GRANULE;

    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>) {
        // SAFETY: the caller's contract is the same.
        unsafe {
            if rows <= Self::TABLE.len() && rows * (tile.base.steps + tile.expand.steps) <= Self::SMALL {
                Self::TABLE[rows - 1][vectors - 1](tile);
            } else {
                Tiles::run(rows, vectors, tile);
            }
        }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { avx512::vectorize(job) }
    }
}

/// # Safety
///
/// As [`MicroKernel::run`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn small<Out: Storage, const R: usize, const V: usize>(t: &Tile<Pair, Pair, Pair, Out>) {
    type Steps = Pairs<{ DEPTH / 2 }>;
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Steps, Steps, Out, R, V>(t) }
}

impl<Out: Storage> Pack<bf16> for Tiles<Out> {
    unsafe fn pack(x: *const bf16, ld: isize, rows: usize, k: usize, packed: *mut Pair) {
        let mut to = packed.cast::<bf16>();
        for first in (0..k).step_by(DEPTH) {
            let exist = (k - first).min(DEPTH);
            for r in 0..rows {
                // SAFETY: the caller's contract: rows of k elements, and room for `rows` of whole steps.
                unsafe {
                    std::ptr::copy_nonoverlapping(x.offset(r as isize * ld).add(first), to, exist);
                    to.add(exist).write_bytes(0, DEPTH - exist);
                    to = to.add(DEPTH);
                }
            }
        }
    }
}

/// A layer of bf16 with an adapter of `H`, which is split if it is f32.
pub(crate) struct Amx<H>(std::marker::PhantomData<H>);

impl<H: Storage> Kernels for Amx<H> {
    type In = bf16;
    type H = H;
    type Wide = bf16;
    type Main = Tiles<bf16>;
    type Shrink = Tiles<H>;
    type Expand = Tiles<bf16>;
    type Piece = Pieces<bf16>;
    const SPLIT: bool = is_split::<H>();

    unsafe fn split_h(rows: usize, rank: usize, h: *const H, to: *mut bf16) {
        // SAFETY: the caller's contract is the same.
        unsafe { split::split_h(rows, rank, h, to) }
    }
}

impl<H: Storage> Level for Amx<H> {
    type Lora = H;

    fn pack_weight(w: ArrayView2<'_, bf16>) -> Panels {
        Panels::pack::<Self::Main, Pair, bf16>(w)
    }

    fn pack_adapter(a: ArrayView2<'_, H>, b: ArrayView2<'_, H>) -> [Panels; 2] {
        split::pack::<Self::Main, H>(a, b)
    }
}

//! The micro-kernel: one tile of the output, R rows × V vectors, kept in registers over the whole K loop.
//!
//! ```text
//! acc[R][V] = 0                        or what an earlier K block left, or y
//! for segment in [(x, W), (h, B)]:     the augmented K: [x | h] · [W | B]ᵀ
//!     for k in 0..segment.k:
//!         acc[r][v] += segment.x[k][r] · segment.w[k][v]
//! y = f16(scale · acc + bias)          or acc, for the next K block or for `store`
//! ```
//!
//! That body stands once, in [`tile`], over a [`Vector`] of a handful of operations; a SIMD level is a
//! `Vector`, a tile size and a way to pack x, each in a file of its own.
//!
//! An epilogue beyond a bias is no part of it: the sums stay in a tile of memory, 12 KiB at most, which
//! [`store`] takes through activation and residual into y while it is in the first-level cache. So the body
//! of the base product is the same with and without, and GELU stands in the binary once for each level, not
//! once for each tile size.
//!
//! Panels of W, A and B hold f16 on x86-64 and are widened in the K loop, 3 conversions to 24 FMAs.
//! Measured beside f32 panels with AVX-512 (Zen 4, one thread, 64×1008×1024, peak 118 GFLOP/s): f16 112.5
//! cold and 114.2 warm, f32 111.1 and 111.1. Conversion hides behind the FMAs, half the bytes come from
//! memory, and a packed layer is no larger than the weight it was made from.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod exp;
pub(crate) mod portable;
pub(crate) mod store;

use half::f16;

use crate::epilogue::Activation;

/// A run of the K loop: `acc += x[k][0..R] ⊗ w[k][0..V·LANES]` for `k` steps.
#[derive(Clone, Copy)]
pub(crate) struct Segment<E> {
    /// `[k][PITCH]`, of which the first R of each step are read.
    pub(crate) x: *const f32,
    /// `[k][V·LANES]`
    pub(crate) w: *const E,
    pub(crate) k: usize,
}

impl<E> Segment<E> {
    pub(crate) const EMPTY: Self = Self { x: std::ptr::null(), w: std::ptr::null(), k: 0 };
}

/// Where the accumulators start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    Zero,
    /// What an earlier K block left in [`Tile::partial`].
    Partial,
    /// What stands in [`Tile::addend`]; `scale` must be 1.
    Addend,
}

/// Where the accumulators go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// To [`Tile::partial`], unscaled, for the next K block or for [`store`].
    Partial,
    /// To y, scaled, with bias, rounded.
    Output,
}

/// Rows of f16 that a tile reads, from its corner on.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    /// Null for none.
    pub(crate) ptr: *const f16,
    /// From row to row, in elements.
    pub(crate) ld: isize,
}

// SAFETY: a shared view of f16, which is Sync; whoever makes one sees to it that the memory outlives it, and
// that where it is also an output only the task that writes a part reads that part.
unsafe impl Send for Input {}
// SAFETY: as above.
unsafe impl Sync for Input {}

impl Input {
    pub(crate) const NONE: Self = Self { ptr: std::ptr::null(), ld: 0 };

    pub(crate) fn is_none(self) -> bool {
        self.ptr.is_null()
    }

    /// The same, `row` rows further down and `column` columns to the right; none stays none.
    pub(crate) fn at(self, row: usize, column: usize) -> Self {
        if self.is_none() {
            return self;
        }
        Self { ptr: self.ptr.wrapping_offset(row as isize * self.ld).wrapping_add(column), ..self }
    }
}

/// What happens to scaled sums with their bias, before they are rounded.
#[derive(Clone, Copy)]
pub(crate) struct Finishing {
    pub(crate) activation: Option<Activation>,
    /// Added after the activation.
    pub(crate) residuals: [Input; 2],
}

impl Finishing {
    pub(crate) const NONE: Self = Self { activation: None, residuals: [Input::NONE; 2] };

    pub(crate) fn is_none(&self) -> bool {
        self.activation.is_none() && self.residuals.iter().all(|residual| residual.is_none())
    }
}

/// The corner of the output that a tile writes.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) y: *mut f16,
    /// From row to row, in elements.
    pub(crate) ld: isize,
    /// Columns that exist, counted from `y`; the kernel touches none beyond.
    pub(crate) columns: usize,
    pub(crate) scale: f32,
    /// `[V·LANES]`, or null for none.
    pub(crate) bias: *const f32,
}

/// One call of a micro-kernel.
pub(crate) struct Tile<E> {
    /// The second one is empty, or the expand.
    pub(crate) segments: [Segment<E>; 2],
    pub(crate) init: Init,
    /// Where sums start from with [`Init::Addend`], its columns as those of y.
    pub(crate) addend: Input,
    pub(crate) finish: Finish,
    /// `[R][V·LANES]`, touched only if `init` or `finish` says so.
    pub(crate) partial: *mut f32,
    pub(crate) output: Output,
}

/// A SIMD level.
pub(crate) trait MicroKernel {
    /// What panels of W, A and B hold.
    type Element: Copy + Send + Sync + From<f16>;
    /// What it computes with.
    type Vector: Vector<Element = Self::Element>;
    /// f32 in a vector.
    const LANES: usize;
    /// Most rows of a tile.
    const MR: usize;
    /// Most vectors in a row of a tile: MR · NV accumulators, NV panel vectors and one broadcast fit the
    /// register file.
    const NV: usize;
    /// Distance of two K steps in packed x, in elements; at least MR.
    const PITCH: usize;

    /// Computes one tile of `rows` × `vectors`.
    ///
    /// # Safety
    ///
    /// - This CPU has the level's instructions ([`Simd`](crate::cpu::Simd) checks).
    /// - `1 ≤ rows ≤ MR` and `1 ≤ vectors ≤ NV`.
    /// - Every pointer in `tile` covers what its field says, for these rows and vectors; y and `partial` are
    ///   written by nobody else meanwhile.
    unsafe fn run(rows: usize, vectors: usize, tile: &Tile<Self::Element>);

    /// Widens `rows` rows of `k` f16, `ld` apart, into `[k][PITCH]` f32. Places beyond `rows` hold anything.
    ///
    /// # Safety
    ///
    /// - This CPU has the level's instructions.
    /// - `1 ≤ rows ≤ MR`; each row can be read for `k` elements, `packed` written for `k · PITCH`.
    unsafe fn pack(x: *const f16, ld: isize, rows: usize, k: usize, packed: *mut f32);

    /// Runs a job in a function that has the level's instructions enabled.
    ///
    /// # Safety
    ///
    /// This CPU has them, and the job's own contract holds.
    unsafe fn vectorize<J: Job<Self::Vector>>(job: J) -> J::Output;
}

/// Vector code that is not the micro-kernel.
pub(crate) trait Job<X: Vector> {
    type Output;

    /// To be inlined into [`MicroKernel::vectorize`].
    ///
    /// # Safety
    ///
    /// The job's own, and this CPU has the instructions of `X`.
    unsafe fn run(self) -> Self::Output;
}

/// The operations that a tile is made of.
///
/// # Safety
///
/// All methods: this CPU has the level's instructions, and pointers cover LANES elements (or `n`, where there
/// is an `n ≤ LANES`). No alignment is asked for beyond the element's.
pub(crate) trait Vector: Copy {
    type Element: Copy;
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Widens a vector of a panel.
    unsafe fn load_panel(from: *const Self::Element) -> Self;
    unsafe fn load_f16(from: *const f16) -> Self;
    /// Rounds to nearest, ties to even; beyond 65504 to infinity.
    unsafe fn store_f16(self, to: *mut f16);
    /// `self · factor + addend`
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The larger one; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// 2ⁿ, where a lane holds `n + `[`exp::ROUND`], −126 ≤ n ≤ 127; anything for other lanes.
    unsafe fn exp2_of_rounded(self) -> Self;
    /// Rounds, if panels are narrower, and writes a vector of one.
    unsafe fn store_panel(self, to: *mut Self::Element);

    /// Reads n elements; the other lanes are zero.
    #[inline(always)]
    unsafe fn load_f16_first(from: *const f16, n: usize) -> Self {
        let mut buffer = [f16::ZERO; MAX_LANES];
        // SAFETY: the caller vouches for n elements, and n ≤ LANES ≤ MAX_LANES.
        unsafe {
            std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), n);
            Self::load_f16(buffer.as_ptr())
        }
    }

    /// Writes the first n elements.
    #[inline(always)]
    unsafe fn store_f16_first(self, to: *mut f16, n: usize) {
        let mut buffer = [f16::ZERO; MAX_LANES];
        // SAFETY: the caller vouches for n elements, and n ≤ LANES ≤ MAX_LANES.
        unsafe {
            self.store_f16(buffer.as_mut_ptr());
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, n);
        }
    }
}

/// The widest vector there is.
const MAX_LANES: usize = 16;

/// `for $i in 0..$n`, written out: `$n` is at most 8 and a constant, and so is `$i` in each copy of the body.
///
/// An accumulator array that is indexed by a loop variable lives in memory unless LLVM unrolls the loop
/// before it splits the array into registers. For 8 × 3 it does not, and the kernel ran at 0.42 of peak.
macro_rules! unroll {
    ($i:ident < $n:expr => $body:block) => {
        unroll!(@copies $i $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@copies $i:ident $n:expr, $body:block, $($value:literal)*) => {
        $({
            #[allow(non_upper_case_globals)]
            const $i: usize = $value;
            if $i < $n $body
        })*
    };
}

/// The body of every micro-kernel.
///
/// # Safety
///
/// As [`MicroKernel::run`], with `rows = R`, `vectors = V` and packed x `PITCH` apart; to be inlined into a
/// function that has the instructions enabled.
#[inline(always)]
pub(crate) unsafe fn tile<X: Vector, const R: usize, const V: usize, const PITCH: usize>(
    t: &Tile<X::Element>,
) {
    const { assert!(X::LANES <= MAX_LANES && R <= PITCH && R <= 8 && V <= 8) };
    let Output { y, ld, columns, scale, bias } = t.output;
    // Columns of vector v that exist. A panel has as many vectors as its columns need, so each has at least
    // one.
    let exist = |v: usize| columns.saturating_sub(v * X::LANES).min(X::LANES);

    // SAFETY: `run`'s contract. Offsets stay inside R rows, V vectors and k steps, and no column of y beyond
    // `columns` is touched.
    unsafe {
        let mut acc = [[X::splat(0.0); V]; R];
        match t.init {
            Init::Zero => {}
            Init::Partial => {
                unroll!(r < R => {
                    unroll!(v < V => {
                        acc[r][v] = X::load(t.partial.add((r * V + v) * X::LANES));
                    });
                });
            }
            Init::Addend => {
                unroll!(r < R => {
                    unroll!(v < V => {
                        let from = t.addend.ptr.offset(r as isize * t.addend.ld).add(v * X::LANES);
                        acc[r][v] = if exist(v) == X::LANES {
                            X::load_f16(from)
                        } else {
                            X::load_f16_first(from, exist(v))
                        };
                    });
                });
            }
        }

        for segment in &t.segments {
            for k in 0..segment.k {
                let x = segment.x.add(k * PITCH);
                let w = segment.w.add(k * V * X::LANES);
                let mut panel = [X::splat(0.0); V];
                unroll!(v < V => {
                    panel[v] = X::load_panel(w.add(v * X::LANES));
                });
                unroll!(r < R => {
                    let broadcast = X::splat(*x.add(r));
                    unroll!(v < V => {
                        acc[r][v] = broadcast.mul_add(panel[v], acc[r][v]);
                    });
                });
            }
        }

        match t.finish {
            Finish::Partial => {
                unroll!(r < R => {
                    unroll!(v < V => {
                        acc[r][v].store(t.partial.add((r * V + v) * X::LANES));
                    });
                });
            }
            Finish::Output => {
                let scale = X::splat(scale);
                unroll!(v < V => {
                    let bias = if bias.is_null() { X::splat(0.0) } else { X::load(bias.add(v * X::LANES)) };
                    unroll!(r < R => {
                        let to = y.offset(r as isize * ld).add(v * X::LANES);
                        let value = acc[r][v].mul_add(scale, bias);
                        if exist(v) == X::LANES {
                            value.store_f16(to);
                        } else {
                            value.store_f16_first(to, exist(v));
                        }
                    });
                });
            }
        }
    }
}

/// A micro-kernel for one number of rows and vectors. Unsafe as [`MicroKernel::run`] is.
pub(crate) type Run<E> = unsafe fn(&Tile<E>);

/// The kernels of a level as a table, `[rows − 1][vectors − 1]`.
macro_rules! table {
    ($tile:ident; $($r:literal)*; $v:tt) => { [$(table!(@row $tile $r $v)),*] };
    (@row $tile:ident $r:literal [$($v:literal)*]) => { [$($tile::<$r, $v>),*] };
}
pub(crate) use table;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Simd, simd::dispatch};

    /// The packing of every level against plain loops: all numbers of rows, K with and without a remainder.
    #[test]
    fn packing_widens_and_transposes() {
        for simd in Simd::available() {
            dispatch!(simd, Kernel => {
                let pitch = <Kernel as MicroKernel>::PITCH;
                for (rows, k) in (1..=<Kernel as MicroKernel>::MR).flat_map(|rows| [1, 7, 8, 9, 30].map(|k| (rows, k))) {
                    let ld = k + 3;
                    let x: Vec<_> = (0..rows * ld).map(|i| f16::from_f32(i as f32)).collect();
                    let mut packed = vec![f32::NAN; k * pitch + 1];
                    // SAFETY: x has `rows` rows of k elements, `packed` k steps; the level is available.
                    unsafe { <Kernel as MicroKernel>::pack(x.as_ptr(), ld as isize, rows, k, packed.as_mut_ptr()) };
                    for (i, r) in (0..k).flat_map(|i| (0..rows).map(move |r| (i, r))) {
                        assert_eq!(packed[i * pitch + r], (r * ld + i) as f32, "{simd} {rows} rows, row {r} step {i} of {k}");
                    }
                    assert!(packed[k * pitch].is_nan(), "{simd}: wrote beyond the last step");
                }
            });
        }
    }
}

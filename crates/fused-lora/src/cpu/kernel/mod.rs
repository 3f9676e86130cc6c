//! The micro-kernel: one tile of the output, R rows × V vectors, kept in registers over the whole K loop.
//!
//! ```text
//! acc[R][V] = 0                        or what an earlier K block left, or y
//! for segment in [(x, W), (h, B)]:     the augmented K: [x | h] · [W | B]ᵀ
//!     for k in 0..segment.steps:
//!         acc[r][v] += segment.x[k][r] · segment.w[k][v]
//! y = round(scale · acc + bias)        or acc, for the next K block or for `store`
//! ```
//!
//! That body stands once, in [`tile`], over a [`Step`] (what is multiplied: f16, bf16 or f32 panels widened
//! to f32, or pairs of bf16) and a [`Vector`] of a handful of operations. A SIMD level is a `Vector`, a tile
//! size and a way to pack x, each in a file of its own. [`amx`] has another body for all but small products:
//! its sums are in tiles.
//!
//! An epilogue beyond a bias is no part of it: the sums stay in a tile of memory, 12 KiB at most, which
//! [`store`] takes through activation and residual into y while it is in the first-level cache. So the body
//! of the base product is the same with and without, and GELU stands in the binary once for each level and
//! type, not once for each tile size.
//!
//! Panels hold the weight's own type on x86-64 and are widened in the K loop, 3 conversions to 24 FMAs.
//! Measured beside f32 panels with AVX-512 (Zen 4, one thread, 64×1008×1024, peak 118 GFLOP/s): f16 112.5
//! cold and 114.2 warm, f32 111.1 and 111.1. Conversion hides behind the FMAs, half the bytes come from
//! memory, and a packed layer is no larger than the weight it was made from.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_bf16;
pub(crate) mod exp;
pub(crate) mod levels;
mod of_types;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod split;
pub(crate) mod store;
pub(crate) mod vector;

pub(crate) use vector::{Storage, Unit, Vector};

use super::buffer::Plain;
use crate::epilogue::Activation;

/// A run of the K loop: `acc += x[k][0..R] ⊗ w[k][0..V·LANES]` for `steps` steps.
#[derive(Clone, Copy)]
pub(crate) struct Segment<X, W> {
    /// The first R of the rows that were packed together: `[k][x_rows]`.
    pub(crate) x: *const X,
    pub(crate) x_rows: usize,
    /// `[k][V·LANES]`
    pub(crate) w: *const W,
    /// Of [`MicroKernel::DEPTH`] elements of K each.
    pub(crate) steps: usize,
    pub(crate) ahead: Ahead,
}

impl<X, W> Segment<X, W> {
    /// The first `steps`, of `width` units of the panel each, or all if there are no more; and the others.
    fn split(self, steps: usize, width: usize) -> (Self, Self) {
        let steps = steps.min(self.steps);
        let (x, w) = (self.x.wrapping_add(steps * self.x_rows), self.w.wrapping_add(steps * width));
        let from = self.ahead.from.wrapping_add(steps * self.ahead.stride);
        let ahead = Ahead { from, ..self.ahead };
        (Self { steps, ..self }, Self { x, w, steps: self.steps - steps, ahead, ..self })
    }

    pub(crate) const EMPTY: Self =
        Self { x: std::ptr::null(), x_rows: 0, w: std::ptr::null(), steps: 0, ahead: Ahead::NOTHING };
}

/// What is brought into the second-level cache meanwhile: a part of the panel that comes next. Without it the
/// first tile of a panel waits for memory and the others do not use it.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// Any address; nothing is read there.
    pub(crate) from: *const u8,
    /// Bytes that go with a step.
    pub(crate) stride: usize,
}

impl Ahead {
    pub(crate) const NOTHING: Self = Self { from: std::ptr::null(), stride: 0 };
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

/// Rows that a tile reads, from its corner on.
pub(crate) struct Input<T> {
    /// Null for none.
    pub(crate) ptr: *const T,
    /// From row to row, in elements.
    pub(crate) ld: isize,
}

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Input<T> {}

// SAFETY: a shared view of elements, which are Sync; whoever makes one sees to it that the memory outlives
// it, and that where it is also an output only the task that writes a part reads that part.
unsafe impl<T: Sync> Send for Input<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Input<T> {}

impl<T> Input<T> {
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
pub(crate) struct Finishing<T> {
    pub(crate) activation: Option<Activation>,
    /// Added after the activation.
    pub(crate) residuals: [Input<T>; 2],
}

impl<T> Clone for Finishing<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Finishing<T> {}

impl<T> Finishing<T> {
    pub(crate) const NONE: Self = Self { activation: None, residuals: [Input::NONE; 2] };

    pub(crate) fn is_none(&self) -> bool {
        self.activation.is_none() && self.residuals.iter().all(|residual| residual.is_none())
    }
}

/// The corner of the output that a tile writes.
#[derive(Clone, Copy)]
pub(crate) struct Output<T> {
    pub(crate) y: *mut T,
    /// From row to row, in elements.
    pub(crate) ld: isize,
    /// Columns that exist, counted from `y`; the kernel touches none beyond.
    pub(crate) columns: usize,
    pub(crate) scale: f32,
    /// `[V·LANES]`, or null for none.
    pub(crate) bias: *const f32,
}

/// One call of a micro-kernel: packed x of type X, panels of W and B, y of type T.
pub(crate) struct Tile<X, W, B, T> {
    pub(crate) base: Segment<X, W>,
    /// Empty where there is no adapter.
    pub(crate) expand: Segment<X, B>,
    pub(crate) init: Init,
    /// Where sums start from with [`Init::Addend`], its columns as those of y.
    pub(crate) addend: Input<T>,
    pub(crate) finish: Finish,
    /// `[R][V·LANES]`, touched only if `init` or `finish` says so.
    pub(crate) partial: *mut f32,
    pub(crate) output: Output<T>,
}

/// The tile that a kernel takes.
pub(crate) type TileOf<K> =
    Tile<<K as MicroKernel>::X, <K as MicroKernel>::W, <K as MicroKernel>::B, <K as MicroKernel>::Out>;

/// A micro-kernel: packed x times panels of W, then of B, into y of type `Out`.
pub(crate) trait MicroKernel: 'static {
    /// What packed x and packed h hold: [`DEPTH`](Self::DEPTH) elements of K of one row.
    type X: Plain;
    /// What panels of W hold: `DEPTH` elements of K of one column.
    type W: Plain;
    /// What panels of A and B hold.
    type B: Plain;
    /// y's elements.
    type Out: Storage;
    /// What it computes with.
    type Vector: Vector;
    /// f32 in a vector.
    const LANES: usize = <Self::Vector as Vector>::LANES;
    /// Most rows of a tile.
    const MR: usize;
    /// Most vectors in a row of a tile: MR · NV accumulators, NV panel vectors and one broadcast fit the
    /// register file.
    const NV: usize;
    /// Elements of K in a step.
    const DEPTH: usize;
    /// Most rows of a block of x, and the longest K block of such a block, in elements. Packed, it is read
    /// from the second-level cache once for each panel, and W is read from beyond it once for each block.
    const BLOCK: [usize; 2] = [64, 1024];
    /// With fewer rows than this for each thread, threads do all rows together: memory could not deliver W to
    /// all of them in time.
    const APART: usize = 32;
    /// K is padded with zeros to a multiple of so many elements.
    const K_GRANULE: usize = Self::DEPTH;

    /// Computes one tile of `rows` × `vectors`.
    ///
    /// # Safety
    ///
    /// - This CPU has the level's instructions ([`Simd`](crate::cpu::Simd) checks).
    /// - `1 ≤ rows ≤ MR` and `1 ≤ vectors ≤ NV`; the segments are whole granules of K.
    /// - Every pointer in `tile` covers what its field says, for these rows and vectors; y and `partial` are
    ///   written by nobody else meanwhile.
    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>);

    /// Runs a job in a function that has the level's instructions enabled.
    ///
    /// # Safety
    ///
    /// This CPU has them, and the job's own contract holds.
    unsafe fn vectorize<J: Job<Self::Vector>>(job: J) -> J::Output;
}

/// A micro-kernel that takes x of type T.
pub(crate) trait Pack<T>: MicroKernel {
    /// Packs `rows` rows of `k` elements, `ld` apart, into `[step][rows]`, K padded with zeros to whole
    /// granules.
    ///
    /// # Safety
    ///
    /// - This CPU has the level's instructions.
    /// - `1 ≤ rows ≤ MR`; each row can be read for `k` elements, `packed` written for `rows` units for each
    ///   step.
    unsafe fn pack(x: *const T, ld: isize, rows: usize, k: usize, packed: *mut Self::X);
}

/// Vector code that is not the micro-kernel.
pub(crate) trait Job<X: Vector> {
    /// What it returns.
    type Output;

    /// To be inlined into [`MicroKernel::vectorize`].
    ///
    /// # Safety
    ///
    /// The job's own, and this CPU has the instructions of `X`.
    unsafe fn run(self) -> Self::Output;
}

/// What one step of the K loop multiplies: a unit of packed x with a vector of units of a panel.
///
/// # Safety
///
/// All methods: this CPU has the level's instructions, and pointers cover LANES units.
pub(crate) trait Step {
    /// The accumulators.
    type Vector: Vector;
    /// A unit of packed x.
    type X: Plain;
    /// A unit of a panel.
    type W: Plain;
    /// Either of them in a register.
    type Wide: Copy;
    /// Steps that lie beside each other in packed x, row by row.
    const TOGETHER: usize = 1;
    /// A unit of x in every lane.
    ///
    /// # Safety
    ///
    /// As all of them.
    unsafe fn broadcast(x: Self::X) -> Self::Wide;
    /// A vector of a panel.
    ///
    /// # Safety
    ///
    /// As all of them.
    unsafe fn load(w: *const Self::W) -> Self::Wide;
    /// `acc + x · w`, over the elements of a unit.
    ///
    /// # Safety
    ///
    /// As all of them.
    unsafe fn multiply_add(x: Self::Wide, w: Self::Wide, acc: Self::Vector) -> Self::Vector;
}

/// Panels of `E`, widened to f32 as they are loaded; packed x is f32.
pub(crate) struct Widen<V, E>(std::marker::PhantomData<(V, E)>);

impl<V: Vector, E: Storage> Step for Widen<V, E> {
    type Vector = V;
    type X = f32;
    type W = E;
    type Wide = V;

    #[inline(always)]
    unsafe fn broadcast(x: f32) -> V {
        // SAFETY: the trait's contract.
        unsafe { V::splat(x) }
    }

    #[inline(always)]
    unsafe fn load(w: *const E) -> V {
        // SAFETY: the trait's contract.
        unsafe { E::load(w) }
    }

    #[inline(always)]
    unsafe fn multiply_add(x: V, w: V, acc: V) -> V {
        // SAFETY: the trait's contract.
        unsafe { x.mul_add(w, acc) }
    }
}

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

/// The body of every micro-kernel but the main one of AMX.
///
/// # Safety
///
/// As [`MicroKernel::run`], with `rows = R` and `vectors = V`; to be inlined into a function that has the
/// instructions enabled.
#[inline(always)]
pub(crate) unsafe fn tile<S, B, T, const R: usize, const V: usize>(t: &Tile<S::X, S::W, B::W, T>)
where
    S: Step,
    B: Step<Vector = S::Vector, X = S::X>,
    T: Storage,
{
    const { assert!(R <= 8 && V <= 8) };
    let lanes = S::Vector::LANES;
    let Output { y, ld, columns, scale, bias } = t.output;
    // Columns of vector v that exist. A panel has as many vectors as its columns need, so each has at least
    // one.
    let exist = |v: usize| columns.saturating_sub(v * lanes).min(lanes);

    // SAFETY: `run`'s contract. Offsets stay inside R rows, V vectors and the segments' steps, and no column
    // of y beyond `columns` is touched.
    unsafe {
        let mut acc = [[S::Vector::splat(0.0); V]; R];
        match t.init {
            Init::Zero => {}
            Init::Partial => {
                unroll!(r < R => {
                    unroll!(v < V => {
                        acc[r][v] = S::Vector::load(t.partial.add((r * V + v) * lanes));
                    });
                });
            }
            Init::Addend => {
                unroll!(r < R => {
                    unroll!(v < V => {
                        let from = t.addend.ptr.offset(r as isize * t.addend.ld).add(v * lanes);
                        acc[r][v] = T::load_first(from, exist(v));
                    });
                });
            }
        }
        acc = segment::<S, T, R, V>(t.base, acc);
        acc = segment::<B, T, R, V>(t.expand, acc);
        match t.finish {
            Finish::Partial => {
                unroll!(r < R => {
                    unroll!(v < V => {
                        acc[r][v].store(t.partial.add((r * V + v) * lanes));
                    });
                });
            }
            Finish::Output => {
                let scale = S::Vector::splat(scale);
                unroll!(v < V => {
                    let bias = if bias.is_null() {
                        S::Vector::splat(0.0)
                    } else {
                        S::Vector::load(bias.add(v * lanes))
                    };
                    unroll!(r < R => {
                        let to = y.offset(r as isize * ld).add(v * lanes);
                        T::store_first(acc[r][v].mul_add(scale, bias), to, exist(v));
                    });
                });
            }
        }
    }
}

/// Steps after which a sum for an f32 y starts anew. The error of one long sum grows with the square root of
/// its length, and no rounding of y hides it: with 512 steps it was 1.6 × that of a BLAS, which cuts K as
/// well. K blocks are whole chunks, so that the sums of a row do not depend on how many rows there are.
pub(crate) const CHUNK: usize = 64;

/// `acc + segment`, for an f32 y chunk by chunk.
///
/// # Safety
///
/// As [`tile`].
#[inline(always)]
unsafe fn segment<S: Step, T, const R: usize, const V: usize>(
    mut rest: Segment<S::X, S::W>,
    mut acc: [[S::Vector; V]; R],
) -> [[S::Vector; V]; R] {
    // SAFETY: the caller's contract; chunks are parts of the segment.
    unsafe {
        if size_of::<T>() < size_of::<f32>() {
            return steps::<S, R, V>(rest, acc);
        }
        while rest.steps > 0 {
            let (chunk, next) = rest.split(CHUNK, V * S::Vector::LANES);
            let sums = steps::<S, R, V>(chunk, [[S::Vector::splat(0.0); V]; R]);
            unroll!(r < R => {
                unroll!(v < V => {
                    acc[r][v] = sums[r][v].add(acc[r][v]);
                });
            });
            rest = next;
        }
    }
    acc
}

/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// The K loop over one segment.
///
/// A step prefetches as many lines as it loads. With one, those between came from memory when they were loaded:
/// one tile of 8 rows of f16, or two of bf16 or f32, took 1.4 to 1.5 times as long (Zen 4, AVX-512, W from
/// memory). Tiles that share a panel to fetch, less than a line a step each, fetch some lines twice; that cost
/// nothing that could be measured.
///
/// # Safety
///
/// As [`tile`].
#[inline(always)]
unsafe fn steps<S: Step, const R: usize, const V: usize>(
    segment: Segment<S::X, S::W>,
    mut acc: [[S::Vector; V]; R],
) -> [[S::Vector; V]; R] {
    // SAFETY: `run`'s contract.
    unsafe {
        for k in 0..segment.steps {
            let x = segment.x.add(k / S::TOGETHER * S::TOGETHER * segment.x_rows + k % S::TOGETHER);
            let w = segment.w.add(k * V * S::Vector::LANES);
            let ahead = segment.ahead.from.wrapping_add(k * segment.ahead.stride);
            unroll!(line < (V * S::Vector::LANES * size_of::<S::W>()).div_ceil(LINE) => {
                S::Vector::prefetch(ahead.wrapping_add(line * LINE));
            });
            let mut panel = [S::load(w); V];
            unroll!(v < V => {
                panel[v] = S::load(w.add(v * S::Vector::LANES));
            });
            unroll!(r < R => {
                let broadcast = S::broadcast(*x.add(r * S::TOGETHER));
                unroll!(v < V => {
                    acc[r][v] = S::multiply_add(broadcast, panel[v], acc[r][v]);
                });
            });
        }
    }
    acc
}

/// A micro-kernel for one number of rows and vectors. Unsafe as [`MicroKernel::run`] is.
pub(crate) type Run<X, W, B, T> = unsafe fn(&Tile<X, W, B, T>);

/// The kernels of a level as a table, `[rows − 1][vectors − 1]`.
macro_rules! table {
    ($tile:ident $types:tt; $($r:literal)*; $v:tt) => { [$(table!(@row $tile $types $r $v)),*] };
    (@row $tile:ident $types:tt $r:literal [$($v:literal)*]) => { [$(table!(@one $tile $types $r $v)),*] };
    (@one $tile:ident [$($t:ty),*] $r:literal $v:literal) => { $tile::<$($t,)* $r, $v> };
}
pub(crate) use table;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use half::{bf16, f16};

    use super::{levels::Level, *};
    use crate::cpu::{Simd, panels::steps, simd::dispatch};
    use crate::element::Element;

    /// The packing of every level against plain loops: all numbers of rows, K with and without a remainder.
    #[test]
    fn packing_widens_and_transposes() {
        for simd in Simd::available() {
            dispatch!(simd, f16, f16 => check_packing(simd));
            dispatch!(simd, bf16, bf16 => check_packing(simd));
            dispatch!(simd, f32, f32 => check_packing(simd));
        }
    }

    fn check_packing<L: Level<In: Element>>(simd: Simd)
    where
        <L::Main as MicroKernel>::X: Unit<L::In> + PartialEq + Debug,
    {
        let depth = L::Main::DEPTH;
        for (rows, k) in (1..=L::Main::MR).flat_map(|rows| [1, 7, 8, 9, 30, 64, 100].map(|k| (rows, k))) {
            let ld = k + 3;
            let x: Vec<_> = (0..rows * ld).map(|i| L::In::from_f32(1.0 + (i % 251) as f32)).collect();
            let steps = steps::<L::Main>(k);
            let beyond = Unit::gather(|_| L::In::from_f32(-1.0));
            let mut packed = vec![beyond; steps * rows + 1];
            // SAFETY: x has `rows` rows of k elements, `packed` room for all steps; the level is available.
            unsafe { <L::Main as Pack<L::In>>::pack(x.as_ptr(), ld as isize, rows, k, packed.as_mut_ptr()) };
            for (step, r) in (0..steps).flat_map(|step| (0..rows).map(move |r| (step, r))) {
                let element = |i: usize| match step * depth + i {
                    at if at < k => x[r * ld + at],
                    _ => L::In::default(),
                };
                // With AMX a row of a tile is 16 units.
                let group = L::Main::K_GRANULE / depth;
                let at = (step / group * rows + r) * group + step % group;
                assert_eq!(
                    packed[at],
                    Unit::gather(element),
                    "{simd} {rows} rows, row {r} step {step} of K {k}"
                );
            }
            assert_eq!(packed[steps * rows], beyond, "{simd}: wrote beyond the last step");
        }
    }

    /// Every bf16 that there is, and the halves between them, through the rounding of every level.
    #[test]
    fn bf16_is_rounded_as_by_the_library() {
        struct Round(f32);
        impl<X: Vector> Job<X> for Round {
            type Output = bf16;

            #[inline(always)]
            unsafe fn run(self) -> bf16 {
                let mut to = [bf16::ZERO; 16];
                // SAFETY: there is room for every lane of any level.
                unsafe { bf16::store(X::splat(self.0), to.as_mut_ptr()) };
                to[X::LANES - 1]
            }
        }
        fn round<L: Level>(value: f32) -> bf16 {
            // SAFETY: the level is available.
            unsafe { L::Main::vectorize(Round(value)) }
        }
        for simd in Simd::available() {
            for bits in (0..=u16::MAX).flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001].map(|low| (high, low)))
            {
                let value = f32::from_bits(u32::from(bits.0) << 16 | bits.1);
                let (found, expected) = (dispatch!(simd, bf16, bf16 => round(value)), bf16::from_f32(value));
                assert_eq!(found.to_bits(), expected.to_bits(), "{simd}: {value:e}");
            }
        }
    }
}

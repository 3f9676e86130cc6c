//! What the micro-kernels compute with: a vector of f32, and the types that it is loaded from and stored to.

use half::{bf16, f16};

use crate::cpu::buffer::Plain;

/// The widest vector there is.
const MAX_LANES: usize = 16;

/// The operations that a tile is made of.
///
/// # Safety
///
/// All methods: this CPU has the level's instructions, and pointers cover LANES elements. No alignment is
/// asked for beyond the element's.
#[allow(clippy::missing_safety_doc, missing_docs, reason = "one contract for all: the trait's")]
pub(crate) trait Vector: Copy {
    const LANES: usize;
    /// Of a line of memory into the second-level cache, if the CPU wants to. Any address will do.
    unsafe fn prefetch(from: *const u8);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn load_f16(from: *const f16) -> Self;
    /// Rounds to nearest, ties to even; beyond 65504 to infinity.
    unsafe fn store_f16(self, to: *mut f16);
    unsafe fn load_bf16(from: *const bf16) -> Self;
    /// Rounds to nearest, ties to even, subnormals too.
    unsafe fn store_bf16(self, to: *mut bf16);
    /// `self · factor + addend`
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The larger one; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// 2ⁿ, where a lane holds `n + `[`exp::ROUND`](super::exp::ROUND), −126 ≤ n ≤ 127; anything for other
    /// lanes.
    unsafe fn exp2_of_rounded(self) -> Self;
}

/// A type that vectors are loaded from and rounded to.
///
/// # Safety
///
/// All methods: as those of [`Vector`]; with an `n ≤ LANES`, pointers cover n elements.
#[allow(clippy::missing_safety_doc, missing_docs, reason = "one contract for all: the trait's")]
pub(crate) trait Storage: Plain + Default + Unit<Self> {
    /// Exactly.
    fn widen(self) -> f32;
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// Rounds to nearest, ties to even.
    unsafe fn store<V: Vector>(value: V, to: *mut Self);

    /// Reads n elements; the other lanes are zero.
    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: the caller vouches for n elements, and n ≤ LANES ≤ MAX_LANES.
        unsafe {
            if n == V::LANES {
                return Self::load(from);
            }
            let mut buffer = [Self::default(); MAX_LANES];
            std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), n);
            Self::load(buffer.as_ptr())
        }
    }

    /// Writes the first n elements.
    #[inline(always)]
    unsafe fn store_first<V: Vector>(value: V, to: *mut Self, n: usize) {
        const { assert!(V::LANES <= MAX_LANES) };
        // SAFETY: the caller vouches for n elements, and n ≤ LANES ≤ MAX_LANES.
        unsafe {
            if n == V::LANES {
                return Self::store(value, to);
            }
            let mut buffer = [Self::default(); MAX_LANES];
            Self::store(value, buffer.as_mut_ptr());
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, n);
        }
    }
}

macro_rules! storage {
    ($type:ty, $load:ident, $store:ident, $widen:expr) => {
        impl Storage for $type {
            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }

            #[inline(always)]
            unsafe fn load<V: Vector>(from: *const Self) -> V {
                // SAFETY: the trait's contract.
                unsafe { V::$load(from) }
            }

            #[inline(always)]
            unsafe fn store<V: Vector>(value: V, to: *mut Self) {
                // SAFETY: the trait's contract.
                unsafe { value.$store(to) }
            }
        }
    };
}
storage!(f16, load_f16, store_f16, f16::to_f32);
storage!(bf16, load_bf16, store_bf16, bf16::to_f32);
storage!(f32, load, store, std::convert::identity);

/// What a panel holds of a column in one step: a number of elements of T.
pub(crate) trait Unit<T>: Plain + Default {
    /// How many.
    const DEPTH: usize;
    /// From the elements `0..DEPTH`.
    fn gather(values: impl Fn(usize) -> T) -> Self;
}

impl Unit<f16> for f16 {
    const DEPTH: usize = 1;

    fn gather(values: impl Fn(usize) -> f16) -> Self {
        values(0)
    }
}

impl Unit<bf16> for bf16 {
    const DEPTH: usize = 1;

    fn gather(values: impl Fn(usize) -> bf16) -> Self {
        values(0)
    }
}

impl<T: Storage> Unit<T> for f32 {
    const DEPTH: usize = 1;

    fn gather(values: impl Fn(usize) -> T) -> Self {
        values(0).widen()
    }
}

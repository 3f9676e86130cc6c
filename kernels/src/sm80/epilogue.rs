//! Bias, activation and residuals, eight sums of a row at a time.

use super::{
    chunks,
    store::{Finish, WIDTH},
};
use crate::{
    Global,
    device::{ex2_approx, f16_to_f32, fma, rcp_approx},
    params::{Epilogue, Params},
};

/// The [`Epilogue`] of a tile of y. With ADDEND the sums start from its addend.
pub(crate) struct Epilogued<'a, const ADDEND: bool> {
    pub params: &'a Params,
    /// Of the tile.
    pub first_row: u32,
    /// Of the tile.
    pub first_column: u32,
}

impl<const ADDEND: bool> Finish for Epilogued<'_, ADDEND> {
    #[inline(always)]
    unsafe fn finish(
        &self,
        row: u32,
        column: u32,
        present: u32,
        mut sums: [f32; WIDTH as usize],
    ) -> [f32; WIDTH as usize] {
        let epilogue = &self.params.epilogue;
        let at = Eight {
            row: u64::from(self.first_row + row),
            column: u64::from(self.first_column + column),
            present,
        };
        // SAFETY: the bias has y's columns, matrices have its rows, too.
        unsafe {
            if ADDEND {
                at.add(&mut sums, epilogue.addend, epilogue.ld_addend);
            }
            at.add(&mut sums, epilogue.bias, 0);
            if epilogue.activation == Epilogue::GELU_TANH {
                sums = sums.map(gelu_tanh);
            }
            at.add(&mut sums, epilogue.residual, epilogue.ld_residual);
            at.add(&mut sums, epilogue.second_residual, epilogue.ld_second_residual);
        }
        sums
    }
}

/// Up to eight elements of a row, `present` of them.
#[derive(Clone, Copy)]
struct Eight {
    row: u64,
    column: u64,
    present: u32,
}

impl Eight {
    /// Adds those of a matrix, unless it is null.
    ///
    /// # Safety
    ///
    /// They are readable.
    #[inline(always)]
    unsafe fn add(self, sums: &mut [f32; WIDTH as usize], matrix: Global<u16>, stride: u32) {
        if !matrix.is_null() {
            let from = matrix.offset(self.row * u64::from(stride) + self.column);
            // SAFETY: the caller's contract.
            let words = unsafe { load_eight(from, self.present) };
            let mut i = 0;
            while i < WIDTH as usize {
                sums[i] += f16_to_f32((words[i / 2] >> (16 * (i % 2))) as u16);
                i += 1;
            }
        }
    }
}

/// Eight elements of a row, two in a word; zeros for those from `present` on.
///
/// # Safety
///
/// `present` are readable at `from`.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn load_eight(from: Global<u16>, present: u32) -> [u32; 4] {
    // SAFETY: the caller's contract.
    unsafe { chunks::load(from, present, from.address().is_multiple_of(16)) }
}

/// √(8/π) · log₂ e, and 0.044715 times that.
const GELU: [f32; 2] = [2.302_208_2, 0.102_943_24];
/// Below it GELU is 10⁻³⁶ or less in magnitude.
const GELU_MIN: f32 = -10.0;

/// GELU in the form with tanh, which is `t · σ(√(8/π) · (t + 0.044715 t³))`:
///
/// ```text
/// t / (1 + 2^( -GELU[0] t - GELU[1] t³ ))
/// ```
///
/// Within 2⁻²⁰ of it, relative, from -2 on. Below, where it falls from -0.05 to nothing, the exponent's
/// rounding counts, 126 · 2⁻²⁴ at most and less than 2⁻¹⁵ in all: of what is left nobody sees more than f16
/// has. A large t, whose cube overflows, makes the power 0, and stays; one below [`GELU_MIN`], -∞ among them,
/// which would become -∞ · 0, gives what that gives, -0 in f16. NaN stays NaN: a comparison with it is false.
/// (A `max` would drop it.)
#[inline(always)]
pub(crate) fn gelu_tanh(t: f32) -> f32 {
    let t = if t < GELU_MIN { GELU_MIN } else { t };
    let slope = fma(t * t, -GELU[1], -GELU[0]);
    t * rcp_approx(1.0 + ex2_approx(slope * t))
}

//! Rounding in directions, and to odd before a second rounding. PTX ISA, "Floating-Point Instructions", IEEE
//! 754.

use super::types::Mode;

/// The f64 next to a value, above or below it.
fn next(value: f64, up: bool) -> f64 {
    if up { value.next_up() } else { value.next_down() }
}

/// x + y, rounded to odd: where it is inexact its last bit is 1, so that any rounding to fewer bits is as if
/// of the exact sum.
pub(super) fn odd_sum(x: f64, y: f64) -> f64 {
    let sum = x + y;
    // The error of the sum, exactly (Knuth's TwoSum).
    let virtual_y = sum - x;
    let error = (x - (sum - virtual_y)) + (y - virtual_y);
    if error != 0.0 && error.is_finite() && sum.to_bits() & 1 == 0 { next(sum, error > 0.0) } else { sum }
}

/// An f64 to f32, rounded to odd.
pub(super) fn narrowed(value: f64) -> f32 {
    let down = towards_zero(value);
    if f64::from(down) == value || value.is_nan() { down } else { f32::from_bits(down.to_bits() | 1) }
}

fn towards_zero(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest).abs() > value.abs() { f32::from_bits(nearest.to_bits() - 1) } else { nearest }
}

/// An f64 to f32 in a direction.
pub(super) fn rounded(value: f64, mode: Mode) -> f32 {
    let down = towards_zero(value);
    let is_exact = f64::from(down) == value || value.is_nan();
    match mode {
        Mode::Up if !is_exact && value > 0.0 => down.next_up(),
        Mode::Down if !is_exact && value < 0.0 => down.next_down(),
        Mode::Zero | Mode::Up | Mode::Down => down,
        _ => value as f32,
    }
}

//! What ldmatrix and mma compute on the registers of a whole warp.

use crate::{clock::WARP, halves::Half};

const LANES: usize = WARP as usize;

/// Splits a register into two f16, the lower half first.
fn halves(register: u32) -> [u16; 2] {
    [register as u16, (register >> 16) as u16]
}

/// `mma.m16n8k16.row.col.f32.f16.f16.f32`, or of bf16, on the registers of a warp, by lane.
///
/// Fragments (PTX ISA 9.7.14.5.8), for lane l with g = l / 4 and t = l mod 4, elements of a register from the lower
/// half up:
/// - a, 16 × 16: register i holds row g + 8 (i mod 2), columns 2t + 8 (i / 2) and the next;
/// - b, 16 × 8: register i holds column g, rows 2t + 8 i and the next;
/// - c and d, 16 × 8: value i is row g + 8 (i / 2), column 2t + i mod 2.
///
/// The 16 products are exact, they and c are added in f64, the sum is rounded towards zero to f32.
pub(crate) fn mma_m16n8k16(
    half: Half,
    a: &[[u32; 4]; LANES],
    b: &[[u32; 2]; LANES],
    c: &mut [[f32; 4]; LANES],
) {
    let mut a_bits = [0; 16 * 16];
    let mut b_bits = [0; 16 * 8];
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for (i, &register) in a[lane].iter().enumerate() {
            let at = (g + 8 * (i % 2)) * 16 + 2 * t + 8 * (i / 2);
            for (j, bits) in halves(register).into_iter().enumerate() {
                a_bits[at + j] = bits;
            }
        }
        for (i, &register) in b[lane].iter().enumerate() {
            for (j, bits) in halves(register).into_iter().enumerate() {
                b_bits[(2 * t + 8 * i + j) * 8 + g] = bits;
            }
        }
    }
    let (mut a_rows, mut b_rows) = ([0f32; 16 * 16], [0f32; 16 * 8]);
    half.widen(&a_bits, &mut a_rows);
    half.widen(&b_bits, &mut b_rows);
    let b_rows: [f64; 16 * 8] = b_rows.map(f64::from);

    for row in 0..16 {
        let place = |column: usize| ((row % 8) * 4 + column / 2, 2 * (row / 8) + column % 2);
        let mut sums: [f64; 8] = std::array::from_fn(|column| {
            let (lane, i) = place(column);
            f64::from(c[lane][i])
        });
        for (k, b_row) in b_rows.chunks_exact(8).enumerate() {
            let factor = f64::from(a_rows[row * 16 + k]);
            for (sum, b) in sums.iter_mut().zip(b_row) {
                *sum += factor * b;
            }
        }
        for (column, sum) in sums.into_iter().enumerate() {
            let (lane, i) = place(column);
            c[lane][i] = round_towards_zero(sum);
        }
    }
}

/// f64 to f32, as IEEE 754 rounds towards zero: what is beyond the largest f32 becomes the largest.
pub(crate) fn round_towards_zero(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest).abs() > value.abs() { f32::from_bits(nearest.to_bits() - 1) } else { nearest }
}

/// `ldmatrix.x4` (PTX ISA 9.7.14.5.15): `rows[8 i + r]` is row r of matrix i; register i of lane l gets elements
/// 2 (l mod 4) and the next of row l / 4 of matrix i.
pub(crate) fn ldmatrix_x4(rows: &[[u8; 16]; LANES]) -> [[u32; 4]; LANES] {
    std::array::from_fn(|lane| {
        std::array::from_fn(|i| {
            let row = &rows[8 * i + lane / 4];
            let at = 4 * (lane % 4);
            u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]])
        })
    })
}

/// `ldmatrix.x4.trans`: register i of lane l gets elements l / 4 of rows 2 (l mod 4) and the next of matrix i, the lower
/// row in the lower half.
pub(crate) fn ldmatrix_x4_trans(rows: &[[u8; 16]; LANES]) -> [[u32; 4]; LANES] {
    std::array::from_fn(|lane| {
        std::array::from_fn(|i| {
            let (row, at) = (8 * i + 2 * (lane % 4), 2 * (lane / 4));
            u32::from_le_bytes([rows[row][at], rows[row][at + 1], rows[row + 1][at], rows[row + 1][at + 1]])
        })
    })
}

/// `stmatrix.x4.trans`, the inverse of [`ldmatrix_x4_trans`].
pub(crate) fn stmatrix_x4_trans(values: &[[u32; 4]; LANES]) -> [[u8; 16]; LANES] {
    let mut rows = [[0; 16]; LANES];
    for (lane, registers) in values.iter().enumerate() {
        for (i, register) in registers.iter().enumerate() {
            let (row, at) = (8 * i + 2 * (lane % 4), 2 * (lane / 4));
            for (half, bytes) in register.to_le_bytes().chunks_exact(2).enumerate() {
                rows[row + half][at..at + 2].copy_from_slice(bytes);
            }
        }
    }
    rows
}

/// `stmatrix.x4` (PTX ISA 9.7.14.5.16), the inverse of [`ldmatrix_x4`]: `rows[8 i + r]` is row r of matrix i; register
/// i of lane l goes to elements 2 (l mod 4) and the next of row l / 4 of matrix i.
pub(crate) fn stmatrix_x4(values: &[[u32; 4]; LANES]) -> [[u8; 16]; LANES] {
    let mut rows = [[0; 16]; LANES];
    for (lane, registers) in values.iter().enumerate() {
        for (i, register) in registers.iter().enumerate() {
            let at = 4 * (lane % 4);
            rows[8 * i + lane / 4][at..at + 4].copy_from_slice(&register.to_le_bytes());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stmatrix_inverts_ldmatrix() {
        let values: [[u32; 4]; LANES] =
            std::array::from_fn(|lane| std::array::from_fn(|i| (lane * 4 + i) as u32 * 0x0102_0305));
        let rows = stmatrix_x4(&values);
        assert_eq!(ldmatrix_x4(&rows), values);
        assert_eq!(stmatrix_x4(&ldmatrix_x4(&rows)), rows);
        assert_eq!(ldmatrix_x4_trans(&stmatrix_x4_trans(&values)), values);
        // As drawn: lane 5 holds elements 2 and 3 of row 1 of each matrix, the lower half first.
        assert_eq!(rows[8 * 2 + 1][4..8], values[5][2].to_le_bytes());
        assert_eq!(rows[31][12..], values[31][3].to_le_bytes());
    }
}

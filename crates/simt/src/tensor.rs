//! What ldmatrix and mma compute on the registers of a whole warp.

use crate::{
    clock::WARP,
    numbers::Sum,
    wgmma::{Types, multiply},
};

const LANES: usize = WARP as usize;

/// `mma` of 16 rows and 8 columns on the registers of a warp, by lane.
///
/// Fragments (PTX ISA, "Matrix multiply-accumulate operation using mma instruction"), for lane l with g = l /
/// 4 and t = l mod 4, whatever the numbers are:
/// - a, 16 rows of 32 bytes: register i holds the four bytes from 4t + 16 (i / 2) on of row g + 8 (i mod 2);
/// - b, 8 columns of 32 bytes: register i holds the four bytes from 4t + 16 i on of column g;
/// - c and d, 16 × 8: value i is row g + 8 (i / 2), column 2t + i mod 2; two f16 share a register.
///
/// Where rows have 16 bytes the other registers are 0.
pub(crate) fn mma(types: Types, a: &[[u32; 4]; LANES], b: &[[u32; 2]; LANES], c: &mut [[u32; 4]; LANES]) {
    let (mut rows, mut columns) = ([[0; 32]; 16], [[0; 32]; 8]);
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for (i, register) in a[lane].iter().enumerate() {
            rows[g + 8 * (i % 2)][4 * t + 16 * (i / 2)..][..4].copy_from_slice(&register.to_le_bytes());
        }
        for (i, register) in b[lane].iter().enumerate() {
            columns[g][4 * t + 16 * i..][..4].copy_from_slice(&register.to_le_bytes());
        }
    }
    let count = if types.sum == Sum::F16 { 2 } else { 4 };
    let mut d = [0f32; 4 * LANES];
    for (d, c) in d.chunks_exact_mut(count).zip(&*c) {
        d.copy_from_slice(&c.map(f32::from_bits)[..count]);
    }
    multiply(types, false, &rows, &columns, &mut d[..count * LANES]);
    for (d, c) in d.chunks_exact(count).zip(c) {
        for (d, c) in d.iter().zip(c) {
            *c = d.to_bits();
        }
    }
}

/// `mma.m8n8k4.row.col.f64`: a lane holds row g, column t of a, row t, column g of b, and columns 2t and 2t +
/// 1 of row g of c, each as two words. Each product is fused into the sum, in the order of k.
pub(crate) fn mma_f64(a: &[[u32; 4]; LANES], b: &[[u32; 2]; LANES], c: &mut [[u32; 4]; LANES]) {
    let double = |words: &[u32]| f64::from_bits(u64::from(words[1]) << 32 | u64::from(words[0]));
    for (lane, c) in c.iter_mut().enumerate() {
        let (g, t) = (lane / 4, lane % 4);
        for (i, words) in c.chunks_exact_mut(2).enumerate() {
            let product = |k: usize| (double(&a[4 * g + k]), double(&b[4 * (2 * t + i) + k]));
            let sum = (0..4).map(product).fold(double(words), |sum, (a, b)| a.mul_add(b, sum));
            words.copy_from_slice(&[sum.to_bits() as u32, (sum.to_bits() >> 32) as u32]);
        }
    }
}

/// `ldmatrix.x4` (PTX ISA, "ldmatrix"): `rows[8 i + r]` is row r of matrix i; register i of lane l gets
/// elements 2 (l mod 4) and the next of row l / 4 of matrix i.
pub(crate) fn ldmatrix_x4(rows: &[[u8; 16]; LANES]) -> [[u32; 4]; LANES] {
    std::array::from_fn(|lane| {
        std::array::from_fn(|i| {
            let row = &rows[8 * i + lane / 4];
            let at = 4 * (lane % 4);
            u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]])
        })
    })
}

/// `ldmatrix.x4.trans`: register i of lane l gets elements l / 4 of rows 2 (l mod 4) and the next of matrix
/// i, the lower row in the lower half.
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

/// `stmatrix.x4` (PTX ISA, "stmatrix"), the inverse of [`ldmatrix_x4`]: `rows[8 i + r]` is row r of matrix i;
/// register i of lane l goes to elements 2 (l mod 4) and the next of row l / 4 of matrix i.
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

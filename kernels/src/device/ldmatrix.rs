//! Loading fragments. PTX ISA, "ldmatrix".

use core::arch::asm;

use super::{SharedAddr, instruction::instructions};

instructions! {
    /// `ldmatrix.sync.aligned.m8n8.x4.shared.b16`: four 8 × 8 matrices of f16. Lanes 8i to 8i + 7 give the
    /// addresses of the rows of matrix i, 16 bytes each; register i of lane l gets elements 2 (l mod 4) and 2
    /// (l mod 4) + 1 of row l / 4 of matrix i, the lower column in the lower half.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it; `row` is a multiple of 16 and its 16 bytes are readable; no write
    /// races with it. It orders nothing.
    pub unsafe fn ldmatrix_x4(row: SharedAddr) -> [u32; 4] {
        let (a, b, c, d): (u32, u32, u32, u32);
        asm!(
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{0}, {1}, {2}, {3}}}, [{4}];",
            out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row.address(),
            options(nostack, readonly),
        );
        [a, b, c, d]
    }

    /// `ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16`: the same, each matrix transposed: register i of lane
    /// l gets elements l / 4 of rows 2 (l mod 4) and 2 (l mod 4) + 1 of matrix i, the lower row in the lower
    /// half.
    ///
    /// # Safety
    ///
    /// As [`ldmatrix_x4`].
    pub unsafe fn ldmatrix_x4_trans(row: SharedAddr) -> [u32; 4] {
        let (a, b, c, d): (u32, u32, u32, u32);
        asm!(
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{{0}, {1}, {2}, {3}}}, [{4}];",
            out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row.address(),
            options(nostack, readonly),
        );
        [a, b, c, d]
    }
}

//! Fragments from registers to shared memory. PTX ISA, "stmatrix".

use core::arch::asm;

use super::{SharedAddr, instruction::instructions};

instructions! {
    /// `stmatrix.sync.aligned.m8n8.x4.shared.b16`: stores four 8 × 8 matrices of f16; lane 8 i + r names
    /// where row r of matrix i goes, and holds in register i the elements 2 (l mod 4) and the next of row l /
    /// 4.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it; each `row` is a multiple of 16 with 16 bytes writable, which nobody
    /// else touches until they are ordered after this.
    pub unsafe fn stmatrix_x4(row: SharedAddr, values: [u32; 4]) {
        asm!(
            "stmatrix.sync.aligned.m8n8.x4.shared.b16 [{0}], {{{1}, {2}, {3}, {4}}};",
            in(reg32) row.address(),
            in(reg32) values[0], in(reg32) values[1], in(reg32) values[2], in(reg32) values[3],
            options(nostack),
        )
    }
}

//! Tensor cores, warp-wide. PTX ISA, "Matrix Fragments for mma.m16n8k16".

use core::arch::asm;

use super::instruction::instructions;

instructions! {
    /// `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`: c + a · b over the warp, with a: 16 × 16, b: 16 ×
    /// 8 and c: 16 × 8.
    ///
    /// Lane l with g = l / 4 and t = l mod 4 holds
    /// - of a: rows g, g + 8, g, g + 8 and columns 2t, 2t + 1 (registers 0, 1), 2t + 8, 2t + 9 (registers 2,
    ///   3);
    /// - of b: column g and rows 2t, 2t + 1 (register 0), 2t + 8, 2t + 9 (register 1);
    /// - of c: row g, columns 2t, 2t + 1 (values 0, 1); row g + 8, the same columns (values 2, 3).
    ///
    /// The accumulator is a value: in and out.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it.
    pub unsafe fn mma_m16n8k16_f16(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = c;
        asm!(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
            "    {{{0}, {1}, {2}, {3}}}, {{{4}, {5}, {6}, {7}}}, {{{8}, {9}}}, {{{0}, {1}, {2}, {3}}};",
            inout(reg32) c0, inout(reg32) c1, inout(reg32) c2, inout(reg32) c3,
            in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
            in(reg32) b[0], in(reg32) b[1],
            options(pure, nomem, nostack),
        );
        [c0, c1, c2, c3]
    }
}

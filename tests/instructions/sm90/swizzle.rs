//! Where 16 bytes of a box lie in shared memory (PTX ISA, "Swizzling Modes"): within a row, chunks of 16
//! bytes change places by the number of the row.

/// How chunks change places, by the bytes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl Swizzle {
    /// The byte where chunk `chunk` of row `row` lies in a box with rows of `row_bytes`, from a multiple of
    /// 1024 on.
    ///
    /// By the figures: in rows of 128 bytes, the eight chunks by the eight rows of a pattern of 1024; in rows
    /// of 64, the four by pairs of rows; in rows of 32, the two by fours of rows.
    pub(crate) fn place(self, row_bytes: usize, row: usize, chunk: usize) -> usize {
        let there = match self {
            Self::None => chunk,
            Self::B32 => chunk ^ (row / 4 % 2),
            Self::B64 => chunk ^ (row / 2 % 4),
            Self::B128 => chunk ^ (row % 8),
        };
        row * row_bytes + 16 * there
    }

    /// Shared memory with these rows in it, of 16-byte chunks.
    pub(crate) fn image(self, rows: &[Vec<u16>]) -> Vec<u32> {
        let row_bytes = 2 * rows[0].len();
        let mut image = vec![0u16; rows.len() * row_bytes / 2];
        for (number, row) in rows.iter().enumerate() {
            for (chunk, elements) in row.chunks(8).enumerate() {
                let at = self.place(row_bytes, number, chunk) / 2;
                image[at..at + 8].copy_from_slice(elements);
            }
        }
        image.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
    }
}

#[test]
fn swizzles_are_those_of_the_figures() {
    // Rows 0, 1, 2 and so on of the figures of "Swizzling Modes": which chunk lies first.
    let first = |swizzle: Swizzle, chunks: usize| {
        let found = |row: usize| {
            (0..chunks).find(|&chunk| swizzle.place(16 * chunks, row, chunk) == 16 * chunks * row)
        };
        (0..8).map(|row| found(row).expect("some chunk is first")).collect::<Vec<_>>()
    };
    assert_eq!(first(Swizzle::None, 8), [0; 8]);
    assert_eq!(first(Swizzle::B128, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(first(Swizzle::B64, 4), [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!(first(Swizzle::B32, 2), [0, 0, 0, 0, 1, 1, 1, 1]);
}

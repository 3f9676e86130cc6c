//! Tensor maps, and where a tensor copy finds each 16 bytes of its box.

/// Bytes of an element: all tensors are f16.
const ELEMENT: u64 = 2;
/// Bytes of a chunk, the smallest piece that a swizzle moves.
pub(crate) const CHUNK: u32 = 16;
/// Tells a map from bytes that are none.
const MAGIC: u64 = u64::from_le_bytes(*b"simt map");
/// The fields of an encoded map after [`MAGIC`]; what is left of it, the checksum aside, is zero.
const FIELDS: usize = 6;

/// How the 16-byte chunks of a tensor's box lie in shared memory (PTX ISA 5.5.7): exchanged within rows of
/// [`span`](Self::span) bytes, so that a column of chunks meets all banks.
///
/// It acts on the bits of the absolute address in shared memory, wherever the box begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Row after row as they are.
    None,
    /// Within 32 bytes: address bit 4 ^= bit 7.
    B32,
    /// Within 64 bytes: address bits 4 and 5 ^= bits 7 and 8.
    B64,
    /// Within 128 bytes: address bits 4 to 6 ^= bits 7 to 9.
    B128,
}

impl Swizzle {
    /// Bytes of a row within which chunks are exchanged; without a swizzle a chunk, which stays where it is.
    #[must_use]
    pub const fn span(self) -> u32 {
        match self {
            Self::None => 16,
            Self::B32 => 32,
            Self::B64 => 64,
            Self::B128 => 128,
        }
    }

    /// Where the byte lies that would be at `address` without the swizzle. Its own inverse.
    #[must_use]
    pub const fn apply(self, address: u32) -> u32 {
        address ^ (address >> 3 & (self.span() - CHUNK))
    }
}

/// A matrix of f16 in global memory and the box of it that one copy moves: what `cuTensorMapEncodeTiled` makes a
/// `CUtensorMap` of, in two dimensions, without interleave, with zeros for what is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorMap {
    /// Of the first element.
    pub address: u64,
    /// Columns and rows.
    pub dims: [u64; 2],
    /// Bytes from a row to the next.
    pub stride: u64,
    /// Columns and rows of the box.
    pub box_dims: [u32; 2],
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

/// 16 bytes of a box: in shared memory all of them, in global memory those within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where they lie in shared memory.
    pub(crate) shared: u32,
    /// Bytes out of bounds before the first within.
    pub(crate) skip: u32,
    /// Bytes within bounds; the rest of the chunk is out of bounds.
    pub(crate) bytes: u32,
    /// Where the first byte within bounds lies in global memory, if there is one. Not aligned to a chunk.
    pub(crate) global: Option<u64>,
}

impl TensorMap {
    /// Bytes of the box in shared memory, which a load reports to its mbarrier, in bounds or not.
    #[must_use]
    pub const fn box_bytes(&self) -> u32 {
        self.box_dims[0] * self.box_dims[1] * ELEMENT as u32
    }

    /// The map as kernels pass it: of the size of a `CUtensorMap`, though not its bits, which are the driver's own.
    #[must_use]
    pub const fn encode(&self) -> [u64; 16] {
        let mut words = [0; 16];
        words[0] = MAGIC;
        words[1] = self.address;
        words[2] = self.dims[0];
        words[3] = self.dims[1];
        words[4] = self.stride;
        words[5] = (self.box_dims[1] as u64) << 32 | self.box_dims[0] as u64;
        words[6] = self.swizzle as u64;
        words[15] = checksum(&words);
        words
    }

    /// The map that was [encoded](Self::encode).
    ///
    /// # Errors
    ///
    /// Why these words are no map, or not one that the driver would have made, see [`check`](Self::check).
    pub fn decode(words: &[u64; 16]) -> Result<Self, String> {
        if words[0] != MAGIC {
            return Err("these 128 bytes are no tensor map".to_owned());
        }
        if words[15] != checksum(words) || words[FIELDS + 1..15].iter().any(|&word| word != 0) {
            return Err("the tensor map was changed after it was encoded".to_owned());
        }
        let swizzle = match words[6] {
            0 => Swizzle::None,
            1 => Swizzle::B32,
            2 => Swizzle::B64,
            3 => Swizzle::B128,
            other => return Err(format!("the tensor map has swizzle mode {other}, of 0 to 3")),
        };
        let map = Self {
            address: words[1],
            dims: [words[2], words[3]],
            stride: words[4],
            box_dims: [words[5] as u32, (words[5] >> 32) as u32],
            swizzle,
        };
        map.check()?;
        Ok(map)
    }

    /// Whether `cuTensorMapEncodeTiled` takes it.
    ///
    /// One thing is refused that the driver takes: a box with a swizzle and rows shorter than its span. The manual
    /// does not say whether such rows lie densely or a span apart.
    ///
    /// # Errors
    ///
    /// What it does not take.
    pub fn check(&self) -> Result<(), String> {
        let Self { address, dims, stride, box_dims, swizzle } = *self;
        if !address.is_multiple_of(16) {
            return Err(format!("the tensor's address {address:#x} is no multiple of 16"));
        }
        if dims.iter().any(|&dim| dim == 0 || dim > 1 << 32) {
            return Err(format!(
                "the tensor has {} columns and {} rows, of 1 to 2^32 each",
                dims[0], dims[1]
            ));
        }
        if !stride.is_multiple_of(16) || stride >= 1 << 40 {
            return Err(format!("the tensor's stride of {stride} bytes is no multiple of 16 below 2^40"));
        }
        let last_row = u128::from(dims[1] - 1) * u128::from(stride);
        let end = u128::from(address) + last_row + u128::from(dims[0]) * u128::from(ELEMENT);
        if end > u128::from(u64::MAX) {
            return Err(format!("the tensor ends at {end:#x}, beyond the address space"));
        }
        if box_dims.iter().any(|dim| !(1..=256).contains(dim)) {
            let [columns, rows] = box_dims;
            return Err(format!("the box has {columns} columns and {rows} rows, of 1 to 256 each"));
        }
        let row = box_dims[0] * ELEMENT as u32;
        if !row.is_multiple_of(16) {
            return Err(format!("a row of the box has {row} bytes, no multiple of 16"));
        }
        if swizzle != Swizzle::None && row != swizzle.span() {
            let span = swizzle.span();
            return Err(format!("a row of the box has {row} bytes, not the {span} of its swizzle"));
        }
        Ok(())
    }

    /// The chunks of the box whose first element is at column and row `at`, copied to or from shared memory at
    /// `shared`, row after row. Some or all of it may be out of bounds on any side.
    ///
    /// The map must have passed [`check`](Self::check).
    pub(crate) fn chunks(&self, at: [i32; 2], shared: u32) -> impl Iterator<Item = Chunk> + use<> {
        let map = *self;
        let elements = i64::from(CHUNK) / ELEMENT as i64;
        let [columns, rows] = map.box_dims.map(i64::from);
        let [width, height] = map.dims.map(|dim| i64::try_from(dim).unwrap_or(i64::MAX));
        let places = (0..rows).flat_map(move |row| (0..columns / elements).map(move |i| (row, i * elements)));
        places.zip(0..).map(move |((row, column), number)| {
            let row = i64::from(at[1]) + row;
            let column = i64::from(at[0]) + column;
            let first = column.clamp(0, width);
            let end = (column + elements).clamp(0, width);
            let inside = (0..height).contains(&row) && first < end;
            let global = map
                .address
                .wrapping_add((row as u64).wrapping_mul(map.stride))
                .wrapping_add(first as u64 * ELEMENT);
            Chunk {
                shared: map.swizzle.apply(shared.wrapping_add(number * CHUNK)),
                skip: if inside { ((first - column) as u64 * ELEMENT) as u32 } else { 0 },
                bytes: if inside { ((end - first) as u64 * ELEMENT) as u32 } else { 0 },
                global: inside.then_some(global),
            }
        })
    }
}

/// FNV-1a by words over all but the last.
const fn checksum(words: &[u64; 16]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < 15 {
        sum = (sum ^ words[i]).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of 100 columns and 50 rows, 208 bytes apart.
    fn map(box_dims: [u32; 2], swizzle: Swizzle) -> TensorMap {
        let map = TensorMap { address: 1 << 32, dims: [100, 50], stride: 208, box_dims, swizzle };
        map.check().unwrap();
        map
    }

    /// The tables of PTX ISA 5.5.7: which chunk of each line of 128 bytes lies at its eight places.
    #[test]
    fn swizzles_as_the_manual_draws_them() {
        let lines_128 = [
            [0, 1, 2, 3, 4, 5, 6, 7],
            [1, 0, 3, 2, 5, 4, 7, 6],
            [2, 3, 0, 1, 6, 7, 4, 5],
            [3, 2, 1, 0, 7, 6, 5, 4],
            [4, 5, 6, 7, 0, 1, 2, 3],
            [5, 4, 7, 6, 1, 0, 3, 2],
            [6, 7, 4, 5, 2, 3, 0, 1],
            [7, 6, 5, 4, 3, 2, 1, 0],
        ];
        for (swizzle, columns, lines) in [
            (Swizzle::B128, 64, &lines_128[..]),
            (Swizzle::B64, 32, &lines_128[..4]),
            (Swizzle::B32, 16, &lines_128[..2]),
            (Swizzle::None, 64, &lines_128[..1]),
        ] {
            let map = map([columns, 16 * 64 / columns], swizzle);
            let mut found = [[None; 8]; 16];
            for (i, chunk) in map.chunks([0, 0], 0x400).enumerate() {
                let place = (chunk.shared - 0x400) as usize / 16;
                assert_eq!(chunk.shared % 16, 0);
                assert_eq!(found[place / 8][place % 8].replace(i), None);
            }
            for (line, places) in found.iter().enumerate() {
                let expected = lines[line % lines.len()].map(|chunk: usize| Some(8 * line + chunk));
                assert_eq!(places, &expected, "{swizzle:?}, line {line}");
            }
        }
    }

    #[test]
    fn the_phase_of_a_swizzle_is_that_of_the_address() {
        // A box that begins in the third line of a pattern: chunk 0 lies where line 2 has it.
        let first = map([64, 8], Swizzle::B128).chunks([0, 0], 0x400 + 0x100).next().unwrap();
        assert_eq!(first.shared, 0x400 + 0x120);
        let second_row = map([64, 8], Swizzle::B128).chunks([0, 0], 0x400 + 0x100).nth(8).unwrap();
        assert_eq!(second_row.shared, 0x400 + 0x180 + 0x30);
    }

    /// What a load would place, chunk by chunk: for each element of the box the global element, if in bounds.
    fn loaded(map: &TensorMap, at: [i32; 2]) -> Vec<Option<(u64, u64)>> {
        let mut elements = vec![None; map.box_bytes() as usize / 2];
        for (i, chunk) in map.chunks(at, 0).enumerate() {
            assert!(chunk.skip % 2 == 0 && chunk.bytes % 2 == 0 && chunk.skip + chunk.bytes <= 16);
            assert_eq!(chunk.global.is_some(), chunk.bytes > 0);
            let Some(global) = chunk.global else { continue };
            for byte in (0..chunk.bytes).step_by(2) {
                let from = global + u64::from(byte) - map.address;
                let to = 8 * i + (chunk.skip + byte) as usize / 2;
                elements[to] = Some((from % map.stride / 2, from / map.stride));
            }
        }
        elements
    }

    #[test]
    fn elements_out_of_bounds_on_any_side_are_left_out() {
        for swizzle in [Swizzle::None, Swizzle::B32] {
            let map = map([16, 8], swizzle);
            for column in
                [i32::MIN, -17, -16, -15, -8, -3, -1, 0, 1, 5, 83, 84, 85, 92, 99, 100, 101, i32::MAX]
            {
                for row in [i32::MIN, -8, -7, -1, 0, 1, 41, 42, 43, 49, 50, 51, i32::MAX] {
                    let elements = loaded(&map, [column, row]);
                    for (i, element) in elements.into_iter().enumerate() {
                        let (x, y) = (i64::from(column) + i as i64 % 16, i64::from(row) + i as i64 / 16);
                        let inside = (0..100).contains(&x) && (0..50).contains(&y);
                        let expected = inside.then_some((x as u64, y as u64));
                        assert_eq!(element, expected, "{swizzle:?} at {column}, {row}: element {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_box_may_be_wider_and_higher_than_the_matrix() {
        let map = TensorMap { dims: [3, 2], ..map([16, 4], Swizzle::B32) };
        map.check().unwrap();
        assert_eq!(map.box_bytes(), 16 * 4 * 2);
        let elements = loaded(&map, [-1, -1]);
        let inside: Vec<_> = elements.iter().enumerate().filter_map(|(i, at)| at.map(|at| (i, at))).collect();
        let row = |first: usize, y| [(first, (0, y)), (first + 1, (1, y)), (first + 2, (2, y))];
        assert_eq!(inside, [row(17, 0), row(33, 1)].concat());
    }

    #[test]
    fn what_the_driver_refuses() {
        let good = map([64, 8], Swizzle::B128);
        let bad = [
            (TensorMap { address: (1 << 32) + 8, ..good }, "multiple of 16"),
            (TensorMap { dims: [0, 50], ..good }, "0 columns"),
            (TensorMap { dims: [100, 0], ..good }, "0 rows"),
            (TensorMap { dims: [(1 << 32) + 1, 50], ..good }, "2^32"),
            (TensorMap { stride: 200, ..good }, "200 bytes"),
            (TensorMap { stride: 1 << 40, ..good }, "2^40"),
            (TensorMap { address: u64::MAX - 15, ..good }, "address space"),
            (TensorMap { box_dims: [64, 0], ..good }, "0 rows"),
            (TensorMap { box_dims: [64, 257], ..good }, "257 rows"),
            (TensorMap { box_dims: [264, 8], swizzle: Swizzle::None, ..good }, "264 columns"),
            (TensorMap { box_dims: [12, 8], swizzle: Swizzle::None, ..good }, "24 bytes"),
            (TensorMap { box_dims: [72, 8], ..good }, "144 bytes"),
            (TensorMap { box_dims: [64, 8], swizzle: Swizzle::B64, ..good }, "128 bytes"),
            (TensorMap { box_dims: [32, 8], swizzle: Swizzle::B32, ..good }, "64 bytes"),
            // Not the driver, this machine.
            (TensorMap { box_dims: [32, 8], ..good }, "64 bytes"),
        ];
        for (map, reason) in bad {
            let refused = map.check().unwrap_err();
            assert!(refused.contains(reason), "{refused}: not about {reason}");
            assert_eq!(TensorMap::decode(&map.encode()), Err(refused));
        }
        // Rows that overlap are no error of the driver's, nor are rows that are longer than the stride.
        TensorMap { stride: 16, ..good }.check().unwrap();
        TensorMap { dims: [1 << 32, 1], ..good }.check().unwrap();
        TensorMap { box_dims: [256, 256], swizzle: Swizzle::None, ..good }.check().unwrap();
    }

    #[test]
    fn encoded_maps_decode_and_nothing_else_does() {
        for swizzle in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
            let columns = if swizzle == Swizzle::None { 256 } else { swizzle.span() / 2 };
            let map = map([columns, 256], swizzle);
            let words = map.encode();
            assert_eq!(TensorMap::decode(&words), Ok(map));
            for bit in 0..16 * 64 {
                let mut changed = words;
                changed[bit / 64] ^= 1 << (bit % 64);
                TensorMap::decode(&changed).unwrap_err();
            }
        }
        assert!(TensorMap::decode(&[0; 16]).is_err() && TensorMap::decode(&[u64::MAX; 16]).is_err());
    }
}

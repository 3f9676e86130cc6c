//! Tensor maps, and where a tensor copy finds each 16 bytes of its box.

use smallvec::SmallVec;

/// Bytes of a chunk, the smallest piece that a swizzle moves.
pub(crate) const CHUNK: u32 = 16;
/// Tells a map from bytes that are none.
const MAGIC: u64 = u64::from_le_bytes(*b"simt map");
/// Most dimensions of a tensor.
pub(crate) const RANK: usize = 5;
/// The word of an encoded map that holds rank, element and swizzle.
const FORM: usize = 14;

/// What a tensor holds: of it the machine needs the bytes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// `u8`.
    U8,
    /// `u16`.
    U16,
    /// `u32`.
    U32,
    /// `s32`.
    S32,
    /// `u64`.
    U64,
    /// `s64`.
    S64,
    /// `f16`.
    F16,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// `bf16`.
    Bf16,
}

impl Element {
    /// Of `CUtensorMapDataType`, in its order.
    pub const ALL: [Self; 10] = [
        Self::U8,
        Self::U16,
        Self::U32,
        Self::S32,
        Self::U64,
        Self::S64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::Bf16,
    ];

    /// Bytes of one.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::F32 => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }
}

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

/// A tensor in global memory and the box of it that one copy moves: what `cuTensorMapEncodeTiled` makes a `CUtensorMap` of,
/// without interleave, with zeros for what is out of bounds, every element one after another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    /// Of the first element.
    pub address: u64,
    /// What it holds.
    pub element: Element,
    /// Elements in each dimension, the contiguous one first: one to five.
    pub dims: Vec<u64>,
    /// Bytes from one element to the next in each dimension but the first.
    pub strides: Vec<u64>,
    /// Elements of the box in each dimension.
    pub box_dims: Vec<u32>,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

/// A [`Tensor`] of f16 in two dimensions.
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
    /// As a tensor.
    #[must_use]
    pub fn tensor(&self) -> Tensor {
        Tensor {
            address: self.address,
            element: Element::F16,
            dims: self.dims.to_vec(),
            strides: vec![self.stride],
            box_dims: self.box_dims.to_vec(),
            swizzle: self.swizzle,
        }
    }

    /// Bytes of the box in shared memory, see [`Tensor::box_bytes`].
    #[must_use]
    pub const fn box_bytes(&self) -> u32 {
        self.box_dims[0] * self.box_dims[1] * Element::F16.bytes()
    }

    /// See [`Tensor::encode`].
    #[must_use]
    pub fn encode(&self) -> [u64; 16] {
        self.tensor().encode()
    }

    /// See [`Tensor::check`].
    ///
    /// # Errors
    ///
    /// What the driver does not take.
    pub fn check(&self) -> Result<(), String> {
        self.tensor().check()
    }
}

impl Tensor {
    /// Bytes of the box in shared memory, which a load reports to its mbarrier, in bounds or not.
    #[must_use]
    pub fn box_bytes(&self) -> u32 {
        self.box_dims.iter().product::<u32>() * self.element.bytes()
    }

    /// The map as kernels pass it: of the size of a `CUtensorMap`, though not its bits, which are the driver's own.
    #[must_use]
    pub fn encode(&self) -> [u64; 16] {
        let mut words = [0; 16];
        words[0] = MAGIC;
        words[1] = self.address;
        words[2..].iter_mut().zip(&self.dims).take(RANK).for_each(|(word, dim)| *word = *dim);
        words[7..].iter_mut().zip(&self.strides).take(RANK - 1).for_each(|(word, stride)| *word = *stride);
        for (number, dim) in self.box_dims.iter().enumerate().take(RANK) {
            words[11 + number / 2] |= u64::from(*dim) << (32 * (number % 2));
        }
        words[FORM] = self.dims.len() as u64 | (self.element as u64) << 8 | (self.swizzle as u64) << 16;
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
        let form = words[FORM];
        let rank = (form & 0xff) as usize;
        let element = Element::ALL.get((form >> 8 & 0xff) as usize);
        let swizzle = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128]
            .get((form >> 16 & 0xff) as usize)
            .copied();
        let (true, Some(&element), Some(swizzle), 1..=RANK) =
            (words[15] == checksum(words) && form >> 24 == 0, element, swizzle, rank)
        else {
            return Err("the tensor map was changed after it was encoded".to_owned());
        };
        let box_dim = |number: usize| (words[11 + number / 2] >> (32 * (number % 2))) as u32;
        let map = Self {
            address: words[1],
            element,
            dims: words[2..][..rank].to_vec(),
            strides: words[7..][..rank - 1].to_vec(),
            box_dims: (0..rank).map(box_dim).collect(),
            swizzle,
        };
        map.check()?;
        if map.encode() != *words {
            return Err("the tensor map was changed after it was encoded".to_owned());
        }
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
        let Self { address, element, dims, strides, box_dims, swizzle } = self;
        let rank = dims.len();
        if !(1..=RANK).contains(&rank) || strides.len() != rank - 1 || box_dims.len() != rank {
            let (strides, box_dims) = (strides.len(), box_dims.len());
            return Err(format!("{rank} dimensions, {strides} strides, and {box_dims} of the box"));
        }
        if !address.is_multiple_of(16) {
            return Err(format!("the tensor's address {address:#x} is no multiple of 16"));
        }
        if dims.iter().any(|&dim| dim == 0 || dim > 1 << 32) {
            return Err(format!("the tensor has {}, of 1 to 2^32 each", listed(dims)));
        }
        if let Some(stride) = strides.iter().find(|stride| !stride.is_multiple_of(16) || **stride >= 1 << 40)
        {
            return Err(format!("the tensor's stride of {stride} bytes is no multiple of 16 below 2^40"));
        }
        let row = u128::from(dims[0]) * u128::from(element.bytes());
        let beyond =
            dims[1..].iter().zip(strides).map(|(&dim, &stride)| u128::from(dim - 1) * u128::from(stride));
        let end = u128::from(*address) + row + beyond.sum::<u128>();
        if end > u128::from(u64::MAX) {
            return Err(format!("the tensor ends at {end:#x}, beyond the address space"));
        }
        if box_dims.iter().any(|dim| !(1..=256).contains(dim)) {
            return Err(format!("the box has {}, of 1 to 256 each", listed(box_dims)));
        }
        let row = box_dims[0] * element.bytes();
        if !row.is_multiple_of(16) {
            return Err(format!("a row of the box has {row} bytes, no multiple of 16"));
        }
        if *swizzle != Swizzle::None && row != swizzle.span() {
            let span = swizzle.span();
            return Err(format!("a row of the box has {row} bytes, not the {span} of its swizzle"));
        }
        Ok(())
    }

    /// The chunks of the box whose first element is at these coordinates, copied to or from shared memory at `shared`, row
    /// after row. Some or all of it may be out of bounds on any side.
    ///
    /// The map must have passed [`check`](Self::check), and there must be as many coordinates as dimensions.
    pub(crate) fn chunks(&self, at: &[i32], shared: u32) -> impl Iterator<Item = Chunk> + use<'_> {
        let bytes = self.element.bytes();
        let elements = i64::from(CHUNK / bytes);
        let chunks = i64::from(self.box_dims[0]) / elements;
        let rows: u32 = self.box_dims[1..].iter().product();
        let width = i64::try_from(self.dims[0]).unwrap_or(i64::MAX);
        let at: SmallVec<[i64; RANK]> = at.iter().map(|&at| i64::from(at)).collect();
        (0..rows)
            .flat_map(move |row| {
                // The address of the row, if the row is within bounds.
                let (mut rest, mut start) = (row, Some(self.address));
                for (dim, stride) in (1..).zip(&self.strides) {
                    let place = at[dim] + i64::from(rest % self.box_dims[dim]);
                    rest /= self.box_dims[dim];
                    let is_in = u64::try_from(place).is_ok_and(|place| place < self.dims[dim]);
                    start = start
                        .filter(|_| is_in)
                        .map(|start| start.wrapping_add((place as u64).wrapping_mul(*stride)));
                }
                let first = at[0];
                (0..chunks).map(move |chunk| (start, first + chunk * elements))
            })
            .zip(0..)
            .map(move |((start, column), number)| {
                let first = column.clamp(0, width);
                let end = (column + elements).clamp(0, width);
                let start = start.filter(|_| first < end);
                let inside = start.is_some();
                Chunk {
                    shared: self.swizzle.apply(shared.wrapping_add(number * CHUNK)),
                    skip: if inside { (first - column) as u32 * bytes } else { 0 },
                    bytes: if inside { (end - first) as u32 * bytes } else { 0 },
                    global: start.map(|start| start.wrapping_add(first as u64 * u64::from(bytes))),
                }
            })
    }
}

/// `3 columns and 4 rows`, or `3 × 4 × 5`.
fn listed(dims: &[impl std::fmt::Display]) -> String {
    match dims {
        [columns, rows] => format!("{columns} columns and {rows} rows"),
        _ => dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × "),
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
            for (i, chunk) in map.tensor().chunks(&[0, 0], 0x400).enumerate() {
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
        let first = map([64, 8], Swizzle::B128).tensor().chunks(&[0, 0], 0x400 + 0x100).next().unwrap();
        assert_eq!(first.shared, 0x400 + 0x120);
        let second_row = map([64, 8], Swizzle::B128).tensor().chunks(&[0, 0], 0x400 + 0x100).nth(8).unwrap();
        assert_eq!(second_row.shared, 0x400 + 0x180 + 0x30);
    }

    /// What a load would place, chunk by chunk: for each element of the box the global element, if in bounds.
    fn loaded(map: &TensorMap, at: [i32; 2]) -> Vec<Option<(u64, u64)>> {
        let mut elements = vec![None; map.box_bytes() as usize / 2];
        for (i, chunk) in map.tensor().chunks(&at, 0).enumerate() {
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
            assert_eq!(Tensor::decode(&map.encode()), Err(refused));
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
            assert_eq!(Tensor::decode(&words), Ok(map.tensor()));
            for bit in 0..16 * 64 {
                let mut changed = words;
                changed[bit / 64] ^= 1 << (bit % 64);
                Tensor::decode(&changed).unwrap_err();
            }
        }
        assert!(Tensor::decode(&[0; 16]).is_err() && Tensor::decode(&[u64::MAX; 16]).is_err());
    }
}

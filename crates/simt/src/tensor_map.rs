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

/// How the 16-byte chunks of a tensor's box lie in shared memory (PTX ISA, "Swizzling Modes"): exchanged
/// within rows of [`span`](Self::span) bytes, so that a column of chunks meets all banks.
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

/// A tensor in global memory and the box of it that one copy moves: what `cuTensorMapEncodeTiled` makes a
/// `CUtensorMap` of, without interleave, with zeros for what is out of bounds, every element one after
/// another.
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

    /// The map as kernels pass it: of the size of a `CUtensorMap`, though not its bits, which are the
    /// driver's own.
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
    /// One thing is refused that the driver takes: a box with a swizzle and rows shorter than its span. The
    /// manual does not say whether such rows lie densely or a span apart.
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

    /// The chunks of the box whose first element is at these coordinates, copied to or from shared memory at
    /// `shared`, row after row. Some or all of it may be out of bounds on any side.
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

/// A part of a map that `tensormap.replace` sets. PTX ISA, "tensormap.replace".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Address,
    /// One less than the number of dimensions.
    Rank,
    BoxDim,
    Dim,
    Stride,
    ElementStride,
    Element,
    Interleave,
    Swizzle,
    Fill,
}

impl Field {
    /// By its name in PTX.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "global_address" => Self::Address,
            "rank" => Self::Rank,
            "box_dim" => Self::BoxDim,
            "global_dim" => Self::Dim,
            "global_stride" => Self::Stride,
            "element_stride" => Self::ElementStride,
            "elemtype" => Self::Element,
            "interleave_layout" => Self::Interleave,
            "swizzle_mode" => Self::Swizzle,
            "fill_mode" => Self::Fill,
            _ => return None,
        })
    }

    /// Whether it is of one dimension.
    pub(crate) const fn is_of_dimension(self) -> bool {
        matches!(self, Self::BoxDim | Self::Dim | Self::Stride | Self::ElementStride)
    }

    /// Sets it in a map, or in zeros that become one.
    ///
    /// # Errors
    ///
    /// A dimension or a value that the machine's maps do not have.
    pub(crate) fn replace(self, words: &mut [u64; 16], dimension: usize, value: u64) -> Result<(), String> {
        let form = |words: &mut [u64; 16], shift: u32, value: u64| {
            words[FORM] = words[FORM] & !(0xff << shift) | value << shift;
        };
        if dimension >= RANK {
            return Err(format!("dimension {dimension}, of at most {RANK}"));
        }
        match (self, value) {
            (Self::Address, _) => words[1] = value,
            (Self::Rank, 0..5) => form(words, 0, value + 1),
            (Self::BoxDim, _) => {
                let (word, shift) = (11 + dimension / 2, 32 * (dimension % 2));
                words[word] = words[word] & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
            }
            (Self::Dim, _) => words[2 + dimension] = value,
            (Self::Stride, _) if dimension + 1 < RANK => words[7 + dimension] = value,
            (Self::ElementStride, 1) | (Self::Interleave | Self::Fill, 0) => {}
            // 8 is an f32 whose subnormals are flushed, which the driver's maps do not have here.
            (Self::Element, 0..=7) => form(words, 8, value),
            (Self::Element, 9 | 10) => form(words, 8, value - 1),
            (Self::Swizzle, 0..4) => form(words, 16, value),
            _ => return Err(format!("{self:?} as {value} in a tensor map")),
        }
        words[0] = MAGIC;
        words[15] = checksum(words);
        Ok(())
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
mod tests;

//! What wgmma reads and computes: matrix descriptors, and the product of a warpgroup.

use half::f16;
use smallvec::SmallVec;

use crate::{
    numbers::{Number, Sum},
    tensor_map::{CHUNK, Swizzle},
};

/// Rows of A and D.
pub(crate) const M: usize = 64;
/// Depth of one step of f16.
pub(crate) const K: usize = 16;
/// Rows of a core matrix, and of a pattern of a swizzle.
const CORE_ROWS: u32 = 8;

/// What a product is of: A, B, and D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types {
    pub(crate) a: Number,
    pub(crate) b: Number,
    pub(crate) sum: Sum,
}

impl Types {
    /// Of f16, added up in f32.
    pub(crate) const F16: Self = Self { a: Number::F16, b: Number::F16, sum: Sum::F32 };

    /// By their names in PTX, of which not all go together.
    pub(crate) fn named(sum: &str, a: &str, b: &str, saturates: bool) -> Option<Self> {
        let (a, b) = (Number::named(a)?, Number::named(b)?);
        let is_known =
            a.bytes() == b.bytes() && (a == b || a.bytes() == 1 && a.is_integer() == b.is_integer());
        let sum = match sum {
            "f32" if !a.is_integer() && !saturates => Sum::F32,
            "f16" if matches!(a, Number::F16 | Number::E4m3 | Number::E5m2) && !saturates => Sum::F16,
            "s32" if a.is_integer() => Sum::S32 { saturates },
            _ => return None,
        };
        is_known.then_some(Self { a, b, sum })
    }

    /// Columns of D that so many registers of a lane are of.
    pub(crate) fn columns(self, registers: usize) -> usize {
        if self.sum == Sum::F16 { 4 * registers } else { 2 * registers }
    }

    /// A number for each.
    pub(crate) fn code(self) -> u64 {
        let sum = match self.sum {
            Sum::F32 => 0,
            Sum::F16 => 1,
            Sum::S32 { saturates } => 2 + u64::from(saturates),
        };
        (self.a as u64) << 8 | (self.b as u64) << 4 | sum
    }
}

/// A `wgmma.mma_async`, whose step is 32 bytes deep; its operands are the accumulators, then A (a descriptor,
/// or four registers), the descriptor of B, and the predicate that keeps the accumulators. PTX ISA,
/// "Asynchronous wgmma.mma_async".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) types: Types,
    /// A in registers.
    pub(crate) in_registers: bool,
    /// A or B with the other sign.
    pub(crate) negated: [bool; 2],
    /// A or B with M or N as its contiguous dimension.
    pub(crate) transposed: [bool; 2],
    /// Whether a `wgmma.fence` stands between what wrote its registers before and this.
    pub(crate) is_fenced: bool,
}

impl Product {
    /// Of f16, both operands K-major in shared memory.
    pub(crate) const PLAIN: Self = Self {
        types: Types::F16,
        in_registers: false,
        negated: [false; 2],
        transposed: [false; 2],
        is_fenced: true,
    };
}

/// Bytes of a row of an operand for one step.
pub(crate) type Row = [u8; 2 * K];

/// Where an operand of one step lies, as offsets in shared memory, or what it is.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    /// By row, two chunks along K.
    KMajor(Vec<[usize; 2]>),
    /// Of 16 bits: by K, then by eight rows, a chunk of these.
    MnMajor(Vec<usize>),
    /// From registers.
    Rows(Box<[Row; M]>),
}

impl Matrix {
    /// Its rows, of what shared memory holds now.
    pub(crate) fn rows(&self, shared: &[u8]) -> Vec<Row> {
        let chunk =
            |offset: usize| -> [u8; CHUNK as usize] { std::array::from_fn(|byte| shared[offset + byte]) };
        match self {
            Self::KMajor(rows) => rows
                .iter()
                .map(|&[first, second]| {
                    let mut row = [0; 2 * K];
                    row[..16].copy_from_slice(&shared[first..first + 16]);
                    row[16..].copy_from_slice(&shared[second..second + 16]);
                    row
                })
                .collect(),
            Self::MnMajor(chunks) => {
                let eights = chunks.len() / K;
                let mut rows = vec![[0; 2 * K]; 8 * eights];
                for (number, &offset) in chunks.iter().enumerate() {
                    let (k, eight) = (number / eights, number % eights);
                    for (element, bytes) in chunk(offset).chunks_exact(2).enumerate() {
                        rows[8 * eight + element][2 * k..2 * k + 2].copy_from_slice(bytes);
                    }
                }
                rows
            }
            Self::Rows(rows) => rows.to_vec(),
        }
    }

    /// A of the registers of a warpgroup's lanes, as mma has them: register i of a lane, with g = l / 4 mod 8
    /// and t = l mod 4, is row 16 (l / 32) + g + 8 (i mod 2), the four bytes from 4t + 16 (i / 2) on. PTX
    /// ISA, "Register Fragments for wgmma.mma_async.m64nNk16".
    pub(crate) fn of_registers(lanes: &[[u32; 4]]) -> Self {
        let mut rows = Box::new([[0; 2 * K]; M]);
        for (lane, registers) in lanes.iter().enumerate() {
            for (i, register) in registers.iter().enumerate() {
                let row = 16 * (lane / 32) + lane / 4 % 8 + 8 * (i % 2);
                let at = 2 * (2 * (lane % 4) + 8 * (i / 2));
                rows[row][at..at + 4].copy_from_slice(&register.to_le_bytes());
            }
        }
        Self::Rows(rows)
    }
}

/// A matrix descriptor (PTX ISA, "Matrix Descriptor Format") of an operand: where the rows of A, or the
/// columns of B, lie in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Descriptor {
    start: u32,
    /// Of a K-major operand, bytes between the two core matrices of a step, without a meaning if there is a
    /// swizzle. Of an MN-major one, from one span of rows to the next, without a swizzle from eight K to the
    /// next.
    leading: u32,
    /// Bytes from eight rows to the next eight; of an MN-major operand from eight K, without a swizzle from
    /// eight rows.
    stride: u32,
    swizzle: Swizzle,
}

impl Descriptor {
    /// Takes the 64 bits apart.
    ///
    /// # Errors
    ///
    /// A bit is set that no field has, or the base offset is not 0: the machine knows patterns that begin at
    /// addresses as the swizzle sees them, only.
    pub(crate) fn decode(bits: u64) -> Result<Self, String> {
        const FIELD: u64 = 0x3fff;
        let field = |shift: u32| ((bits >> shift & FIELD) << 4) as u32;
        let known = FIELD | FIELD << 16 | FIELD << 32 | 0b111 << 49 | 0b11 << 62;
        if bits & !known != 0 {
            return Err(format!("the matrix descriptor {bits:#018x} has bits set that belong to no field"));
        }
        let base = bits >> 49 & 0b111;
        if base != 0 {
            return Err(format!("the matrix descriptor {bits:#018x} has base offset {base}, not 0"));
        }
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        Ok(Self { start: field(0), leading: field(16), stride: field(32), swizzle })
    }

    /// Where the 32 bytes of each of the first `rows` rows lie for one step of K: its two chunks of 16 bytes.
    ///
    /// With a swizzle, rows are a span apart and the chunks side by side, then exchanged by the bits of their
    /// address, as a tensor copy places them. Without, a core matrix of 8 rows of 16 bytes lies in one piece.
    pub(crate) fn rows(&self, rows: u32) -> Vec<[u32; 2]> {
        let second = if self.swizzle == Swizzle::None { self.leading } else { CHUNK };
        (0..rows)
            .map(|row| {
                let groups = row / CORE_ROWS * self.stride;
                let first = self.start + groups + row % CORE_ROWS * self.swizzle.span();
                [first, first + second].map(|address| self.swizzle.apply(address))
            })
            .collect()
    }
}

impl Descriptor {
    /// Where the chunks of eight rows lie, by K, of an operand whose rows are contiguous: the canonical
    /// layouts of PTX ISA, "Strides", as multiples of 16 bytes ((span, n), (8, 2)) : ((1, leading), (span,
    /// stride)), and without a swizzle ((1, n), (8, 2)) : ((_, stride), (1, leading)).
    pub(crate) fn columns(&self, rows: u32) -> Vec<u32> {
        let span = self.swizzle.span() / CHUNK;
        let (of_rows, of_eight) = match self.swizzle {
            Swizzle::None => (self.stride, self.leading),
            _ => (self.leading, self.stride),
        };
        let chunks = (0..K as u32).flat_map(|k| (0..rows / CORE_ROWS).map(move |chunk| (k, chunk)));
        chunks
            .map(|(k, chunk)| {
                let at = self.start
                    + chunk / span * of_rows
                    + chunk % span * CHUNK
                    + k / CORE_ROWS * of_eight
                    + k % CORE_ROWS * self.swizzle.span();
                self.swizzle.apply(at)
            })
            .collect()
    }
}

/// d += a · bᵀ, or a − where `negated`, of 16 rows of `a` for each warp and, with N a multiple of 8, N rows
/// of `b`: what `wgmma` and `mma` compute.
///
/// Rows are of 32 bytes each. `d` holds N / 2 values of each lane, lane after lane (N / 4 registers of two
/// f16). Value i of lane l, with g = l / 4 mod 8 and t = l mod 4, is row 16 (l / 32) + g + 8 (i / 2 mod 2),
/// column 8 (i / 4) + 2t + i mod 2 (PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16").
///
/// The products are exact, they and d are added in f64, the sum is rounded once: towards zero to f32, to
/// nearest to f16.
pub(crate) fn multiply(types: Types, negated: bool, a: &[Row], b: &[Row], d: &mut [f32]) {
    let of_depth = match types.a.bytes() {
        1 => multiply_of::<{ 2 * K }>,
        2 => multiply_of::<K>,
        _ => multiply_of::<{ K / 2 }>,
    };
    if types.sum != Sum::F16 {
        return of_depth(types, negated, a, b, d);
    }
    let halves = |pair: &f32| {
        let bits = pair.to_bits();
        [bits as u16, (bits >> 16) as u16].map(|half| f16::from_bits(half).to_f32())
    };
    let mut singles: Vec<f32> = d.iter().flat_map(halves).collect();
    of_depth(types, negated, a, b, &mut singles);
    for (pair, values) in d.iter_mut().zip(singles.chunks_exact(2)) {
        let [low, high] = [values[0], values[1]].map(|value| u32::from(f16::from_f32(value).to_bits()));
        *pair = f32::from_bits(high << 16 | low);
    }
}

/// On vectors of four f64 where this machine has them: the same operations in the same order.
fn multiply_of<const DEPTH: usize>(types: Types, negated: bool, a: &[Row], b: &[Row], d: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2<const DEPTH: usize>(types: Types, negated: bool, a: &[Row], b: &[Row], d: &mut [f32]) {
            multiply_with::<DEPTH>(types, negated, a, b, d);
        }
        // SAFETY: this machine has AVX2, as was asked above.
        return unsafe { with_avx2::<DEPTH>(types, negated, a, b, d) };
    }
    multiply_with::<DEPTH>(types, negated, a, b, d);
}

#[inline(always)]
fn multiply_with<const DEPTH: usize>(types: Types, negated: bool, a: &[Row], b: &[Row], d: &mut [f32]) {
    match types.sum {
        Sum::F32 => multiply_to::<DEPTH>(Types { sum: Sum::F32, ..types }, negated, a, b, d),
        _ => multiply_to::<DEPTH>(types, negated, a, b, d),
    }
}

#[inline(always)]
fn multiply_to<const DEPTH: usize>(types: Types, negated: bool, a: &[Row], b: &[Row], d: &mut [f32]) {
    let Types { a: of_a, b: of_b, sum } = types;
    let values = b.len() / 2;
    debug_assert!(b.len().is_multiple_of(8) && d.len() == 2 * a.len() * values);
    // By k, a pair of columns for each of the four lanes that share a row. Those of mma are on the stack.
    let b: SmallVec<[[[f64; 8]; DEPTH]; 1]> = b
        .chunks_exact(8)
        .map(|columns| {
            let columns: [[f64; DEPTH]; 8] = std::array::from_fn(|column| of_b.widen(&columns[column]));
            std::array::from_fn(|k| columns.map(|column| column[k]))
        })
        .collect();
    for (row, a) in a.iter().enumerate() {
        let mut a: [f64; DEPTH] = of_a.widen(a);
        if negated {
            a = a.map(|value| -value);
        }
        let (warp, g, half) = (row / 16, row % 8, row / 8 % 2);
        let quad = &mut d[(32 * warp + 4 * g) * values..][..4 * values];
        for (block, b) in b.iter().enumerate() {
            let at = 4 * block + 2 * half;
            let mut sums: [f64; 8] = std::array::from_fn(|i| sum.value(quad[i / 2 * values + at + i % 2]));
            for (factor, b) in a.iter().zip(b) {
                for (sum, value) in sums.iter_mut().zip(b) {
                    *sum += factor * value;
                }
            }
            for (i, value) in sums.into_iter().enumerate() {
                quad[i / 2 * values + at + i % 2] = sum.of(value);
            }
        }
    }
}

#[cfg(test)]
mod tests;

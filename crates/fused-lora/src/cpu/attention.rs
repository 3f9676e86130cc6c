//! Causal self-attention on the micro-kernels, with no `[seq_len, seq_len]` matrix in memory.
//!
//! ```text
//! parallel over (sequence, head):
//!   pack K and V
//!   for each block of queries, as many as a panel has columns:
//!     for each block of keys up to the last query:
//!       scores  = K Qᵀ                         [key][query]: the micro-kernel, x = keys, W = queries
//!       weights = exp((scores − max) / √dim)   online: max and sum of each query so far
//!       out     = out · factor + Vᵀ weights    [dim][query]: the micro-kernel, x = values, W = weights
//!     y = (out / sum)ᵀ
//! ```
//!
//! Everything is transposed, so that a vector holds queries: maximum, sum and rescaling go down the columns
//! with no sum across a vector, and what the first product leaves is, rounded, the panel that the second one
//! reads. The weights are rounded to the panels' type, f16 on x86-64, as FlashAttention does (Dao et al.
//! 2022, arXiv 2205.14135); their sum is not.

use half::{f16, slice::HalfFloatSliceExt};
use ndarray::{ArrayView2, ArrayViewMut2};

use super::{
    executor::{Executor, Rayon},
    kernel::{
        Ahead, Finish, Init, Input, Job, MicroKernel, Output, Pack, Segment, Storage, Tile, TileOf, Unit,
        Vector, exp::exp, levels::Level,
    },
    parallel::{Failed, share},
    simd::{Simd, dispatch},
    view::{Rows, RowsMut},
    workspace::{Scratch, Slot, Workspace},
};
use crate::{
    error::{Error, Operand},
    problem::DType,
    shape::check_call,
};

/// Causal self-attention: `y = softmax(q kᵀ / √dim, key ≤ query) v`, for each sequence and head.
#[derive(Clone, Copy, Debug)]
pub struct CausalAttention {
    simd: Simd,
    heads: usize,
    head_dim: usize,
}

impl CausalAttention {
    /// Attention with `heads` heads of `head_dim` columns each, on this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Heads`] if either is zero, and the errors of [`Simd::detect`].
    pub fn new(heads: usize, head_dim: usize) -> Result<Self, Error> {
        Self::with_simd(Simd::detect()?, heads, head_dim)
    }

    /// As [`new`](Self::new), for the given SIMD level.
    ///
    /// # Errors
    ///
    /// [`Error::Heads`], and [`Error::SimdUnavailable`].
    pub fn with_simd(simd: Simd, heads: usize, head_dim: usize) -> Result<Self, Error> {
        let simd = simd.require()?.serving(DType::F16);
        if heads == 0 || head_dim == 0 {
            return Err(Error::Heads { heads, head_dim });
        }
        Ok(Self { simd, heads, head_dim })
    }

    /// `qkv: [M, 3 · heads · head_dim]` holds queries, keys and values side by side, in each of them one head
    /// after the other; `y: [M, heads · head_dim]`. M rows are whole sequences of `seq_len` tokens, one after
    /// another. The row stride of both is arbitrary. Scores, the sums of the weights and the sums of y are
    /// f32.
    ///
    /// Work is shared as [`cpu`](crate::cpu) says, one task for each sequence and head; nothing is allocated
    /// once the workspace has grown.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], [`Error::Shape`], [`Error::ColumnStride`], and [`Error::Sequences`] if M is not a
    /// multiple of `seq_len`; y is then unchanged.
    pub fn forward(
        &self,
        qkv: ArrayView2<'_, f16>,
        seq_len: usize,
        mut y: ArrayViewMut2<'_, f16>,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let width = self.heads * self.head_dim;
        let output = (Operand::Y, y.dim().into());
        check_call([width, 3 * width], (Operand::Qkv, qkv.dim().into()), [output])?;
        if seq_len == 0 || !qkv.nrows().is_multiple_of(seq_len) {
            return Err(Error::Sequences { rows: qkv.nrows(), seq_len });
        }
        let (rows, output) = (Rows::new(Operand::Qkv, &qkv)?, RowsMut::new(Operand::Y, &mut y)?);
        let heads = Heads { rows, output, seq_len, heads: self.heads, head_dim: self.head_dim };
        dispatch!(self.simd, f16, f16 => compute(&heads, workspace))
    }
}

/// What attention asks of a micro-kernel: packed x is f32, so that it can be written by other code, and so
/// are panels, or they are a storage type.
trait Micro: MicroKernel<X = f32, W: Storage + Unit<f16>, B = <Self as MicroKernel>::W> + Pack<f16> {}
impl<M: MicroKernel<X = f32, W: Storage + Unit<f16>, B = <M as MicroKernel>::W> + Pack<f16>> Micro for M {}

/// The shapes of qkv and y have been checked, y is borrowed mutably until this returns, and L was required of
/// this machine when the attention was made.
fn compute<L: Level<In = f16, Main: Micro>>(heads: &Heads, workspace: &mut Workspace) -> Result<(), Error> {
    // SAFETY: as said above.
    unsafe { heads.run::<L::Main>(workspace) }
}

/// All heads of all sequences.
struct Heads {
    /// The rows of qkv.
    rows: Rows<f16>,
    output: RowsMut<f16>,
    seq_len: usize,
    heads: usize,
    head_dim: usize,
}

impl Heads {
    /// # Safety
    ///
    /// qkv has 3, y one times the heads' columns, both a whole number of sequences; nobody else touches y;
    /// this CPU has K's instructions.
    unsafe fn run<K: Micro<Out = f16>>(&self, workspace: &mut Workspace) -> Result<(), Error> {
        let slots = Slot::first(&mut workspace.slots, Rayon.threads());
        for slot in &mut *slots {
            slot.attention.reserve::<K>(self.seq_len, self.head_dim);
        }
        let sequences = self.rows.rows / self.seq_len;
        share(&Rayon, slots, sequences * self.heads, &Failed::default(), |task, slot: &mut Slot| {
            let (row, column) = (task / self.heads * self.seq_len, task % self.heads * self.head_dim);
            let width = self.heads * self.head_dim;
            let part = |i: usize| {
                let ptr = self.rows.ptr.wrapping_offset(row as isize * self.rows.ld);
                let ptr = ptr.wrapping_add(i * width + column);
                Rows { ptr, rows: self.seq_len, columns: self.head_dim, ..self.rows }
            };
            let ptr = self.output.ptr.wrapping_offset(row as isize * self.output.ld).wrapping_add(column);
            let head = Head { q: part(0), k: part(1), v: part(2), y: RowsMut { ptr, ..self.output } };
            // SAFETY: the caller's contract; these rows of these columns of y are this task's own, and the
            // slot was reserved for them.
            unsafe { head.run::<K>(&mut slot.attention) };
        })
    }
}

impl Scratch {
    fn reserve<K: Micro>(&mut self, seq_len: usize, head_dim: usize) {
        let (queries, keys) = (queries_of::<K>(), keys_of::<K>());
        self.keys.reserve::<f32>(&[seq_len, head_dim]);
        self.values.reserve::<f32>(&[head_dim, seq_len]);
        self.queries.reserve::<K::W>(&[head_dim, queries]);
        self.scores.reserve::<f32>(&[keys, queries]);
        self.weights.reserve::<K::W>(&[keys, queries]);
        self.out.reserve::<f32>(&[head_dim, queries]);
        self.stats.reserve::<f32>(&[2, queries]);
        self.row.reserve::<f32>(&[head_dim]);
    }
}

/// Queries of a block: a panel's columns.
const fn queries_of<K: MicroKernel>() -> usize {
    K::NV * K::LANES
}

/// Keys of a block: whole tiles, 64 with AVX-512. Scores, weights and packed keys and values of a block then
/// stay in the first two levels of the cache, and the rescaling of `out` is one multiplication in 64.
const fn keys_of<K: MicroKernel>() -> usize {
    8 * K::MR
}

/// One head of one sequence. All have `[seq_len, head_dim]`.
struct Head {
    q: Rows<f16>,
    k: Rows<f16>,
    v: Rows<f16>,
    y: RowsMut<f16>,
}

impl Head {
    /// # Safety
    ///
    /// As [`Heads::run`], of this head; the scratch memory was reserved for its size.
    unsafe fn run<K: Micro>(&self, scratch: &mut Scratch) {
        let (seq_len, head_dim) = (self.k.rows, self.k.columns);
        let scale = 1.0 / (head_dim as f32).sqrt();
        // SAFETY: the caller's contract. The scratch memory has room for every tile, block and panel below,
        // all of which begin inside of seq_len, head_dim, and a block's queries and keys.
        unsafe {
            self.pack_keys::<K>(scratch);
            self.pack_values::<K>(scratch);
            for first_query in (0..seq_len).step_by(queries_of::<K>()) {
                let queries = queries_of::<K>().min(seq_len - first_query);
                let vectors = queries.div_ceil(K::LANES);
                self.pack_queries::<K>(first_query, queries, vectors * K::LANES, scratch);
                let end = first_query + queries;
                for first_key in (0..end).step_by(keys_of::<K>()) {
                    let keys = keys_of::<K>().min(end - first_key);
                    scores::<K>(first_key, keys, seq_len, head_dim, vectors, scratch);
                    K::vectorize(Softmax::<K::W> {
                        scores: scratch.scores.as_ptr(),
                        weights: scratch.weights.as_mut_ptr(),
                        out: scratch.out.as_mut_ptr(),
                        stats: scratch.stats.as_mut_ptr(),
                        first: first_key == 0,
                        masked: first_key as isize - first_query as isize,
                        keys,
                        vectors,
                        head_dim,
                        scale,
                    });
                    weighted_values::<K>(first_key, keys, seq_len, head_dim, vectors, scratch);
                }
                let (out, stats) = (scratch.out.as_mut_ptr(), scratch.stats.as_ptr::<f32>());
                K::vectorize(Normalize { out, sums: stats.add(vectors * K::LANES), vectors, head_dim });
                self.store(first_query, queries, vectors * K::LANES, scratch);
            }
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    unsafe fn pack_keys<K: Micro>(&self, scratch: &mut Scratch) {
        let Rows { ptr, ld, rows, columns } = self.k;
        for first in (0..rows).step_by(K::MR) {
            // SAFETY: tile `first / MR` of keys that exist, and its place in the scratch memory: `first` is a
            // multiple of MR.
            unsafe {
                let to = scratch.keys.as_mut_ptr::<f32>().add(first * columns);
                K::pack(ptr.offset(first as isize * ld), ld, (rows - first).min(K::MR), columns, to);
            }
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    unsafe fn pack_values<K: Micro>(&self, scratch: &mut Scratch) {
        let Rows { ptr, ld, rows: seq_len, columns: head_dim } = self.v;
        let row = &mut scratch.row.as_mut_slice::<f32>()[..head_dim];
        let values = scratch.values.as_mut_slice::<f32>();
        for key in 0..seq_len {
            // SAFETY: a row that exists.
            let from = unsafe { std::slice::from_raw_parts(ptr.offset(key as isize * ld), head_dim) };
            from.convert_to_f32_slice(row);
            for (tile, dims) in row.chunks(K::MR).enumerate() {
                values[tile * K::MR * seq_len + key * dims.len()..][..dims.len()].copy_from_slice(dims);
            }
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    unsafe fn pack_queries<K: Micro>(
        &self,
        first: usize,
        queries: usize,
        width: usize,
        scratch: &mut Scratch,
    ) {
        let Rows { ptr, ld, columns: head_dim, .. } = self.q;
        let panel = &mut scratch.queries.as_mut_slice::<K::W>()[..head_dim * width];
        for query in 0..width {
            if query < queries {
                // SAFETY: a row that exists.
                let from = unsafe {
                    std::slice::from_raw_parts(ptr.offset((first + query) as isize * ld), head_dim)
                };
                for (to, &from) in panel[query..].iter_mut().step_by(width).zip(from) {
                    *to = K::W::gather(|_| from);
                }
            } else {
                panel[query..].iter_mut().step_by(width).for_each(|to| *to = K::W::default());
            }
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run), and nobody else touches these rows of y.
    unsafe fn store(&self, first: usize, queries: usize, width: usize, scratch: &mut Scratch) {
        let head_dim = self.q.columns;
        let row = &mut scratch.row.as_mut_slice::<f32>()[..head_dim];
        let out = scratch.out.as_mut_slice::<f32>();
        for query in 0..queries {
            for (to, from) in row.iter_mut().zip(out[query..].iter().step_by(width)) {
                *to = *from;
            }
            // SAFETY: a row that exists, and is this task's own.
            let to = unsafe {
                let ptr = self.y.ptr.offset((first + query) as isize * self.y.ld);
                std::slice::from_raw_parts_mut(ptr, head_dim)
            };
            to.convert_from_f32_slice(row);
        }
    }
}

/// Scores of a block of keys: `[key][query]`.
///
/// # Safety
///
/// As [`Head::run`]; `first_key` is a multiple of MR.
unsafe fn scores<K: Micro>(
    first_key: usize,
    keys: usize,
    seq_len: usize,
    head_dim: usize,
    vectors: usize,
    scratch: &mut Scratch,
) {
    for first in (0..keys).step_by(K::MR) {
        // SAFETY: a tile of keys that exist, and its rows of the scores.
        unsafe {
            let x = scratch.keys.as_ptr::<f32>().add((first_key + first) * head_dim);
            let partial = scratch.scores.as_mut_ptr::<f32>().add(first * vectors * K::LANES);
            let x_rows = (seq_len - first_key - first).min(K::MR);
            let rows = x_rows.min(keys - first);
            let (w, ahead) = (scratch.queries.as_ptr(), Ahead::NOTHING);
            let segment = Segment { x, x_rows, w, steps: head_dim, ahead };
            K::run(rows, vectors, &sums::<K>(segment, Init::Zero, partial));
        }
    }
}

/// Adds the weighted values of a block of keys to `out`: `[dim][query]`.
///
/// # Safety
///
/// As [`Head::run`].
unsafe fn weighted_values<K: Micro>(
    first_key: usize,
    keys: usize,
    seq_len: usize,
    head_dim: usize,
    vectors: usize,
    scratch: &mut Scratch,
) {
    let init = if first_key == 0 { Init::Zero } else { Init::Partial };
    for first in (0..head_dim).step_by(K::MR) {
        // SAFETY: a tile of columns that exist, from a key that exists on, and its rows of `out`.
        unsafe {
            let rows = (head_dim - first).min(K::MR);
            let x = scratch.values.as_ptr::<f32>().add(first * seq_len + first_key * rows);
            let (w, ahead) = (scratch.weights.as_ptr(), Ahead::NOTHING);
            let segment = Segment { x, x_rows: rows, w, steps: keys, ahead };
            let partial = scratch.out.as_mut_ptr::<f32>().add(first * vectors * K::LANES);
            K::run(rows, vectors, &sums::<K>(segment, init, partial));
        }
    }
}

fn sums<K: Micro>(base: Segment<f32, K::W>, init: Init, partial: *mut f32) -> TileOf<K> {
    let (expand, addend, finish) = (Segment::EMPTY, Input::NONE, Finish::Partial);
    let output = Output { y: std::ptr::null_mut(), ld: 0, columns: 0, scale: 1.0, bias: std::ptr::null() };
    Tile { base, expand, init, addend, finish, partial, output }
}

/// Queries of a block at the widest level.
const MAX_QUERIES: usize = 48;

/// `MASK[MAX_QUERIES − n..]` forbids the first n queries and allows the others.
static MASK: [f32; 2 * MAX_QUERIES] = {
    let mut mask = [0.0; 2 * MAX_QUERIES];
    let mut i = 0;
    while i < MAX_QUERIES {
        mask[i] = f32::NEG_INFINITY;
        i += 1;
    }
    mask
};

/// From the scores of a block of keys to weights, with the sums of the blocks before brought to the same
/// maximum.
struct Softmax<E> {
    /// `[keys][vectors · LANES]`
    scores: *const f32,
    /// As the scores.
    weights: *mut E,
    /// `[head_dim][vectors · LANES]`
    out: *mut f32,
    /// `[2][vectors · LANES]`
    stats: *mut f32,
    /// The first block: there are no sums yet.
    first: bool,
    /// The first key is forbidden to so many queries, the next one to one more; none where it is negative.
    masked: isize,
    keys: usize,
    vectors: usize,
    head_dim: usize,
    /// 1 / √head_dim
    scale: f32,
}

impl<X: Vector, E: Storage> Job<X> for Softmax<E> {
    type Output = ();

    /// # Safety
    ///
    /// Every pointer covers what its field says, and the last key is forbidden to fewer than [`MAX_QUERIES`].
    #[inline(always)]
    unsafe fn run(self) {
        let width = self.vectors * X::LANES;
        // SAFETY: the caller's contract.
        unsafe {
            let scale = X::splat(self.scale);
            for column in (0..width).step_by(X::LANES) {
                let score = |key: usize| {
                    let score = X::load(self.scores.add(key * width + column));
                    let masked = self.masked + key as isize;
                    if masked <= 0 {
                        score
                    } else {
                        score.add(X::load(MASK.as_ptr().add(MAX_QUERIES - masked as usize + column)))
                    }
                };
                let [max_at, sum_at] = [self.stats.add(column), self.stats.add(width + column)];
                let old = if self.first { X::splat(f32::NEG_INFINITY) } else { X::load(max_at) };
                // A NaN need not survive here: its weight below is one.
                let max = (0..self.keys).fold(old, |max, key| max.max(score(key)));
                let mut sum = X::splat(0.0);
                for key in 0..self.keys {
                    let weight = exp(score(key).sub(max).mul(scale));
                    sum = sum.add(weight);
                    E::store(weight, self.weights.add(key * width + column));
                }
                if !self.first {
                    let factor = exp(old.sub(max).mul(scale));
                    sum = X::load(sum_at).mul_add(factor, sum);
                    for dim in 0..self.head_dim {
                        let out = self.out.add(dim * width + column);
                        X::load(out).mul(factor).store(out);
                    }
                }
                max.store(max_at);
                sum.store(sum_at);
            }
        }
    }
}

/// Divides by the sums of the weights.
struct Normalize {
    /// `[head_dim][vectors · LANES]`
    out: *mut f32,
    /// `[vectors · LANES]`
    sums: *const f32,
    vectors: usize,
    head_dim: usize,
}

impl<X: Vector> Job<X> for Normalize {
    type Output = ();

    /// # Safety
    ///
    /// Either pointer covers what its field says.
    #[inline(always)]
    unsafe fn run(self) {
        let width = self.vectors * X::LANES;
        // SAFETY: the caller's contract.
        unsafe {
            for column in (0..width).step_by(X::LANES) {
                let inverse = X::splat(1.0).div(X::load(self.sums.add(column)));
                for dim in 0..self.head_dim {
                    let out = self.out.add(dim * width + column);
                    X::load(out).mul(inverse).store(out);
                }
            }
        }
    }
}

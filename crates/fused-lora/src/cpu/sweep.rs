//! A packed block of rows through panels of a weight, tile by tile.

use std::ops::Range;

use super::{
    blocks::{KBlock, KBlocks},
    kernel::{
        Ahead, Finish, Finishing, Init, Input, MicroKernel, Output, Pack, Segment, Tile, Vector,
        levels::Kernels, store::Store,
    },
    panels::{Bytes, Panels, steps},
    view::{Rows, RowsMut},
    workspace::Block,
};

/// A packed block of rows, the K block that it holds, and where its sums go.
pub(crate) struct Sweep<'a, M: MicroKernel> {
    pub(crate) rows: usize,
    /// `[tile][step][rows of the tile]`
    pub(crate) x: *const M::X,
    pub(crate) k: KBlock,
    pub(crate) panels: &'a Panels,
    /// Counts in the last K block only.
    pub(crate) expand: Option<Expand<'a, M::X>>,
    /// From the block's first row on.
    pub(crate) to: Target<M::Out>,
}

/// Where a sweep writes, from its first row and the weight's first row on.
pub(crate) struct Target<T> {
    pub(crate) y: RowsMut<T>,
    pub(crate) scale: f32,
    /// As long as the weight has rows, padded to whole vectors; or null.
    pub(crate) bias: *const f32,
    /// Where the sums start in the first K block, from zero if there is none. May be y itself.
    pub(crate) addend: Input<T>,
    /// Its residuals begin where y does.
    pub(crate) finishing: Finishing<T>,
}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Target<T> {}

// SAFETY: tickets write disjoint parts of it, and read bias, addend and residuals, of which what they share
// with y is theirs.
unsafe impl<T: Sync> Sync for Target<T> {}

impl<T> Target<T> {
    /// `y = round( scale · sums )` and no more.
    pub(crate) fn plain(y: RowsMut<T>, scale: f32) -> Self {
        Self { y, scale, bias: std::ptr::null(), addend: Input::NONE, finishing: Finishing::NONE }
    }

    /// The same, `row` rows further down.
    pub(crate) fn below(self, row: usize) -> Self {
        let ptr = self.y.ptr.wrapping_offset(row as isize * self.y.ld);
        Self {
            y: RowsMut { ptr, ..self.y },
            addend: self.addend.at(row, 0),
            finishing: self.finishing.at(row, 0),
            ..self
        }
    }
}

impl<T> Finishing<T> {
    /// The same, for the tile that begins there.
    fn at(self, row: usize, column: usize) -> Self {
        Self { residuals: self.residuals.map(|residual| residual.at(row, column)), ..self }
    }
}

/// The end of the last K block's loop: h, packed, and B.
pub(crate) struct Expand<'a, X> {
    /// `[tile][step][rows of the tile]`
    pub(crate) h: *const X,
    pub(crate) b: &'a Panels,
}

impl<X> Clone for Expand<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Expand<'_, X> {}

impl<M: MicroKernel> Sweep<'_, M> {
    /// Takes the block through panel `p`, and fetches what is needed `next` meanwhile: a panel, and B's that
    /// goes with it.
    ///
    /// # Safety
    ///
    /// - Packed x and h hold the block's rows; `panels` and B have the same rows, and units of M's.
    /// - `to.y` has these rows and as many columns as `panels` has rows, so do addend and residuals, and
    ///   `to.bias` likewise or null.
    /// - `partial` has room for the f32 sums of the block's tiles, and nobody else touches it from the first
    ///   K block to the last.
    /// - Nobody else touches the panel's columns in `to.y` meanwhile.
    pub(crate) unsafe fn run(&self, p: usize, partial: *mut f32, next: [Option<Bytes>; 2]) {
        let KBlock { range, first, last } = &self.k;
        let to = &self.to;
        let expand = self.expand.filter(|_| *last).map(|Expand { h, b }| (h, b.at::<M::B>(p, 0), b.steps()));
        let (column, vectors) = (self.panels.first_column(p), self.panels.vectors(p));
        let (w, base_steps) = (self.panels.at::<M::W>(p, range.start / M::DEPTH), steps::<M>(range.len()));
        let store_by_kernel = to.finishing.is_none();
        let height = tile_height::<M>(self.rows);
        let tiles = self.rows.div_ceil(height);
        // Each tile fetches its part, as many bytes with each step.
        let part = |bytes: Option<Bytes>, t: usize, steps: usize| {
            bytes.map_or(Ahead::NOTHING, |Bytes { from, len }| {
                let stride = len.div_ceil(tiles * steps.max(1));
                Ahead { from: from.wrapping_add(t * steps * stride), stride }
            })
        };
        // Of a panel that nothing has fetched, the first tile fetches what it is about to load itself.
        let ahead = |t: usize| match next[0] {
            Some(_) if tiles > 1 => part(next[0], t, base_steps),
            _ if t > 0 => Ahead::NOTHING,
            _ => Ahead {
                from: w.cast::<u8>().wrapping_add(STREAM),
                stride: vectors * M::LANES * size_of::<M::W>(),
            },
        };
        for (t, row) in (0..self.rows).step_by(height).enumerate() {
            // SAFETY: the caller's contract; tile t of either packed block lies inside it.
            unsafe {
                let tile = Tile {
                    base: Segment { x: self.x.add(row * base_steps), w, steps: base_steps, ahead: ahead(t) },
                    expand: expand.map_or(Segment::EMPTY, |(h, w, steps)| Segment {
                        x: h.add(row * steps),
                        w,
                        steps,
                        ahead: part(next[1], t, steps),
                    }),
                    init: match (first, to.addend.is_none()) {
                        (true, true) => Init::Zero,
                        (true, false) => Init::Addend,
                        (false, _) => Init::Partial,
                    },
                    addend: to.addend.at(row, column),
                    finish: if *last && store_by_kernel { Finish::Output } else { Finish::Partial },
                    partial: partial.wrapping_add(t * tile_len::<M>()),
                    output: Output {
                        y: to.y.ptr.offset(row as isize * to.y.ld).add(column),
                        ld: to.y.ld,
                        columns: self.panels.columns(p),
                        scale: to.scale,
                        bias: if to.bias.is_null() { to.bias } else { to.bias.add(column) },
                    },
                };
                let rows = (self.rows - row).min(height);
                M::run(rows, vectors, &tile);
                if *last && !store_by_kernel {
                    let finishing = &to.finishing.at(row, column);
                    let (sums, output) = (tile.partial.cast_const(), &tile.output);
                    M::vectorize(Store { rows, vectors, sums, output, finishing });
                }
            }
        }
    }
}

/// Bytes between what is loaded and what is prefetched where W comes from memory at its full rate.
const STREAM: usize = 4096;

/// Rows of a block's tiles: as many tiles as it needs, equally high but for the last one. A tile of few rows
/// loads as much of W as one of many.
pub(crate) fn tile_height<M: MicroKernel>(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(M::MR).max(1))
}

/// Elements of a tile's f32 sums.
pub(crate) const fn tile_len<M: MicroKernel>() -> usize {
    M::MR * M::NV * M::LANES
}

/// Elements of f32 sums of a block of so many rows in one panel.
pub(crate) const fn sums_len<M: MicroKernel>(rows: usize) -> usize {
    rows.div_ceil(M::MR) * tile_len::<M>()
}

/// Packs a block of rows, these, tile by tile: `[tile][step][rows of the tile]`. Fetches what is needed next.
///
/// # Safety
///
/// `rows` and `k` lie inside `x`; `packed` has room for `rows` units in each step, and nobody else touches
/// it.
pub(crate) unsafe fn pack_rows<M: Pack<T>, T>(
    x: Rows<T>,
    rows: Range<usize>,
    k: Range<usize>,
    packed: *mut M::X,
    next: Option<Bytes>,
) {
    debug_assert!(rows.end <= x.rows && k.end <= x.columns);
    let steps = steps::<M>(k.len());
    let height = tile_height::<M>(rows.len());
    let part = next.map_or(0, |next| next.len.div_ceil(rows.len().div_ceil(height)));
    for (t, row) in rows.clone().step_by(height).enumerate() {
        // SAFETY: the caller's contract; the level's instructions were found when the layer was made.
        unsafe {
            for line in (t * part..(t + 1) * part).step_by(LINE) {
                M::Vector::prefetch(next.map_or(std::ptr::null(), |next| next.from.wrapping_add(line)));
            }
            let from = x.ptr.offset(row as isize * x.ld).add(k.start);
            let to = packed.add((row - rows.start) * steps);
            M::pack(from, x.ld, (rows.end - row).min(height), k.len(), to);
        }
    }
}

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// h of a block of rows, from the shrink's output to what the expand reads.
pub(crate) struct HBlock<P: Kernels> {
    /// As the shrink rounds it: `[row][rows of A]`.
    pub(crate) h: *mut P::H,
    /// In parts, if the adapter is: `[row][columns of B]`.
    pub(crate) split: *mut P::Wide,
    /// `[tile][step][rows of the tile]`
    pub(crate) packed: *mut <P::Main as MicroKernel>::X,
}

impl<P: Kernels> HBlock<P> {
    /// In this memory, with room for so many rows of the h of A and B; none is asked for where there is no
    /// adapter.
    pub(crate) fn reserve(block: &mut Block, rows: usize, adapter: Option<[&Panels; 2]>) -> Self {
        let [h, split, packed] = [&mut block.h, &mut block.split_h, &mut block.packed_h];
        if let Some([a, b]) = adapter {
            h.reserve::<P::H>(&[rows, a.rows()]);
            if P::SPLIT {
                split.reserve::<P::Wide>(&[rows, b.k()]);
            }
            packed.reserve::<<P::Main as MicroKernel>::X>(&[rows, b.steps()]);
        }
        Self { h: h.as_mut_ptr(), split: split.as_mut_ptr(), packed: packed.as_mut_ptr() }
    }

    /// Packs a block of h, these rows, for the expand.
    ///
    /// # Safety
    ///
    /// All three have room for so many rows, h has been written, and nobody else touches them.
    pub(crate) unsafe fn pack(&self, rows: Range<usize>, b: &Panels) {
        let columns = b.k();
        // SAFETY: the caller's contract.
        unsafe {
            let ptr = if P::SPLIT {
                let rank = columns / 3;
                let to = self.split.add(rows.start * columns);
                P::split_h(rows.len(), rank, self.h.add(rows.start * 2 * rank), to);
                self.split.cast_const()
            } else {
                self.h.cast_const().cast()
            };
            let h = Rows { ptr, ld: columns as isize, rows: rows.end, columns };
            let to = self.packed.add(rows.start * b.steps());
            pack_rows::<P::Main, P::Wide>(h, rows, 0..columns, to, None);
        }
    }

    /// Where the shrink writes.
    pub(crate) fn target(&self, a: &Panels, scale: f32) -> Target<P::H> {
        Target::plain(RowsMut { ptr: self.h, ld: a.rows() as isize }, scale)
    }
}

/// All of K of h, for an expand by itself.
pub(crate) fn expand_alone<'a, P: Kernels>(
    rows: usize,
    expand: Expand<'a, <P::Main as MicroKernel>::X>,
    to: Target<<P::Main as MicroKernel>::Out>,
) -> Sweep<'a, P::Expand> {
    Sweep { rows, x: expand.h, k: KBlocks::rest(expand.b.k()), panels: expand.b, expand: None, to }
}

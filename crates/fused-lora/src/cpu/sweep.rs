//! A packed block of rows through panels of a weight, tile by tile.

use std::ops::Range;

use super::{
    blocks::KBlock,
    kernel::{
        Ahead, Finish, Finishing, Init, Input, LINE, MicroKernel, Output, Pack, Segment, Storage, Tile,
        Vector, store::Store,
    },
    panels::{Bytes, Panels, steps},
    view::{Rows, RowsMut},
};

/// Rows of a block and how they are cut: tiles of the same height, but for the last one.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    rows: usize,
    height: usize,
}

impl Tiles {
    /// No more tiles than the kernel needs: a tile of few rows loads as much of W as one of many.
    pub(crate) fn new<M: MicroKernel>(rows: usize) -> Self {
        Self { rows, height: rows.div_ceil(rows.div_ceil(M::MR).max(1)).max(1) }
    }

    pub(crate) fn count(self) -> usize {
        self.rows.div_ceil(self.height)
    }

    pub(crate) fn range(self, tile: usize) -> Range<usize> {
        tile * self.height..((tile + 1) * self.height).min(self.rows)
    }

    /// The tiles that have rows of these.
    pub(crate) fn of(self, rows: &Range<usize>) -> Range<usize> {
        rows.start / self.height..rows.end.div_ceil(self.height)
    }
}

/// The part that tile `t` fetches of what tiles `of` fetch all of, as many bytes with each step.
pub(crate) fn ahead(bytes: Option<Bytes>, of: &Range<usize>, t: usize, steps: usize) -> Ahead {
    bytes.map_or(Ahead::NOTHING, |Bytes { from, len }| {
        let stride = len.div_ceil(of.len() * steps.max(1));
        Ahead { from: from.wrapping_add((t - of.start) * steps * stride), stride }
    })
}

/// A packed block of rows, the K block that it holds, and where its sums go.
pub(crate) struct Sweep<'a, M: MicroKernel> {
    pub(crate) tiles: Tiles,
    /// `[tile][step][rows of the tile]`
    pub(crate) x: *const M::X,
    pub(crate) k: KBlock,
    pub(crate) columns: Columns<'a, M::Out>,
}

/// The panels of a weight, and where their sums go.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, T> {
    pub(crate) panels: &'a Panels,
    /// From the block's first row on.
    pub(crate) to: Target<T>,
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

    /// The same, `row` rows further down and `column` columns to the right.
    pub(crate) fn at(self, row: usize, column: usize) -> Self {
        let ptr = self.y.ptr.wrapping_offset(row as isize * self.y.ld).wrapping_add(column);
        Self {
            y: RowsMut { ptr, ..self.y },
            bias: if self.bias.is_null() { self.bias } else { self.bias.wrapping_add(column) },
            addend: self.addend.at(row, column),
            finishing: self.finishing.at(row, column),
            ..self
        }
    }
}

impl<T> Finishing<T> {
    /// The same, from there on.
    fn at(self, row: usize, column: usize) -> Self {
        Self { residuals: self.residuals.map(|residual| residual.at(row, column)), ..self }
    }
}

/// How a tile's last K block ends.
pub(crate) enum Ending<X, B> {
    /// In y, with this run of h and B before.
    Output(Segment<X, B>),
    /// In f32 sums, to which more is added.
    Sums,
}

impl<M: MicroKernel> Sweep<'_, M> {
    /// Takes these rows of the block through panel `p`, and fetches panel `next` meanwhile. `end` says how
    /// each tile ends in the last K block.
    ///
    /// # Safety
    ///
    /// - Packed x holds the block's rows; `panels` has units of M's.
    /// - `to.y` has these rows and as many columns as `panels` has rows, so do addend and residuals, and
    ///   `to.bias` likewise or null.
    /// - `sums` has room for the f32 sums of the block's tiles, and nobody else touches those of these rows
    ///   from the first K block to the last.
    /// - Nobody else touches the panel's columns of these rows in `to.y` meanwhile.
    /// - A run that `end` returns has the rows of its tile, and as many vectors as the panel.
    pub(crate) unsafe fn run(
        &self,
        p: usize,
        rows: Range<usize>,
        sums: *mut f32,
        next: Option<Bytes>,
        mut end: impl FnMut(usize) -> Ending<M::X, M::B>,
    ) {
        let KBlock { range, first, last } = &self.k;
        let Columns { panels, to } = &self.columns;
        let (w, steps) = (panels.at::<M::W>(p, range.start / M::DEPTH), steps::<M>(range.len()));
        let width = panels.vectors(p) * M::LANES * size_of::<M::W>();
        let init = match (first, to.addend.is_none()) {
            (true, true) => Init::Zero,
            (true, false) => Init::Addend,
            (false, _) => Init::Partial,
        };
        let tiles = self.tiles.of(&rows);
        for t in tiles.clone() {
            let tile = self.tiles.range(t);
            let own = tile.start.max(rows.start)..tile.end.min(rows.end);
            // Of a panel that nothing has fetched, the first tile fetches what it is about to load itself.
            let ahead = match next {
                Some(_) if tiles.len() > 1 => ahead(next, &tiles, t, steps),
                _ if t > tiles.start => Ahead::NOTHING,
                _ => Ahead { from: w.cast::<u8>().wrapping_add(STREAM), stride: width },
            };
            let ending = if *last { end(t) } else { Ending::Sums };
            // SAFETY: the caller's contract; tile t of the packed block lies inside it, and the units of some
            // of its rows are adjacent in each granule of K.
            unsafe {
                let x = self.x.add(tile.start * steps + (own.start - tile.start) * granule_steps::<M>());
                let base = Segment { x, x_rows: tile.len(), w, steps, ahead };
                let sums =
                    sums.wrapping_add(t * tile_len::<M>() + (own.start - tile.start) * M::NV * M::LANES);
                self.columns.tile::<M>(p, own, base, init, ending, sums);
            }
        }
    }
}

impl<T: Storage> Columns<'_, T> {
    /// One tile, or some rows of it: `base` and what `ending` has, from `init` on.
    ///
    /// # Safety
    ///
    /// As [`Sweep::run`], for these rows; `sums` are theirs.
    pub(crate) unsafe fn tile<M: MicroKernel<Out = T>>(
        &self,
        p: usize,
        rows: Range<usize>,
        base: Segment<M::X, M::W>,
        init: Init,
        ending: Ending<M::X, M::B>,
        sums: *mut f32,
    ) {
        let vectors = self.panels.vectors(p);
        let to = self.to.at(rows.start, self.panels.first_column(p));
        let (expand, is_output) = match ending {
            Ending::Output(segment) => (segment, true),
            Ending::Sums => (Segment::EMPTY, false),
        };
        let store_by_kernel = to.finishing.is_none();
        let tile = Tile {
            base,
            expand,
            init,
            addend: to.addend,
            finish: if is_output && store_by_kernel { Finish::Output } else { Finish::Partial },
            partial: sums,
            output: Output {
                y: to.y.ptr,
                ld: to.y.ld,
                columns: self.panels.columns(p),
                scale: to.scale,
                bias: to.bias,
            },
        };
        // SAFETY: the caller's contract.
        unsafe {
            M::run(rows.len(), vectors, &tile);
            if is_output && !store_by_kernel {
                let (sums, output, finishing) = (sums.cast_const(), &tile.output, &to.finishing);
                M::vectorize(Store { rows: rows.len(), vectors, sums, output, finishing });
            }
        }
    }
}

/// Bytes between what is loaded and what is prefetched where W comes from memory at its full rate.
const STREAM: usize = 4096;

/// Steps that lie beside each other in packed x, row by row.
const fn granule_steps<M: MicroKernel>() -> usize {
    M::K_GRANULE / M::DEPTH
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
    let tiles = Tiles::new::<M>(rows.len());
    let part = next.map_or(0, |next| next.len.div_ceil(tiles.count()));
    for t in 0..tiles.count() {
        let tile = tiles.range(t);
        // SAFETY: the caller's contract; the level's instructions were found when the layer was made.
        unsafe {
            for line in (t * part..(t + 1) * part).step_by(LINE) {
                M::Vector::prefetch(next.map_or(std::ptr::null(), |next| next.from.wrapping_add(line)));
            }
            let from = x.ptr.offset((rows.start + tile.start) as isize * x.ld).add(k.start);
            M::pack(from, x.ld, tile.len(), k.len(), packed.add(tile.start * steps));
        }
    }
}

/// Fetches as much of it as a sweep that loads it does not fetch itself in time.
pub(crate) fn fetch<M: MicroKernel>(bytes: Option<Bytes>) {
    let Some(Bytes { from, len }) = bytes else { return };
    for line in (0..len.min(STREAM)).step_by(LINE) {
        // SAFETY: a hint, for any address.
        unsafe { M::Vector::prefetch(from.wrapping_add(line)) };
    }
}

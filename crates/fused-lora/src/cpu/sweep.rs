//! A packed block of rows through panels of a weight, tile by tile.

use std::{marker::PhantomData, ops::Range};

use half::f16;

use super::{
    blocks::{KBlock, KBlocks},
    buffer::Plain,
    kernel::{Finish, Finishing, Init, Input, MicroKernel, Output, Segment, Tile, store::Store},
    panels::Panels,
    view::{Rows, RowsMut},
    workspace::Block,
};

/// A packed block of rows, and the K block it holds.
pub(crate) struct Sweep<K> {
    rows: usize,
    /// `[tile][k][PITCH]`
    x: *const f32,
    k: KBlock,
    kernel: PhantomData<K>,
}

/// Where a sweep writes, from its first row and the weight's first row on.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) y: RowsMut,
    pub(crate) scale: f32,
    /// As long as the weight has rows, padded to whole vectors; or null.
    pub(crate) bias: *const f32,
    /// Where the sums start in the first K block, from zero if there is none. May be y itself.
    pub(crate) addend: Input,
    /// Its residuals begin where y does.
    pub(crate) finishing: Finishing,
}

impl Target {
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

impl Finishing {
    /// The same, for the tile that begins there.
    fn at(self, row: usize, column: usize) -> Self {
        Self { residuals: self.residuals.map(|residual| residual.at(row, column)), ..self }
    }
}

/// Elements of f32 sums that a sweep through `panels` needs for `tiles` tiles a panel: all of them between K
/// blocks, one on its way to a store that does more than the micro-kernel's.
pub(crate) fn sums_len<K: MicroKernel>(
    k_blocks: &KBlocks,
    panels: usize,
    tiles: usize,
    finishing: &Finishing,
) -> [usize; 2] {
    let tiles = if k_blocks.count > 1 { panels * tiles } else { usize::from(!finishing.is_none()) };
    [tiles, tile_len::<K>()]
}

/// The end of the last K block's loop: h, packed, and B.
#[derive(Clone, Copy)]
pub(crate) struct Expand<'a> {
    /// `[tile][r][PITCH]`
    pub(crate) h: *const f32,
    pub(crate) b: &'a Panels,
}

impl<K: MicroKernel<Element: Plain>> Sweep<K> {
    pub(crate) fn new(rows: usize, x: *const f32, k: KBlock) -> Self {
        Self { rows, x, k, kernel: PhantomData }
    }

    /// Takes the block through `range` of `panels`. `expand` counts in the last K block only.
    ///
    /// # Safety
    ///
    /// - Packed x and h hold `rows` rows; `panels` and B have the same rows.
    /// - `to.y` has these rows and as many columns as `panels` has rows, so do addend and residuals, and
    ///   `to.bias` likewise or null.
    /// - `partial` has the room that [`sums_len`] says, and nobody else touches it from the first K block to
    ///   the last.
    /// - Nobody else touches the columns of `range` in `to.y` meanwhile.
    pub(crate) unsafe fn run(
        &self,
        panels: &Panels,
        range: Range<usize>,
        expand: Option<Expand<'_>>,
        partial: *mut f32,
        to: &Target,
    ) {
        let expand = expand.filter(|_| self.k.last);
        let tiles = self.rows.div_ceil(K::MR);
        let only = self.k.first && self.k.last;
        let store_by_kernel = to.finishing.is_none();
        for (index, p) in range.enumerate() {
            let column = p * Panels::nr::<K>();
            let (w, b) = (panels.at::<K>(p, self.k.range.start), expand.map(|expand| expand.b.at::<K>(p, 0)));
            for t in 0..tiles {
                let row = t * K::MR;
                // SAFETY: the caller's contract; tile t of either packed block lies inside it.
                unsafe {
                    let segment = |x: *const f32, w, k| Segment { x: x.add(t * k * K::PITCH), w, k };
                    let tile = Tile {
                        segments: [
                            segment(self.x, w, self.k.range.len()),
                            expand
                                .zip(b)
                                .map_or(Segment::EMPTY, |(expand, b)| segment(expand.h, b, expand.b.k())),
                        ],
                        init: match (self.k.first, to.addend.is_none()) {
                            (true, true) => Init::Zero,
                            (true, false) => Init::Addend,
                            (false, _) => Init::Partial,
                        },
                        addend: to.addend.at(row, column),
                        finish: if self.k.last && store_by_kernel { Finish::Output } else { Finish::Partial },
                        partial: partial.wrapping_add(if only {
                            0
                        } else {
                            (index * tiles + t) * tile_len::<K>()
                        }),
                        output: Output {
                            y: to.y.ptr.offset(row as isize * to.y.ld).add(column),
                            ld: to.y.ld,
                            columns: panels.columns::<K>(p),
                            scale: to.scale,
                            bias: if to.bias.is_null() { to.bias } else { to.bias.add(column) },
                        },
                    };
                    let (rows, vectors) = ((self.rows - row).min(K::MR), panels.vectors::<K>(p));
                    K::run(rows, vectors, &tile);
                    if self.k.last && !store_by_kernel {
                        let finishing = &to.finishing.at(row, column);
                        let (sums, output) = (tile.partial.cast_const(), &tile.output);
                        K::vectorize(Store { rows, vectors, sums, output, finishing });
                    }
                }
            }
        }
    }
}

/// Elements of a tile's f32 sums.
pub(crate) const fn tile_len<K: MicroKernel>() -> usize {
    K::MR * K::NV * K::LANES
}

/// Packs a block of rows, tile by tile: `[tile][k.len()][PITCH]`.
///
/// # Safety
///
/// `rows` and `k` lie inside `x`; `packed` has room for whole tiles, and nobody else touches it.
pub(crate) unsafe fn pack_rows<K: MicroKernel>(
    x: Rows,
    rows: Range<usize>,
    k: Range<usize>,
    packed: *mut f32,
) {
    debug_assert!(rows.end <= x.rows && k.end <= x.columns);
    for (t, row) in rows.clone().step_by(K::MR).enumerate() {
        // SAFETY: the caller's contract; the level's instructions were found when the layer was made.
        unsafe {
            let from = x.ptr.offset(row as isize * x.ld).add(k.start);
            K::pack(from, x.ld, (rows.end - row).min(K::MR), k.len(), packed.add(t * k.len() * K::PITCH));
        }
    }
}

impl Block {
    pub(crate) fn reserve_h<K: MicroKernel>(&mut self, rows: usize, rank: usize) {
        self.h.reserve::<f16>(&[rows, rank]);
        self.packed_h.reserve::<f32>(&[rows.div_ceil(K::MR), rank, K::PITCH]);
    }

    /// Packs the first `rows` rows of h for the expand.
    ///
    /// # Safety
    ///
    /// `reserve_h` was called for that many rows, and they have been written.
    pub(crate) unsafe fn pack_h<K: MicroKernel>(&mut self, rows: usize, rank: usize) {
        let h = Rows { ptr: self.h.as_ptr(), ld: rank as isize, rows, columns: rank };
        // SAFETY: the caller's contract.
        unsafe { pack_rows::<K>(h, 0..rows, 0..rank, self.packed_h.as_mut_ptr()) }
    }
}

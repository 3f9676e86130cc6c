//! h of a block of rows: the shrink makes it, the expand takes it.
//!
//! Adapters have some of the block's rows, from anywhere to anywhere. A tile of rows that has one adapter, or
//! none, is computed as a whole, its K loop running on over h and B. Any other tile leaves the base product
//! in f32 sums; each adapter then adds its rows' part to them, and the tile is stored. So W is read once
//! however the rows are cut, and an adapter costs what its own rows cost.

use std::ops::Range;

use super::{
    blocks::KBlock,
    kernel::{
        Ahead, Init, MicroKernel, Pack, Segment,
        levels::{Kernels, OutOf},
    },
    loras::{Lora, Loras},
    panels::Bytes,
    sweep::{Columns, Ending, Sweep, Target, Tiles, ahead, tile_len},
    view::{Rows, RowsMut},
    workspace::Block,
};

/// h of these rows, for all adapters that they have. The rows of one adapter lie together: behind those of
/// the rows before, and of the adapters before it on the same rows.
pub(crate) struct Hidden<'a, P: Kernels> {
    loras: &'a Loras,
    rows: Range<usize>,
    tiles: Tiles,
    /// Those of these rows.
    adapters: &'a [Lora],
    /// Whether all rows have the same adapter, or none: no tile is left in sums.
    is_whole: bool,
    /// As the shrink leaves it: `[row][rows of A]`.
    h: *mut P::H,
    /// In parts, if the adapter is: `[row][K of B]`.
    split: *mut P::Wide,
    /// `[tile][step][rows of the adapter in the tile]`
    packed: *mut <P::Main as MicroKernel>::X,
}

/// How a panel of W ends in tiles of a block.
pub(crate) type EndingOf<K> = Ending<<K as MicroKernel>::X, <K as MicroKernel>::B>;

impl<'a, P: Kernels> Hidden<'a, P> {
    /// In this memory, which grows to what the rows need.
    pub(crate) fn reserve(memory: &mut Block, loras: &'a Loras, rows: Range<usize>) -> Self {
        let (count, most) = (rows.len(), loras.most);
        memory.h.reserve::<P::H>(&[count, most.h]);
        if P::SPLIT {
            memory.split_h.reserve::<P::Wide>(&[count, most.wide]);
        }
        memory.packed_h.reserve::<<P::Main as MicroKernel>::X>(&[count, most.steps]);
        let [h, split, packed] = [&mut memory.h, &mut memory.split_h, &mut memory.packed_h];
        let (h, split, packed) = (h.as_mut_ptr(), split.as_mut_ptr(), packed.as_mut_ptr());
        Self::at(loras, rows, (h, split, packed))
    }

    fn at(
        loras: &'a Loras,
        rows: Range<usize>,
        (h, split, packed): (*mut P::H, *mut P::Wide, *mut <P::Main as MicroKernel>::X),
    ) -> Self {
        let (tiles, adapters) = (Tiles::new::<P::Main>(rows.len()), loras.on(&rows));
        let is_whole = match adapters {
            [] => true,
            [lora] => lora.within(&rows) == rows,
            _ => false,
        };
        Self { loras, rows, tiles, adapters, is_whole, h, split, packed }
    }

    /// Some of the rows, as a block of their own.
    pub(crate) fn block(&self, rows: Range<usize>) -> Self {
        let (before, most) = (rows.start - self.rows.start, self.loras.most);
        let h = self.h.wrapping_add(before * most.h);
        let split = self.split.wrapping_add(before * most.wide);
        let packed = self.packed.wrapping_add(before * most.steps);
        Self::at(self.loras, rows, (h, split, packed))
    }

    pub(crate) fn rows(&self) -> &Range<usize> {
        &self.rows
    }

    /// How they are cut.
    pub(crate) fn tiles(&self) -> Tiles {
        self.tiles
    }

    /// The adapters of the block's rows.
    pub(crate) fn adapters(&self) -> &'a [Lora] {
        self.adapters
    }

    /// An adapter's rows, counted from the block's first.
    fn own(&self, lora: &Lora) -> Range<usize> {
        let rows = lora.within(&self.rows);
        rows.start - self.rows.start..rows.end - self.rows.start
    }

    /// Takes an adapter's rows through panel `p` of its A, over a K block of x, and fetches what is needed
    /// next.
    ///
    /// # Safety
    ///
    /// x holds the block's rows; memory was reserved for them, and this adapter's panel is this thread's;
    /// `sums` has room for the block's sums in a panel and is the panel's from the first K block to the last.
    pub(crate) unsafe fn shrink(
        &self,
        lora: &Lora,
        p: usize,
        (x, k): (*const <P::Main as MicroKernel>::X, KBlock),
        sums: *mut f32,
        next: Option<Bytes>,
    ) {
        let (own, a) = (self.own(lora), &lora.packed.a);
        let ptr = self.h.wrapping_add(own.start * self.loras.most.h + lora.before.h * own.len());
        // Where the block's first row would be.
        let h = RowsMut { ptr: ptr.wrapping_sub(own.start * a.rows()), ld: a.rows() as isize };
        let columns = Columns { panels: a, to: Target::plain(h, lora.packed.scale) };
        let sweep = Sweep::<P::Shrink> { tiles: self.tiles, x, k, columns };
        // SAFETY: the caller's contract.
        unsafe { sweep.run(p, own, sums, next, |_| Ending::Output(Segment::EMPTY)) };
    }

    /// Packs h for the expand.
    ///
    /// # Safety
    ///
    /// All of h was made, and nobody else touches the block's memory.
    pub(crate) unsafe fn pack(&self) {
        for lora in self.adapters() {
            let (own, most) = (self.own(lora), self.loras.most);
            let h = self.h.wrapping_add(own.start * most.h + lora.before.h * own.len()).cast_const();
            let columns = lora.packed.b.k();
            // SAFETY: the caller's contract; rows of an adapter lie in its own part of each memory.
            unsafe {
                let ptr = if P::SPLIT {
                    let to = self.split.add(own.start * most.wide + lora.before.wide * own.len());
                    P::split_h(own.len(), columns / 3, h, to);
                    to.cast_const()
                } else {
                    h.cast()
                };
                let h = Rows { ptr, ld: columns as isize, rows: own.len(), columns };
                for t in self.tiles.of(&own) {
                    let tile = self.in_tile(&own, t);
                    let from = h.ptr.add((tile.start - own.start) * columns);
                    let to = self.packed_of(lora, &own, &tile);
                    <P::Main as Pack<P::Wide>>::pack(from, h.ld, tile.len(), columns, to.cast_mut());
                }
            }
        }
    }

    /// How each tile of the block ends in panel `p` of W; B's panel that goes with `next` is fetched.
    pub(crate) fn endings(&self, p: usize, next: usize) -> impl Fn(usize) -> EndingOf<P::Main> {
        // Of one adapter for all rows: all that takes a division, once.
        let first = self.adapters.first().filter(|_| self.is_whole);
        let first = first.and_then(|lora| Some((lora, lora.packed.panel(p)?)));
        let first = first.map(|(lora, b)| self.expand(lora, b, &(0..self.rows.len()), 0, next));
        move |t| match first {
            Some(Segment { x, w, steps, ahead: Ahead { from, stride }, .. }) => {
                let tile = self.tiles.range(t);
                let (x, ahead) = (x.wrapping_add(tile.start * steps), from.wrapping_add(t * steps * stride));
                Ending::Output(Segment {
                    x,
                    x_rows: tile.len(),
                    w,
                    steps,
                    ahead: Ahead { from: ahead, stride },
                })
            }
            None if self.is_whole => Ending::Output(Segment::EMPTY),
            None => self.ending(p, t, next),
        }
    }

    /// How tile `t` ends.
    fn ending(&self, p: usize, t: usize, next: usize) -> EndingOf<P::Main> {
        let tile = self.tiles.range(t);
        let mut adapters = self.adapters_of(p, t);
        match (adapters.next(), adapters.next()) {
            (None, _) => Ending::Output(Segment::EMPTY),
            (Some((lora, b, own)), None) if self.in_tile(&own, t) == tile => {
                Ending::Output(self.expand(lora, b, &own, t, next))
            }
            _ => Ending::Sums,
        }
    }

    /// Adds h Bᵀ in panel `p` of W to tiles whose base product lies in `sums`, and stores them: all tiles, or
    /// those that [`endings`](Self::endings) leave there.
    ///
    /// # Safety
    ///
    /// h was packed; `y` is W and y from the block's first row on, whose panel nobody else touches; `sums`
    /// are of the block's tiles.
    pub(crate) unsafe fn finish(
        &self,
        y: Columns<'_, OutOf<P>>,
        p: usize,
        next: usize,
        sums: *mut f32,
        all: bool,
    ) {
        if !all && self.is_whole {
            return;
        }
        let width = y.panels.vectors(p) * P::Main::LANES;
        for t in 0..self.tiles.count() {
            if !all && matches!(self.ending(p, t, next), Ending::Output(_)) {
                continue;
            }
            let tile = self.tiles.range(t);
            let sums = sums.wrapping_add(t * tile_len::<P::Main>());
            // One that has the whole tile by itself stores it.
            let alone = self.adapters_of(p, t).nth(1).is_none();
            let mut is_stored = false;
            for (lora, b, own) in self.adapters_of(p, t) {
                let rows = self.in_tile(&own, t);
                is_stored = alone && rows == tile;
                let ending = if is_stored { Ending::Output(Segment::EMPTY) } else { Ending::Sums };
                let column = lora.packed.first_panel * P::Main::NV * P::Main::LANES;
                let of_b = Columns { panels: &lora.packed.b, to: y.to.at(0, column) };
                let sums = sums.wrapping_add((rows.start - tile.start) * width);
                let expand = self.expand(lora, b, &own, t, next);
                // SAFETY: the caller's contract; a panel of B is as wide as W's.
                unsafe {
                    if is_stored {
                        of_b.tile::<P::Expand>(b, rows, expand, Init::Partial, ending, sums);
                    } else {
                        of_b.tile::<P::Piece>(b, rows, expand, Init::Partial, ending, sums);
                    }
                }
            }
            if !is_stored {
                let (nothing, ending) = (Segment::EMPTY, Ending::Output(Segment::EMPTY));
                // SAFETY: the caller's contract.
                unsafe { y.tile::<P::Main>(p, tile, nothing, Init::Partial, ending, sums) };
            }
        }
    }

    /// The adapters of tile `t` that add to panel `p` of W, with B's panel and their rows in the block.
    fn adapters_of(&self, p: usize, t: usize) -> impl Iterator<Item = (&'a Lora, usize, Range<usize>)> {
        let tile = self.tiles.range(t);
        let rows = tile.start + self.rows.start..tile.end + self.rows.start;
        let of = if self.is_whole { self.adapters } else { self.loras.on(&rows) };
        of.iter().filter_map(move |lora| Some((lora, lora.packed.panel(p)?, self.own(lora))))
    }

    /// An adapter's part of tile `t`, through panel `b` of its B.
    fn expand(
        &self,
        lora: &Lora,
        b: usize,
        own: &Range<usize>,
        t: usize,
        next: usize,
    ) -> Segment<<P::Main as MicroKernel>::X, <P::Main as MicroKernel>::B> {
        let (rows, steps) = (self.in_tile(own, t), lora.packed.b.steps());
        Segment {
            x: self.packed_of(lora, own, &rows),
            x_rows: rows.len(),
            w: lora.packed.b.at(b, 0),
            steps,
            ahead: ahead(lora.packed.bytes(next), &self.tiles.of(own), t, steps),
        }
    }

    /// Where h of an adapter's rows in a tile is packed.
    fn packed_of(
        &self,
        lora: &Lora,
        own: &Range<usize>,
        rows: &Range<usize>,
    ) -> *const <P::Main as MicroKernel>::X {
        let before = own.start * self.loras.most.steps + lora.before.steps * own.len();
        self.packed.wrapping_add(before + (rows.start - own.start) * lora.packed.b.steps()).cast_const()
    }

    /// Those of these rows of the block that lie in tile `t`.
    fn in_tile(&self, rows: &Range<usize>, t: usize) -> Range<usize> {
        let tile = self.tiles.range(t);
        rows.start.max(tile.start)..rows.end.min(tile.end)
    }
}

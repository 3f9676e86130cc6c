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

/// Whose a tile is, in a panel of W.
enum Alone<'a> {
    /// No adapter adds to it.
    Nobody,
    /// One that has all of its rows, with B's panel.
    Has(&'a Lora, usize),
    /// Several, or one that has some of its rows.
    Not,
}

/// An adapter's rows of a block through a panel of its B: what tiles of them need, from the first row on.
struct Part<P: Kernels> {
    x: *const <P::Main as MicroKernel>::X,
    w: *const <P::Main as MicroKernel>::B,
    steps: usize,
    first_row: usize,
    first_tile: usize,
    /// What the first tile fetches.
    ahead: Ahead,
}

impl<P: Kernels> Part<P> {
    /// These rows, of tile `t`.
    fn expand(
        &self,
        rows: &Range<usize>,
        t: usize,
    ) -> Segment<<P::Main as MicroKernel>::X, <P::Main as MicroKernel>::B> {
        let Ahead { from, stride } = self.ahead;
        let from = from.wrapping_add((t - self.first_tile) * self.steps * stride);
        Segment {
            x: self.x.wrapping_add((rows.start - self.first_row) * self.steps),
            x_rows: rows.len(),
            w: self.w,
            steps: self.steps,
            ahead: Ahead { from, stride },
        }
    }
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

    /// How each tile of the block ends in panel `p` of W, one after another; B's panel that goes with `next`
    /// is fetched.
    pub(crate) fn endings(&self, p: usize, next: usize) -> impl FnMut(usize) -> EndingOf<P::Main> {
        let mut rest = self.adapters;
        // Of the adapter that the tile before had. Beside a tile of K = 1024, which takes a core some 6,000
        // cycles with AVX2, divisions and searches for each were 3 %.
        let mut latest: Option<(&Lora, Part<P>)> = None;
        move |t| {
            let tile = self.tiles.range(t);
            let here = self.of_tile(&mut rest, &tile);
            match self.alone(here, p, &tile) {
                Alone::Nobody => Ending::Output(Segment::EMPTY),
                Alone::Has(lora, b) => {
                    let part = match &latest {
                        Some((of, part)) if std::ptr::eq(*of, lora) => part,
                        _ => &latest.insert((lora, self.part(lora, b, next))).1,
                    };
                    Ending::Output(part.expand(&tile, t))
                }
                Alone::Not => Ending::Sums,
            }
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
        let mut rest = self.adapters;
        for t in 0..self.tiles.count() {
            let tile = self.tiles.range(t);
            let here = self.of_tile(&mut rest, &tile);
            let alone = self.alone(here, p, &tile);
            if !all && !matches!(alone, Alone::Not) {
                continue;
            }
            let sums = sums.wrapping_add(t * tile_len::<P::Main>());
            // One that has the whole tile by itself stores it.
            let stores = matches!(alone, Alone::Has(..));
            for lora in here {
                let Some(b) = lora.packed.panel(p) else { continue };
                let rows = self.in_tile(&self.own(lora), t);
                let ending = if stores { Ending::Output(Segment::EMPTY) } else { Ending::Sums };
                let column = lora.packed.first_panel * P::Main::NV * P::Main::LANES;
                let of_b = Columns { panels: &lora.packed.b, to: y.to.at(0, column) };
                let sums = sums.wrapping_add((rows.start - tile.start) * width);
                let expand = self.part(lora, b, next).expand(&rows, t);
                // SAFETY: the caller's contract; a panel of B is as wide as W's.
                unsafe {
                    if stores {
                        of_b.tile::<P::Expand>(b, rows, expand, Init::Partial, ending, sums);
                    } else {
                        of_b.tile::<P::Piece>(b, rows, expand, Init::Partial, ending, sums);
                    }
                }
            }
            if !stores {
                let (nothing, ending) = (Segment::EMPTY, Ending::Output(Segment::EMPTY));
                // SAFETY: the caller's contract.
                unsafe { y.tile::<P::Main>(p, tile, nothing, Init::Partial, ending, sums) };
            }
        }
    }

    /// The adapters that have rows of a tile, of the `rest` that those before have left.
    fn of_tile(&self, rest: &mut &'a [Lora], tile: &Range<usize>) -> &'a [Lora] {
        let rows = self.rows.start + tile.start..self.rows.start + tile.end;
        let over = rest.iter().take_while(|lora| lora.rows.end <= rows.start).count();
        *rest = &rest[over..];
        let count = rest.iter().take_while(|lora| lora.rows.start < rows.end).count();
        &rest[..count]
    }

    /// Whether one of the adapters `here` has a tile by itself in panel `p` of W, with B's panel.
    fn alone(&self, here: &'a [Lora], p: usize, tile: &Range<usize>) -> Alone<'a> {
        let rows = self.rows.start + tile.start..self.rows.start + tile.end;
        let mut adapters = here.iter().filter_map(|lora| Some((lora, lora.packed.panel(p)?)));
        match (adapters.next(), adapters.next()) {
            (None, _) => Alone::Nobody,
            (Some((lora, b)), None) if lora.within(&rows) == rows => Alone::Has(lora, b),
            _ => Alone::Not,
        }
    }

    /// An adapter's rows through panel `b` of its B.
    fn part(&self, lora: &Lora, b: usize, next: usize) -> Part<P> {
        let (own, steps) = (self.own(lora), lora.packed.b.steps());
        let tiles = self.tiles.of(&own);
        Part {
            x: self.packed_of(lora, &own, &own),
            w: lora.packed.b.at(b, 0),
            steps,
            first_tile: tiles.start,
            ahead: ahead(lora.packed.bytes(next), &tiles, tiles.start, steps),
            first_row: own.start,
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

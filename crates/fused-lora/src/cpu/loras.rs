//! Which rows of a product have which adapters.

use std::{ops::Range, sync::Arc};

use super::panels::{Bytes, Panels};

/// A and B, packed, and the columns of y that they add to.
pub(crate) struct Packed {
    /// A as the weight of the shrink: r columns, or 2r where it is in parts.
    pub(crate) a: Panels,
    /// B as the weight of the expand; K is r, or 3r in parts. Its columns are those of the panels of W that
    /// it adds to, zero where it has none.
    pub(crate) b: Panels,
    pub(crate) scale: f32,
    /// The first of these panels.
    pub(crate) first_panel: usize,
    /// What it adds to, in y.
    pub(crate) columns: Range<usize>,
}

impl Packed {
    /// The panel of B that goes with panel `p` of W.
    pub(crate) fn panel(&self, p: usize) -> Option<usize> {
        p.checked_sub(self.first_panel).filter(|&panel| panel < self.b.count())
    }

    /// That panel, to be fetched.
    pub(crate) fn bytes(&self, p: usize) -> Option<Bytes> {
        self.b.bytes(self.panel(p)?, 0..self.b.steps())
    }
}

/// An adapter on some rows.
#[derive(Clone)]
pub(crate) struct Lora {
    pub(crate) rows: Range<usize>,
    pub(crate) packed: Arc<Packed>,
    /// What those before it on the same rows take.
    pub(crate) before: Widths,
}

impl Lora {
    /// Those of its rows that lie in `rows`.
    pub(crate) fn within(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.start.max(rows.start)..self.rows.end.min(rows.end)
    }
}

/// What the h of adapters on the same rows take of memory, in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Widths {
    /// Panels of A.
    pub(crate) panels: usize,
    /// Columns of h as the shrink rounds it.
    pub(crate) h: usize,
    /// As the expand takes it.
    pub(crate) wide: usize,
    /// Steps of packed h.
    pub(crate) steps: usize,
}

impl Widths {
    fn with(self, Packed { a, b, .. }: &Packed) -> Self {
        Self {
            panels: self.panels + a.count(),
            h: self.h + a.rows(),
            wide: self.wide + b.k(),
            steps: self.steps + b.steps(),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            panels: self.panels.max(other.panels),
            h: self.h.max(other.h),
            wide: self.wide.max(other.wide),
            steps: self.steps.max(other.steps),
        }
    }
}

/// Adapters on rows: in the order of the rows, which are the same or disjoint. None has a rank of zero.
#[derive(Clone)]
pub(crate) struct Loras {
    list: Vec<Lora>,
    /// The most that a row takes.
    pub(crate) most: Widths,
}

impl Loras {
    pub(crate) const NONE: &'static Self =
        &Self { list: Vec::new(), most: Widths { panels: 0, h: 0, wide: 0, steps: 0 } };

    /// Those of each range of rows; the ranges are in order and disjoint, and none is empty.
    pub(crate) fn new<'a>(ranges: impl IntoIterator<Item = (Range<usize>, &'a [Arc<Packed>])>) -> Self {
        let (mut list, mut most) = (Vec::new(), Widths::default());
        for (rows, adapters) in ranges {
            let mut before = Widths::default();
            for packed in adapters {
                list.push(Lora { rows: rows.clone(), packed: Arc::clone(packed), before });
                before = before.with(packed);
            }
            most = most.max(before);
        }
        Self { list, most }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that have rows of these.
    pub(crate) fn on(&self, rows: &Range<usize>) -> &[Lora] {
        let first = self.list.partition_point(|lora| lora.rows.end <= rows.start);
        let count = self.list[first..].partition_point(|lora| lora.rows.start < rows.end);
        &self.list[first..first + count]
    }

    /// The only one, if it has all rows, and all columns of this weight.
    pub(crate) fn only(&self, weight: &Panels) -> Option<&Packed> {
        match &*self.list {
            [Lora { rows, packed, .. }] => {
                (*rows == ALL_ROWS && packed.b.rows() == weight.rows()).then_some(&**packed)
            }
            _ => None,
        }
    }
}

/// However many there are.
pub(crate) const ALL_ROWS: Range<usize> = 0..usize::MAX;

//! Where everything stands, in pixels of the SVG.

use fused_lora_records::{BATCHES, Cell, RANKS, SEQ_LENS, grid};

/// A cell's width and height.
const CELL: (i32, i32) = (54, 44);
/// Between neighbouring cells, so that a scaled picture shows a line there and not a blurred seam.
const CELL_GAP: i32 = 1;
/// Between neighbouring panels.
const PANEL_GAP: (i32, i32) = (20, 24);
/// Left of the panels: y label, ranks.
const LEFT: i32 = 84;
/// Left of these: the rows' titles, where a row has one.
const ROW_TITLE: i32 = 36;
/// Above the panels: the titles, and room for the arrow of the colour bar.
const TOP: i32 = 52;
/// Below the panels: batch sizes, x label.
const BELOW: i32 = 66;
/// Between the panels and the colour bar, and the bar's own width.
const BAR: (i32, i32) = (26, 20);
/// Right of the colour bar: its numbers and its label.
const RIGHT: i32 = 84;
/// From one line of the footer to the next, and below the last.
const FOOTER: (i32, i32) = (20, 8);

/// A rectangle, right and bottom exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rect {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
}

impl Rect {
    pub(crate) fn width(&self) -> i32 {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> i32 {
        self.bottom - self.top
    }

    pub(crate) fn centre(&self) -> (i32, i32) {
        (self.left + self.width() / 2, self.top + self.height() / 2)
    }
}

/// The geometry of a figure with so many rows of panels and lines of footer, with or without titles of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    rows: usize,
    left: i32,
    footer_lines: usize,
}

impl Layout {
    pub(crate) fn new(rows: usize, has_titles: bool) -> Layout {
        Layout { rows, left: if has_titles { ROW_TITLE + LEFT } else { LEFT }, footer_lines: 0 }
    }

    /// The same with a footer of so many lines.
    pub(crate) fn with_footer(self, footer_lines: usize) -> Layout {
        Layout { footer_lines, ..self }
    }

    /// Width and height of the whole picture.
    pub(crate) fn size(&self) -> (u32, u32) {
        let width = self.bar().right + RIGHT;
        let height = self.footer_line(self.footer_lines) + FOOTER.1;
        (width as u32, height as u32)
    }

    /// How wide a line of the footer may be.
    pub(crate) fn footer_width(&self) -> i32 {
        self.size().0 as i32 - 2 * 18
    }

    /// All cells of one row and one sequence length.
    pub(crate) fn panel(&self, row: usize, column: usize) -> Rect {
        let (width, height) = panel_size();
        let left = self.left + column as i32 * (width + PANEL_GAP.0);
        let top = TOP + row as i32 * (height + PANEL_GAP.1);
        Rect { left, top, right: left + width, bottom: top + height }
    }

    /// One cell of a panel: batch sizes go right, ranks go down.
    pub(crate) fn cell(&self, row: usize, column: usize, batch: usize, rank: usize) -> Rect {
        let panel = self.panel(row, column);
        let left = panel.left + batch as i32 * (CELL.0 + CELL_GAP);
        let top = panel.top + rank as i32 * (CELL.1 + CELL_GAP);
        Rect { left, top, right: left + CELL.0, bottom: top + CELL.1 }
    }

    /// All cells of one row of panels, in the order of the grid.
    pub(crate) fn cells(self, row: usize) -> impl Iterator<Item = (Cell, Rect)> {
        fn position<const N: usize>(of: usize, values: [usize; N]) -> usize {
            values.iter().position(|value| *value == of).expect("the grid is made of these values")
        }
        grid().map(move |cell| {
            let column = position(cell.seq_len, SEQ_LENS);
            let (batch, rank) = (position(cell.batch, BATCHES), position(cell.rank, RANKS));
            (cell, self.cell(row, column, batch, rank))
        })
    }

    /// The colour bar, as high as all rows together.
    pub(crate) fn bar(&self) -> Rect {
        let left = self.panel(0, SEQ_LENS.len() - 1).right + BAR.0;
        Rect { left, top: TOP, right: left + BAR.1, bottom: self.panels_bottom() }
    }

    /// The bottom of the lowest panels.
    pub(crate) fn panels_bottom(&self) -> i32 {
        self.panel(self.rows - 1, 0).bottom
    }

    /// The middle of a line of the footer.
    pub(crate) fn footer_line(&self, line: usize) -> i32 {
        self.panels_bottom() + BELOW + 12 + line as i32 * FOOTER.0
    }
}

fn panel_size() -> (i32, i32) {
    let along = |count: usize, size: i32| count as i32 * (size + CELL_GAP) - CELL_GAP;
    (along(BATCHES.len(), CELL.0), along(RANKS.len(), CELL.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: Rect, b: Rect) -> bool {
        a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
    }

    #[test]
    fn nothing_overlaps_and_all_is_inside() {
        for (rows, has_titles) in (1..=crate::select::MAX_ROWS).flat_map(|rows| [(rows, false), (rows, true)])
        {
            let layout = Layout::new(rows, has_titles).with_footer(3);
            let mut rects = vec![layout.bar()];
            for row in 0..rows {
                for column in 0..SEQ_LENS.len() {
                    let panel = layout.panel(row, column);
                    for batch in 0..BATCHES.len() {
                        for rank in 0..RANKS.len() {
                            let cell = layout.cell(row, column, batch, rank);
                            assert!(cell.left >= panel.left && cell.right <= panel.right);
                            assert!(cell.top >= panel.top && cell.bottom <= panel.bottom);
                            rects.push(cell);
                        }
                    }
                }
            }
            let (width, height) = layout.size();
            for (i, a) in rects.iter().enumerate() {
                assert!(a.left > 0 && a.top > 0 && a.right < width as i32 && a.bottom < height as i32);
                assert!(rects[..i].iter().all(|b| !overlap(*a, *b)));
            }
            let corner = layout.cell(rows - 1, SEQ_LENS.len() - 1, BATCHES.len() - 1, RANKS.len() - 1);
            let panel = layout.panel(rows - 1, SEQ_LENS.len() - 1);
            assert_eq!((corner.right, corner.bottom), (panel.right, panel.bottom));
            assert!(layout.footer_line(0) > layout.panels_bottom());
            assert!(layout.footer_line(2) < height as i32);
        }
    }
}

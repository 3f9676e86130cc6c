//! Where everything of the figure of few tokens stands, in pixels of the SVG.

use crate::layout::Rect;

/// A panel's height, and its width where one, two, or more stand side by side.
const PANEL_HEIGHT: i32 = 232;
const PANEL_WIDTHS: [i32; 3] = [660, 500, 340];
/// Between neighbouring panels: the numbers of their axes.
const PANEL_GAP: (i32, i32) = (60, 48);
/// Left of the panels: element type, y label, numbers.
const LEFT: i32 = 124;
/// Right of them, and above the legend.
const EDGE: (i32, i32) = (24, 16);
/// Between the legend and the panels: a workload's name and widths.
const TITLES: i32 = 66;
/// Below the panels: numbers of tokens, x label.
const BELOW: i32 = 66;
/// From one line of the legend to the next.
const LEGEND_LINE: i32 = 24;
/// Left and right of legend and footer.
pub(crate) const INDENT: i32 = 18;
/// From one line of the footer to the next, and below the last.
const FOOTER: (i32, i32) = (20, 8);

/// The geometry of a figure with so many panels. The legend has two groups of entries, each of which begins a
/// line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeLayout {
    columns: usize,
    rows: usize,
    groups: [usize; 2],
    entry_width: i32,
    footer_lines: usize,
}

impl DecodeLayout {
    pub(crate) fn new(columns: usize, rows: usize, groups: [usize; 2], entry_width: i32) -> DecodeLayout {
        DecodeLayout { columns, rows, groups, entry_width, footer_lines: 0 }
    }

    /// The same with a footer of so many lines.
    pub(crate) fn with_footer(self, footer_lines: usize) -> DecodeLayout {
        DecodeLayout { footer_lines, ..self }
    }

    /// Width and height of the whole picture.
    pub(crate) fn size(&self) -> (u32, u32) {
        let height = self.footer_line(self.footer_lines) + FOOTER.1;
        (self.width() as u32, height as u32)
    }

    /// How wide a line of legend or footer may be.
    pub(crate) fn inner_width(&self) -> i32 {
        self.width() - 2 * INDENT
    }

    /// The area of one panel.
    pub(crate) fn panel(&self, column: usize, row: usize) -> Rect {
        let (left, right) = self.column(column);
        let legend = self.groups.iter().map(|entries| self.lines_of(*entries)).sum::<i32>();
        let top = EDGE.1 + legend * LEGEND_LINE + TITLES + row as i32 * (PANEL_HEIGHT + PANEL_GAP.1);
        Rect { left, top, right, bottom: top + PANEL_HEIGHT }
    }

    /// The left end and the middle of an entry of a group of the legend.
    pub(crate) fn entry(&self, group: usize, place: usize) -> (i32, i32) {
        let above: i32 = self.groups[..group].iter().map(|entries| self.lines_of(*entries)).sum();
        let (line, column) = (place as i32 / self.per_line(), place as i32 % self.per_line());
        let y = EDGE.1 + (above + line) * LEGEND_LINE + LEGEND_LINE / 2;
        (INDENT + column * self.entry_width, y)
    }

    /// The middle of a line of the footer.
    pub(crate) fn footer_line(&self, line: usize) -> i32 {
        self.panel(0, self.rows - 1).bottom + BELOW + 12 + line as i32 * FOOTER.0
    }

    /// Left and right end of a column of panels.
    fn column(&self, column: usize) -> (i32, i32) {
        let width = PANEL_WIDTHS[self.columns.clamp(1, PANEL_WIDTHS.len()) - 1];
        let left = LEFT + column as i32 * (width + PANEL_GAP.0);
        (left, left + width)
    }

    fn width(&self) -> i32 {
        self.column(self.columns - 1).1 + EDGE.0
    }

    /// Entries on a line of the legend.
    fn per_line(&self) -> i32 {
        (self.inner_width() / self.entry_width).max(1)
    }

    fn lines_of(&self, entries: usize) -> i32 {
        (entries as i32 + self.per_line() - 1) / self.per_line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_all_is_inside() {
        for (columns, rows) in (1..=4).flat_map(|columns| (1..=3).map(move |rows| (columns, rows))) {
            for (groups, entry_width) in [([7, 4], 172), ([7, 0], 172), ([1, 30], 300), ([2, 1], 5000)] {
                let layout = DecodeLayout::new(columns, rows, groups, entry_width).with_footer(3);
                let (width, height) = layout.size();
                let mut rects = Vec::new();
                for (column, row) in (0..columns).flat_map(|c| (0..rows).map(move |r| (c, r))) {
                    let panel = layout.panel(column, row);
                    assert!(panel.left >= LEFT && panel.right < width as i32);
                    assert!(panel.bottom + BELOW < layout.footer_line(0));
                    rects.push(panel);
                }
                for (group, entries) in groups.into_iter().enumerate() {
                    for place in 0..entries {
                        let (left, y) = layout.entry(group, place);
                        let (top, bottom) = (y - LEGEND_LINE / 2, y + LEGEND_LINE / 2);
                        assert!(bottom + TITLES <= rects[0].top);
                        rects.push(Rect { left, top, right: left + entry_width, bottom });
                    }
                }
                for (i, a) in rects.iter().enumerate() {
                    assert!(a.left > 0 && a.top > 0, "{a:?}");
                    // A label that is too long for a line is cut.
                    assert!(a.right <= width as i32 || entry_width > width as i32, "{a:?}");
                    let apart = |b: &Rect| {
                        a.left >= b.right || b.left >= a.right || a.top >= b.bottom || b.top >= a.bottom
                    };
                    assert!(rects[..i].iter().all(apart), "{a:?}");
                }
                assert!(layout.footer_line(2) < height as i32);
            }
        }
    }
}

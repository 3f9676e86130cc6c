//! Panels of horizontal bars.

use plotters::element::PathElement;

use super::style::{AXIS_LABEL, FAINT_INK, GRID, INK, TICK, TITLE, fill, line, tick};
use crate::bars::{Bar, BarFigure, BarGroup};
use crate::colormap::Rgb;
use crate::error::Error;
use crate::layout::Rect;
use crate::scale::ticks;
use crate::text::{Align, Canvas, Label, cut, fitting_size, width};

/// Of the whole picture.
const WIDTH: i32 = 940;
/// Left of the axis: labels.
const LEFT: i32 = 300;
/// Right of the axis: the numbers of the longest bars.
const RIGHT: i32 = 170;
/// Above the panels: title and legend.
const TOP: i32 = 84;
/// Above the groups of a panel: its title. Below: the numbers of the axis.
const PANEL_TITLE: i32 = 34;
const BELOW: i32 = 30;
/// Of the label of the axis.
const AXIS: i32 = 30;
/// Height of a bar, and between groups.
const BAR: i32 = 15;
const GAP: i32 = 14;
/// From one line of the footer to the next, and below the last.
const LINE: (i32, i32) = (20, 10);
const MARGIN: i32 = 18;
/// Size of numbers and details.
const SMALL: f64 = 12.5;
const LABEL: f64 = 15.0;

/// Of the bars of a group.
const COLOURS: [Rgb; 2] = [Rgb(0xB4, 0xB4, 0xB4), Rgb(0x2F, 0x6D, 0xAE)];

/// Where everything stands.
pub(super) struct BarLayout {
    /// The axis's ends, in its unit.
    range: (f64, f64),
    /// The tops of the panels, and the end of the last.
    tops: Vec<i32>,
    footer_lines: usize,
}

impl BarLayout {
    pub(super) fn new(figure: &BarFigure) -> BarLayout {
        let mut tops = vec![TOP];
        for panel in &figure.panels {
            let groups = panel.groups.len() as i32 * (2 * BAR + GAP);
            tops.push(tops[tops.len() - 1] + PANEL_TITLE + groups + BELOW);
        }
        BarLayout { range: figure.range(), tops, footer_lines: 0 }
    }

    pub(super) fn with_footer(self, footer_lines: usize) -> BarLayout {
        BarLayout { footer_lines, ..self }
    }

    pub(super) fn footer_width(&self) -> i32 {
        WIDTH - 2 * MARGIN
    }

    pub(super) fn footer_line(&self, line: usize) -> i32 {
        self.tops[self.tops.len() - 1] + AXIS + LINE.0 / 2 + line as i32 * LINE.0
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (self.footer_line(self.footer_lines) + LINE.1) as u32)
    }

    fn x(&self, value: f64) -> i32 {
        let (lo, hi) = self.range;
        LEFT + ((value - lo) / (hi - lo) * f64::from(WIDTH - RIGHT - LEFT)).round() as i32
    }
}

fn text(at: (i32, i32), size: f64, align: Align, colour: Rgb) -> Label {
    Label { at, size, align, colour, upwards: false }
}

/// Title, legend, and all panels.
pub(super) fn draw(canvas: &Canvas<'_>, layout: &BarLayout, figure: &BarFigure) -> Result<(), Error> {
    let title = cut(&figure.title, TITLE, WIDTH - 2 * MARGIN);
    text((MARGIN, 28), TITLE, Align::Left, INK).draw(canvas, &title)?;
    let mut left = LEFT;
    for (name, colour) in figure.names.iter().zip(COLOURS) {
        fill(canvas, Rect { left, top: 52, right: left + 26, bottom: 52 + BAR }, colour)?;
        text((left + 34, 59), LABEL, Align::Left, INK).draw(canvas, name)?;
        left += 34 + width(name, LABEL) + 26;
    }
    fill(canvas, Rect { left, top: 49, right: left + 2, bottom: 55 + BAR }, INK)?;
    text((left + 10, 59), LABEL, Align::Left, INK).draw(canvas, figure.floor)?;

    for (panel, tops) in figure.panels.iter().zip(layout.tops.windows(2)) {
        let (top, bottom) = (tops[0] + PANEL_TITLE, tops[1] - BELOW);
        let name = cut(&panel.title, TITLE, LEFT - MARGIN - 12);
        text((MARGIN, tops[0] + PANEL_TITLE / 2), TITLE, Align::Left, INK).draw(canvas, &name)?;
        for (value, number) in ticks(layout.range.0, layout.range.1) {
            let x = layout.x(value);
            fill(canvas, Rect { left: x, top, right: x + 1, bottom }, GRID)?;
            tick(canvas, (x, bottom), (1, TICK))?;
            text((x, bottom + TICK + 10), SMALL, Align::Centre, INK).draw(canvas, &number)?;
        }
        for (place, group) in panel.groups.iter().enumerate() {
            draw_group(canvas, layout, group, top + place as i32 * (2 * BAR + GAP) + GAP / 2)?;
        }
        let zero = layout.x(0.0);
        fill(canvas, Rect { left: zero, top, right: zero + 1, bottom }, INK)?;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2;
    let below = (middle, layout.tops[layout.tops.len() - 1] + AXIS / 3);
    text(below, AXIS_LABEL, Align::Centre, INK).draw(canvas, &figure.axis)
}

fn draw_group(canvas: &Canvas<'_>, layout: &BarLayout, group: &BarGroup, top: i32) -> Result<(), Error> {
    let room = LEFT - MARGIN - 12;
    let at = |line: i32| (LEFT - 10, top + BAR / 2 + line * (BAR + 1));
    let size = fitting_size(&group.label, LABEL, room);
    text(at(0), size, Align::Right, INK).draw(canvas, &group.label)?;
    text(at(1), SMALL, Align::Right, FAINT_INK).draw(canvas, &cut(&group.detail, SMALL, room))?;
    let zero = layout.x(0.0);
    for (place, (bar, colour)) in group.bars.iter().zip(COLOURS).enumerate() {
        let top = top + place as i32 * BAR;
        let Some(Bar { value, interval, mark }) = *bar else {
            text((zero + 6, top + BAR / 2), SMALL, Align::Left, FAINT_INK).draw(canvas, "not measured")?;
            continue;
        };
        let end = layout.x(value);
        let area = Rect { left: zero.min(end), top: top + 1, right: zero.max(end), bottom: top + BAR };
        fill(canvas, area, colour)?;
        let middle = top + BAR / 2;
        let (lo, hi) = interval.map_or((end, end), |(lo, hi)| (layout.x(lo), layout.x(hi)));
        if lo < hi {
            canvas
                .draw(&PathElement::new(vec![(lo, middle), (hi, middle)], line(INK)))
                .map_err(Error::draw)?;
            for x in [lo, hi] {
                fill(canvas, Rect { left: x, top: middle - 3, right: x + 1, bottom: middle + 4 }, INK)?;
            }
        }
        let at = (hi.max(end).max(layout.x(group.floor)).max(zero) + 8, middle);
        text(at, SMALL, Align::Left, INK).draw(canvas, &format!("{value:.1}{mark}"))?;
    }
    let x = layout.x(group.floor);
    fill(canvas, Rect { left: x, top: top - 2, right: x + 2, bottom: top + 2 * BAR + 3 }, INK)
}

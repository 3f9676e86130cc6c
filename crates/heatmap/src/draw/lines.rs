//! Panels of lines over the number of tokens.

use std::collections::HashMap;

use plotters::element::{PathElement, Polygon};

use super::legend::LineStyle;
use super::style::{
    AXIS_LABEL, FAINT_INK, FOOTER, GRID, INK, OUTLINE, TICK, TITLE, fill, filled, line, tick,
};
use crate::decode::{DecodeFigure, DecodeLayout, DecodeLine, DecodePanel, DecodePoint};
use crate::error::Error;
use crate::layout::Rect;
use crate::scale::ticks;
use crate::text::{Align, Canvas, Label, cut, fitting_size, width};

/// Between the ends of a panel and the first and last number of tokens.
const INSET: i32 = 16;
/// Size of the numbers at the axes.
const NUMBER: f64 = 13.0;
/// Half of the width, and the height, of the triangle that stands for a number above the axis.
const ABOVE: (i32, i32) = (4, 7);

/// The axes of one panel.
struct Axes {
    panel: Rect,
    tokens: (f64, f64),
    range: (f64, f64),
}

impl Axes {
    fn x(&self, tokens: usize) -> i32 {
        let (first, last) = self.tokens;
        let part = if last > first { ((tokens as f64).log2() - first) / (last - first) } else { 0.5 };
        self.panel.left + INSET + (part * f64::from(self.panel.width() - 2 * INSET)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        let (lo, hi) = self.range;
        self.panel.bottom - ((value - lo) / (hi - lo) * f64::from(self.panel.height())).round() as i32
    }

    fn is_above(&self, value: f64) -> bool {
        value > self.range.1
    }

    /// What of a line is not above the axis.
    fn paths(&self, points: &[DecodePoint]) -> Vec<Vec<(i32, i32)>> {
        let mut paths: Vec<Vec<(i32, i32)>> = Vec::new();
        let top = self.range.1;
        for pair in points.windows(2) {
            let [(x0, v0), (x1, v1)] = [pair[0], pair[1]].map(|p| (f64::from(self.x(p.tokens)), p.value));
            let crossing = |value: f64| {
                let part = if v1 == v0 { 0.0 } else { (value - v0) / (v1 - v0) };
                ((x0 + part * (x1 - x0)).round() as i32, self.y(value))
            };
            let [start, end] = match [self.is_above(v0), self.is_above(v1)] {
                [true, true] => continue,
                [false, false] => [v0, v1],
                [true, false] => [top, v1],
                [false, true] => [v0, top],
            }
            .map(crossing);
            match paths.last_mut().filter(|path| path.last() == Some(&start)) {
                Some(path) => path.push(end),
                None => paths.push(vec![start, end]),
            }
        }
        paths
    }
}

/// All panels, with titles above the columns and labels left of the rows.
pub(super) fn draw(canvas: &Canvas<'_>, layout: &DecodeLayout, figure: &DecodeFigure) -> Result<(), Error> {
    let log = |tokens: Option<&usize>| tokens.map_or(0.0, |tokens| (*tokens as f64).log2());
    let tokens = (log(figure.tokens.first()), log(figure.tokens.last()));
    let centred = |at: (i32, i32), size: f64, upwards: bool| Label {
        at,
        size,
        align: Align::Centre,
        colour: INK,
        upwards,
    };
    for (column, (name, widths)) in figure.columns.iter().enumerate() {
        let panel = layout.panel(column, 0);
        let size = fitting_size(name, TITLE, panel.width());
        centred((panel.centre().0, panel.top - 38), size, false).draw(canvas, name)?;
        let widths = cut(widths, FOOTER, panel.width());
        let label = Label { colour: FAINT_INK, ..centred((panel.centre().0, panel.top - 16), FOOTER, false) };
        label.draw(canvas, &widths)?;
    }
    for (row, dtype) in figure.rows.iter().enumerate() {
        let panel = layout.panel(0, row);
        for (text, x, size) in [(dtype, 104, TITLE), (&figure.scale.label, 62, AXIS_LABEL)] {
            let size = fitting_size(text, size, panel.height());
            centred((panel.left - x, panel.centre().1), size, true).draw(canvas, text)?;
        }
    }
    for column in 0..figure.columns.len() {
        for row in 0..figure.rows.len() {
            let area = layout.panel(column, row);
            match figure.panels.iter().find(|panel| (panel.column, panel.row) == (column, row)) {
                Some(panel) => {
                    draw_panel(canvas, &Axes { panel: area, tokens, range: panel.range }, figure, panel)?;
                }
                None => {
                    let label = Label { colour: FAINT_INK, ..centred(area.centre(), FOOTER, false) };
                    label.draw(canvas, "not measured")?;
                }
            }
        }
        let last = figure.panels.iter().filter(|panel| panel.column == column).map(|panel| panel.row).max();
        let area = layout.panel(column, last.unwrap_or(0));
        centred((area.centre().0, area.bottom + 47), AXIS_LABEL, false)
            .draw(canvas, "tokens M, one per sequence")?;
    }
    Ok(())
}

fn draw_panel(
    canvas: &Canvas<'_>,
    axes: &Axes,
    figure: &DecodeFigure,
    panel: &DecodePanel,
) -> Result<(), Error> {
    let area = axes.panel;
    draw_axes(canvas, axes, figure)?;
    if let Some((number, _)) = figure.reference {
        let y = axes.y(number);
        if (area.top..=area.bottom).contains(&y) {
            LineStyle::of_reference().draw_path(canvas, vec![(area.left, y), (area.right, y)])?;
        }
    }
    let mut above: HashMap<usize, i32> = HashMap::new();
    // What comes first in the legend lies above the rest.
    for DecodeLine { of, points, floor } in panel.lines.iter().rev() {
        let style = LineStyle::of(figure, of);
        if let Some(y) = floor.filter(|floor| !axes.is_above(*floor)).map(|floor| axes.y(floor)) {
            style.floor().draw_path(canvas, vec![(area.left, y), (area.right, y)])?;
        }
        for path in axes.paths(points) {
            style.draw_path(canvas, path)?;
        }
        for point in points {
            let (x, y) = (axes.x(point.tokens), axes.y(point.value));
            if let Some((lo, hi)) = point.interval.filter(|(lo, _)| !axes.is_above(*lo)) {
                let ends = vec![(x, axes.y(lo)), (x, axes.y(hi).max(area.top))];
                canvas.draw(&PathElement::new(ends, line(style.colour))).map_err(Error::draw)?;
            }
            if axes.is_above(point.value) {
                let (half, height) = ABOVE;
                // One below the other.
                let place = above.entry(point.tokens).or_default();
                let tip = area.top + 2 + *place * (height + 2);
                *place += 1;
                let corners = vec![(x - half, tip + height), (x, tip), (x + half, tip + height)];
                canvas.draw(&Polygon::new(corners, filled(style.colour))).map_err(Error::draw)?;
            } else {
                style.draw_point(canvas, (x, y))?;
            }
        }
    }
    Ok(())
}

/// The frame of a panel, and the marks and numbers at its axes.
fn draw_axes(canvas: &Canvas<'_>, axes: &Axes, figure: &DecodeFigure) -> Result<(), Error> {
    let area = axes.panel;
    for (value, text) in ticks(axes.range.0, axes.range.1) {
        let y = axes.y(value);
        fill(canvas, Rect { left: area.left, top: y, right: area.right, bottom: y + 1 }, GRID)?;
        tick(canvas, (area.left - TICK, y), (TICK, 1))?;
        let at = (area.left - TICK - 5, y);
        let label = Label { at, size: NUMBER, align: Align::Right, colour: INK, upwards: false };
        label.draw(canvas, &text)?;
    }
    let mut free = i32::MIN;
    for &tokens in &figure.tokens {
        let x = axes.x(tokens);
        tick(canvas, (x, area.bottom + 1), (1, TICK))?;
        let text = tokens.to_string();
        let half = width(&text, NUMBER) / 2;
        // A number for which there is no room has its mark alone.
        if x - half > free {
            let at = (x, area.bottom + TICK + 13);
            let label = Label { at, size: NUMBER, align: Align::Centre, colour: INK, upwards: false };
            label.draw(canvas, &text)?;
            free = x + half + 2;
        }
    }
    let corners =
        [(area.left, area.top), (area.left, area.bottom), (area.right, area.bottom), (area.right, area.top)];
    let frame: Vec<(i32, i32)> = corners.into_iter().chain([corners[0]]).collect();
    canvas.draw(&PathElement::new(frame, line(OUTLINE))).map_err(Error::draw)
}

//! Sizes and colours of the figure, and its simplest marks.

use plotters::element::Rectangle;
use plotters::style::{Color as _, RGBColor, ShapeStyle};

use crate::colormap::Rgb;
use crate::error::Error;
use crate::layout::Rect;
use crate::text::Canvas;

/// Sizes of text, in pixels of the SVG.
pub(super) const TITLE: f64 = 19.0;
/// A longer label of a row is cut rather than set smaller than this.
pub(super) const SMALLEST_TITLE: f64 = 11.0;
pub(super) const AXIS_LABEL: f64 = 16.0;
pub(super) const TICK_LABEL: f64 = 15.0;
pub(super) const NUMBER: f64 = 16.0;
pub(super) const FOOTER: f64 = 13.0;
/// Height of the band that a panel's label stands on.
pub(super) const BAND: i32 = 24;
/// Length of the marks at the axes.
pub(super) const TICK: i32 = 4;

pub(super) const INK: Rgb = Rgb(0x1A, 0x1A, 0x1A);
pub(super) const FAINT_INK: Rgb = Rgb(0x59, 0x59, 0x59);
pub(super) const OUTLINE: Rgb = Rgb(0x8C, 0x8C, 0x8C);
/// Lines across a panel at the marks of its axis.
pub(super) const GRID: Rgb = Rgb(0xE8, 0xE8, 0xE8);

pub(super) fn filled(colour: Rgb) -> ShapeStyle {
    RGBColor(colour.0, colour.1, colour.2).filled()
}

pub(super) fn line(colour: Rgb) -> ShapeStyle {
    stroke(colour, 1)
}

pub(super) fn stroke(colour: Rgb, width: u32) -> ShapeStyle {
    RGBColor(colour.0, colour.1, colour.2).stroke_width(width)
}

pub(super) fn fill(canvas: &Canvas<'_>, rect: Rect, colour: Rgb) -> Result<(), Error> {
    let corners = [(rect.left, rect.top), (rect.right, rect.bottom)];
    canvas.draw(&Rectangle::new(corners, filled(colour))).map_err(Error::draw)
}

/// A mark from an axis outwards. Filled, since a line one pixel wide would lie between two pixels.
pub(super) fn tick(canvas: &Canvas<'_>, at: (i32, i32), size: (i32, i32)) -> Result<(), Error> {
    fill(canvas, Rect { left: at.0, top: at.1, right: at.0 + size.0, bottom: at.1 + size.1 }, INK)
}

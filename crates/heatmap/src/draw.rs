//! The figure as an SVG, drawn with plotters.

mod bar;
mod hatch;
mod panel;

use fused_lora_records::Cell;
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::Rectangle;
use plotters::style::{Color as _, RGBColor, ShapeStyle};

use crate::colormap::Rgb;
use crate::error::Error;
use crate::figure::Figure;
use crate::label::RowLabel;
use crate::layout::{Layout, Rect};
use crate::text::{Align, Canvas, Label, wrap};

/// Sizes of text, in pixels of the SVG.
const TITLE: f64 = 19.0;
/// A longer label of a row is cut rather than set smaller than this.
const SMALLEST_TITLE: f64 = 11.0;
const AXIS_LABEL: f64 = 16.0;
const TICK_LABEL: f64 = 15.0;
const NUMBER: f64 = 16.0;
const FOOTER: f64 = 13.0;
/// Length of the marks at the axes.
const TICK: i32 = 4;

const INK: Rgb = Rgb(0x1A, 0x1A, 0x1A);
const FAINT_INK: Rgb = Rgb(0x59, 0x59, 0x59);
const OUTLINE: Rgb = Rgb(0x8C, 0x8C, 0x8C);

/// Draws the figure.
///
/// # Errors
///
/// If plotters fails.
pub fn draw_svg(figure: &Figure) -> Result<String, Error> {
    let (layout, footer) = lay_out(figure);
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, layout.size()).into_drawing_area();
        canvas.fill(&RGBColor(255, 255, 255)).map_err(Error::draw)?;
        for row in 0..figure.rows.len() {
            panel::draw_row(&canvas, &layout, figure, row)?;
        }
        panel::draw_axes(&canvas, &layout, figure)?;
        bar::draw(&canvas, &layout, figure)?;
        for (line, text) in footer.iter().enumerate() {
            let at = (18, layout.footer_line(line));
            let label = Label { at, size: FOOTER, align: Align::Left, colour: FAINT_INK, upwards: false };
            label.draw(&canvas, text)?;
        }
        canvas.present().map_err(Error::draw)?;
    }
    Ok(svg)
}

/// Where each cell stands: row by row of panels, in the order of the grid.
pub(crate) fn areas(figure: &Figure) -> Vec<(usize, Cell, Rect)> {
    let (layout, _) = lay_out(figure);
    let of_row = |row: usize| layout.cells(row).map(move |(cell, rect)| (row, cell, rect));
    (0..figure.rows.len()).flat_map(of_row).collect()
}

/// The geometry, and the lines of the footer.
fn lay_out(figure: &Figure) -> (Layout, Vec<String>) {
    let has_titles = figure.rows.iter().any(|row| RowLabel::of(&row.label).title.is_some());
    let layout = Layout::new(figure.rows.len(), has_titles);
    let broken = |line: &Vec<String>| wrap(line, FOOTER, layout.footer_width());
    let footer: Vec<String> = figure.footer.iter().flat_map(broken).collect();
    (layout.with_footer(footer.len()), footer)
}

fn filled(colour: Rgb) -> ShapeStyle {
    RGBColor(colour.0, colour.1, colour.2).filled()
}

fn line(colour: Rgb) -> ShapeStyle {
    RGBColor(colour.0, colour.1, colour.2).stroke_width(1)
}

fn fill(canvas: &Canvas<'_>, rect: Rect, colour: Rgb) -> Result<(), Error> {
    let corners = [(rect.left, rect.top), (rect.right, rect.bottom)];
    canvas.draw(&Rectangle::new(corners, filled(colour))).map_err(Error::draw)
}

/// A mark from an axis outwards. Filled, since a line one pixel wide would lie between two pixels.
fn tick(canvas: &Canvas<'_>, at: (i32, i32), size: (i32, i32)) -> Result<(), Error> {
    fill(canvas, Rect { left: at.0, top: at.1, right: at.0 + size.0, bottom: at.1 + size.1 }, INK)
}

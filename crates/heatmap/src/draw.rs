//! The figure as an SVG, drawn with plotters.

mod bar;
mod bars;
mod hatch;
mod legend;
mod lines;
mod panel;
mod style;

use fused_lora_records::Cell;
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea as _;
use plotters::style::RGBColor;

use crate::bars::BarFigure;
use crate::decode::{DecodeFigure, INDENT};
use crate::error::Error;
use crate::figure::Figure;
use crate::label::RowLabel;
use crate::layout::{Layout, Rect};
use crate::text::{Align, Canvas, Label, wrap};
use bars::BarLayout;
use style::{FAINT_INK, FOOTER};

/// Draws the figure.
///
/// # Errors
///
/// If plotters fails.
pub fn draw_svg(figure: &Figure) -> Result<String, Error> {
    let (layout, footer) = lay_out(figure);
    draw(layout.size(), |canvas| {
        for row in 0..figure.rows.len() {
            panel::draw_row(canvas, &layout, figure, row)?;
        }
        panel::draw_axes(canvas, &layout, figure)?;
        bar::draw(canvas, &layout, figure)?;
        draw_footer(canvas, &footer, |line| layout.footer_line(line))
    })
}

/// Draws the figure of few tokens.
///
/// # Errors
///
/// If plotters fails.
pub fn draw_decode_svg(figure: &DecodeFigure) -> Result<String, Error> {
    let layout = legend::lay_out(figure);
    let broken = |line: &Vec<String>| wrap(line, FOOTER, layout.inner_width());
    let footer: Vec<String> = figure.footer.iter().flat_map(broken).collect();
    let layout = layout.with_footer(footer.len());
    draw(layout.size(), |canvas| {
        legend::draw(canvas, &layout, figure)?;
        lines::draw(canvas, &layout, figure)?;
        draw_footer(canvas, &footer, |line| layout.footer_line(line))
    })
}

/// Draws slow-downs as bars.
///
/// # Errors
///
/// If plotters fails.
pub fn draw_bars_svg(figure: &BarFigure) -> Result<String, Error> {
    let layout = BarLayout::new(figure);
    let footer = wrap(&figure.footer, FOOTER, layout.footer_width());
    let layout = layout.with_footer(footer.len());
    draw(layout.size(), |canvas| {
        bars::draw(canvas, &layout, figure)?;
        draw_footer(canvas, &footer, |line| layout.footer_line(line))
    })
}

/// An SVG of that size, white where nothing is drawn.
fn draw(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Result<(), Error>) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        canvas.fill(&RGBColor(255, 255, 255)).map_err(Error::draw)?;
        draw(&canvas)?;
        canvas.present().map_err(Error::draw)?;
    }
    Ok(svg)
}

fn draw_footer(canvas: &Canvas<'_>, footer: &[String], y: impl Fn(usize) -> i32) -> Result<(), Error> {
    for (line, text) in footer.iter().enumerate() {
        let at = (INDENT, y(line));
        let label = Label { at, size: FOOTER, align: Align::Left, colour: FAINT_INK, upwards: false };
        label.draw(canvas, text)?;
    }
    Ok(())
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

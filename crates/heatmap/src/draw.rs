//! The figure as an SVG, drawn with plotters.

mod bar;
mod hatch;
mod panel;
mod style;

use fused_lora_records::Cell;
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea as _;
use plotters::style::RGBColor;

use crate::error::Error;
use crate::figure::Figure;
use crate::label::RowLabel;
use crate::layout::{Layout, Rect};
use crate::text::{Align, Label, wrap};
use style::{FAINT_INK, FOOTER};

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

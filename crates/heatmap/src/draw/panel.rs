//! Panels of cells, and the axes that they share.

use fused_lora_records::{BATCHES, RANKS, SEQ_LENS};

use super::{
    hatch,
    style::{AXIS_LABEL, BAND, INK, NUMBER, SMALLEST_TITLE, TICK, TICK_LABEL, TITLE, fill, tick},
};
use crate::colormap::Rgb;
use crate::error::Error;
use crate::figure::Figure;
use crate::label::RowLabel;
use crate::layout::{Layout, Rect};
use crate::text::{Align, Canvas, Label, cut, fitting_size};

/// The cells of one row of panels, with its label, y label and ranks on the left.
pub(super) fn draw_row(
    canvas: &Canvas<'_>,
    layout: &Layout,
    figure: &Figure,
    row: usize,
) -> Result<(), Error> {
    for (cell, rect) in layout.cells(row) {
        match figure.rows[row].values.get(&cell) {
            Some(value) => draw_cell(canvas, rect, figure, *value)?,
            None => hatch::draw(canvas, rect)?,
        }
    }
    for column in 0..SEQ_LENS.len() {
        if let Some(text) = figure.label {
            draw_label(canvas, layout.panel(row, column), text)?;
        }
    }
    let panel = layout.panel(row, 0);
    let middle = panel.centre().1;
    let label = |x: i32, size: f64| Label {
        at: (panel.left - x, middle),
        size,
        align: Align::Centre,
        colour: INK,
        upwards: true,
    };
    let RowLabel { title, y } = RowLabel::of(&figure.rows[row].label);
    let y_size = if title.is_some() { AXIS_LABEL } else { TITLE };
    for (text, x, size) in title.iter().map(|title| (title, 98, TITLE)).chain([(&y, 62, y_size)]) {
        let size = fitting_size(text, size, panel.height()).max(SMALLEST_TITLE);
        label(x, size).draw(canvas, &cut(text, size, panel.height()))?;
    }
    for (j, rank) in RANKS.into_iter().enumerate() {
        let y = layout.cell(row, 0, 0, j).centre().1;
        tick(canvas, (panel.left - TICK - 1, y), (TICK, 1))?;
        let at = (panel.left - TICK - 6, y);
        let label = Label { at, size: TICK_LABEL, align: Align::Right, colour: INK, upwards: false };
        label.draw(canvas, &rank.to_string())?;
    }
    Ok(())
}

/// What all rows share: titles above the first, batch sizes and x labels below the last.
pub(super) fn draw_axes(canvas: &Canvas<'_>, layout: &Layout, figure: &Figure) -> Result<(), Error> {
    let last = figure.rows.len() - 1;
    for (column, seq_len) in SEQ_LENS.into_iter().enumerate() {
        let centred =
            |at: (i32, i32), size: f64| Label { at, size, align: Align::Centre, colour: INK, upwards: false };
        let top = layout.panel(0, column);
        centred((top.centre().0, top.top - 20), TITLE).draw(canvas, &format!("Seq Len = {seq_len}"))?;
        let bottom = layout.panel(last, column).bottom;
        for (i, batch) in BATCHES.into_iter().enumerate() {
            let x = layout.cell(last, column, i, 0).centre().0;
            tick(canvas, (x, bottom + 1), (1, TICK))?;
            centred((x, bottom + TICK + 14), TICK_LABEL).draw(canvas, &batch.to_string())?;
        }
        centred((top.centre().0, bottom + 45), AXIS_LABEL).draw(canvas, "Batch Size")?;
    }
    Ok(())
}

/// A band across the middle of a panel, on the seam of its two middle ranks, so that it hides no number.
fn draw_label(canvas: &Canvas<'_>, panel: Rect, text: &str) -> Result<(), Error> {
    let (x, y) = panel.centre();
    fill(canvas, Rect { top: y - BAND / 2, bottom: y + BAND / 2, ..panel }, Rgb::WHITE)?;
    let size = fitting_size(text, TITLE, panel.width());
    let label = Label { at: (x, y), size, align: Align::Centre, colour: INK, upwards: false };
    label.draw(canvas, text)
}

fn draw_cell(canvas: &Canvas<'_>, rect: Rect, figure: &Figure, value: f64) -> Result<(), Error> {
    let colour = figure.colormap.at(figure.scale.position(value));
    fill(canvas, rect, colour)?;
    let text = figure.scale.format(value);
    let size = fitting_size(&text, NUMBER, rect.width() - 4);
    let label = Label { at: rect.centre(), size, align: Align::Centre, colour: colour.ink(), upwards: false };
    label.draw(canvas, &text)
}

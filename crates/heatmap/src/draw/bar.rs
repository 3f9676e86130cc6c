//! The colour bar that all panels share.

use plotters::element::{PathElement, Polygon};

use super::style::{AXIS_LABEL, INK, OUTLINE, TICK, TICK_LABEL, fill, filled, line, tick};
use crate::error::Error;
use crate::figure::Figure;
use crate::layout::{Layout, Rect};
use crate::text::{Align, Canvas, Label, fitting_size};

/// Height of one step of the gradient.
const STEP: usize = 2;
/// Height of the arrow.
const ARROW: i32 = 16;

pub(super) fn draw(canvas: &Canvas<'_>, layout: &Layout, figure: &Figure) -> Result<(), Error> {
    let bar = layout.bar();
    let colour = |t: f64| figure.colormap.at(t);
    // Each step reaches down to the end and is painted over by the next: no seams when the SVG is scaled.
    for top in (bar.top..bar.bottom).step_by(STEP) {
        let middle = f64::from(top) + 0.5 * STEP as f64;
        let t = (f64::from(bar.bottom) - middle) / f64::from(bar.height());
        fill(canvas, Rect { top, ..bar }, colour(t))?;
    }
    let (left, right) = (bar.left, bar.right);
    let mut outline = vec![(left, bar.top), (left, bar.bottom), (right, bar.bottom), (right, bar.top)];
    if figure.exceeds_vmax() {
        let tip = (bar.centre().0, bar.top - ARROW);
        // One pixel into the bar, for the same reason.
        let corners = vec![(left, bar.top + 1), tip, (right, bar.top + 1)];
        canvas.draw(&Polygon::new(corners, filled(colour(1.0)))).map_err(Error::draw)?;
        outline.push(tip);
    }
    outline.push(outline[0]);
    // The light end would be lost on a white page without it.
    canvas.draw(&PathElement::new(outline, line(OUTLINE))).map_err(Error::draw)?;
    for (value, text) in figure.scale.ticks() {
        let up = figure.scale.position(value) * f64::from(bar.height());
        let y = bar.bottom - up.round() as i32;
        // The lowest mark ends with the bar instead of hanging below it.
        tick(canvas, (bar.right, y.min(bar.bottom - 1)), (TICK, 1))?;
        let at = (bar.right + TICK + 5, y);
        let label = Label { at, size: TICK_LABEL, align: Align::Left, colour: INK, upwards: false };
        label.draw(canvas, &text)?;
    }
    let size = fitting_size(&figure.scale.label, AXIS_LABEL, bar.height());
    let at = (bar.right + 60, bar.centre().1);
    let label = Label { at, size, align: Align::Centre, colour: INK, upwards: true };
    label.draw(canvas, &figure.scale.label)
}

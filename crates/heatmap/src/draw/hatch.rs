//! A cell that has no number: grey, with lines from bottom left to top right.

use plotters::element::PathElement;

use super::style::{fill, line};
use crate::colormap::Rgb;
use crate::error::Error;
use crate::layout::Rect;
use crate::text::Canvas;

const GROUND: Rgb = Rgb(0xEC, 0xEC, 0xEC);
const LINES: Rgb = Rgb(0x9E, 0x9E, 0x9E);
/// From one line to the next, along x.
const STEP: usize = 9;

pub(super) fn draw(canvas: &Canvas<'_>, rect: Rect) -> Result<(), Error> {
    fill(canvas, rect, GROUND)?;
    for x in ((rect.left - rect.height() + STEP as i32)..rect.right).step_by(STEP) {
        let ends = clipped(rect, x);
        canvas.draw(&PathElement::new(ends.to_vec(), line(LINES))).map_err(Error::draw)?;
    }
    Ok(())
}

/// The part inside the cell of the line that goes up and right from (`x`, bottom).
fn clipped(rect: Rect, x: i32) -> [(i32, i32); 2] {
    let start = (rect.left - x).max(0);
    let end = (rect.right - x).min(rect.height());
    [start, end].map(|along| (x + along, rect.bottom - along))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_inside() {
        let rect = Rect { left: 10, top: 20, right: 64, bottom: 64 };
        for x in (rect.left - rect.height())..rect.right {
            let [(x0, y0), (x1, y1)] = clipped(rect, x);
            for (x, y) in [(x0, y0), (x1, y1)] {
                assert!((rect.left..=rect.right).contains(&x) && (rect.top..=rect.bottom).contains(&y));
            }
            assert_eq!(x1 - x0, y0 - y1, "a diagonal");
        }
        assert_eq!(clipped(rect, 10), [(10, 64), (54, 20)]);
    }
}

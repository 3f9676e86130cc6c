//! Text on the figure: how it is set, how wide it is, and how lines are broken.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::Text;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, TextStyle};

use crate::colormap::Rgb;
use crate::error::Error;

/// The bundled font first; Verdana has its widths; whatever has no serifs will do.
pub(crate) const FAMILIES: &str = "DejaVu Sans, Verdana, sans-serif";
/// Plotters divides a font's size by this for SVG.
const PLOTTERS_SIZE: f64 = 1.24;
/// Plotters puts the baseline this far below the top of a text, in units of its size.
const TOP_TO_BASELINE: f64 = 0.76;
/// Half the height of a digit or capital of the bundled font, in units of its size.
const HALF_CAP: f64 = 0.365;
/// Width of a character in units of its size: no ordinary text of the bundled font is wider on average.
const MEAN_WIDTH: f64 = 0.6;

pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Where a text lies relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

/// One line of text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// The point that the text is aligned to; across the line it is always centred there.
    pub(crate) at: (i32, i32),
    pub(crate) size: f64,
    pub(crate) align: Align,
    pub(crate) colour: Rgb,
    /// Read from bottom to top.
    pub(crate) upwards: bool,
}

impl Label {
    pub(crate) fn draw(&self, canvas: &Canvas<'_>, text: &str) -> Result<(), Error> {
        let h_pos = match self.align {
            Align::Left => HPos::Left,
            Align::Centre => HPos::Center,
            Align::Right => HPos::Right,
        };
        let font = FontDesc::new(FontFamily::Name(FAMILIES), self.size * PLOTTERS_SIZE, FontStyle::Normal);
        let font = if self.upwards { font.transform(FontTransform::Rotate270) } else { font };
        let Rgb(r, g, b) = self.colour;
        let colour = RGBColor(r, g, b);
        // Anchored at the top, since its other anchors count in ex, which every viewer takes differently.
        let style = TextStyle::from(font).pos(Pos::new(h_pos, VPos::Top)).color(&colour);
        let to_top = ((TOP_TO_BASELINE - HALF_CAP) * self.size).round() as i32;
        let at = if self.upwards { (self.at.0 - to_top, self.at.1) } else { (self.at.0, self.at.1 - to_top) };
        canvas.draw(&Text::new(text.to_owned(), at, style)).map_err(Error::draw)
    }
}

/// The largest size up to `size` at which the text is no wider than `width`.
pub(crate) fn fitting_size(text: &str, size: f64, width: i32) -> f64 {
    let characters = text.chars().count().max(1) as f64;
    size.min(f64::from(width) / (MEAN_WIDTH * characters))
}

/// How wide a text of that size is at most, in pixels.
pub(crate) fn width(text: &str, size: f64) -> i32 {
    (MEAN_WIDTH * size * text.chars().count() as f64).ceil() as i32
}

/// How many characters of that size a line of that width holds.
fn capacity(size: f64, width: i32) -> usize {
    // A size that was fitted to the text must hold it, whatever the rounding.
    (f64::from(width) / (MEAN_WIDTH * size) + 1e-6) as usize
}

/// Joins items to lines with ` · `, beginning a new line where an item does not fit any more. An item too
/// long for a line of its own is cut.
pub(crate) fn wrap(items: &[String], size: f64, width: i32) -> Vec<String> {
    const SEPARATOR: &str = " · ";
    let capacity = capacity(size, width);
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let item = shorten(item, capacity);
        let fits = |line: &&mut String| {
            line.chars().count() + SEPARATOR.chars().count() + item.chars().count() <= capacity
        };
        match lines.last_mut().filter(fits) {
            Some(line) => *line = format!("{line}{SEPARATOR}{item}"),
            None => lines.push(item),
        }
    }
    lines
}

/// The text with what XML cannot hold left out, cut to so many characters.
fn shorten(text: &str, capacity: usize) -> String {
    let plain = |c: &char| !c.is_control() && *c != '\u{FFFE}' && *c != '\u{FFFF}';
    let text: String = text.chars().filter(plain).collect();
    if text.chars().count() <= capacity {
        return text;
    }
    let kept: String = text.chars().take(capacity.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// A label cut to what fits along `length`.
pub(crate) fn cut(text: &str, size: f64, length: i32) -> String {
    shorten(text, capacity(size, length))
}

/// A text as the value of an attribute in double quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn lines_break_between_items() {
        // 10 pixels high, 120 wide: 20 characters.
        let wrapped = wrap(&items(&["12345678", "12345678", "x", "y"]), 10.0, 120);
        assert_eq!(wrapped, ["12345678 · 12345678", "x · y"]);
        assert_eq!(wrap(&items(&["x"]), 10.0, 120), ["x"]);
        assert!(wrap(&[], 10.0, 120).is_empty());
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = "a".repeat(50);
        assert_eq!(wrap(&items(&[&long]), 10.0, 120), [format!("{}…", "a".repeat(19))]);
        assert_eq!(cut("unfused", 10.0, 600), "unfused");
        // By characters, not by bytes.
        assert_eq!(cut("ääääääää", 10.0, 24), "äää…");
    }

    #[test]
    fn characters_that_xml_cannot_hold_are_left_out() {
        assert_eq!(wrap(&items(&["a\u{1}b\tc\u{FFFF}"]), 10.0, 600), ["abc"]);
    }

    #[test]
    fn long_numbers_are_set_smaller() {
        assert_eq!(fitting_size("12.3", 14.0, 54), 14.0);
        let size = fitting_size("123456.7", 14.0, 54);
        assert!(size < 14.0 && size * MEAN_WIDTH * 8.0 <= 54.0 + 1e-9);
        for length in 1..100 {
            let text = "x".repeat(length);
            assert_eq!(cut(&text, fitting_size(&text, 14.0, 54), 54), text);
        }
    }
}

//! The PNG is the SVG at twice its size, with its text.

mod common;

use common::{Drawing, Rect, figure, fixture};
use fused_lora_heatmap::{PNG_SCALE, draw_svg, png_from_svg};
use resvg::tiny_skia::Pixmap;

fn render(svg: &str) -> Pixmap {
    Pixmap::decode_png(&png_from_svg(svg).unwrap()).unwrap()
}

fn pixel(pixmap: &Pixmap, x: u32, y: u32) -> String {
    let colour = pixmap.pixel(x, y).unwrap();
    assert_eq!(colour.alpha(), 255);
    format!("#{:02X}{:02X}{:02X}", colour.red(), colour.green(), colour.blue())
}

/// How many pixels in a rectangle of the SVG have another colour than `ground`.
fn inked(pixmap: &Pixmap, rect: Rect, ground: &str) -> usize {
    let scale = PNG_SCALE as i32;
    let xs = scale * rect.x..scale * (rect.x + rect.width);
    let ys = scale * rect.y..scale * (rect.y + rect.height);
    let points = xs.flat_map(|x| ys.clone().map(move |y| (x as u32, y as u32)));
    points.filter(|&(x, y)| pixel(pixmap, x, y) != ground).count()
}

#[test]
fn it_is_twice_the_svg_with_the_same_colours_and_numbers() {
    let svg = draw_svg(&figure(&[], fixture())).unwrap();
    let drawing = Drawing::parse(&svg);
    let pixmap = render(&svg);
    assert_eq!((pixmap.width(), pixmap.height()), (2 * drawing.size.0, 2 * drawing.size.1));
    assert_eq!(pixel(&pixmap, 0, 0), "#FFFFFF");
    assert_eq!(pixel(&pixmap, pixmap.width() - 1, pixmap.height() - 1), "#FFFFFF");
    for (rect, fill) in &drawing.cells {
        let (x, y) = (rect.x as u32, rect.y as u32);
        assert_eq!(&pixel(&pixmap, 2 * x, 2 * y), fill, "the cell's first pixel");
        let last = (2 * (x + rect.width as u32) - 1, 2 * (y + rect.height as u32) - 1);
        assert_eq!(&pixel(&pixmap, last.0, last.1), fill, "the cell's last pixel");
        let ink = inked(&pixmap, *rect, fill);
        assert!((100..1200).contains(&ink), "{ink} pixels of a number in the cell at ({x}, {y})");
    }
}

#[test]
fn all_other_text_is_there_too() {
    let svg = draw_svg(&figure(&[], fixture())).unwrap();
    let drawing = Drawing::parse(&svg);
    let pixmap = render(&svg);
    let outside = |text: &&common::Text| drawing.cells.iter().all(|(rect, _)| !rect.holds(text.at));
    let mut seen = 0;
    for text in drawing.texts.iter().filter(outside) {
        let half = (text.size / 2.0) as i32;
        // A square about the text's middle, or at its start.
        let x = match text.anchor.as_str() {
            "start" => text.at.0 + half,
            "end" => text.at.0 - half,
            _ => text.at.0,
        };
        let around = Rect { x: x - half, y: text.at.1 - half, width: 2 * half, height: 2 * half };
        let ink = inked(&pixmap, around, "#FFFFFF");
        assert!(ink > 20, "{ink} pixels of '{}'", text.text);
        seen += 1;
    }
    // Titles, labels, marks, footer.
    assert!(seen >= 3 + 3 + 18 + 2 + 2 + 8 + 8 + 1 + 3, "{seen}");
}

/// A character without a glyph would be left out silently.
#[test]
fn the_bundled_font_has_the_signs_that_are_used() {
    let page = |text: &str| {
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40"><rect width="60" height="40"
            fill="#FFFFFF"/><text x="10" y="30" font-family="DejaVu Sans, Verdana, sans-serif"
            font-size="20">{text}</text></svg>"##
        )
    };
    let all = Rect { x: 0, y: 0, width: 60, height: 40 };
    let ink = |text: &str| inked(&render(&page(text)), all, "#FFFFFF");
    assert_eq!(ink(" "), 0);
    for sign in (' '..='~').skip(1).chain("·…µ−±–®™°²×ᴴᴸäéß".chars()) {
        let text = match sign {
            '<' => "&lt;".to_owned(),
            '&' => "&amp;".to_owned(),
            other => other.to_string(),
        };
        assert!(ink(&text) > 5, "'{sign}'");
    }
    assert_ne!(ink("1"), ink("8"));
}

#[test]
fn what_is_no_svg_is_refused() {
    for text in ["", "not an svg", "<svg", "<html></html>"] {
        let error = png_from_svg(text).unwrap_err().to_string();
        assert!(error.starts_with("the SVG cannot be made a PNG: "), "{error}");
    }
}

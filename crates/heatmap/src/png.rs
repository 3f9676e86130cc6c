//! The SVG as a PNG, its text set in the bundled font.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use crate::error::Error;

/// Pixels of the PNG along one pixel of the SVG.
pub const PNG_SCALE: u32 = 2;

/// DejaVu Sans, cut down; its licence lies beside it.
static FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
const FAMILY: &str = "DejaVu Sans";

/// Renders the SVG at [`PNG_SCALE`] times its size.
///
/// # Errors
///
/// If it is no SVG, or too large.
pub fn png_from_svg(svg: &str) -> Result<Vec<u8>, Error> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    let options = Options { fontdb: Arc::new(fonts), font_family: FAMILY.to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| Error::Png(error.to_string()))?;
    let size = tree.size().to_int_size();
    let scaled = |length: u32| length.saturating_mul(PNG_SCALE);
    let pixmap = Pixmap::new(scaled(size.width()), scaled(size.height()));
    let mut pixmap = pixmap.ok_or_else(|| Error::Png("it is too large".to_owned()))?;
    let scale = PNG_SCALE as f32;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| Error::Png(error.to_string()))
}

//! One figure of the page: the SVG of [`draw_svg`], with an area over each cell that a script can find.

use std::fmt::Write as _;

use fused_lora_records::Cell;

use crate::colormap::Colormap;
use crate::draw::{areas, draw_svg};
use crate::error::Error;
use crate::figure::Figure;
use crate::metric::Metric;
use crate::scale::Vmax;
use crate::select::Selection;
use crate::text::{FAMILIES, escaped};

/// A figure.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Which sheet's records it shows.
    pub(super) sheet: usize,
    pub(super) metric: Metric,
    pub(super) svg: String,
}

impl View {
    pub(super) fn draw(
        (metric, selection): &(Metric, Selection),
        sheet: usize,
        vmax: Vmax,
        colormap: Colormap,
    ) -> Result<View, Error> {
        let figure = Figure::new(selection, *metric, vmax, colormap);
        let drawn = lean(&draw_svg(&figure)?);
        let (tag, rest) = drawn.split_once('>').ok_or_else(|| Error::draw("there is no tag"))?;
        let content = rest.trim_end().strip_suffix("</svg>").ok_or_else(|| Error::draw("there is no end"))?;
        let name = escaped(&format!("{} of {}", figure.scale.label, selection.workload));
        let mut svg =
            format!("{tag} role=\"group\" aria-label=\"{name}\"><g aria-hidden=\"true\">{content}</g>\n");
        for (row, Cell { seq_len, batch, rank }, rect) in areas(&figure) {
            let (x, y, width, height) = (rect.left, rect.top, rect.width(), rect.height());
            let method = escaped(&figure.rows[row].label);
            writeln!(
                svg,
                "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
                 data-method=\"{method}\" data-seq-len=\"{seq_len}\" data-batch=\"{batch}\" \
                 data-rank=\"{rank}\"/>"
            )
            .expect("writing to a String cannot fail");
        }
        svg.push_str("</svg>");
        Ok(View { sheet, metric: *metric, svg })
    }
}

/// The SVG without the attributes that say what holds anyway: SVG's initial values, and the font and the
/// lines' empty fill, which the page's style has. In texts plotters escapes quotes, so these are attributes
/// wherever they stand.
fn lean(svg: &str) -> String {
    let font = format!(" font-family=\"{FAMILIES}\"");
    let initial = [" opacity=\"1\"", " stroke=\"none\"", " stroke-width=\"1\"", &font];
    let lean = initial.iter().fold(svg.to_owned(), |svg, attribute| svg.replace(attribute, ""));
    lean.replace("<polyline fill=\"none\"", "<polyline")
}

//! The six-panel figure of a measured grid.
//!
//! One row of panels per method, one column per sequence length; in a panel the batch size goes right and
//! the adapter's rank goes down, as seaborn would draw it. The road from records to files:
//!
//! 1. [`Source::load`]: files of records, the newest measurements, or the published data.
//! 2. [`Query::select`]: the records of one workload, backend, device, state of the caches, element type and
//!    number of adapters.
//! 3. [`Figure::new`]: the values of one [`Metric`], and the scale that colours them.
//! 4. [`draw_svg`], drawn with plotters.
//! 5. [`png_from_svg`]: that SVG at twice its size.
//! 6. [`Output::write`]: `.svg`, `.png` and `.csv`, all or none.
//!
//! Or all that can be drawn at once: [`Report::html`], written by [`write_report`]. Or few tokens, one of
//! each sequence, as lines over their number: [`Query::select_decode`], [`DecodeFigure::new`],
//! [`draw_decode_svg`], and on from there. [`draw_bars_svg`] draws what the command `fused-lora bench` measured.
//!
//! What the cost model expects of a GPU is drawn by [`EstimateQuery::figure`], with a label across each
//! panel: from estimates alone, never beside records.
//!
//! Plotters is built without its fonts. Its `ttf` feature needs fontconfig; its `ab_glyph` feature makes
//! Criterion's own plots fail in the same workspace, and sets malformed text in bitmaps. An SVG needs no font
//! until it is shown, and for the PNG resvg sets the text in a font that is bundled here (`assets/`).

#![warn(missing_docs)]

mod bars;
mod colormap;
mod decode;
mod draw;
mod error;
mod estimate;
mod figure;
mod footer;
mod label;
mod layout;
mod metric;
mod output;
mod png;
mod report;
mod scale;
mod select;
mod source;
mod text;

pub use bars::{Bar, BarFigure, BarGroup, BarPanel};
pub use colormap::{Colormap, Rgb};
pub use decode::{DecodeFigure, DecodeSelection};
pub use draw::{draw_bars_svg, draw_decode_svg, draw_svg};
pub use error::Error;
pub use estimate::EstimateQuery;
pub use figure::{Figure, FigureRow};
pub use metric::Metric;
pub use output::{Output, write_report};
pub use png::{PNG_SCALE, png_from_svg};
pub use report::Report;
pub use scale::{Scale, Vmax};
pub use select::{LAYER_ROWS, LINEAR_ROWS, MAX_ROWS, Query, Selection, SelectionRow};
pub use source::{Origin, Source};

//! The reader's page: every figure of the records in one HTML file, with the numbers behind each cell.
//!
//! The file needs nothing beside it: figures are inline SVG, style and script are in it, and its content
//! security policy forbids every request. Rust draws; the script only chooses which figure is visible and
//! shows the record of a cell.

mod page;
mod sheet;
mod view;

use fused_lora_records::Record;

use crate::colormap::Colormap;
use crate::error::Error;
use crate::metric::Metric;
use crate::scale::Vmax;
use crate::select::Query;

use sheet::Sheet;
use view::View;

/// How the page is drawn, and what it shows first.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is shown first. Rows that are named here are the only ones on the page.
    pub query: Query,
    /// The metric that is shown first.
    pub metric: Metric,
    /// The lightest colour of that metric; the others have their default.
    pub vmax: Vmax,
    /// The colours.
    pub colormap: Colormap,
}

impl Report {
    /// The page of all that can be drawn of these records.
    ///
    /// # Errors
    ///
    /// If what is to be shown first cannot be selected, no record has a number of the metric, or plotters
    /// fails.
    pub fn html(&self, records: Vec<Record>) -> Result<String, Error> {
        let first = match self.query.select(records.clone(), self.metric) {
            Ok(first) => Ok(first),
            // None of the usual rows: of peers alone, say, which have sheets of their own.
            Err(Error::NothingToDraw(rows)) if self.query.rows.is_empty() => Err(rows),
            Err(error) => return Err(error),
        };
        let sheets = Sheet::all(&self.query.rows, &records)?;
        let mut views = Vec::new();
        for (number, sheet) in sheets.iter().enumerate() {
            for selection in &sheet.selections {
                let metric = selection.0;
                let vmax = if metric == self.metric { self.vmax } else { Vmax::default_of(metric) };
                views.push(View::draw(selection, number, vmax, self.colormap)?);
            }
        }
        let is_first = |view: &View| {
            let selection = sheets[view.sheet].selection();
            view.metric == self.metric && first.as_ref().map_or(true, |first| selection.is_of_the_same(first))
        };
        match views.iter().position(is_first) {
            Some(first) => Ok(page::html(&sheets, &views, first)),
            None => Err(Error::NothingToDraw(first.err().unwrap_or_default())),
        }
    }
}

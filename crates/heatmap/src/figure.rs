//! The values of one figure, ready to be drawn.

use std::collections::HashMap;

use fused_lora_records::{Cell, Record, grid};

use crate::colormap::Colormap;
use crate::footer;
use crate::metric::Metric;
use crate::scale::{Scale, Vmax};
use crate::select::{Selection, SelectionRow};

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The rows of panels, top to bottom.
    pub rows: Vec<FigureRow>,
    /// What the numbers mean and how they are coloured.
    pub scale: Scale,
    /// The colours.
    pub colormap: Colormap,
    /// What stands below, in items that are not broken over lines if they need not be.
    pub footer: Vec<Vec<String>>,
    /// What stands across each panel, of a figure that nothing was measured for.
    pub(crate) label: Option<&'static str>,
}

/// One row of panels.
#[derive(Clone, Debug)]
pub struct FigureRow {
    /// What stands to its left.
    pub label: String,
    /// The numbers, in the unit of the scale. What has none is hatched.
    pub values: HashMap<Cell, f64>,
}

impl Figure {
    /// The figure of one metric of these records, which were measured.
    #[must_use]
    pub fn new(selection: &Selection, metric: Metric, vmax: Vmax, colormap: Colormap) -> Figure {
        let numbers: Vec<f64> = selection.drawn().filter_map(|record| metric.of(record)).collect();
        let scale = Scale::new(metric, &numbers, vmax);
        let row = |row: &SelectionRow| {
            let number = |(cell, record): (&Cell, &Record)| Some((*cell, scale.in_unit(metric.of(record)?)));
            FigureRow { label: row.method.clone(), values: row.records.iter().filter_map(number).collect() }
        };
        let rows: Vec<FigureRow> = selection.rows.iter().map(row).collect();
        let mut figure = Figure { rows, scale, colormap, footer: Vec::new(), label: None };
        figure.footer = footer::lines(selection, metric, !figure.missing().is_empty());
        figure
    }

    /// The cells without a number: row by row, in the order of the grid.
    #[must_use]
    pub fn missing(&self) -> Vec<(&str, Cell)> {
        let missing =
            |row: &'_ FigureRow| grid().filter(|cell| !row.values.contains_key(cell)).collect::<Vec<_>>();
        self.rows
            .iter()
            .flat_map(|row| missing(row).into_iter().map(|cell| (row.label.as_str(), cell)))
            .collect()
    }

    /// Whether a number lies above the lightest colour's, so that the colour bar needs its arrow.
    #[must_use]
    pub fn exceeds_vmax(&self) -> bool {
        self.rows.iter().flat_map(|row| row.values.values()).any(|value| *value > self.scale.vmax)
    }
}

//! The values of one figure of few tokens, ready to be drawn.

use std::collections::{BTreeMap, BTreeSet};

use fused_lora_records::{Cell, Record};

use super::line::Line;
use super::select::{DecodeSelection, dtype_place, lacks_limit, rows_of, with_limits};
use crate::colormap::Colormap;
use crate::footer;
use crate::metric::Metric;
use crate::scale::{Scale, Vmax};

/// Room between the outermost numbers and the ends of an axis, in parts of its length.
const MARGIN: f64 = 0.05;

/// A row of panels: how many adapters a batch has, and the place and name of its element type.
type Row = (usize, (usize, String));

/// What is drawn.
#[derive(Clone, Debug)]
pub struct DecodeFigure {
    /// The workloads, left to right: name, and widths.
    pub(crate) columns: Vec<(String, String)>,
    /// The element types, and how many adapters a batch mixes, top to bottom.
    pub(crate) rows: Vec<String>,
    /// The numbers of tokens that were measured, in order.
    pub(crate) tokens: Vec<usize>,
    /// One per workload and row that there are records of.
    pub(crate) panels: Vec<DecodePanel>,
    /// What the lines of all panels show, in the order of the legend.
    pub(crate) legend: Vec<Line>,
    /// The number that others are to be read against, and its name.
    pub(crate) reference: Option<(f64, &'static str)>,
    /// What the numbers mean.
    pub(crate) scale: Scale,
    /// The colours of the ranks.
    pub(crate) colormap: Colormap,
    /// What stands below, in items that are not broken over lines if they need not be.
    pub(crate) footer: Vec<Vec<String>>,
    missing: Vec<(String, String)>,
}

/// The lines of one workload and row.
#[derive(Clone, Debug)]
pub(crate) struct DecodePanel {
    pub(crate) column: usize,
    pub(crate) row: usize,
    mixes: bool,
    pub(crate) lines: Vec<DecodeLine>,
    /// The ends of the y axis.
    pub(crate) range: (f64, f64),
}

/// The numbers of a line, in the unit of the scale.
#[derive(Clone, Debug)]
pub(crate) struct DecodeLine {
    pub(crate) of: Line,
    /// By number of tokens.
    pub(crate) points: Vec<DecodePoint>,
    /// The slow-down that the adapter's arithmetic alone costs, where slow-downs are drawn.
    pub(crate) floor: Option<f64>,
}

/// A number of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodePoint {
    pub(crate) tokens: usize,
    pub(crate) value: f64,
    /// The ends of its 95 % interval.
    pub(crate) interval: Option<(f64, f64)>,
}

impl DecodeLine {
    fn new(records: &[Record], metric: Metric, scale: &Scale) -> DecodeLine {
        let in_unit = |(lo, hi)| (scale.in_unit(lo), scale.in_unit(hi));
        let point = |record: &Record| {
            let value = scale.in_unit(metric.of(record)?);
            Some(DecodePoint { tokens: record.batch, value, interval: metric.interval(record).map(in_unit) })
        };
        let has_floor = |record: &&Record| metric == Metric::Slowdown && record.floor_pct.is_some();
        DecodeLine {
            of: Line::of(&records[0]),
            points: records.iter().filter_map(point).collect(),
            floor: records.iter().find(has_floor).and_then(|record| record.floor_pct),
        }
    }

    /// Every number that an axis has to hold.
    fn numbers(&self) -> impl Iterator<Item = f64> {
        let of_point = |point: &DecodePoint| {
            let (lo, hi) = point.interval.unwrap_or((point.value, point.value));
            [point.value, lo, hi]
        };
        self.points.iter().flat_map(of_point).chain(self.floor)
    }
}

impl DecodeFigure {
    /// The figure of these records. The y axis ends at `vmax`; without one, where base and fused need it to,
    /// and what peers have above that is cut off.
    #[must_use]
    pub fn new(selection: &DecodeSelection, vmax: Option<Vmax>, colormap: Colormap) -> DecodeFigure {
        let DecodeSelection { metric, .. } = selection;
        let records = &with_limits(&selection.records, &selection.base);
        let numbers: Vec<f64> = records.iter().filter_map(|record| metric.of(record)).collect();
        let scale = Scale::new(*metric, &numbers, Vmax::Auto);
        let mut columns: Vec<(String, String)> = Vec::new();
        for Record { workload, d_in, d_out, .. } in records {
            if columns.last().is_none_or(|(name, _)| name != workload) {
                columns.push((workload.clone(), format!("K = {d_in}, N = {d_out}")));
            }
        }
        // By column, then row; in the order of the records.
        let mut of_panels: BTreeMap<(usize, Row), Vec<Record>> = BTreeMap::new();
        for record in records {
            let column = columns.iter().position(|(name, _)| *name == record.workload).expect("added");
            for adapters in rows_of(record, &selection.adapters) {
                let row = (adapters, dtype_place(record));
                of_panels.entry((column, row)).or_default().push(record.clone());
            }
        }
        // Where no mix was measured, base and one token would stand alone.
        of_panels.retain(|(_, row), records| row.0 == 1 || records.iter().any(|record| record.adapters > 1));
        let rows: BTreeSet<&Row> = of_panels.keys().map(|(_, row)| row).collect();
        let panel = |((column, row), records): (&(usize, Row), &Vec<Record>)| {
            let lines = records.chunk_by(|a, b| (&a.method, a.rank) == (&b.method, b.rank));
            DecodePanel {
                column: *column,
                row: rows.iter().position(|other| *other == row).expect("it is a row"),
                mixes: row.0 > 1,
                lines: lines.map(|records| DecodeLine::new(records, *metric, &scale)).collect(),
                range: (0.0, 0.0),
            }
        };
        let panels: Vec<DecodePanel> = of_panels.iter().map(panel).collect();
        let label = |(adapters, (_, dtype)): &Row| match adapters {
            1 => dtype.clone(),
            adapters => format!("{dtype}, {adapters} adapters"),
        };
        let rows: Vec<String> = rows.into_iter().map(label).collect();
        let legend: BTreeSet<Line> = records.iter().map(Line::of).collect();
        let tokens: BTreeSet<usize> = records.iter().map(|record| record.batch).collect();
        let reference = match metric {
            Metric::OverLimit => Some((1.0, "limit")),
            Metric::Slowdown => Some((0.0, "base")),
            Metric::OverFloor => Some((0.0, "floor")),
            Metric::Time | Metric::Gflops => None,
        };
        let mut figure = DecodeFigure {
            columns,
            rows,
            tokens: tokens.into_iter().collect(),
            panels,
            legend: legend.into_iter().collect(),
            reference,
            scale,
            colormap,
            footer: Vec::new(),
            missing: Vec::new(),
        };
        figure.set_ranges(*metric, vmax);
        figure.missing = figure.find_missing();
        figure.footer = figure.footer_of(selection);
        figure
    }

    /// What was not measured or has no number: the method, and its cell, workload and element type. Base and
    /// fused are expected in every panel at each rank that one has, a peer in the panels that it is in; of a
    /// mix, any line in the panels that it is in.
    #[must_use]
    pub fn missing(&self) -> &[(String, String)] {
        &self.missing
    }

    /// Whether the floors of lines are drawn.
    pub(crate) fn has_floors(&self) -> bool {
        self.lines().any(|line| line.floor.is_some())
    }

    fn lines(&self) -> impl Iterator<Item = &DecodeLine> {
        self.panels.iter().flat_map(|panel| &panel.lines)
    }

    /// The ends of the y axes. The panels of a workload have the same; where the numbers are over the limit,
    /// all panels have.
    fn set_ranges(&mut self, metric: Metric, vmax: Option<Vmax>) {
        let reference = self.reference.map(|(number, _)| number);
        let ranges: Vec<(f64, f64)> = (0..self.columns.len())
            .map(|column| {
                let is_here = |panel: &&DecodePanel| metric == Metric::OverLimit || panel.column == column;
                let lines = || self.panels.iter().filter(is_here).flat_map(|panel| &panel.lines);
                range(&lines().collect::<Vec<_>>(), reference, vmax)
            })
            .collect();
        for panel in &mut self.panels {
            panel.range = ranges[panel.column];
        }
    }

    fn find_missing(&self) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        for panel in &self.panels {
            let of = format!("of {} in {}", self.columns[panel.column].0, self.rows[panel.row]);
            for line in &self.legend {
                let here = || panel.lines.iter().filter(|other| other.of == *line);
                if (panel.mixes || !line.is_own()) && here().next().is_none() {
                    continue;
                }
                let has = |tokens: usize| here().any(|line| line.points.iter().any(|p| p.tokens == tokens));
                let (method, rank) = line.method_and_rank();
                for &batch in self.tokens.iter().filter(|tokens| !has(**tokens)) {
                    missing.push((method.to_owned(), format!("{} {of}", Cell { seq_len: 1, batch, rank })));
                }
            }
        }
        missing
    }

    fn footer_of(&self, selection: &DecodeSelection) -> Vec<Vec<String>> {
        let DecodeSelection { metric, backend, cache, .. } = selection;
        let drawn: Vec<&Record> = selection.records.iter().collect();
        let circumstances = footer::circumstances(cache, &drawn);
        let mut notes = Vec::new();
        if *metric == Metric::OverLimit {
            notes.push("limit: the larger of bytes / bandwidth and operations / peak".to_owned());
            notes.push("both measured in the same rounds".to_owned());
            if selection.records.iter().any(lacks_limit) {
                notes.push("of a peer that has none, this library's".to_owned());
            }
        }
        if self.has_floors() || *metric == Metric::OverFloor {
            notes.push("floor: the adapter's arithmetic alone".to_owned());
        }
        if self.lines().flat_map(|line| &line.points).any(|point| point.interval.is_some()) {
            notes.push("bars: 95 % intervals".to_owned());
        }
        if metric.is_over_base() {
            notes.extend(footer::cpu_ratios(&drawn));
        }
        notes.extend(footer::repeated(&drawn));
        if !self.missing.is_empty() {
            let plural = if self.missing.len() == 1 { "" } else { "s" };
            notes.push(format!("{} point{plural} not measured", self.missing.len()));
        }
        let mut lines = vec![footer::machine(backend, &drawn), circumstances, notes, self.above_the_axes()];
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// The lines that run above their axis, each with its largest number.
    fn above_the_axes(&self) -> Vec<String> {
        let mut largest: BTreeMap<&Line, f64> = BTreeMap::new();
        for panel in &self.panels {
            for line in &panel.lines {
                for point in line.points.iter().filter(|point| point.value > panel.range.1) {
                    let known = largest.entry(&line.of).or_insert(point.value);
                    *known = known.max(point.value);
                }
            }
        }
        let item = |(i, (line, value)): (usize, (&Line, f64))| {
            let head = if i == 0 { "triangles, above the axis: " } else { "" };
            format!("{head}{} up to {}", line.label(), self.scale.format(value))
        };
        largest.into_iter().enumerate().map(item).collect()
    }
}

/// The ends of the axis for these lines. Without a reference it begins at 0.
fn range(lines: &[&DecodeLine], reference: Option<f64>, vmax: Option<Vmax>) -> (f64, f64) {
    let below = reference.map_or(0.0, |_| MARGIN);
    let reference = reference.unwrap_or(0.0);
    let largest = |is_meant: fn(&Line) -> bool| {
        let lines = lines.iter().filter(|line| is_meant(&line.of));
        lines.flat_map(|line| line.numbers()).fold(reference, f64::max)
    };
    let lo = lines.iter().flat_map(|line| line.numbers()).fold(reference, f64::min);
    let (own, all) = (largest(Line::is_own), largest(|_| true));
    let has_own = lines.iter().any(|line| line.of.is_own());
    let (hi, above) = match vmax {
        Some(Vmax::Fixed(vmax)) => (vmax, 0.0),
        // Peers take half of a panel at most.
        None if has_own => (all.min(reference + 2.0 * (own - reference)).max(own), MARGIN),
        None | Some(Vmax::Auto) => (all, MARGIN),
    };
    // A fixed end below every number, or none above the reference.
    let (lo, hi) = match lo < hi {
        true => (lo, hi),
        false if hi > 0.0 => (0.0, hi),
        false => (lo, lo + 1.0),
    };
    (lo - below * (hi - lo), hi + above * (hi - lo))
}

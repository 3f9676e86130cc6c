//! The values of one figure of few tokens, ready to be drawn.

use std::collections::{BTreeMap, BTreeSet};

use fused_lora_records::{Cell, Record};

use super::line::Line;
use super::select::{DecodeSelection, dtype_place};
use crate::colormap::Colormap;
use crate::footer;
use crate::metric::Metric;
use crate::scale::{Scale, Vmax};

/// Room between the outermost numbers and the ends of an axis, in parts of its length.
const MARGIN: f64 = 0.05;

/// What is drawn.
#[derive(Clone, Debug)]
pub struct DecodeFigure {
    /// The workloads, left to right: name, and widths.
    pub(crate) columns: Vec<(String, String)>,
    /// The element types, top to bottom.
    pub(crate) rows: Vec<String>,
    /// The numbers of tokens that were measured, in order.
    pub(crate) tokens: Vec<usize>,
    /// One per workload and element type that there are records of.
    pub(crate) panels: Vec<DecodePanel>,
    /// Every line of the panels, in the order of the legend.
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

/// The lines of one workload and element type.
#[derive(Clone, Debug)]
pub(crate) struct DecodePanel {
    pub(crate) column: usize,
    pub(crate) row: usize,
    pub(crate) lines: Vec<(Line, Vec<DecodePoint>)>,
    /// The ends of the y axis.
    pub(crate) range: (f64, f64),
}

/// A number, in the unit of the scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodePoint {
    pub(crate) tokens: usize,
    pub(crate) value: f64,
    /// The ends of its 95 % interval.
    pub(crate) interval: Option<(f64, f64)>,
}

impl DecodePoint {
    /// Its number, and the ends of its interval.
    fn numbers(&self) -> impl Iterator<Item = f64> {
        [self.value].into_iter().chain(self.interval.into_iter().flat_map(|(lo, hi)| [lo, hi]))
    }
}

impl DecodeFigure {
    /// The figure of these records. The y axis ends at `vmax`; without one, where base and fused need it to,
    /// and lines of peers that run higher are cut off there.
    #[must_use]
    pub fn new(selection: &DecodeSelection, vmax: Option<Vmax>, colormap: Colormap) -> DecodeFigure {
        let DecodeSelection { records, metric, .. } = selection;
        let numbers: Vec<f64> = records.iter().filter_map(|record| metric.of(record)).collect();
        let scale = Scale::new(*metric, &numbers, Vmax::Auto);
        let mut columns: Vec<(String, String)> = Vec::new();
        for Record { workload, d_in, d_out, .. } in records {
            if columns.last().is_none_or(|(name, _)| name != workload) {
                columns.push((workload.clone(), format!("K = {d_in}, N = {d_out}")));
            }
        }
        let rows: BTreeSet<_> = records.iter().map(dtype_place).collect();
        let rows: Vec<String> = rows.into_iter().map(|(_, dtype)| dtype).collect();
        let point = |record: &Record| {
            let in_unit = |(lo, hi)| (scale.in_unit(lo), scale.in_unit(hi));
            let value = scale.in_unit(metric.of(record)?);
            Some(DecodePoint { tokens: record.batch, value, interval: metric.interval(record).map(in_unit) })
        };
        let line = |records: &[Record]| {
            (Line::of(&records[0]), records.iter().filter_map(point).collect::<Vec<DecodePoint>>())
        };
        let panel = |records: &[Record]| DecodePanel {
            column: columns.iter().position(|(name, _)| *name == records[0].workload).expect("it was added"),
            row: rows.iter().position(|dtype| *dtype == records[0].dtype).expect("it was added"),
            lines: records.chunk_by(|a, b| (&a.method, a.rank) == (&b.method, b.rank)).map(line).collect(),
            range: (0.0, 0.0),
        };
        let same_panel = |a: &Record, b: &Record| (&a.workload, &a.dtype) == (&b.workload, &b.dtype);
        let panels: Vec<DecodePanel> = records.chunk_by(same_panel).map(panel).collect();
        let lines = || panels.iter().flat_map(|panel| &panel.lines);
        let legend: BTreeSet<Line> = lines().map(|(line, _)| line.clone()).collect();
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

    /// What was not measured or has no number: line, cell, workload and element type. Base and fused are
    /// expected in every panel at each rank that one has, a peer in the panels where it was measured.
    #[must_use]
    pub fn missing(&self) -> &[(String, String)] {
        &self.missing
    }

    /// The ends of the y axes. Panels of a workload have the same; where the numbers are over the limit, all
    /// panels have.
    fn set_ranges(&mut self, metric: Metric, vmax: Option<Vmax>) {
        let group = |panel: &DecodePanel| if metric == Metric::OverLimit { 0 } else { panel.column };
        let groups: BTreeSet<usize> = self.panels.iter().map(group).collect();
        let reference = self.reference.map_or(0.0, |(number, _)| number);
        for own_group in groups {
            let members = || self.panels.iter().filter(|panel| group(panel) == own_group);
            let lines = || members().flat_map(|panel| &panel.lines);
            let largest = |is_own: bool| {
                let lines = lines().filter(move |(line, _)| line.is_own() == is_own);
                lines.flat_map(|(_, points)| points).flat_map(DecodePoint::numbers).fold(reference, f64::max)
            };
            let numbers = lines().flat_map(|(_, points)| points).flat_map(DecodePoint::numbers);
            let lo = numbers.fold(reference, f64::min);
            let has_own = lines().any(|(line, _)| line.is_own());
            let (own, others) = (largest(true), largest(false));
            let hi = match vmax {
                Some(Vmax::Fixed(vmax)) => vmax,
                // Peers may take half of the panel.
                None if has_own => own.max(others.min(reference + 2.0 * (own - reference))),
                None | Some(Vmax::Auto) => own.max(others),
            };
            let lo = if hi > lo { lo } else { 0.0 };
            let room = MARGIN * (hi - lo);
            let has_zero = lo == 0.0 && reference == 0.0 && !metric.is_over_base();
            let range = (
                if has_zero { lo } else { lo - room },
                if matches!(vmax, Some(Vmax::Fixed(_))) { hi } else { hi + room },
            );
            // All numbers are the reference's.
            let range = if range.1 > range.0 { range } else { (range.0 - 0.5, range.1 + 0.5) };
            for panel in self.panels.iter_mut().filter(|panel| group(panel) == own_group) {
                panel.range = range;
            }
        }
    }

    fn find_missing(&self) -> Vec<(String, String)> {
        let own: Vec<&Line> = self.legend.iter().filter(|line| line.is_own()).collect();
        let mut missing = Vec::new();
        for panel in &self.panels {
            let lines: BTreeSet<&Line> =
                panel.lines.iter().map(|(line, _)| line).chain(own.iter().copied()).collect();
            let of = format!("of {} in {}", self.columns[panel.column].0, self.rows[panel.row]);
            for line in lines {
                let same = panel.lines.iter().filter(|(other, _)| other == line);
                let measured: BTreeSet<usize> =
                    same.flat_map(|(_, points)| points).map(|point| point.tokens).collect();
                let (method, rank) = line.method_and_rank();
                for &batch in self.tokens.iter().filter(|tokens| !measured.contains(tokens)) {
                    missing.push((method.to_owned(), format!("{} {of}", Cell { seq_len: 1, batch, rank })));
                }
            }
        }
        missing
    }

    fn footer_of(&self, selection: &DecodeSelection) -> Vec<Vec<String>> {
        let DecodeSelection { metric, backend, cache, adapters, .. } = selection;
        let drawn: Vec<&Record> = selection.records.iter().collect();
        let circumstances = footer::circumstances(*adapters, cache, &drawn);
        let mut lines = vec![footer::machine(backend, &drawn), circumstances];
        let mut notes = Vec::new();
        if *metric == Metric::OverLimit {
            notes.push("limit: the larger of bytes / bandwidth and operations / peak".to_owned());
            notes.push("both measured in the same rounds".to_owned());
        }
        let points = || self.panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, points)| points);
        if points().any(|point| point.interval.is_some()) {
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
        lines.push(notes);
        lines.push(self.above_the_axes());
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// The lines that run above their axis, each with its largest number.
    fn above_the_axes(&self) -> Vec<String> {
        let mut largest: BTreeMap<&Line, f64> = BTreeMap::new();
        for panel in &self.panels {
            for (line, points) in &panel.lines {
                for point in points.iter().filter(|point| point.value > panel.range.1) {
                    let known = largest.entry(line).or_insert(point.value);
                    *known = known.max(point.value);
                }
            }
        }
        let up_to =
            |(line, value): (&Line, &f64)| format!("{} up to {}", line.label(), self.scale.format(*value));
        let mut items: Vec<String> = largest.iter().map(|(line, value)| up_to((line, value))).collect();
        if let Some(first) = items.first_mut() {
            *first = format!("triangles: above the axis, {first}");
        }
        items
    }
}

//! Which records make one figure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fused_lora_records::{BATCHES, Cell, RANKS, Record, SEQ_LENS, Workload, newest};

use crate::error::Error;
use crate::metric::Metric;

/// The rows of the figure of one or several linear layers, unless told otherwise: the strategies.
pub const LINEAR_ROWS: [&str; 2] = ["unfused", "fused"];
/// The rows of the figure of a transformer layer, unless told otherwise: the published adapters (Hu et al.
/// 2021, arXiv 2106.09685, Figure 5), and below them un-merged LoRA on the same axes.
pub const LAYER_ROWS: [&str; 4] = ["adapter-h", "adapter-l", "lora-unfused", "lora-fused"];
/// More rows would be a poster.
pub const MAX_ROWS: usize = 4;

/// A call of a layer of this library for each adapter of a batch.
pub(crate) const CLONES: &str = "clones";
/// The methods whose records go into the figure's CSV beside those drawn, since every slow-down is against
/// them: of linear layers, and of a transformer layer.
pub(crate) const BASES: [&str; 2] = ["base", "none"];
/// The state of the caches that is drawn if there is a choice.
pub(crate) const PRIMARY_CACHE: &str = "cold";
/// The element type that names of files leave out.
const PRIMARY_DTYPE: &str = "f16";

/// What a figure is to show. Where a column is left open, it is that of the newest record of these rows.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Query {
    /// The methods of the rows, top to bottom; if none, [`LINEAR_ROWS`] or [`LAYER_ROWS`], as the workload
    /// is.
    #[arg(skip)]
    pub rows: Vec<String>,
    /// Workload to draw [default: that of the newest record]
    #[arg(long, value_parser = |name: &str| Workload::by_name(name).map(|found| found.name().to_owned()))]
    pub workload: Option<String>,
    /// Backend to draw [default: that of the newest record]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Device to draw [default: that of the newest record]
    #[arg(long, value_name = "NAME", conflicts_with = "mix_devices")]
    pub device: Option<String>,
    /// Draw the records of all devices in one figure, of each cell the newest
    #[arg(long)]
    pub mix_devices: bool,
    /// State of the caches to draw [default: cold, else that of the newest record]
    #[arg(long, value_name = "NAME")]
    pub cache: Option<String>,
    /// Element type to draw, such as f16 or bf16 [default: that of the newest record]
    #[arg(long, value_name = "NAME")]
    pub dtype: Option<String>,
    /// Number of adapters in a batch to draw [default: that of the newest record]
    #[arg(long, value_name = "NUMBER", value_parser = adapters)]
    pub adapters: Option<usize>,
    /// SIMD level to draw, such as avx512 [default: all there are; with few tokens that of the newest record
    /// of each element type]
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<String>,
}

fn adapters(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("not a whole number above 0")
}

/// The records of one figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The rows, top to bottom.
    pub rows: Vec<SelectionRow>,
    /// The base's records, in the order of the grid.
    pub base: Vec<Record>,
    /// The workload.
    pub workload: String,
    /// The backend.
    pub backend: String,
    /// The state of the caches.
    pub cache: String,
    /// The element type.
    pub dtype: String,
    /// How many adapters the rows of a batch use. The base uses none, and its records have 1 here.
    pub adapters: usize,
    /// What these rows were also measured for and is not drawn, such as "workload linear-4096x4096".
    pub left_out: Vec<String>,
}

/// The records of one row of panels.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectionRow {
    /// The method.
    pub method: String,
    /// The newest record of each cell that was measured.
    pub records: BTreeMap<Cell, Record>,
}

/// A column that a figure has one value of.
struct Column {
    name: &'static str,
    of: fn(&Record) -> String,
}

const COLUMNS: [Column; 7] = [
    Column { name: "simd", of: |record| record.simd.clone() },
    Column { name: "workload", of: |record| record.workload.clone() },
    Column { name: "backend", of: |record| record.backend.clone() },
    Column { name: "device", of: |record| record.device.clone() },
    Column { name: "cache", of: |record| record.cache.clone() },
    Column { name: "dtype", of: |record| record.dtype.clone() },
    Column { name: ADAPTERS, of: |record| record.adapters.to_string() },
];
pub(crate) const ADAPTERS: &str = "adapters";

impl Query {
    /// Picks the records.
    ///
    /// # Errors
    ///
    /// If no record has what was asked for, or none has a number of the metric in a cell of the grid.
    pub fn select(&self, records: Vec<Record>, metric: Metric) -> Result<Selection, Error> {
        let candidates = self.candidates();
        let is_drawn = |record: &Record| on_grid(record) && candidates.contains(&record.method);
        let wanted = self.wanted(Wanted::Newest);
        let Choice { records, values: mut chosen, left_out } = self.choose(records, &is_drawn, wanted)?;
        let records = newest(records);
        let mut chosen = |column| chosen.remove(column).expect("only devices may be mixed");
        let (workload, backend, cache) = (chosen("workload"), chosen("backend"), chosen("cache"));
        let (dtype, adapters) = (chosen("dtype"), chosen(ADAPTERS));
        let present: BTreeSet<&str> = records.iter().map(|record| record.method.as_str()).collect();
        let methods = match self.rows.as_slice() {
            [] => usual_rows(&workload, adapters != "1", &present),
            rows => rows.to_vec(),
        };
        let rows: Vec<SelectionRow> = methods.iter().map(|method| row(method, &records)).collect();
        let mut numbers = rows.iter().flat_map(|row| row.records.values()).filter_map(|r| metric.of(r));
        if numbers.next().is_none() {
            return Err(Error::NothingToDraw(methods));
        }
        let base = BASES.iter().flat_map(|method| row(method, &records).records.into_values()).collect();
        Ok(Selection {
            rows,
            base,
            workload,
            backend,
            cache,
            dtype,
            adapters: adapters.parse().expect("it was a number"),
            left_out,
        })
    }

    /// Narrows the records to one value of each of [`COLUMNS`], as is wanted. What is left open is decided
    /// by those records that `is_drawn` says are to be drawn.
    pub(crate) fn choose(
        &self,
        mut records: Vec<Record>,
        is_drawn: &dyn Fn(&Record) -> bool,
        wanted: [Wanted; COLUMNS.len()],
    ) -> Result<Choice, Error> {
        for method in &self.rows {
            if !records.iter().any(|record| record.method == *method) {
                let present = distinct(records.iter(), |record| record.method.clone());
                return Err(Error::Absent { column: "method", wanted: method.clone(), present });
            }
        }
        let mut left_out = Vec::new();
        let mut values = HashMap::new();
        for (column, wanted) in COLUMNS.iter().zip(wanted) {
            let drawn = || records.iter().filter(|record| is_drawn(record));
            let present = distinct(drawn(), column.of);
            let value = match wanted {
                Wanted::All => continue,
                Wanted::Exactly(value) if present.contains(&value) => value,
                Wanted::Exactly(value) => {
                    return Err(Error::Absent { column: column.name, wanted: value, present });
                }
                Wanted::Rather(value) if present.iter().any(|other| other == value) => value.to_owned(),
                Wanted::Rather(_) | Wanted::Newest => {
                    let newest = drawn().max_by_key(|record| record.measured_at);
                    (column.of)(newest.ok_or_else(|| Error::NothingToDraw(self.candidates()))?)
                }
            };
            let others = present.iter().filter(|other| **other != value);
            left_out.extend(others.map(|other| format!("{} {other}", column.name)));
            // The base uses no adapter, and is recorded once for every number of them.
            let is_for_all =
                |record: &Record| column.name == ADAPTERS && record.adapters == 1 && is_base(record);
            records.retain(|record| (column.of)(record) == value || is_for_all(record));
            values.insert(column.name, value);
        }
        Ok(Choice { records, values, left_out })
    }

    /// The methods whose records decide about a column that is left open.
    fn candidates(&self) -> Vec<String> {
        if self.rows.is_empty() {
            LINEAR_ROWS.iter().chain(&LAYER_ROWS).map(|method| (*method).to_owned()).collect()
        } else {
            self.rows.clone()
        }
    }

    /// What is wanted of each of [`COLUMNS`]; `open` of a workload and an element type that are not named.
    pub(crate) fn wanted(&self, open: Wanted) -> [Wanted; COLUMNS.len()] {
        let wanted = |value: &Option<String>, open: Wanted| value.clone().map_or(open, Wanted::Exactly);
        let adapters = self.adapters.map(|adapters| adapters.to_string());
        [
            wanted(&self.simd, Wanted::All),
            wanted(&self.workload, open.clone()),
            wanted(&self.backend, Wanted::Newest),
            if self.mix_devices { Wanted::All } else { wanted(&self.device, Wanted::Newest) },
            wanted(&self.cache, Wanted::Rather(PRIMARY_CACHE)),
            wanted(&self.dtype, open),
            wanted(&adapters, Wanted::Newest),
        ]
    }
}

/// What is wanted of a column.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Exactly(String),
    Rather(&'static str),
    Newest,
    All,
}

/// Records of one choice.
pub(crate) struct Choice {
    pub(crate) records: Vec<Record>,
    /// The value of each column that has one.
    pub(crate) values: HashMap<&'static str, String>,
    pub(crate) left_out: Vec<String>,
}

impl Selection {
    /// The records of the rows, row by row in the order of the grid.
    pub fn drawn(&self) -> impl Iterator<Item = &Record> {
        self.rows.iter().flat_map(|row| row.records.values())
    }

    /// Whether it is the same choice of records, read for another metric perhaps.
    pub(crate) fn is_of_the_same(&self, other: &Selection) -> bool {
        let key = |selection: &Selection| {
            let Selection { workload, backend, cache, dtype, .. } = selection.clone();
            ([workload, backend, cache, dtype], selection.adapters)
        };
        key(self) == key(other) && self.rows == other.rows
    }

    /// The figure's name without an extension: workload and backend, and whatever is not the default, so that
    /// another choice does not overwrite this one.
    #[must_use]
    pub fn stem(&self, metric: Metric) -> String {
        let mut parts = vec![self.workload.clone(), self.backend.clone()];
        let is_usual = |method: &&str| self.adapters == 1 || !is_peer_of_mixes(method);
        let methods = || self.rows.iter().map(|row| row.method.as_str()).filter(is_usual);
        if methods().ne(default_rows(&self.workload).iter().copied()) {
            parts.extend(methods().map(str::to_owned));
        }
        if self.cache != PRIMARY_CACHE {
            parts.push(self.cache.clone());
        }
        if self.dtype != PRIMARY_DTYPE {
            parts.push(self.dtype.clone());
        }
        if self.adapters != 1 {
            parts.push(format!("{}adapters", self.adapters));
        }
        if metric != Metric::default() {
            parts.push(metric.name());
        }
        plain_stem(&parts)
    }
}

/// The parts joined to a file's name.
pub(crate) fn plain_stem(parts: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let plain: String = parts.join("-").chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    // A workload named ".." must not lead out of the folder.
    plain.trim_start_matches('.').to_owned()
}

/// The rows that a workload is drawn in unless told otherwise. One that has no known name is taken for linear
/// layers.
pub(crate) fn default_rows(workload: &str) -> &'static [&'static str] {
    let is_layer = Workload::by_name(workload).is_ok_and(|workload| workload.layers().is_some());
    if is_layer { &LAYER_ROWS } else { &LINEAR_ROWS }
}

/// The same, and where batches mix adapters, what other ways to compute them were measured.
pub(crate) fn usual_rows(workload: &str, mixes: bool, present: &BTreeSet<&str>) -> Vec<String> {
    let peers = present.iter().copied().filter(|method| mixes && is_peer_of_mixes(method));
    default_rows(workload).iter().copied().chain(peers).map(str::to_owned).collect()
}

/// Whether it computes a batch with several adapters as a call of a layer for each, or by PEFT's own loop.
pub(crate) fn is_peer_of_mixes(method: &str) -> bool {
    method == CLONES || method.starts_with("torch-") && method.ends_with("/peft")
}

fn row(method: &str, records: &[Record]) -> SelectionRow {
    let mut cells: BTreeMap<Cell, Record> = BTreeMap::new();
    for record in records.iter().filter(|record| record.method == method && on_grid(record)) {
        // Several devices may have measured the cell.
        let kept = cells.entry(record.cell()).or_insert_with(|| record.clone());
        if record.measured_at >= kept.measured_at {
            *kept = record.clone();
        }
    }
    SelectionRow { method: method.to_owned(), records: cells }
}

pub(crate) fn is_base(record: &Record) -> bool {
    BASES.contains(&record.method.as_str())
}

pub(crate) fn on_grid(record: &Record) -> bool {
    let Cell { seq_len, batch, rank } = record.cell();
    SEQ_LENS.contains(&seq_len) && BATCHES.contains(&batch) && RANKS.contains(&rank)
}

fn distinct<'a>(records: impl Iterator<Item = &'a Record>, of: fn(&Record) -> String) -> Vec<String> {
    records.map(of).collect::<BTreeSet<String>>().into_iter().collect()
}

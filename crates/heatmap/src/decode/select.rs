//! Which records make the figure of few tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fused_lora_records::{Record, Workload};

use super::line::Line;
use crate::error::Error;
use crate::metric::Metric;
use crate::select::{ADAPTERS, Choice, LINEAR_ROWS, PRIMARY_CACHE, Query, Wanted, is_base, plain_stem};

/// The methods that are drawn at every rank unless told otherwise, beside peers at rank 0.
const USUAL: [&str; 2] = ["base", "fused"];
/// How this library's methods begin in the bench of its peers. They are drawn if they are named.
const AMONG_PEERS: &str = "fused-lora/";
/// Element types in the order of the rows of panels; others follow by name.
const DTYPES: [&str; 3] = ["f16", "bf16", "f32"];

/// The records of one figure of few tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeSelection {
    /// Those drawn, the newest of each cell: by workload, element type, line, and number of tokens.
    pub records: Vec<Record>,
    /// The base's records, where the base is no line itself.
    pub base: Vec<Record>,
    /// What is drawn of them.
    pub metric: Metric,
    /// The backend.
    pub backend: String,
    /// The state of the caches.
    pub cache: String,
    /// How many adapters the rows of a batch use.
    pub adapters: usize,
    /// What was also measured and is not drawn, such as "device Xeon".
    pub left_out: Vec<String>,
    /// The figure's name without an extension: backend, and whatever is not the default.
    pub stem: String,
}

impl Query {
    /// Picks the records with one token per sequence: base, fused at each rank above 0, and peers at rank 0;
    /// of a metric that compares with the base, fused alone; or the methods that are named, peers at each
    /// rank. Workloads and element types are all drawn unless one is named. Devices are never mixed unless
    /// told to be, nor are SIMD levels of this library's methods within an element type.
    ///
    /// # Errors
    ///
    /// If no record has one token per sequence or what was asked for, or none has a number of the metric.
    pub fn select_decode(&self, mut records: Vec<Record>, metric: Metric) -> Result<DecodeSelection, Error> {
        records.retain(|record| record.seq_len == 1);
        let decides = |record: &Record| match self.rows.as_slice() {
            [] => USUAL.contains(&record.method.as_str()),
            rows => rows.contains(&record.method),
        };
        if records.is_empty() || self.rows.is_empty() && !records.iter().any(decides) {
            let usual = || USUAL.map(str::to_owned).to_vec();
            let rows = Some(self.rows.clone()).filter(|rows| !rows.is_empty());
            return Err(Error::NoFewTokens(rows.unwrap_or_else(usual)));
        }
        // SIMD levels are chosen below, type by type.
        let wanted = Query { simd: None, ..self.clone() }.wanted(Wanted::All);
        let mut choice = self.choose(records, &decides, wanted)?;
        self.choose_levels(&mut choice)?;
        let Choice { mut records, mut values, left_out } = choice;
        // The last of a place stays, whichever run and device it is of.
        records.sort_by_key(|record| record.measured_at);
        let newest: BTreeMap<_, Record> =
            records.into_iter().map(|record| (place(&record), record)).collect();
        let (drawn, mut base): (Vec<Record>, Vec<Record>) =
            newest.into_values().partition(|record| self.draws(record, metric));
        base.retain(is_base);
        if !with_limits(&drawn, &base).iter().any(|record| metric.of(record).is_some()) {
            return Err(Error::NoNumber(metric.name()));
        }
        let mut value = |column| values.remove(column).expect("it is never left open");
        let (backend, cache, adapters) = (value("backend"), value("cache"), value(ADAPTERS));
        let adapters = adapters.parse().expect("it was a number");
        let stem = self.decode_stem(&backend, &cache, adapters, metric);
        Ok(DecodeSelection { records: drawn, base, metric, backend, cache, adapters, left_out, stem })
    }

    fn draws(&self, record: &Record, metric: Metric) -> bool {
        match Line::of(record) {
            Line::Base if metric.is_over_base() => false,
            // It computes what the base computes.
            Line::Fused(0) => false,
            _ if !self.rows.is_empty() => self.rows.contains(&record.method),
            Line::Base | Line::Fused(_) => true,
            // A peer's slow-down is over its own base.
            Line::Other(_, rank) => rank == 0 && !is_own(record) && !metric.is_over_base(),
        }
    }

    /// Leaves one SIMD level of this library's methods in each element type: that which is asked for, or that
    /// of the newest record.
    fn choose_levels(&self, choice: &mut Choice) -> Result<(), Error> {
        let own: Vec<Record> = choice.records.iter().filter(|record| is_own(record)).cloned().collect();
        let levels: BTreeSet<(&str, &str)> =
            own.iter().map(|record| (record.dtype.as_str(), record.simd.as_str())).collect();
        if let Some(wanted) = self.simd.clone().filter(|simd| levels.iter().all(|level| level.1 != simd)) {
            let present: BTreeSet<&str> = levels.iter().map(|level| level.1).collect();
            let present = present.into_iter().map(str::to_owned).collect();
            return Err(Error::Absent { column: "simd", wanted, present });
        }
        for (dtype, simd) in levels {
            let newest = own.iter().filter(|record| record.dtype == dtype).max_by_key(|r| r.measured_at);
            let chosen = self.simd.as_deref().or(newest.map(|record| record.simd.as_str()));
            if chosen != Some(simd) {
                choice.left_out.push(format!("simd {simd} of {dtype}"));
                choice.records.retain(|r| !is_own(r) || (r.dtype.as_str(), r.simd.as_str()) != (dtype, simd));
            }
        }
        Ok(())
    }

    fn decode_stem(&self, backend: &str, cache: &str, adapters: usize, metric: Metric) -> String {
        let mut parts = vec!["decode".to_owned(), backend.to_owned()];
        parts.extend(self.workload.clone());
        parts.extend(self.rows.iter().cloned());
        if cache != PRIMARY_CACHE {
            parts.push(cache.to_owned());
        }
        parts.extend(self.dtype.clone());
        if adapters != 1 {
            parts.push(format!("{adapters}adapters"));
        }
        if metric != Metric::OverLimit {
            parts.push(metric.name());
        }
        plain_stem(&parts)
    }
}

/// Whether this library computed it, whose SIMD level is then the record's.
fn is_own(record: &Record) -> bool {
    let among_peers = record.method.starts_with(AMONG_PEERS);
    is_base(record) || LINEAR_ROWS.contains(&record.method.as_str()) || among_peers
}

/// Where a record is drawn: its workload, its element type, its line, and its place on that.
fn place(record: &Record) -> ((usize, String), (usize, String), Line, String, usize) {
    let workload = Workload::every().position(|workload| workload.name() == record.workload);
    let workload = (workload.unwrap_or(usize::MAX), record.workload.clone());
    (workload, dtype_place(record), Line::of(record), record.method.clone(), record.batch)
}

/// The place of a record's element type among all.
pub(super) fn dtype_place(record: &Record) -> (usize, String) {
    let known = DTYPES.iter().position(|dtype| *dtype == record.dtype);
    (known.unwrap_or(usize::MAX), record.dtype.clone())
}

/// The records drawn, of which a peer at rank 0 that has no limit gets the base's of the same cell: the
/// reference is one for all lines.
pub(super) fn with_limits(drawn: &[Record], base: &[Record]) -> Vec<Record> {
    let cell = |record: &Record| (record.workload.clone(), record.dtype.clone(), record.batch);
    let bases = drawn.iter().chain(base).filter(|record| is_base(record));
    let limits: HashMap<_, f64> = bases.filter_map(|base| Some((cell(base), base.limit_ns?))).collect();
    let limited = |record: &Record| {
        let others = limits.get(&cell(record)).filter(|_| lacks_limit(record));
        Record { limit_ns: record.limit_ns.or(others.copied()), ..record.clone() }
    };
    drawn.iter().map(limited).collect()
}

/// Whether it is a peer's without a limit of its own.
pub(super) fn lacks_limit(record: &Record) -> bool {
    record.limit_ns.is_none() && record.rank == 0 && !Line::of(record).is_own()
}

//! Which records make the figure of few tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fused_lora_records::{Record, Timestamp, Workload};

use super::line::Line;
use crate::error::Error;
use crate::metric::Metric;
use crate::select::{
    ADAPTERS, CLONES, Choice, LINEAR_ROWS, PRIMARY_CACHE, Query, Wanted, is_base, is_peer_of_mixes,
    plain_stem,
};

/// The methods that are drawn at every rank unless told otherwise, beside peers at rank 0.
const USUAL: [&str; 2] = ["base", "fused"];
/// How this library's methods begin in the bench of its peers. They are drawn if they are named.
const AMONG_PEERS: &str = "fused-lora/";
/// Element types in the order of the rows of panels; others follow by name.
const DTYPES: [&str; 3] = ["f16", "bf16", "f32"];
/// The rank of the peers of a batch with several adapters: at every rank they would be most of all lines.
const MIX_RANK: usize = 16;

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
    /// How many adapters a batch has in the rows of panels: 1, then that of a mix.
    pub adapters: Vec<usize>,
    /// What was also measured and is not drawn, such as "device Xeon".
    pub left_out: Vec<String>,
    /// The figure's name without an extension: backend, and whatever is not the default.
    pub stem: String,
}

impl Query {
    /// Picks the records with one token per sequence: base, fused at each rank above 0, and peers at rank 0;
    /// of a metric that compares with the base, fused alone; or the methods that are named, peers at each
    /// rank. Batches with several adapters, of the newest run that has them, are rows of panels of their own,
    /// with their peers at one rank. Workloads and element types are all drawn unless one is named. Devices
    /// are never mixed unless told to be, nor are SIMD levels of this library's methods within an element
    /// type.
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
        let mut wanted = Query { simd: None, ..self.clone() }.wanted(Wanted::All);
        // So are numbers of adapters, the last of the columns: a run of a mix has several.
        wanted[wanted.len() - 1] = Wanted::All;
        let mut choice = self.choose(records, &decides, wanted)?;
        self.choose_levels(&mut choice)?;
        let Choice { mut records, mut values, mut left_out } = choice;
        let adapters = self.choose_adapters(&records, &mut left_out)?;
        // The last of a place stays, whichever run and device it is of.
        records.sort_by_key(|record| record.measured_at);
        let newest: BTreeMap<_, Record> =
            records.into_iter().map(|record| (place(&record), record)).collect();
        let (mut drawn, mut base): (Vec<Record>, Vec<Record>) =
            newest.into_values().partition(|record| self.draws(record, metric, &adapters));
        base.retain(is_base);
        if !adapters.contains(&1) {
            // One token of a mix is what it is without, also where no mix was measured.
            let panel = |record: &Record| (record.workload.clone(), record.dtype.clone());
            let mixed: BTreeSet<_> = drawn.iter().filter(|record| record.adapters > 1).map(panel).collect();
            drawn.retain(|record| mixed.contains(&panel(record)));
        }
        if !with_limits(&drawn, &base).iter().any(|record| metric.of(record).is_some()) {
            return Err(Error::NoNumber(metric.name()));
        }
        let mut value = |column| values.remove(column).expect("it is never left open");
        let (backend, cache) = (value("backend"), value("cache"));
        let stem = self.decode_stem(&backend, &cache, metric);
        Ok(DecodeSelection { records: drawn, base, metric, backend, cache, adapters, left_out, stem })
    }

    fn draws(&self, record: &Record, metric: Metric, adapters: &[usize]) -> bool {
        if rows_of(record, adapters).next().is_none() {
            return false;
        }
        match Line::of(record) {
            Line::Base if metric.is_over_base() => false,
            // It computes what the base computes.
            Line::Fused(0) => false,
            _ if !self.rows.is_empty() => self.rows.contains(&record.method),
            Line::Base | Line::Fused(_) => true,
            Line::Other(_, rank) if adapters != [1] && is_peer_of_mixes(&record.method) => {
                rank == MIX_RANK && (record.method == CLONES || !metric.is_over_base())
            }
            // A peer's slow-down is over its own base.
            Line::Other(_, rank) => rank == 0 && !is_own(record) && !metric.is_over_base(),
        }
    }

    /// The numbers of adapters that have rows of panels: that which is asked for; else 1, and the largest of
    /// the newest run that mixes adapters, which has fewer where there are fewer tokens.
    fn choose_adapters(&self, records: &[Record], left_out: &mut Vec<String>) -> Result<Vec<usize>, Error> {
        let mut runs: BTreeMap<&str, (Timestamp, usize)> = BTreeMap::new();
        for record in records.iter().filter(|record| !is_base(record)) {
            let run = runs.entry(&record.run).or_insert((record.measured_at, 1));
            *run = (run.0.max(record.measured_at), run.1.max(record.adapters));
        }
        let mixes = || runs.values().filter(|(_, adapters)| *adapters > 1);
        let alone = mixes().next().is_none() || runs.values().any(|(_, adapters)| *adapters == 1);
        let newest = mixes().max().map(|(_, adapters)| *adapters);
        let present: BTreeSet<usize> =
            mixes().map(|(_, adapters)| *adapters).chain(alone.then_some(1)).collect();
        let drawn: Vec<usize> = match self.adapters {
            Some(adapters) => vec![adapters],
            None => alone.then_some(1).into_iter().chain(newest).collect(),
        };
        if let Some(wanted) = drawn.iter().find(|adapters| !present.contains(adapters)) {
            let present = present.iter().map(usize::to_string).collect();
            return Err(Error::Absent { column: ADAPTERS, wanted: wanted.to_string(), present });
        }
        let others = present.iter().filter(|adapters| !drawn.contains(adapters));
        left_out.extend(others.map(|adapters| format!("{ADAPTERS} {adapters}")));
        Ok(drawn)
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

    fn decode_stem(&self, backend: &str, cache: &str, metric: Metric) -> String {
        let mut parts = vec!["decode".to_owned(), backend.to_owned()];
        parts.extend(self.workload.clone());
        parts.extend(self.rows.iter().cloned());
        if cache != PRIMARY_CACHE {
            parts.push(cache.to_owned());
        }
        parts.extend(self.dtype.clone());
        parts.extend(self.adapters.map(|adapters| format!("{adapters}adapters")));
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

/// The rows of panels, by their numbers of adapters, that a record belongs to. Fewer tokens have as many
/// adapters as tokens: one token of a mix is what it is without. The base is in all.
pub(super) fn rows_of(record: &Record, adapters: &[usize]) -> impl Iterator<Item = usize> {
    let is_alone = adapters == [1] || !is_peer_of_mixes(&record.method);
    let belongs = move |row: &usize| match *row {
        _ if is_base(record) => true,
        1 => record.adapters == 1 && is_alone,
        row => record.adapters == row.min(record.batch) && record.rank > 0,
    };
    adapters.iter().copied().filter(belongs)
}

/// Where a record is drawn: its workload, its element type, its line, and its place on that.
fn place(record: &Record) -> ((usize, String), (usize, String), Line, String, usize, usize) {
    let workload = Workload::every().position(|workload| workload.name() == record.workload);
    let workload = (workload.unwrap_or(usize::MAX), record.workload.clone());
    let line = (Line::of(record), record.method.clone());
    (workload, dtype_place(record), line.0, line.1, record.batch, record.adapters)
}

/// The place of a record's element type among all.
pub(super) fn dtype_place(record: &Record) -> (usize, String) {
    let known = DTYPES.iter().position(|dtype| *dtype == record.dtype);
    (known.unwrap_or(usize::MAX), record.dtype.clone())
}

/// The records drawn, of which a peer that has no limit gets that of base or fused in the same cell: the
/// reference is one for all lines.
pub(super) fn with_limits(drawn: &[Record], base: &[Record]) -> Vec<Record> {
    let cell = |r: &Record| (r.workload.clone(), r.dtype.clone(), r.batch, r.rank, r.adapters);
    let own = drawn.iter().chain(base).filter(|record| Line::of(record).is_own());
    let limits: HashMap<_, f64> = own.filter_map(|own| Some((cell(own), own.limit_ns?))).collect();
    let limited = |record: &Record| {
        let others = limits.get(&cell(record)).filter(|_| lacks_limit(record));
        Record { limit_ns: record.limit_ns.or(others.copied()), ..record.clone() }
    };
    drawn.iter().map(limited).collect()
}

/// Whether it is a peer's without a limit of its own.
pub(super) fn lacks_limit(record: &Record) -> bool {
    record.limit_ns.is_none() && !Line::of(record).is_own()
}

//! From rounds to a record.

use fused_lora::Strategy;
use fused_lora_records::{Cell, Record, Timestamp};

use crate::calls::Rounds;
use crate::machine::Machine;
use crate::revision::Revision;
use crate::settings::Settings;
use crate::stats::bootstrap_median;

/// What all records of a run have in common.
pub struct Template {
    /// The run's name.
    pub run: String,
    /// What is measured.
    pub settings: Settings,
    /// On what.
    pub machine: Machine,
    /// With which code.
    pub revision: Revision,
}

/// One method of one cell.
pub struct Subject<'a> {
    /// The cell.
    pub cell: Cell,
    /// The name in the records.
    pub method: &'a str,
    /// Place of the method in the rounds.
    pub place: usize,
    /// Place of the base that it is compared with; none for the base itself.
    pub base: Option<usize>,
    /// Its operations; padding is not work.
    pub flops: f64,
    /// Whether it is this library, so that it is known what it rounds the rank up to.
    pub ours: bool,
}

/// What a method cannot do without, in percent of the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// At the rank.
    pub pct: f64,
    /// At the rank that its kernels round up to, where that is known.
    pub pad_pct: Option<f64>,
}

/// Useful operations of a strategy, a multiply-add counted as two.
#[must_use]
pub fn flops(settings: &Settings, cell: Cell, strategy: Strategy) -> f64 {
    match strategy {
        Strategy::Base => settings.workload.flops_base(cell.m()),
        Strategy::Unfused | Strategy::Fused => settings.workload.flops(cell.m(), cell.rank),
    }
}

impl Template {
    /// The slow-down in percent that this library cannot do without.
    #[must_use]
    pub fn floor_pad_pct(&self, cell: Cell) -> f64 {
        let granule = self.machine.granule;
        self.settings.workload.floor_pad_pct(cell.rank, granule.shrink_n, granule.expand_k)
    }

    /// The record of a method: the median of its times, and of its ratios to the base of the same round. Its floor is the workload's.
    ///
    /// # Panics
    ///
    /// If there are no rounds.
    #[must_use]
    pub fn record(&self, subject: &Subject<'_>, rounds: &Rounds) -> Record {
        let Subject { cell, ours, .. } = *subject;
        let pad_pct = ours.then(|| self.floor_pad_pct(cell));
        self.record_with_floor(
            subject,
            Floor { pct: self.settings.workload.floor_pct(cell.rank), pad_pct },
            rounds,
        )
    }

    /// The same for a method that has a floor of its own.
    ///
    /// # Panics
    ///
    /// If there are no rounds.
    #[must_use]
    pub fn record_with_floor(&self, subject: &Subject<'_>, floor: Floor, rounds: &Rounds) -> Record {
        let Template { run, settings, machine, revision } = self;
        let Subject { cell, method, place, base, flops, .. } = *subject;
        let time = bootstrap_median(&rounds.nanos(place));
        let slowdown =
            base.map(|base| bootstrap_median(&rounds.ratios(place, base)).map(|ratio| 100.0 * (ratio - 1.0)));
        let workload = settings.workload;
        Record {
            run: run.clone(),
            workload: workload.name().to_owned(),
            backend: settings.backend.name().to_owned(),
            device: machine.device.clone(),
            threads: machine.threads,
            simd: machine.simd.clone(),
            driver: machine.driver.clone(),
            clock_mhz: machine.clock_mhz.map(|mhz| rounded(mhz, 3)),
            cache: settings.cache.name().to_owned(),
            method: method.to_owned(),
            d_in: workload.d_in(),
            d_out: workload.d_out(),
            seq_len: cell.seq_len,
            batch: cell.batch,
            rank: cell.rank,
            time_ns: rounded(time.median, 0),
            time_lo_ns: Some(rounded(time.lo, 0)),
            time_hi_ns: Some(rounded(time.hi, 0)),
            slowdown_pct: slowdown.map(|s| rounded(s.median, 3)),
            slowdown_lo_pct: slowdown.map(|s| rounded(s.lo, 3)),
            slowdown_hi_pct: slowdown.map(|s| rounded(s.hi, 3)),
            floor_pct: slowdown.map(|_| rounded(floor.pct, 3)),
            floor_pad_pct: slowdown.and(floor.pad_pct).map(|pct| rounded(pct, 3)),
            gflops: Some(rounded(flops / time.median, 3)),
            samples: rounds.len(),
            commit: revision.commit.clone(),
            dirty: revision.dirty,
            measured_at: Timestamp::now(),
        }
    }
}

/// To so many decimals: the rest would be noise, and hard to read.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fused_lora::Granule;

    use super::*;
    use crate::calls::Calls;
    use crate::fingerprint::Fingerprint;
    use crate::settings::Backend;

    #[test]
    fn times_and_ratios_become_columns() {
        let template = Template {
            run: "run".to_owned(),
            settings: Settings { backend: Backend::Cuda, ..Settings::default() },
            machine: Machine {
                device: "some gpu".to_owned(),
                threads: None,
                simd: String::new(),
                driver: "12.4".to_owned(),
                clock_mhz: Some(1980.0),
                last_level_cache: 50 << 20,
                granule: Granule { shrink_n: 16, expand_k: 16 },
            },
            revision: Revision { commit: "0123abc".to_owned(), dirty: true, changes: Fingerprint::new() },
        };
        let mut calls = Calls::default();
        calls.push(Vec::new());
        // The machine gets three times slower within the measurement: the ratios do not see it.
        let round = |base: u64, fused: u64| [base, fused].map(Duration::from_micros).to_vec();
        calls.push(vec![round(100, 120), round(200, 240), round(300, 360), round(300, 390), round(300, 330)]);
        let rounds = calls.measured(1).unwrap();
        let cell = Cell { seq_len: 128, batch: 2, rank: 100 };
        let flops = flops(&template.settings, cell, Strategy::Fused);
        assert_eq!(flops, 2.0 * 256.0 * (1024.0 * 1024.0 + 100.0 * 2048.0));

        let fused = Subject { cell, method: "fused", place: 1, base: Some(0), flops, ours: true };
        let record = template.record(&fused, &rounds);
        assert_eq!((record.time_ns, record.samples), (330e3, 5));
        let measured_on = [&record.backend, &record.device, &record.simd, &record.driver, &record.cache];
        assert_eq!(measured_on, ["cuda", "some gpu", "", "12.4", "cold"]);
        assert_eq!((record.threads, record.clock_mhz), (None, Some(1980.0)));
        assert!((record.slowdown_pct.unwrap() - 20.0).abs() < 1e-9, "{record:?}");
        assert!(
            record.slowdown_lo_pct <= record.slowdown_pct && record.slowdown_pct <= record.slowdown_hi_pct
        );
        assert!(record.time_lo_ns.unwrap() < 330e3 && record.time_hi_ns.unwrap() > 330e3);
        assert!((record.gflops.unwrap() - flops / 330e3).abs() < 1e-3);
        assert!((record.floor_pct.unwrap() - 19.531).abs() < 1e-9);
        // r = 100 counts as 112.
        assert!((record.floor_pad_pct.unwrap() - 21.875).abs() < 1e-9);
        assert_eq!((record.cell(), record.method.as_str()), (cell, "fused"));

        let base = Subject { cell, method: "base", place: 0, base: None, flops, ours: true };
        let record = template.record(&base, &rounds);
        assert_eq!((record.time_ns, record.slowdown_pct, record.slowdown_lo_pct), (300e3, None, None));
        assert_eq!((record.floor_pct, record.floor_pad_pct), (None, None), "nothing to compare with a floor");

        let peer = template.record(&Subject { method: "peer/unfused", ours: false, ..fused }, &rounds);
        assert!(peer.floor_pct.is_some() && peer.floor_pad_pct.is_none());

        let floor = Floor { pct: 3.25, pad_pct: Some(3.5) };
        let adapter = template.record_with_floor(&Subject { method: "adapter-h", ..fused }, floor, &rounds);
        assert_eq!((adapter.floor_pct, adapter.floor_pad_pct), (Some(3.25), Some(3.5)));
    }
}

//! From what was seen to records.

use fused_lora_records::{Record, Timestamp};

use crate::machine::Machine;
use crate::method::{Method, Provider, Suite};
use crate::outcome::Outcome;
use crate::revision::Revision;
use crate::settings::Settings;

/// What all records of a run have in common.
pub struct RecordTemplate {
    /// The run's name.
    pub run: String,
    /// What is measured.
    pub settings: Settings,
    /// On what.
    pub machine: Machine,
    /// With which code.
    pub revision: Revision,
}

impl RecordTemplate {
    /// The records of a size: one for each name of each method; none for probes. The clock is that under
    /// load, where it was seen.
    pub fn records(&self, suite: &dyn Suite, outcome: &Outcome, clock_mhz: Option<f64>) -> Vec<Record> {
        let places = (0..outcome.methods.len()).filter(|&place| outcome.methods[place].base.is_some());
        let of = |place: usize| {
            let names = outcome.methods[place].names.iter();
            names.filter_map(move |name| {
                let mut record = self.record(outcome, place, name)?;
                record.clock_mhz = clock_mhz.or(record.clock_mhz).map(|mhz| rounded(mhz, 3));
                suite.describe(&outcome.methods[place], &mut record);
                Some(record)
            })
        };
        places.flat_map(of).collect()
    }

    fn record(&self, outcome: &Outcome, place: usize, name: &str) -> Option<Record> {
        let RecordTemplate { run, settings, machine, revision } = self;
        let (method, size) = (&outcome.methods[place], outcome.size);
        let Method { work, floor, .. } = method;
        let measured = outcome.samples.measured(place)?;
        let slowdown = measured.ratio.map(|ratio| ratio.map(|ratio| 100.0 * (ratio - 1.0)));
        let (time, workload) = (measured.time, settings.workload);
        // The limit's multiply-adds are those of this library: PyTorch may use others for 16 bits.
        let is_limited = method.provider != Provider::Torch || method.dtype == "f32";
        let limit = outcome.limit_ns(*work).filter(|_| is_limited);
        Some(Record {
            run: run.clone(),
            workload: workload.name().to_owned(),
            backend: settings.backend.name().to_owned(),
            device: machine.device.clone(),
            threads: machine.threads,
            simd: machine.simd.clone(),
            driver: machine.driver.clone(),
            clock_mhz: machine.clock_mhz,
            cache: settings.cache.name().to_owned(),
            dtype: method.dtype.to_owned(),
            method: name.to_owned(),
            d_in: workload.d_in(),
            d_out: workload.d_out(),
            seq_len: size.seq_len,
            batch: size.batch,
            rank: method.rank,
            // The base uses none.
            adapters: if method.base == Some(place) { 1 } else { settings.mix.min(size.m()) },
            time_ns: rounded(time.median, 0),
            time_lo_ns: time.interval.map(|(lo, _)| rounded(lo, 0)),
            time_hi_ns: time.interval.map(|(_, hi)| rounded(hi, 0)),
            slowdown_pct: slowdown.map(|s| rounded(s.median, 3)),
            slowdown_lo_pct: slowdown.and_then(|s| s.interval).map(|(lo, _)| rounded(lo, 3)),
            slowdown_hi_pct: slowdown.and_then(|s| s.interval).map(|(_, hi)| rounded(hi, 3)),
            floor_pct: floor.map(|floor| rounded(floor.pct, 3)),
            floor_pad_pct: floor.and_then(|floor| floor.pad_pct).map(|pct| rounded(pct, 3)),
            limit_ns: limit.map(|limit| rounded(limit, 0)),
            gflops: Some(rounded(work.flops / time.median, 3)),
            samples: measured.samples,
            repeated: measured.repeated,
            ratio_by: measured.clock,
            commit: revision.commit.clone(),
            dirty: revision.dirty,
            measured_at: Timestamp::now(),
        })
    }
}

/// To so many decimals: the rest would be noise, and hard to read.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use fused_lora_records::Clock;

    use super::*;
    use crate::method::{Floor, Probe, Work};
    use crate::settings::Backend;
    use crate::size::Size;
    use crate::testing::{MadeCall, MadeSuite, leg, machine, method, probe};
    use crate::time::Time;

    fn records_of(outcome: &Outcome) -> Vec<Record> {
        let suite = MadeSuite(|_: Size, _: usize, _: &Method| -> MadeCall { unreachable!("it has run") });
        template().records(&suite, outcome, Some(1980.0))
    }

    fn template() -> RecordTemplate {
        RecordTemplate {
            run: "run".to_owned(),
            settings: Settings { backend: Backend::Cuda, ..Settings::default() },
            machine: Machine { threads: None, clock_mhz: Some(1.0), ..machine() },
            revision: Revision::named("0123abc-dirty"),
        }
    }

    /// `base`, `fused` and a peer, whose calls take 300, 360 and 600 µs; as many rounds as asked.
    fn outcome(rounds: usize) -> Outcome {
        let mut fused = method("fused", 100, Some(0));
        fused.names.push("also-fused".to_owned());
        fused.work = Work { flops: 3e6, bytes: 1e3 };
        fused.floor = Some(Floor { pct: 19.531, pad_pct: Some(21.875) });
        let mut peer = method("peer", 100, Some(0));
        (peer.provider, peer.dtype) = (Provider::Torch, "f32");
        let (mut peak, mut bandwidth) = (probe(Probe::Peak), probe(Probe::Bandwidth));
        (peak.work.flops, bandwidth.work.bytes) = (2e6, 1e6);
        let methods = vec![method("base", 0, Some(0)), fused, peer, peak, bandwidth];
        let mut outcome = Outcome::new(Size { seq_len: 128, batch: 2 }, methods, 2);
        let time = |micros: f64| Time { wall: micros * 1e-6, cpu: None };
        for round in 0..rounds {
            for (place, micros) in [(1, 360.0), (2, 600.0)] {
                leg(&mut outcome.samples, place, round, time(micros), [time(300.0); 2]);
            }
            outcome.samples.called(3, time(100.0));
            outcome.samples.called(4, time(50.0));
        }
        outcome
    }

    #[test]
    fn times_and_ratios_become_columns() {
        let records = records_of(&outcome(8));
        let names: Vec<&str> = records.iter().map(|record| record.method.as_str()).collect();
        assert_eq!(names, ["base", "fused", "also-fused", "peer"], "probes are no records");
        let [base, fused, _, peer] = records.as_slice() else { panic!("{names:?}") };
        assert_eq!((base.time_ns, base.slowdown_pct, base.samples, base.rank), (300e3, None, 32, 0));
        assert_eq!((fused.time_ns, fused.time_lo_ns, fused.slowdown_pct), (360e3, Some(360e3), Some(20.0)));
        assert_eq!((fused.slowdown_lo_pct, fused.slowdown_hi_pct), (Some(20.0), Some(20.0)));
        assert_eq!((fused.floor_pct, fused.floor_pad_pct), (Some(19.531), Some(21.875)));
        assert_eq!((fused.samples, fused.repeated, fused.ratio_by, fused.adapters), (8, 0, Clock::Wall, 1));
        let measured_on = [&fused.backend, &fused.device, &fused.driver, &fused.cache, &fused.dtype];
        assert_eq!(measured_on, ["cuda", "some device", "12.4", "cold", "f16"]);
        assert_eq!((fused.threads, fused.clock_mhz), (None, Some(1980.0)));
        // 3e6 operations: 150 µs at 2e6 in 100 µs; 1e3 bytes take next to nothing.
        assert_eq!((fused.limit_ns, fused.gflops), (Some(150e3), Some(8.333)));
        assert_eq!(
            (peer.driver.as_str(), peer.dtype.as_str(), peer.slowdown_pct),
            ("torch 2", "f32", Some(100.0))
        );
    }

    /// No more adapters than rows, and none for the base.
    #[test]
    fn a_mix_says_how_many_adapters_there_are() {
        for (mix, expected) in [(8, [1, 8, 8, 8]), (1000, [1, 256, 256, 256])] {
            let mut template = template();
            template.settings.mix = mix;
            let suite = MadeSuite(|_: Size, _: usize, _: &Method| -> MadeCall { unreachable!("it has run") });
            let records = template.records(&suite, &outcome(8), None);
            assert_eq!(records.iter().map(|record| record.adapters).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn few_rounds_have_a_median_and_no_interval() {
        let records = records_of(&outcome(5));
        let fused = records.iter().find(|record| record.method == "fused").unwrap();
        assert_eq!((fused.samples, fused.slowdown_pct, fused.slowdown_lo_pct), (5, Some(20.0), None));
        assert!(records_of(&outcome(0)).is_empty());
    }

    /// With few operations and many bytes the memory is the limit.
    #[test]
    fn the_limit_is_the_larger_of_the_two() {
        let mut outcome = outcome(6);
        outcome.methods[1].work = Work { flops: 1.0, bytes: 4e6 };
        let records = records_of(&outcome);
        assert_eq!(records[1].limit_ns, Some(200e3));
    }
}

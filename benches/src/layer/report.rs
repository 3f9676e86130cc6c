//! From the rounds of a size to its records.

use fused_lora_records::Record;
use fused_lora_transformer::Config;

use super::round::{Call, Round};
use super::torch::Torch;
use super::variant::Variant;
use crate::calls::Rounds;
use crate::records::{Floor, Subject, Template};

/// Who PyTorch is, as records of its calls name it.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// For the column `driver`: the version.
    pub version: String,
    /// For the column `simd`.
    pub simd: String,
}

impl Peer {
    /// That child's.
    #[must_use]
    pub fn of(torch: &Torch) -> Peer {
        Peer { version: torch.version.clone(), simd: torch.simd.clone() }
    }
}

/// The records of a size. This library's are compared with its bare layer, PyTorch's with PyTorch's; the second bare call makes a record
/// at r = 0 of each method.
///
/// # Panics
///
/// If there are no rounds, or they are not of these calls.
#[must_use]
pub fn records(
    template: &Template,
    config: &Config,
    round: &Round,
    rounds: &Rounds,
    peer: &Peer,
) -> Vec<Record> {
    let size = round.size;
    let bare = round.place(Call::Bare);
    let torch_bare = round.calls.iter().position(|call| matches!(call, Call::Torch(_, 0)));
    let record = |method: &str, place: usize, base: Option<usize>, variant: Variant, ours: bool| {
        let flops = variant.flops(config, size.m(), size.seq_len);
        let floor = variant.floor(config, template.machine.granule);
        // How PyTorch pads a rank is not known.
        let floor = Floor { pad_pct: floor.pad_pct.filter(|_| ours), ..floor };
        let base = base.filter(|&base| base != place);
        let subject = Subject { cell: size.cell(variant.rank), method, place, base, flops, ours };
        template.record_with_floor(&subject, floor, rounds)
    };
    let mut records = Vec::new();
    for (place, &call) in round.calls.iter().enumerate() {
        match call {
            Call::Bare => records.push(record("none", place, bare, Variant::NONE, true)),
            Call::BareAgain => {
                let of = |name: &String| record(name, place, bare, Variant::NONE, true);
                records.extend(round.at_rank_0.iter().map(of));
            }
            Call::Adapted(variant) => records.push(record(&variant.name(), place, bare, variant, true)),
            Call::Torch(method, rank) => {
                let of = record(method.record_name(), place, torch_bare, method.variant(rank), false);
                let Peer { version, simd } = peer.clone();
                records.push(Record { driver: version, simd, ..of });
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fused_lora::cpu::Simd;
    use fused_lora_records::Workload;

    use super::*;
    use crate::arguments::Arguments;
    use crate::fingerprint::Fingerprint;
    use crate::host::Host;
    use crate::layer::size::Size;
    use crate::machine::Machine;
    use crate::revision::Revision;
    use crate::settings::Settings;

    /// Calls of 100 µs; the bare layer's second one takes 101, PyTorch's twice and at a rank three times as long.
    fn measured(torch: bool) -> Vec<Record> {
        let torch = torch.then(|| "python3".into());
        let settings = Settings { workload: &Workload::LAYERS[0], torch, ..Settings::default() };
        let size = Size { seq_len: 128, batch: 4 };
        let round = Round::of(&settings, &Arguments::with_filter(""), size).unwrap();
        let template = Template {
            run: "run".to_owned(),
            settings,
            machine: Machine::cpu(Host::detect(), Simd::Portable),
            revision: Revision { commit: "0123abc".to_owned(), dirty: true, changes: Fingerprint::new() },
        };
        let time = |&call: &Call| match call {
            Call::Bare => 100,
            Call::BareAgain => 101,
            Call::Adapted(variant) => 100 + variant.rank as u64,
            Call::Torch(_, 0) => 200,
            Call::Torch(..) => 300,
        };
        let times: Vec<Duration> = round.calls.iter().map(|call| Duration::from_micros(time(call))).collect();
        let peer = Peer { version: "torch 2".to_owned(), simd: "avx2".to_owned() };
        records(&template, &Config::GPT2_MEDIUM_LAYER, &round, &Rounds::new(vec![times; 6]), &peer)
    }

    fn of<'a>(records: &'a [Record], method: &str, rank: usize) -> &'a Record {
        let mut found = records.iter().filter(|record| record.method == method && record.rank == rank);
        let record = found.next().unwrap_or_else(|| panic!("no {method} at {rank}"));
        assert!(found.next().is_none(), "{method} at {rank} twice");
        record
    }

    #[test]
    fn slow_downs_are_against_the_bare_layer_and_rank_0_shows_the_noise() {
        let records = measured(false);
        assert_eq!(records.len(), 17);
        let none = of(&records, "none", 0);
        assert_eq!((none.time_ns, none.slowdown_pct, none.floor_pct), (100e3, None, None));
        for method in ["adapter-h", "adapter-l", "lora-unfused", "lora-fused"] {
            let noise = of(&records, method, 0);
            assert_eq!((noise.slowdown_pct, noise.floor_pct, noise.samples), (Some(1.0), Some(0.0), 6));
            assert_eq!(of(&records, method, 100).slowdown_pct, Some(100.0));
        }
        // The portable level has vectors of some width; what is exact is the floor without padding.
        let floors = |method| of(&records, method, 250).floor_pct.unwrap();
        assert_eq!((floors("lora-fused"), floors("lora-unfused")), (32.552, 32.552));
        assert_eq!((floors("adapter-h"), floors("adapter-l")), (8.138, 4.069));
        let fused = of(&records, "lora-fused", 10);
        assert!(fused.floor_pad_pct.unwrap() >= fused.floor_pct.unwrap());
        // 512 tokens; 12 d² of products, 129 d of attention.
        let flops = 1024.0 * (12.0 * 1024.0 * 1024.0 + 129.0 * 1024.0);
        assert!((none.gflops.unwrap() - flops / 100e3).abs() < 1e-3);
    }

    #[test]
    fn pytorch_is_compared_with_itself_and_named() {
        let records = measured(true);
        let none = of(&records, "torch-fp32/none", 0);
        assert_eq!((none.time_ns, none.slowdown_pct), (200e3, None));
        assert_eq!((none.driver.as_str(), none.simd.as_str()), ("torch 2", "avx2"));
        let lora = of(&records, "torch-fp32/lora", 100);
        assert_eq!((lora.slowdown_pct, lora.floor_pct, lora.floor_pad_pct), (Some(50.0), Some(13.021), None));
        assert_eq!(of(&records, "lora-fused", 10).driver, "");
    }
}

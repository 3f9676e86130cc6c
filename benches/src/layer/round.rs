//! Who runs in a round of a size, in which order, and under which names.
//!
//! The bare layer runs twice. The first call is what everything in the round is compared with; the second is what every method is at
//! r = 0, where there is no adapter: recorded under each method's name, it shows the noise. The first stands in the middle of the round,
//! so that nothing that is compared with it is more than half a round away; the second stands at an end, where the noise is largest.

use fused_lora_records::RANKS;
use fused_lora_transformer::{Method, Targets};

use super::size::Size;
use super::torch::TorchMethod;
use super::variant::{Variant, record_name};
use crate::arguments::Arguments;
use crate::session::Id;
use crate::settings::Settings;

/// The id of the bare layer's second call.
const AGAIN: &str = "r0/none-again";

/// One call of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The bare layer, which the others are compared with.
    Bare,
    /// The bare layer once more.
    BareAgain,
    /// An adapted layer.
    Adapted(Variant),
    /// PyTorch's layer.
    Torch(TorchMethod, usize),
}

/// The calls of one size, and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The size.
    pub size: Size,
    /// In the order of even rounds.
    pub calls: Vec<Call>,
    /// The methods that the second bare call is recorded as, at r = 0.
    pub at_rank_0: Vec<String>,
}

impl Round {
    /// The round of a size: all of it, or what the filter leaves of it and the bare layer. None if the filter leaves nothing.
    #[must_use]
    pub fn of(settings: &Settings, arguments: &Arguments, size: Size) -> Option<Round> {
        let selects = |in_group: &str| arguments.selects(&id(settings, size, in_group).full());
        let methods = &Method::ALL[1..];
        let targets = settings.targets;
        let names = methods.iter().map(|&method| record_name(method, targets));
        let at_rank_0: Vec<String> = names.filter(|name| selects(&format!("r0/{name}"))).collect();

        let ranks = RANKS.into_iter().filter(|&rank| rank > 0);
        let variants = ranks.flat_map(|rank| {
            methods.iter().map(move |&method| {
                let lora = Variant { method, targets, rank };
                if lora.is_lora() { lora } else { Variant { targets: Targets::All, ..lora } }
            })
        });
        let adapted: Vec<Variant> = variants.filter(|variant| selects(&in_group(variant))).collect();
        let again = selects(AGAIN) || !at_rank_0.is_empty();
        if adapted.is_empty() && !again && !selects("r0/none") {
            return None;
        }

        let mut calls: Vec<Call> = again.then_some(Call::BareAgain).into_iter().collect();
        calls.extend(adapted.iter().map(|&variant| Call::Adapted(variant)));
        if settings.torch.is_some() {
            calls = with_torch(calls, &adapted);
        }
        calls.insert(calls.len() / 2, Call::Bare);
        Some(Round { size, calls, at_rank_0 })
    }

    /// Place of a call.
    #[must_use]
    pub fn place(&self, call: Call) -> Option<usize> {
        self.calls.iter().position(|&other| other == call)
    }

    /// This library's calls: their places, and what they compute.
    pub fn ours(&self) -> impl Iterator<Item = (usize, Variant)> + '_ {
        let of = |&call: &Call| match call {
            Call::Bare | Call::BareAgain => Some(Variant::NONE),
            Call::Adapted(variant) => Some(variant),
            Call::Torch(..) => None,
        };
        self.calls.iter().enumerate().filter_map(move |(place, call)| Some((place, of(call)?)))
    }

    /// What this library's calls compute, each once.
    #[must_use]
    pub fn variants(&self) -> Vec<Variant> {
        let mut variants: Vec<Variant> = Vec::new();
        for (_, variant) in self.ours() {
            if !variants.contains(&variant) {
                variants.push(variant);
            }
        }
        variants
    }

    /// The ids that Criterion gets, with the places of their calls.
    #[must_use]
    pub fn ids(&self, settings: &Settings) -> Vec<(Id, usize)> {
        let name = |&call: &Call| match call {
            Call::Bare => Some("r0/none".to_owned()),
            Call::BareAgain => Some(AGAIN.to_owned()),
            Call::Adapted(variant) => Some(in_group(&variant)),
            Call::Torch(..) => None,
        };
        let named = self.calls.iter().enumerate().filter_map(|(place, call)| Some((name(call)?, place)));
        named.map(|(in_group, place)| (id(settings, self.size, &in_group), place)).collect()
    }

    /// The names of the records that it makes, with their ranks.
    #[must_use]
    pub fn records(&self) -> Vec<(String, usize)> {
        let mut records = Vec::new();
        for call in &self.calls {
            match call {
                Call::Bare => records.push(("none".to_owned(), 0)),
                Call::BareAgain => records.extend(self.at_rank_0.iter().map(|name| (name.clone(), 0))),
                Call::Adapted(variant) => records.push((variant.name(), variant.rank)),
                Call::Torch(method, rank) => records.push((method.record_name().to_owned(), *rank)),
            }
        }
        records
    }
}

/// PyTorch's calls between ours: each behind one that has the same arithmetic.
fn with_torch(ours: Vec<Call>, adapted: &[Variant]) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut there: Vec<Call> = Vec::new();
    for call in ours {
        calls.push(call);
        let torch = match call {
            Call::Adapted(variant) => Call::Torch(TorchMethod::like(variant), variant.rank),
            _ => continue,
        };
        if !there.contains(&torch) {
            calls.push(torch);
            there.push(torch);
        }
    }
    // Its base, which its own slow-downs are against, in the middle for the same reason as ours.
    let middle = if adapted.is_empty() { calls.len() } else { calls.len() / 2 };
    calls.insert(middle, Call::Torch(TorchMethod::None, 0));
    calls
}

fn in_group(variant: &Variant) -> String {
    format!("r{}/{}", variant.rank, variant.name())
}

fn id(settings: &Settings, size: Size, in_group: &str) -> Id {
    Id { group: format!("{}/{size}", settings.workload.name()), in_group: in_group.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fused_lora_records::Workload;

    use super::*;

    const SIZE: Size = Size { seq_len: 128, batch: 4 };

    fn settings(targets: Targets, torch: bool) -> Settings {
        let torch = torch.then(|| "python3".into());
        Settings { workload: &Workload::LAYERS[0], targets, torch, ..Settings::default() }
    }

    fn round(settings: &Settings, filter: &str) -> Option<Round> {
        Round::of(settings, &Arguments::with_filter(filter), SIZE)
    }

    fn names(round: &Round, settings: &Settings) -> Vec<String> {
        round.ids(settings).into_iter().map(|(id, _)| id.full()).collect()
    }

    #[test]
    fn a_whole_round_is_14_calls_and_17_records() {
        let settings = settings(Targets::All, false);
        let round = round(&settings, "").unwrap();
        assert_eq!(round.calls.len(), 14);
        let ids = names(&round, &settings);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 14);
        assert_eq!(ids[0], "gpt2-medium-layer/seq128/batch4/r0/none-again");
        assert!(ids.contains(&"gpt2-medium-layer/seq128/batch4/r100/lora-fused".to_owned()), "{ids:?}");
        let bare = round.place(Call::Bare).unwrap();
        assert!((6..=7).contains(&bare), "in the middle: {bare}");
        let records = round.records();
        assert_eq!(records.len(), 1 + 4 * 4);
        assert_eq!(records.iter().collect::<BTreeSet<_>>().len(), records.len());
        assert_eq!((round.variants().len(), round.ours().count()), (13, 14));
    }

    #[test]
    fn a_filter_leaves_its_methods_and_the_bare_layer() {
        let settings = settings(Targets::All, false);
        let fused = round(&settings, "r(10|250)/lora-fused").unwrap();
        assert_eq!(fused.calls.len(), 3);
        assert_eq!(fused.calls[1], Call::Bare);
        assert_eq!(
            fused.records(),
            [("lora-fused", 10), ("none", 0), ("lora-fused", 250)].map(|(m, r)| (m.to_owned(), r))
        );
        let adapter = round(&settings, "adapter-h").unwrap();
        assert_eq!(adapter.at_rank_0, ["adapter-h"]);
        assert_eq!((adapter.calls.len(), adapter.calls[0]), (5, Call::BareAgain));
        assert_eq!(round(&settings, "r0/none$").unwrap().calls, [Call::Bare]);
        assert_eq!(round(&settings, "seq256"), None);
        assert_eq!(round(&settings, "linear-1024x1024"), None);
    }

    #[test]
    fn lora_on_q_and_v_is_told_apart() {
        let settings = settings(Targets::QueryValue, true);
        let round = round(&settings, "").unwrap();
        let records: BTreeSet<String> = round.records().into_iter().map(|(name, _)| name).collect();
        let expected = [
            "none",
            "adapter-h",
            "adapter-l",
            "lora-unfused-qv",
            "lora-fused-qv",
            "torch-fp32/none",
            "torch-fp32/adapter-h",
            "torch-fp32/adapter-l",
            "torch-fp32/lora-qv",
        ];
        assert_eq!(records, expected.map(str::to_owned).into());
        assert!(round.variants().iter().all(|v| v.is_lora() == (v.targets == Targets::QueryValue)));
    }

    #[test]
    fn pytorch_runs_what_ours_has_a_counterpart_of() {
        let settings = settings(Targets::All, true);
        let torch = |filter: &str| {
            let calls = round(&settings, filter).unwrap().calls;
            calls.iter().filter(|call| matches!(call, Call::Torch(..))).count()
        };
        // none, and adapter-h, adapter-l and lora at three ranks.
        assert_eq!(torch(""), 10);
        assert_eq!(torch("r10/lora"), 2);
        assert_eq!(torch("r0/none$"), 1);
        let whole = round(&settings, "").unwrap();
        assert_eq!((whole.calls.len(), whole.ids(&settings).len()), (24, 14), "Criterion gets ours alone");
        assert_eq!(whole.records().len(), 17 + 10);
    }
}

//! What other compilers' kernels may do here though the manual forbids it, by name.

use fused_lora_simt::{Allowance, Allowed, Op, Site, Stats};

/// A name, what it allows, and at which instructions. That all of them are in kernels which GPUs run every
/// day is shown by `tests/foreign`.
const NAMES: &[(&str, Allowed, &[Op])] = &[
    (
        "unfenced-init",
        Allowed::UnfencedInit,
        &[Op::CpAsyncBulkTensor2dLoad, Op::CpAsyncBulkTensor2dLoadMulticast],
    ),
    ("equal-stores", Allowed::EqualStores, &[Op::StShared, Op::Stmatrix]),
    ("concurrent-stores", Allowed::ConcurrentStores, &[Op::StShared]),
    ("repeated-tensor-stores", Allowed::RepeatedTensorStores, &[Op::CpAsyncBulkTensor2dStore]),
    ("setmaxnreg-apart", Allowed::SetmaxnregApart, &[Op::SetmaxnregDec, Op::SetmaxnregInc]),
    ("first-of-pair", Allowed::FirstOfPair, &[Op::MbarrierArriveCluster]),
    ("wide-parity", Allowed::WideParity, &[Op::MbarrierTryWaitParity, Op::MbarrierTestWait]),
];

/// What a variable with these names may be.
pub(crate) const EXPECTED: &str = "a list of unfenced-init, equal-stores, concurrent-stores, \
    repeated-tensor-stores, setmaxnreg-apart, first-of-pair, wide-parity, by commas";

/// What is allowed, from a list of names by commas.
pub(crate) fn parse(text: &str) -> Option<Vec<&'static str>> {
    text.split(',')
        .map(|name| NAMES.iter().map(|known| known.0).find(|known| *known == name.trim()))
        .collect()
}

/// The allowances of these names.
pub(crate) fn allowances(names: &[&str]) -> Vec<Allowance> {
    let named = NAMES.iter().filter(|(name, ..)| names.contains(name));
    named
        .flat_map(|&(_, allowed, ops)| ops.iter().map(move |&op| Allowance { site: Site::all(op), allowed }))
        .collect()
}

/// How often each was needed, if any was.
pub(crate) fn used(allowances: &[Allowance], stats: &Stats) -> Option<String> {
    let counts = allowances.iter().zip(&stats.allowed).filter(|(_, count)| **count > 0);
    let texts: Vec<String> = counts
        .map(|(allowance, count)| {
            let name = NAMES.iter().find(|known| known.1 == allowance.allowed).map_or("", |known| known.0);
            format!("{name} at {} {count} times", allowance.site.op)
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_an_error_lists() {
        for (name, ..) in NAMES {
            assert_eq!(parse(name), Some(vec![*name]));
            assert!(EXPECTED.contains(name), "{name}");
        }
        assert_eq!(parse("wide-parity, equal-stores"), Some(vec!["wide-parity", "equal-stores"]));
        assert_eq!((parse("everything"), parse("")), (None, None));
        assert_eq!(allowances(&["setmaxnreg-apart"]).len(), 2);
    }

    #[test]
    fn what_was_needed_is_told() {
        let allowances = allowances(&["equal-stores", "wide-parity"]);
        let mut stats = Stats::default();
        assert_eq!(used(&allowances, &stats), None);
        stats.allowed = vec![0, 0, 3];
        let text = used(&allowances, &stats).expect("one was needed");
        assert_eq!(text, "wide-parity at mbarrier.try_wait.parity 3 times");
    }
}

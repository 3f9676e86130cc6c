//! Methods of which nothing matters but what a test asks for.

use crate::method::{Method, Probe, What, Work};

pub(crate) fn method(name: &str, rank: usize, base: Option<usize>) -> Method {
    Method {
        what: What::Linear(0, fused_lora::Strategy::Base),
        names: vec![name.to_owned()],
        rank,
        ids: vec![format!("r{rank}/{name}")],
        for_criterion: true,
        base,
        work: Work { flops: 1e6, bytes: 1e3 },
        floor: None,
        dtype: "f16",
        ours: true,
    }
}

pub(crate) fn probe(probe: Probe) -> Method {
    Method { what: What::Probe(probe), for_criterion: false, ids: Vec::new(), ..method("probe", 0, None) }
}

//! Few tokens, as in decoding: base and fused at one token of each of 1 to 64 sequences, in each type.
//!
//! ```text
//! cargo bench --bench decode                                           # three workloads, three types
//! cargo bench --bench decode -- 'bf16/.*/batch(1|8)/r16/fused'         # some ids, and the bases beside them
//! FUSED_LORA_WORKLOAD=linear-4096x4096 FUSED_LORA_DTYPE=bf16 cargo bench --bench decode
//! ```
//!
//! Workloads and types are measured one after another, each in a run with records of its own, which has its
//! share of the time that is left. An id is `<workload>/<type>/seq1/batch<M>/r<rank>/<strategy>`, without a
//! type where that is f16.
//!
//! Other libraries run at these sizes with `FUSED_LORA_GRID=decode cargo bench --bench peers`.
//!
//! `docs/benchmarking.md` says how sizes are measured, and has all settings.

use std::process::ExitCode;
use std::time::Duration;

use fused_lora::{DType, Strategy};
use fused_lora_benches::linear;
use fused_lora_benches::session::{self, Bench};
use fused_lora_benches::settings::{Backend, Choices, GridPart};
use fused_lora_benches::target::Target;
use fused_lora_records::Workload;

const DECODE: Bench = Bench {
    name: "decode",
    prefix: "",
    budget: |_| Duration::from_secs(900),
    choices: Choices {
        backends: &[Backend::Cpu],
        workloads: Workload::DECODES,
        dtypes: &DType::ALL,
        grids: &[GridPart::Decode],
        mixes: true,
        in_turn: true,
    },
    tests_all_sizes: true,
    suite: |settings, target, last_level_cache| match target {
        Target::Cpu(simd) => linear::on_processor(settings, *simd, last_level_cache, |_| &[Strategy::Fused]),
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        Target::Cuda(_) => anyhow::bail!("this bench runs on a CPU"),
    },
    conclude: |_, _| String::new(),
};

fn main() -> ExitCode {
    session::main(&DECODE)
}

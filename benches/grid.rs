//! The grid: base, unfused and fused at every size and rank, for the figure.
//!
//! ```text
//! cargo bench --bench grid                                    # all of linear-1024x1024
//! cargo bench --bench grid -- 'seq128/batch4/r(10|250)/fused' # some ids of it, and the base beside them
//! FUSED_LORA_WORKLOAD=gpt2-medium-linears FUSED_LORA_BUDGET_S=3600 cargo bench --bench grid
//! ```
//!
//! An id is `<workload>/seq<seq_len>/batch<batch>/r<rank>/<strategy>`. The base does not depend on the rank
//! and has one id a size, at r = 0.
//!
//! Elements are f16; `FUSED_LORA_DTYPE=bf16` or `f32` stands between workload and size in the ids.
//!
//! `docs/benchmarking.md` says how sizes are measured, and has all settings. On a GPU a call is one launch of
//! a CUDA graph that holds at least 20 forward passes, and as many as take a millisecond; `cold` and `warm-w`
//! mean the L2.

use std::process::ExitCode;
use std::time::Duration;

use fused_lora::DType;
use fused_lora_benches::linear::{self, Linears, ours, this_library};
use fused_lora_benches::method::Suite;
use fused_lora_benches::session::{self, Bench};
use fused_lora_benches::settings::{Backend, Choices, GridPart, Settings};
use fused_lora_benches::target::Target;
use fused_lora_records::Workload;

const GRID: Bench = Bench {
    name: "grid",
    prefix: "",
    budget: |_| Duration::from_secs(225),
    choices: Choices {
        backends: &[Backend::Cpu, Backend::Cuda],
        workloads: Workload::LINEARS,
        dtypes: &DType::ALL,
        grids: &[GridPart::Full, GridPart::Sizes, GridPart::Reduced],
        mixes: true,
        in_turn: false,
    },
    tests_all_sizes: true,
    suite,
    conclude: |_, _| String::new(),
};

fn main() -> ExitCode {
    session::main(&GRID)
}

fn suite(settings: &Settings, target: &Target, last_level_cache: usize) -> anyhow::Result<Box<dyn Suite>> {
    Ok(match target {
        Target::Cpu(simd) => linear::on_processor(settings, *simd, last_level_cache, ours)?,
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        Target::Cuda(gpu) => {
            Box::new(Linears::new(gpu.clone(), settings, vec![this_library("", ours)], None))
        }
    })
}

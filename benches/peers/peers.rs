//! The same cells on other libraries: the base product alone, and base, shrink and expand as three calls.
//!
//! ```text
//! cargo bench --bench peers                               # four sizes at every rank
//! FUSED_LORA_GRID=full FUSED_LORA_BUDGET_S=660 cargo bench --bench peers
//! FUSED_LORA_TORCH=.venv/bin/python FUSED_LORA_DTYPE=f32 cargo bench --bench peers -- torch
//! ```
//!
//! With `FUSED_LORA_DTYPE` bf16 or f32 they compute in that type, as far as a library knows it; with
//! `FUSED_LORA_GRID=decode` at one token of each of 1 to 64 sequences:
//!
//! ```text
//! for dtype in f16 bf16 f32; do
//!     FUSED_LORA_GRID=decode FUSED_LORA_DTYPE=$dtype cargo bench --bench peers
//! done
//! ```
//!
//! An id is `peers/<workload>/seq<seq_len>/batch<batch>/r<rank>/<library>/<strategy>`. One round of a size
//! runs everything that is compared, between calls of this library's base. The records hold the slow-down
//! against that base; the tables on stdout hold the rest.
//!
//! All are checked against the reference first. A peer that breaks its tolerance is named with how far it is
//! off, timed all the same, and marked.
//!
//! **PyTorch** joins the rounds where `FUSED_LORA_TORCH` names a Python interpreter that has it, in the same
//! type, with PEFT's LoRA linear where that is installed (README.md beside this file). Its methods,
//! `torch-<dtype>/<method>`, are compared with its own base.
//!
//! All of them run on the CPU: `gpu_peers` is for a GPU.

use std::process::ExitCode;
use std::time::Duration;

use fused_lora::DType;
use fused_lora::cpu::Simd;
use fused_lora_benches::linear::Linears;
use fused_lora_benches::method::Suite;
use fused_lora_benches::processor::Processor;
use fused_lora_benches::session::{self, Bench};
use fused_lora_benches::settings::{Backend, Choices, GridPart, Settings};
use fused_lora_benches::target::Target;
use fused_lora_benches::torch::Torch;
use fused_lora_benches::with_number;
use fused_lora_peers::cpu::{self, Peer};
use fused_lora_peers::table;
use fused_lora_records::Workload;

const PEERS: Bench = Bench {
    name: "peers",
    prefix: "peers/",
    // With PyTorch a round has three times as many calls, and most of them take longer.
    budget: |settings| Duration::from_secs(if settings.torch.is_some() { 600 } else { 170 }),
    choices: Choices {
        backends: &[Backend::Cpu],
        workloads: WORKLOADS,
        dtypes: &DType::ALL,
        grids: &[GridPart::Sizes, GridPart::Reduced, GridPart::Full, GridPart::Decode],
        mixes: false,
        in_turn: false,
    },
    tests_all_sizes: true,
    suite: |settings, target, last_level_cache| match target {
        Target::Cpu(simd) => with_number!(settings.dtype, suite(settings, *simd, last_level_cache)),
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        Target::Cuda(_) => anyhow::bail!("the peers of this bench run on a CPU"),
    },
    conclude: |_, outcomes| table::render(outcomes),
};

/// The widest of those of few tokens, and all others.
const WORKLOADS: &[Workload] =
    &[Workload::LINEARS[0], Workload::LINEARS[1], Workload::LINEARS[2], Workload::DECODES[2]];

fn suite<T: Peer>(
    settings: &Settings,
    simd: Simd,
    last_level_cache: usize,
) -> anyhow::Result<Box<dyn Suite>> {
    let processor = Processor::<T>::new(simd, last_level_cache);
    let torch = Torch::start(settings, &["linears"])?;
    Ok(Box::new(Linears::new(processor, settings, cpu::libraries(), torch)))
}

fn main() -> ExitCode {
    session::main(&PEERS)
}

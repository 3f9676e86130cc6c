//! The same cells on other libraries: the base product alone, and base, shrink and expand as three calls.
//!
//! ```text
//! cargo bench --bench peers                               # four sizes at every rank
//! FUSED_LORA_GRID=full FUSED_LORA_BUDGET_S=660 cargo bench --bench peers
//! FUSED_LORA_TORCH=.venv/bin/python cargo bench --bench peers -- 'torch-fp(16|32)/'
//! ```
//!
//! An id is `peers/<workload>/seq<seq_len>/batch<batch>/r<rank>/<library>/<strategy>`. One round of a size
//! runs everything that is compared, between calls of this library's base. The records hold the slow-down
//! against that base; the tables on stdout hold the rest.
//!
//! All are checked against the reference first. A peer that breaks its tolerance is named with how far it is
//! off, timed all the same, and marked.
//!
//! **PyTorch** joins the rounds where `FUSED_LORA_TORCH` names a Python interpreter that has it, in fp16,
//! bf16 and fp32, with PEFT's LoRA linear where that is installed (README.md beside this file). Its methods,
//! `torch-<dtype>/<method>`, are compared with its own base.
//!
//! All of them run on the CPU: `gpu_peers` is for a GPU.

use std::process::ExitCode;
use std::time::Duration;

use fused_lora_benches::linear::Linears;
use fused_lora_benches::processor::Processor;
use fused_lora_benches::session::{self, Bench};
use fused_lora_benches::settings::{Backend, Choices, GridPart};
use fused_lora_benches::target::Target;
use fused_lora_benches::torch::Torch;
use fused_lora_peers::{cpu, table};
use fused_lora_records::Workload;

const PEERS: Bench = Bench {
    name: "peers",
    prefix: "peers/",
    // With PyTorch a round has three times as many calls, and most of them take longer.
    budget: |settings| Duration::from_secs(if settings.torch.is_some() { 600 } else { 170 }),
    choices: Choices {
        backends: &[Backend::Cpu],
        workloads: Workload::LINEARS,
        grids: &[GridPart::Sizes, GridPart::Reduced, GridPart::Full],
    },
    tests_all_sizes: true,
    suite: |settings, target, last_level_cache| match target {
        Target::Cpu(simd) => {
            let processor = Processor::new(*simd, last_level_cache);
            let torch = Torch::start(settings, &["linears"])?;
            Ok(Box::new(Linears::new(processor, settings.workload, settings.cache, cpu::libraries(), torch)))
        }
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        Target::Cuda(_) => anyhow::bail!("the peers of this bench run on a CPU"),
    },
    conclude: |_, outcomes| table::render(outcomes),
};

fn main() -> ExitCode {
    session::main(&PEERS)
}

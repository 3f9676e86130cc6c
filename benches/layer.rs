//! A layer of GPT-2 medium: bare, with sequential adapters, and with LoRA un-merged, for the six panels as
//! published.
//!
//! ```text
//! cargo bench --bench layer                                                # 18 sizes
//! FUSED_LORA_GRID=reduced cargo bench --bench layer                        # batches of 1, 4 and 16
//! cargo bench --bench layer -- 'seq128/batch4/r(10|250)/lora-fused'        # some ids, and the bare layer
//! FUSED_LORA_GRID=reduced FUSED_LORA_TORCH=.venv/bin/python cargo bench --bench layer
//! ```
//!
//! An id is `<workload>/seq<seq_len>/batch<batch>/r<rank>/<method>`, with the methods `none` (r = 0 alone),
//! `adapter-h`, `adapter-l`, `lora-unfused` and `lora-fused`; `-qv` behind LoRA's where it is on q and v
//! alone. One more call of the bare layer, `r0/none-again`, is what each method is at r = 0: it is recorded
//! under each method's name, and shows the noise.
//!
//! **PyTorch** joins the rounds where `FUSED_LORA_TORCH` names a Python interpreter that has it: a child
//! process computes the same layer in fp32 on the same numbers, on as many threads, and sleeps while this
//! library computes. Its records, `torch-fp32/<method>`, are compared with its own bare layer; the table at
//! the end compares times.
//!
//! At the end stand the verdicts: how far `lora-fused` is from its floor, and whether slow-downs rise with r
//! and fall with batch and seq_len. They are printed, not asserted.
//!
//! `docs/benchmarking.md` says how sizes are measured, and has all settings.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use fused_lora::DType;
use fused_lora_benches::layer::{Layers, conclusion, variant};
use fused_lora_benches::method::Suite;
use fused_lora_benches::processor::Processor;
use fused_lora_benches::session::{self, Bench};
use fused_lora_benches::settings::{Backend, Choices, GridPart, Settings};
use fused_lora_benches::target::Target;
use fused_lora_benches::torch::Torch;
use fused_lora_records::Workload;

const LAYER: Bench = Bench {
    name: "layer",
    prefix: "",
    budget,
    choices: Choices {
        backends: &[Backend::Cpu, Backend::Cuda],
        workloads: Workload::LAYERS,
        dtypes: &[DType::F16],
        grids: &[GridPart::Full, GridPart::Reduced, GridPart::Sizes],
        mixes: false,
        in_turn: false,
    },
    tests_all_sizes: false,
    suite,
    conclude: |records, _| conclusion::render(records),
};

fn main() -> ExitCode {
    session::main(&LAYER)
}

/// With PyTorch a round takes about twice as long.
fn budget(settings: &Settings) -> Duration {
    let seconds = if settings.grid == GridPart::Full { 1500 } else { 450 };
    Duration::from_secs(if settings.torch.is_some() { 2 * seconds } else { seconds })
}

fn suite(settings: &Settings, target: &Target, last_level_cache: usize) -> anyhow::Result<Box<dyn Suite>> {
    let Settings { targets, cache, .. } = *settings;
    let config = variant::config(settings.workload).context("the workload is no transformer's layer")?;
    Ok(match target {
        Target::Cpu(simd) => {
            let heads = config.heads.to_string();
            let torch = Torch::start(settings, &["layer", "--heads", &heads])?;
            let processor = Processor::new(*simd, last_level_cache);
            Box::new(Layers::new(processor, config, targets, cache, torch)?)
        }
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        Target::Cuda(gpu) => {
            anyhow::ensure!(
                settings.torch.is_none(),
                "FUSED_LORA_TORCH: PyTorch joins the rounds on the CPU alone; on a GPU, leave it out"
            );
            Box::new(Layers::new(gpu.clone(), config, targets, cache, None)?)
        }
    })
}

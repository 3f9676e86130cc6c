//! cuBLASLt beside this library, on the same buffers of a GPU: the base product alone, and base, shrink and
//! expand as three calls, each captured in a CUDA graph as this library's strategies are.
//!
//! cuBLASLt gets what its users would give it: 32 MiB of workspace, every algorithm that its heuristics offer
//! (up to 32, timed on these operands), f16 operands with f32 sums, and an adapter that is padded with zeros
//! to a multiple of 8 once, since rows of 16 bytes are what its f16 kernels want. Padding is no useful work,
//! and is not counted as such.

mod cublaslt;
mod library;
mod matmul;
mod steps;
#[cfg(test)]
mod testing;

use std::time::Duration;

use cust::context::{Context, CurrentContext};
use fused_lora::{DType, Strategy};
use fused_lora_benches::cuda::Gpu;
use fused_lora_benches::linear::{Library, Linears, this_library};
use fused_lora_benches::session::Bench;
use fused_lora_benches::settings::{Backend, Choices, GridPart};
use fused_lora_benches::target::Target;
use fused_lora_benches::torch::Torch;
use fused_lora_records::Workload;

/// The bench `gpu_peers`.
pub const GPU_PEERS: Bench = Bench {
    name: "gpu_peers",
    prefix: "gpu_peers/",
    budget: |settings| Duration::from_secs(if settings.torch.is_some() { 360 } else { 120 }),
    choices: Choices {
        backends: &[Backend::Cuda],
        workloads: Workload::LINEARS,
        dtypes: &[DType::F16],
        grids: &[GridPart::Sizes, GridPart::Reduced, GridPart::Full],
        mixes: false,
        in_turn: false,
    },
    tests_all_sizes: true,
    suite: |settings, target, _| {
        let Target::Cuda(gpu) = target else { anyhow::bail!("the peers of this bench run on a GPU") };
        let libraries = libraries(gpu)?;
        let torch = Torch::start(settings, &["linears"])?;
        Ok(Box::new(Linears::new(gpu.clone(), settings, libraries, torch)))
    },
    conclude: |_, outcomes| crate::table::render(outcomes),
};

/// All that run, this library first. Says which version of cuBLASLt there is, or why it is left out.
fn libraries(gpu: &Gpu) -> anyhow::Result<Vec<Library<Gpu>>> {
    let ours =
        |rank| -> &'static [Strategy] { if rank == 0 { &[] } else { &[Strategy::Fused, Strategy::Unfused] } };
    let mut libraries = vec![this_library("fused-lora/", ours)];
    // cuBLASLt takes the context that it finds; this library makes its own current in each of its calls
    // alone.
    let context = Context::new(cust::device::Device::get_device(gpu.device.ordinal())?)?;
    CurrentContext::set_current(&context)?;
    match library::open() {
        Ok(handle) => {
            eprintln!("cublasLt: version {}", library::version());
            libraries.push(cublaslt::library(gpu, handle, context)?);
        }
        Err(missing) => eprintln!("cublasLt: {missing}, skipped"),
    }
    Ok(libraries)
}

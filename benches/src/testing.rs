//! Records, GPUs and processes for tests, beside the methods and calls of `fused_lora_measure::testing`.

use std::process::Command;

pub(crate) use fused_lora_measure::testing::*;
use fused_lora_records::{COLUMNS, Cell, Record, VERSION_LINE, parse};

/// In the environment of a test that runs in a process of its own.
pub(crate) const CHILD: &str = "FUSED_LORA_BENCHES_TEST_CHILD";

/// Runs the test of that path again, in a process of its own with these variables: it must pass.
pub(crate) fn run_in_child(test: &str, variables: &[(&str, &str)]) {
    let program = std::env::current_exe().unwrap();
    let child =
        Command::new(program).args(["--exact", test]).envs(variables.iter().copied()).output().unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && stdout.contains("1 passed"), "{variables:?}: {stdout}");
}

/// The first GPU; None, and a line that says why, where there is none. A simulated one will do.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn gpu() -> Option<crate::cuda::Gpu> {
    match crate::cuda::Gpu::open(0, false) {
        Ok(gpu) => Some(gpu),
        Err(error) if crate::target::is_missing(&error) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("there is a driver, but {error}"),
    }
}

/// A record of the layer, with nothing in the columns that may be empty.
pub(crate) fn record(method: &str, Cell { seq_len, batch, rank }: Cell, time_ns: f64) -> Record {
    let text = format!(
        "{VERSION_LINE}\n{}\nmade-up,gpt2-medium-layer,cpu,some cpu,2,avx2,,,cold,f16,{method},1024,1024,\
         {seq_len},{batch},{rank},1,{time_ns},,,,,,,,,,6,0,wall,unknown,false,2026-01-31T12:00:00Z\n",
        COLUMNS.join(",")
    );
    parse("made-up".as_ref(), text.as_bytes()).unwrap().records.remove(0)
}

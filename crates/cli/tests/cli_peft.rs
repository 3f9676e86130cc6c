//! `peft_models.py`: tiny models and adapters of many kinds, every module as PEFT itself computes it. Runs where
//! `FUSED_LORA_TORCH` names a Python interpreter that has PyTorch, transformers and PEFT.

use std::{env, path::Path, process::Command};

#[test]
fn every_module_is_what_peft_computes() {
    let Some(python) = env::var_os("FUSED_LORA_TORCH") else {
        eprintln!("skipped: FUSED_LORA_TORCH names no Python interpreter");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peft_models.py");
    let status = Command::new(python).arg(script).arg(env!("CARGO_BIN_EXE_fused-lora")).status().unwrap();
    match status.code() {
        Some(0) => {}
        Some(77) => eprintln!("skipped: the interpreter has no PEFT"),
        _ => panic!("{status}"),
    }
}

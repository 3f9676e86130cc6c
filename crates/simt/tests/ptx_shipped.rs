//! Temporary.
use std::time::Instant;
#[test]
fn parse() {
    for file in ["sm_80", "sm_90a", "sm_80_instructions", "sm_90a_instructions"] {
        let text =
            std::fs::read_to_string(format!("{}/../../kernels/ptx/{file}.ptx", env!("CARGO_MANIFEST_DIR")))
                .unwrap();
        let start = Instant::now();
        let module =
            fused_lora_simt::ptx::Module::parse(file, &text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let parse = start.elapsed();
        let start = Instant::now();
        let slots: Vec<(usize, &str)> = module.entries().iter().map(|e| (e.slots(), e.name())).collect();
        println!("{file}: {parse:?}, slots {:?}, {:?}", start.elapsed(), slots.iter().max());
    }
}

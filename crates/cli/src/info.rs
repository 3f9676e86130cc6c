use std::io::{self, Write};

use anyhow::Result;
use fused_lora::{DType, cpu::Simd};
use serde_json::{Value, json};

use crate::{device, level::Level, machine};

/// Say what this machine offers: SIMD level, threads, caches, CUDA devices.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of lines `key: value`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    level: Level,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let facts = facts(&args.level)?;
    let mut out = io::stdout().lock();
    if args.json {
        let object: serde_json::Map<_, _> = facts.into_iter().collect();
        writeln!(out, "{}", Value::Object(object))?;
    } else {
        for (key, value) in facts {
            writeln!(out, "{key}: {}", plain(&value))?;
        }
    }
    Ok(())
}

fn facts(level: &Level) -> Result<Vec<(String, Value)>> {
    let simd = level.simd()?;
    let chosen_by = level.asked()?.map_or("best available", |_| "--simd or FUSED_LORA_SIMD");
    let available: Vec<_> = Simd::available().into_iter().map(Simd::name).collect();
    let serving: serde_json::Map<_, _> = DType::ALL
        .into_iter()
        .map(|dtype| (dtype.name().to_owned(), json!(simd.serving(dtype).name())))
        .collect();
    let mut facts = vec![
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("simd", json!(simd.name())),
        ("simd-chosen-by", json!(chosen_by)),
        ("simd-available", json!(available)),
        ("simd-serving", json!(serving)),
        ("threads", json!(rayon::current_num_threads())),
    ];
    if let Some(model) = machine::cpu_model() {
        facts.push(("cpu", json!(model)));
    }
    let caches: Vec<_> = machine::caches().into_iter().map(|(name, size)| format!("{name} {size}")).collect();
    if !caches.is_empty() {
        facts.push(("caches", json!(caches)));
    }
    let mut facts: Vec<_> = facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    facts.extend(device::facts());
    Ok(facts)
}

/// A value without JSON's quotes and brackets.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{key} {}", plain(value));
            entries.iter().map(entry).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

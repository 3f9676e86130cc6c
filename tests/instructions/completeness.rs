//! Nothing of `device` is left out.

use fused_lora_kernels::instructions::INSTRUCTIONS;

/// The sources, read when the test is compiled: it may run where they are not.
const DEVICE: &[(&str, &str)] = &[
    ("barrier", include_str!("../../kernels/src/device/barrier.rs")),
    ("convert", include_str!("../../kernels/src/device/convert.rs")),
    ("cp_async", include_str!("../../kernels/src/device/cp_async.rs")),
    ("global", include_str!("../../kernels/src/device/global.rs")),
    ("ldmatrix", include_str!("../../kernels/src/device/ldmatrix.rs")),
    ("mma", include_str!("../../kernels/src/device/mma.rs")),
    ("shared", include_str!("../../kernels/src/device/shared.rs")),
    ("tap", include_str!("../../kernels/src/device/tap.rs")),
    ("thread", include_str!("../../kernels/src/device/thread.rs")),
];

/// Arithmetic on addresses: no instructions.
const ADDRESSES: [&str; 3] = ["address", "offset", "xor"];

/// The names that entries have after `instruction_`, from the functions of a module.
fn names(module: &str, source: &str) -> Vec<String> {
    let mut kind = "";
    let mut names = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(of) = line.strip_prefix("impl Global<") {
            kind = if of.starts_with("[u32; 4]") {
                "_v4"
            } else if of.starts_with("u16") {
                "_u16"
            } else {
                "_u32"
            };
        }
        let name =
            line.split_once("fn ").filter(|(before, _)| before.starts_with("pub ")).map(|(_, after)| {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                &after[..end]
            });
        // `special_register! { name, intrinsic }`.
        let name = name.or_else(|| {
            line.strip_suffix("_x").and_then(|line| line.split_once(", _")).map(|(name, _)| name)
        });
        let Some(name) = name.filter(|name| !name.is_empty() && !ADDRESSES.contains(name)) else { continue };
        names.push(match (module, name) {
            ("global", "load" | "store") => format!("global_{name}{kind}"),
            ("shared", "dynamic_shared") => name.to_owned(),
            ("shared", _) => format!("shared_{name}"),
            _ => name.to_owned(),
        });
    }
    names
}

#[test]
fn every_instruction_of_device_has_an_entry() {
    let modules = include_str!("../../kernels/src/device/mod.rs");
    let modules: Vec<_> =
        modules.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, DEVICE.iter().map(|(module, _)| *module).collect::<Vec<_>>());

    let wanted: Vec<_> = DEVICE.iter().flat_map(|(module, source)| names(module, source)).collect();
    assert!(wanted.len() >= 30, "{wanted:?}");
    for name in wanted {
        let entry = format!("instruction_{name}");
        assert!(INSTRUCTIONS.iter().any(|row| row.name == entry), "no {entry}");
    }
}

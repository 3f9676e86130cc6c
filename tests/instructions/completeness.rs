//! Nothing of `device` is left out.

use fused_lora_kernels::instructions::{INSTRUCTIONS, SM90_INSTRUCTIONS};

macro_rules! sources {
    ($($module:ident)*) => {
        &[$((
            stringify!($module),
            include_str!(concat!("../../kernels/src/device/", stringify!($module), ".rs")),
        )),*]
    };
}

/// The sources, read when the test is compiled: it may run where they are not.
const DEVICE: &[(&str, &str)] = sources!(
    approx barrier bulk cluster convert cp_async dependent global instruction ldmatrix mbarrier mma proxy
    registers shared shuffle stmatrix thread wgmma
);

/// Arithmetic on addresses and descriptors, and sums as values: no instructions.
const NO_INSTRUCTIONS: [&str; 11] = [
    "address",
    "offset",
    "xor",
    "rows_of_128",
    "rows_of_32",
    "zero",
    "registers",
    "plus",
    "split",
    "from_sums",
    "from_registers",
];

/// Instructions that alone give nothing to be seen, and the entry that would fail without them (see the
/// seeded faults of `sm90`).
const TOGETHER: [(&str, &str); 7] = [
    ("barrier_cluster_arrive", "barrier_cluster"),
    ("barrier_cluster_arrive_relaxed", "mbarrier_arrive_cluster"),
    ("barrier_cluster_wait", "barrier_cluster"),
    ("mapa", "copy_to_cluster"),
    ("mbarrier_try_wait_cluster", "mbarrier_arrive_release_cluster"),
    ("fence_mbarrier_init", "mbarrier_arrive_cluster"),
    ("fence_proxy_async_shared", "store_box"),
];

/// The same of `wgmma`, in whose entries everything is waited for.
const PRODUCTS: [(&str, &str); 5] = [
    ("multiply_64", "wgmma_multiply_64"),
    ("multiply_64_of", "wgmma_multiply_64_of"),
    ("multiply_16", "wgmma_multiply_16"),
    ("settle", "wgmma_multiply_64"),
    ("wait_for_all_but", "wgmma_chain"),
];

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
        // `name, intrinsic;` or `name, "%register";` of `special_registers!`, `name, "instruction";` of
        // `unary!`.
        let name = name.or_else(|| {
            let line = line.strip_suffix(';')?;
            let intrinsic = line.strip_suffix("_x").and_then(|line| line.split_once(", _"));
            let register = line.strip_suffix('"').and_then(|line| line.split_once(", \"%"));
            let unary = line.strip_suffix(".f32\"").and_then(|line| line.split_once(", \""));
            intrinsic.or(register).or(unary).map(|(name, _)| name)
        });
        let Some(name) = name.filter(|name| !name.is_empty() && !NO_INSTRUCTIONS.contains(name)) else {
            continue;
        };
        names.push(match (module, name) {
            ("global", "load" | "store") => format!("global_{name}{kind}"),
            ("shared", "dynamic_shared") => name.to_owned(),
            ("shared", _) => format!("shared_{name}"),
            ("wgmma", _) => {
                let product = PRODUCTS.iter().find(|(product, _)| *product == name);
                let entry = product.unwrap_or_else(|| panic!("no entry is known for {name} of wgmma")).1;
                names.extend(register_counts(source).map(|count| format!("{entry}_r{count}")));
                continue;
            }
            _ => TOGETHER.iter().find(|(one, _)| *one == name).map_or(name, |(_, entry)| entry).to_owned(),
        });
    }
    names
}

/// The counts of lines such as `16 of n 32: 8 9 10 11 12 13 14 15;`.
fn register_counts(source: &str) -> impl Iterator<Item = u32> {
    source.lines().filter_map(|line| line.split_once(" of n ")?.0.trim().parse().ok())
}

#[test]
fn every_instruction_of_device_has_an_entry() {
    let modules = include_str!("../../kernels/src/device/mod.rs");
    let modules: Vec<_> =
        modules.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, DEVICE.iter().map(|(module, _)| *module).collect::<Vec<_>>());

    let wanted: Vec<_> = DEVICE.iter().flat_map(|(module, source)| names(module, source)).collect();
    assert!(wanted.len() >= 109, "{wanted:?}");
    let entries: Vec<_> =
        INSTRUCTIONS.iter().map(|row| row.name).chain(SM90_INSTRUCTIONS.iter().map(|row| row.name)).collect();
    for name in wanted {
        let entry = format!("instruction_{name}");
        assert!(entries.contains(&entry.as_str()), "no {entry}");
    }
}

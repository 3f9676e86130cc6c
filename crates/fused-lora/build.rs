//! Says where this package has its side for GPUs: `cfg(gpu)`. Linux on x86-64 and aarch64, which CUDA's
//! driver runs on, with the feature `cuda`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(gpu)");
    let target = |part| env::var(part).unwrap_or_default();
    let known = target("CARGO_CFG_TARGET_OS") == "linux"
        && ["x86_64", "aarch64"].contains(&&*target("CARGO_CFG_TARGET_ARCH"));
    if known && env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo::rustc-cfg=gpu");
    }
}

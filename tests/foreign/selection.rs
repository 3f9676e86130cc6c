//! Which kernels and negative controls are run.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};

use crate::manifest::{self, Kernel, Negative};

/// One kernel of each family, a small one.
const REPRESENTATIVES: &[&str] = &[
    "attention_causal_32_f16_sm80",
    "cute_matmul_128x64x32_bf16_sm90",
    "gluon_matmul_bt_64x64x64_bf16_sm90",
    "gluon_matmul_bt_multicast_128x64x32_f16_sm90",
    "layer_norm_512_f16_sm80",
    "lora_expand_64_f16_sm80",
    "lora_shrink_2_bf16_sm90",
    "matmul_bt_32x32x16_f16_sm80",
    "matmul_batched_32x64x32_f16_sm80",
    "matmul_persistent_64x64x32_f16_sm80",
    "matmul_tf32_bt_64x64x32_f32_sm90",
    "prefix_sum_128_f32_sm90",
    "softmax_256_bf16_sm90",
    "softmax_cluster_256_f16_sm90",
    "tma_attention_causal_64_bf16_sm90",
    "tma_attention_specialized_64_f16_sm90",
    "tma_matmul_at_64x64x64_bf16_sm90",
    "tma_matmul_batched_64x32x32_f16_sm90",
    "tma_matmul_bt_cluster_64x128x32_bf16_sm90",
    "tma_matmul_cast_64x64x32_f16_sm90",
    "tma_matmul_persistent_flat_64x64x32_f16_sm90",
    "tma_matmul_persistent_specialized_64x64x32_f16_sm90",
    "tma_matmul_scaled_64x64x64_f16_sm90",
    "tma_matmul_specialized_64x64x64_f16_sm90",
];

/// Negative controls that run by default.
const NEGATIVES: usize = 40;

/// What `FUSED_LORA_FOREIGN` asks for.
pub(crate) enum Selection {
    /// One kernel of each family, and some negative controls. Without the variable.
    Some,
    /// `all`.
    All,
    /// Kernels whose name contains one of these, with all their negative controls: a list by commas.
    Named(Vec<String>),
}

impl Selection {
    /// From the environment.
    pub(crate) fn of_environment() -> Self {
        match std::env::var("FUSED_LORA_FOREIGN") {
            Err(_) => Self::Some,
            Ok(value) if value.is_empty() => Self::Some,
            Ok(value) if value == "all" => Self::All,
            Ok(value) => Self::Named(value.split(',').map(str::to_owned).collect()),
        }
    }

    /// The kernels.
    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let mut kernels = manifest::kernels();
        match self {
            Self::Some => kernels.retain(|kernel| REPRESENTATIVES.contains(&kernel.name.as_str())),
            Self::All => {}
            Self::Named(parts) => {
                kernels.retain(|kernel| parts.iter().any(|part| kernel.name.contains(part.as_str())));
                assert!(!kernels.is_empty(), "FUSED_LORA_FOREIGN={} names no kernel", parts.join(","));
            }
        }
        kernels
    }

    /// The negative controls, each with its kernel. By default a share of those of the kernels that run,
    /// always the same.
    pub(crate) fn negatives(&self) -> Vec<(Kernel, Negative)> {
        let of_kernel = |kernel: Kernel| {
            let negatives = kernel.negatives.clone();
            negatives.into_iter().map(move |negative| (kernel.clone(), negative))
        };
        let mut negatives: Vec<_> = self.kernels().into_iter().flat_map(of_kernel).collect();
        if matches!(self, Self::Some) {
            negatives.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(13));
            negatives.truncate(NEGATIVES);
        }
        negatives
    }
}

/// The name of a kernel without its sizes, types, target and variant.
fn family(name: &str) -> String {
    let is_of_family = |part: &&str| {
        let is_size = part.starts_with(|first: char| first.is_ascii_digit());
        !is_size && !["f16", "bf16", "f32", "sm80", "sm90", "at", "bt", "causal", "flat"].contains(part)
    };
    name.split('_').filter(is_of_family).collect::<Vec<_>>().join("_")
}

#[test]
fn one_kernel_of_each_family_runs() {
    let families =
        |names: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> { names.map(family).collect() };
    let kernels = manifest::kernels();
    let all = families(&mut kernels.iter().map(|kernel| kernel.name.as_str()));
    assert_eq!(families(&mut REPRESENTATIVES.iter().copied()), all);
    assert_eq!(Selection::Some.kernels().len(), all.len(), "a name occurs twice, or is none");
}

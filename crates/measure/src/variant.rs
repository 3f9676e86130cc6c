//! What is done to the layer: a method at a rank.

use fused_lora_records::Workload;
use fused_lora_transformer::{Config, Method, Targets};

/// A method, the projections that it is on, and a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The method.
    pub method: Method,
    /// All of them, unless it is LoRA.
    pub targets: Targets,
    /// 0 for the bare layer.
    pub rank: usize,
}

impl Variant {
    /// The bare layer.
    pub const NONE: Variant = Variant { method: Method::None, targets: Targets::All, rank: 0 };

    /// The targets are read for LoRA alone.
    pub fn new(method: Method, targets: Targets, rank: usize) -> Variant {
        let is_lora = matches!(method, Method::LoraUnfused | Method::LoraFused);
        Variant { method, targets: if is_lora { targets } else { Targets::All }, rank }
    }

    /// The name in the records: the method's, with `-qv` behind LoRA's that is on q and v alone.
    pub fn name(&self) -> String {
        let suffix = if self.targets == Targets::QueryValue { "-qv" } else { "" };
        format!("{}{suffix}", self.method)
    }

    /// That which stands for all variants of the same weights: fused and unfused LoRA have the same.
    pub fn of_weights(&self) -> Variant {
        let is_unfused = self.method == Method::LoraUnfused;
        Variant { method: if is_unfused { Method::LoraFused } else { self.method }, ..*self }
    }

    /// Useful operations of a forward pass of M tokens: products, adapters and attention, a multiply-add
    /// counted as two. Softmax, LayerNorm, GELU and sums are not in it.
    pub fn flops(&self, config: &Config, m: usize, seq_len: usize) -> f64 {
        let adapters = self.method.mul_adds(config, self.targets, self.rank);
        2.0 * m as f64 * (config.product_mul_adds() + config.attention_mul_adds(seq_len) + adapters)
    }
}

/// What PyTorch's layer, and the files of its weights, call a method of ours: there is one LoRA, which is not
/// fused.
pub fn torch_name(method: &str) -> String {
    method.replace("-unfused", "").replace("-fused", "")
}

/// The sizes of a workload's model; None if it has no layers of a transformer.
pub fn config(workload: &Workload) -> Option<Config> {
    workload.layers().map(|layers| Config { layers, ..Config::GPT2_MEDIUM_LAYER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_methods_and_pytorchs_those_of_the_same_arithmetic() {
        for (targets, ours, torchs) in [
            (Targets::All, Method::ALL.map(Method::name), ["none", "adapter-h", "adapter-l", "lora", "lora"]),
            (
                Targets::QueryValue,
                ["none", "adapter-h", "adapter-l", "lora-unfused-qv", "lora-fused-qv"],
                ["none", "adapter-h", "adapter-l", "lora-qv", "lora-qv"],
            ),
        ] {
            let variants = Method::ALL.map(|method| Variant::new(method, targets, 10));
            assert_eq!(variants.map(|variant| variant.name()), ours);
            assert_eq!(variants.map(|variant| torch_name(&variant.name())), torchs);
            assert_eq!(variants.map(|variant| torch_name(&variant.of_weights().name())), torchs);
        }
    }
}

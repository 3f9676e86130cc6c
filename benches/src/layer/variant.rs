//! What is done to the layer: a method at a rank.

use fused_lora::Granule;
use fused_lora_records::Workload;
use fused_lora_transformer::{Config, Method, Targets};

use crate::work::Floor;

/// A method, the projections that it is on where it is LoRA, and a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The method.
    pub method: Method,
    /// Read for LoRA alone.
    pub targets: Targets,
    /// 0 for [`Method::None`] alone.
    pub rank: usize,
}

impl Variant {
    /// The bare layer.
    pub const NONE: Variant = Variant { method: Method::None, targets: Targets::All, rank: 0 };

    /// The name in the records: the method's, with `-qv` behind LoRA's that is on q and v alone.
    #[must_use]
    pub fn name(&self) -> String {
        record_name(self.method, self.targets)
    }

    /// That which stands for all variants of the same weights: fused and unfused LoRA have the same, and only LoRA has targets.
    #[must_use]
    pub fn of_weights(&self) -> Variant {
        if self.is_lora() {
            Variant { method: Method::LoraFused, ..*self }
        } else {
            Variant { targets: Targets::All, ..*self }
        }
    }

    /// Whether it is one of LoRA's.
    #[must_use]
    pub fn is_lora(&self) -> bool {
        matches!(self.method, Method::LoraUnfused | Method::LoraFused)
    }

    /// What it cannot do without.
    #[must_use]
    pub fn floor(&self, config: &Config, granule: Granule) -> Floor {
        let Variant { method, targets, rank } = *self;
        Floor {
            pct: method.floor_pct(config, targets, rank),
            pad_pct: Some(method.floor_pad_pct(config, targets, rank, granule)),
        }
    }

    /// Useful operations of a forward pass of M tokens: products, adapters and attention, a multiply-add counted as two. Softmax,
    /// LayerNorm, GELU and sums are not in it.
    #[must_use]
    pub fn flops(&self, config: &Config, m: usize, seq_len: usize) -> f64 {
        let adapters = self.method.mul_adds(config, self.targets, self.rank);
        2.0 * m as f64 * (config.product_mul_adds() + config.attention_mul_adds(seq_len) + adapters)
    }
}

/// The name of a method in the records.
#[must_use]
pub fn record_name(method: Method, targets: Targets) -> String {
    let lora = matches!(method, Method::LoraUnfused | Method::LoraFused);
    let suffix = if lora && targets == Targets::QueryValue { "-qv" } else { "" };
    format!("{method}{suffix}")
}

/// The sizes of a workload's model; None if it has no layers of a transformer.
#[must_use]
pub fn config(workload: &Workload) -> Option<Config> {
    workload.layers().map(|layers| Config { layers, ..Config::GPT2_MEDIUM_LAYER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lora_on_q_and_v_has_a_name_of_its_own() {
        let names = |targets| Method::ALL.map(|method| record_name(method, targets));
        assert_eq!(names(Targets::All), Method::ALL.map(|method| method.to_string()));
        assert_eq!(
            names(Targets::QueryValue),
            ["none", "adapter-h", "adapter-l", "lora-unfused-qv", "lora-fused-qv"]
        );
    }

    /// The records' widths are those of the model that is measured.
    #[test]
    fn the_model_is_the_workloads() {
        for workload in Workload::LAYERS {
            let config = config(workload).unwrap();
            assert_eq!(2.0 * config.product_mul_adds(), workload.flops_base(1));
            let lora = Variant { method: Method::LoraFused, targets: Targets::All, rank: 100 };
            let granule = Granule { shrink_n: 16, expand_k: 1 };
            let floor = lora.floor(&config, granule);
            assert_eq!(floor.pct, workload.floor_pct(100));
            assert_eq!(floor.pad_pct, Some(workload.floor_pad_pct(100, 16, 1)));
        }
        assert_eq!(config(&Workload::LINEARS[0]), None);
    }

    #[test]
    fn operations_are_those_of_products_adapters_and_attention() {
        let config = Config::GPT2_MEDIUM_LAYER;
        let of = |method, rank| Variant { method, targets: Targets::All, rank }.flops(&config, 256, 128);
        let none = Variant::NONE.flops(&config, 256, 128);
        assert_eq!(none, 512.0 * (12.0 * 1024.0 * 1024.0 + 1024.0 * 129.0));
        assert_eq!(of(Method::AdapterH, 10) - none, 512.0 * 4.0 * 10.0 * 1024.0);
        assert_eq!(of(Method::LoraUnfused, 10) - none, 512.0 * 16.0 * 10.0 * 1024.0);
    }
}

//! The methods that PyTorch's layer has.

use fused_lora_transformer::{Method, Targets};

use super::variant::Variant;

/// What PyTorch's layer can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TorchMethod {
    /// The bare layer.
    None,
    /// As [`Method::AdapterH`].
    AdapterH,
    /// As [`Method::AdapterL`].
    AdapterL,
    /// LoRA on every projection, as PEFT computes it: product, shrink, expand, scaling, sum.
    Lora,
    /// LoRA on q and v.
    LoraQv,
}

impl TorchMethod {
    /// The method with the arithmetic of one of ours.
    #[must_use]
    pub fn like(variant: Variant) -> TorchMethod {
        match (variant.method, variant.targets) {
            (Method::None, _) => TorchMethod::None,
            (Method::AdapterH, _) => TorchMethod::AdapterH,
            (Method::AdapterL, _) => TorchMethod::AdapterL,
            (Method::LoraUnfused | Method::LoraFused, Targets::All) => TorchMethod::Lora,
            (Method::LoraUnfused | Method::LoraFused, Targets::QueryValue) => TorchMethod::LoraQv,
        }
    }

    /// What it computes, at a rank.
    #[must_use]
    pub fn variant(self, rank: usize) -> Variant {
        let (method, targets) = match self {
            TorchMethod::None => return Variant::NONE,
            TorchMethod::AdapterH => (Method::AdapterH, Targets::All),
            TorchMethod::AdapterL => (Method::AdapterL, Targets::All),
            TorchMethod::Lora => (Method::LoraUnfused, Targets::All),
            TorchMethod::LoraQv => (Method::LoraUnfused, Targets::QueryValue),
        };
        Variant { method, targets, rank }
    }

    /// The name in the records.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            TorchMethod::None => "torch-fp32/none",
            TorchMethod::AdapterH => "torch-fp32/adapter-h",
            TorchMethod::AdapterL => "torch-fp32/adapter-l",
            TorchMethod::Lora => "torch-fp32/lora",
            TorchMethod::LoraQv => "torch-fp32/lora-qv",
        }
    }

    /// The name that the child knows.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.record_name().trim_start_matches("torch-fp32/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_the_same_arithmetic() {
        for targets in Targets::ALL {
            for method in Method::ALL {
                let variant = Variant { method, targets, rank: 10 };
                let like = TorchMethod::like(variant).variant(10);
                assert_eq!(like.is_lora(), variant.is_lora());
                if variant.is_lora() {
                    assert_eq!(like.targets, targets);
                } else {
                    assert_eq!(like.method, method);
                }
            }
        }
        assert_eq!(TorchMethod::LoraQv.name(), "lora-qv");
    }
}

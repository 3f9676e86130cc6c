//! Every key of PEFT's `LoraConfig` (0.21) that this crate does not act upon: what it means for a forward
//! pass, and hence whether it may be there.

/// Keys that change nothing in the forward pass of one module, whatever they hold.
const NEUTRAL: &[&str] = &[
    // Where the adapter comes from.
    "auto_mapping",
    "base_model_name_or_path",
    "peft_version",
    "revision",
    "task_type",
    // Training only.
    "inference_mode",
    "lora_dropout",
    // Which modules were adapted: the tensors say the same.
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "target_modules",
    // Settings of an initialisation that leaves the base alone (`init_lora_weights` itself is checked).
    "eva_config",
    // Read only if `megatron_config` is set, or `use_qalora`; both are refused.
    "megatron_core",
    "qalora_group_size",
    // PEFT does not save it, and drops it when it reads one.
    "runtime_config",
];

/// Keys that change the result when they are on, and why that is not honoured.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("alora_invocation_tokens", "activated LoRA adapts only the tokens behind an invocation"),
    ("arrow_config", "Arrow routes between adapters"),
    ("corda_config", "CorDA changes the base weights"),
    ("ensure_weight_tying", "adapters of tied weights are not tied here"),
    ("kasa_config", "KaSA changes the base weights and adds a diagonal"),
    ("layer_replication", "the base model's layers are used as they are"),
    ("loftq_config", "LoftQ changes the base weights"),
    ("lora_bias", "a bias of lora_B is not added"),
    ("lora_ga_config", "LoRA-GA changes the base weights"),
    ("megatron_config", "Megatron's parallel layers are no plain linear layers"),
    ("modules_to_save", "whole weights saved with the adapter replace those of the base"),
    ("monteclora_config", "MonteCLoRA samples around the weights"),
    ("target_parameters", "only weights of linear modules are adapted"),
    ("trainable_token_indices", "trained tokens replace those of the base's embedding"),
    ("use_bdlora", "block-diagonal factors are not plain matrices"),
    ("use_dora", "DoRA rescales every row of the adapted weight"),
    ("use_qalora", "QA-LoRA pools the input"),
    ("velora_config", "VeLoRA is a LoRA variant of its own"),
];

/// What a key means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Neutral,
    /// Allowed only while it is off.
    Unsupported(&'static str),
    /// Not in PEFT 0.21. Allowed only while it is off.
    Unknown,
}

pub(super) fn meaning(key: &str) -> Meaning {
    if NEUTRAL.contains(&key) {
        return Meaning::Neutral;
    }
    match UNSUPPORTED.iter().find(|(name, _)| *name == key) {
        Some((_, why)) => Meaning::Unsupported(why),
        None => Meaning::Unknown,
    }
}

/// Whether an `init_lora_weights` leaves the base weights as they were. The others subtract the adapter's
/// initial value from the base (or quantise it), so the file fits only a base that is nowhere saved.
pub(super) fn init_keeps_base(name: &str) -> bool {
    // MiCA draws B from the base's singular vectors, EVA draws A from activations; neither writes the base.
    ["gaussian", "eva", "orthogonal", "mica"].contains(&name.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initialisations() {
        for name in ["gaussian", "Gaussian", "eva", "orthogonal", "mica"] {
            assert!(init_keeps_base(name), "{name}");
        }
        for name in
            ["pissa", "pissa_niter_16", "olora", "OLoRA", "loftq", "corda", "lora_ga", "something_new", ""]
        {
            assert!(!init_keeps_base(name), "{name}");
        }
    }

    #[test]
    fn no_key_is_in_both_tables() {
        for (key, _) in UNSUPPORTED {
            assert!(!NEUTRAL.contains(key), "{key}");
        }
        assert_eq!(meaning("peft_version"), Meaning::Neutral);
        assert!(matches!(meaning("use_dora"), Meaning::Unsupported(_)));
        assert_eq!(meaning("use_doraemon"), Meaning::Unknown);
    }
}

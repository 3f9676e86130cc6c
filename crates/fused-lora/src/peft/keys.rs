//! Every key of PEFT's `LoraConfig` (0.21) that this crate does not act upon: what it means for a forward
//! pass, and hence whether it may be there, and for which modules.

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
    // Settings of an initialisation that leaves the base alone, or read only together with that
    // initialisation (`init_lora_weights` itself is checked).
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    // Read only if `megatron_config` is set, or `use_qalora`; both are refused.
    "megatron_core",
    "qalora_group_size",
    // PEFT does not save it, and drops it when it reads one.
    "runtime_config",
];

/// Keys of other versions and writers that PEFT 0.21 drops with a warning, and that change nothing here.
const IGNORED: &[&str] = &[
    // PEFT before 0.3: how the weights were kept.
    "merge_weights",
    // ms-swift: how the adapter was trained.
    "lora_dtype",
    "lorap_emb_lr",
    "lorap_lr_ratio",
];

/// Keys that change the result when they are on, and why that is not honoured.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("alora_invocation_tokens", "activated LoRA adapts only the tokens behind an invocation"),
    ("arrow_config", "Arrow routes between adapters"),
    ("enable_lora", "an adapter of a part of a fused weight is not a plain LoRA"),
    ("kasa_config", "KaSA changes the base weights and adds a diagonal"),
    ("layer_replication", "the base model's layers are used as they are"),
    ("lora_bias", "a bias of lora_B is not added"),
    ("megatron_config", "Megatron's parallel layers are no plain linear layers"),
    ("monteclora_config", "MonteCLoRA samples around the weights"),
    ("use_bdlora", "block-diagonal factors are not plain matrices"),
    ("use_dora", "DoRA rescales every row of the adapted weight"),
    ("use_qalora", "QA-LoRA pools the input"),
    ("velora_config", "VeLoRA is a LoRA variant of its own"),
];

/// Keys of which [`config`](super::config) and [`targets`](super::targets) make something.
const PER_MODULE: &[(&str, &str)] = &[
    ("ensure_weight_tying", "adapters of tied weights are not tied here"),
    ("target_parameters", "only weights of linear modules are adapted"),
    ("trainable_token_indices", "trained tokens replace rows of its weight"),
];

/// What a key means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Neutral,
    /// PEFT ignores it and warns; so do we.
    Ignored,
    /// Allowed only while it is off.
    Unsupported(&'static str),
    /// Changes some modules while it is on.
    PerModule(&'static str),
    /// Not in PEFT 0.21. Allowed only while it is off.
    Unknown,
}

pub(super) fn meaning(key: &str) -> Meaning {
    let find = |table: &[(&str, &'static str)]| table.iter().find(|(name, _)| *name == key).map(|(_, w)| *w);
    match (find(UNSUPPORTED), find(PER_MODULE)) {
        _ if NEUTRAL.contains(&key) => Meaning::Neutral,
        _ if IGNORED.contains(&key) => Meaning::Ignored,
        (Some(why), _) => Meaning::Unsupported(why),
        (_, Some(why)) => Meaning::PerModule(why),
        _ => Meaning::Unknown,
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
    fn no_key_is_in_two_tables() {
        let tables = [UNSUPPORTED, PER_MODULE].concat();
        let keys = tables.iter().map(|(key, _)| key).chain(NEUTRAL).chain(IGNORED).collect::<Vec<_>>();
        for key in &keys {
            assert_eq!(keys.iter().filter(|other| *other == key).count(), 1, "{key}");
        }
        assert_eq!(meaning("peft_version"), Meaning::Neutral);
        assert!(matches!(meaning("use_dora"), Meaning::Unsupported(_)));
        assert_eq!(meaning("use_doraemon"), Meaning::Unknown);
    }
}

//! Module names that the same weight has in different files.
//!
//! A list of prefixes is all that may differ. Two names with another difference are two modules:
//! `decoder.layers.0.q_proj` is not `encoder.layers.0.q_proj`.

/// What may stand before a module's name: transformers adds, removes and moves them between versions.
const PREFIXES: &[&str] = &["model", "transformer", "language_model"];
/// What `PeftModel` puts before them.
const PEFT: [&str; 2] = ["base_model", "model"];
/// What `torch.compile` puts anywhere.
const COMPILED: &str = "_orig_mod";

/// A name without what `torch.compile` puts in.
pub(super) fn uncompiled(name: &str) -> String {
    let parts: Vec<_> = name.split('.').filter(|part| *part != COMPILED).collect();
    parts.join(".")
}

/// A name without every `base_model.model.` before it.
pub(super) fn without_peft(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("base_model.model.") {
        name = rest;
    }
    name
}

/// What is left of a module's name without the prefixes. Names with the same core are the same module.
pub(super) fn core(name: &str) -> String {
    let name = uncompiled(name);
    let parts: Vec<_> = name.split('.').collect();
    let mut rest = &parts[..];
    while rest.len() > 1 {
        if rest.len() > 2 && rest.starts_with(&PEFT) {
            rest = &rest[2..];
        } else if PREFIXES.contains(&rest[0]) {
            rest = &rest[1..];
        } else {
            break;
        }
    }
    rest.join(".")
}

/// The last part of a module's name.
pub(super) fn leaf(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(_, leaf)| leaf)
}

/// The names most like `module`, for an error: those that share the most parts at the end, then at the start.
pub(super) fn nearest<'a>(module: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const SHOWN: usize = 3;
    let parts: Vec<_> = module.split('.').collect();
    let score = |name: &str| {
        let other: Vec<_> = name.split('.').collect();
        let same = |(a, b): &(&&str, &&str)| a == b;
        let ends = parts.iter().rev().zip(other.iter().rev()).take_while(same).count();
        let starts = parts.iter().zip(&other).take_while(same).count();
        (ends, starts)
    };
    let mut scored: Vec<_> = names.map(|name| (score(name), name)).filter(|(s, _)| *s != (0, 0)).collect();
    scored.sort_by(|(a, name_a), (b, name_b)| b.cmp(a).then(name_a.cmp(name_b)));
    scored.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_module_under_other_names() {
        for (one, other, same) in [
            ("transformer.h.0.attn.c_attn", "h.0.attn.c_attn", true),
            ("model.layers.0.q", "layers.0.q", true),
            ("model.language_model.layers.0.q", "language_model.model.layers.0.q", true),
            ("language_model.lm_head", "lm_head", true),
            ("base_model.model.base_model.model.model.layers.0.q", "model.layers.0.q", true),
            ("_orig_mod.model.layers.0._orig_mod.q", "model.layers.0.q", true),
            ("model.decoder.layers.0.q", "decoder.layers.0.q", true),
            ("decoder.layers.0.q", "encoder.layers.0.q", false),
            ("model.decoder.layers.0.q", "model.layers.0.q", false),
            ("vision_model.layers.0.q", "model.layers.0.q", false),
            ("layers.0.model.q", "layers.0.q", false),
            ("layers.1.q", "layers.10.q", false),
            ("model", "transformer", false),
        ] {
            assert_eq!(core(one) == core(other), same, "{one} and {other}");
        }
    }

    #[test]
    fn nearest_names_come_first() {
        let names = ["lm_head", "encoder.layers.0.q", "decoder.layers.1.q", "decoder.layers.0.k", "x"];
        assert_eq!(
            nearest("decoder.layers.0.q", names.into_iter()),
            ["encoder.layers.0.q", "decoder.layers.1.q", "decoder.layers.0.k"]
        );
    }
}

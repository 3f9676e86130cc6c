//! Which tensors of an adapter file belong to which module.

use std::collections::BTreeMap;

use super::{
    error::{LoraProblem, PeftError},
    tensors::TensorFile,
};

/// What `PeftModel` puts before a module's name.
const PREFIX: &str = "base_model.model.";
/// `[r, K]`
const LORA_A: &str = "lora_A.weight";
/// `[N, r]`
const LORA_B: &str = "lora_B.weight";

/// Parts of a module's LoRA that are not implemented, by the beginning of their name.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("lora_embedding_", "the module is an embedding"),
    ("lora_magnitude_vector", "it is DoRA's magnitude"),
    ("lora_A.bias", "only weights are read"),
    ("lora_B.bias", "it is a bias of lora_B"),
    ("lora_diag", "it is KaSA's diagonal"),
];

/// The modules of a file, each with the parts it has: `lora_A.weight`, `lora_B.weight` and what else there
/// is behind its name.
#[derive(Debug)]
pub(super) struct Modules {
    parts: BTreeMap<String, Vec<String>>,
}

impl Modules {
    /// Assigns each tensor to its module, by name. A tensor that belongs to none is an error: it would
    /// otherwise be ignored, whichever modules are loaded.
    pub(super) fn sort(tensors: &TensorFile) -> Result<Modules, PeftError> {
        let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut others = Vec::new();
        for name in tensors.names() {
            match split(&name) {
                Some((module, part)) => parts.entry(module.to_owned()).or_default().push(part.to_owned()),
                None => others.push(name),
            }
        }
        for name in others {
            // `proj.weight` or `proj.base_layer.weight` beside `proj.lora_A.weight`: judged with `proj`.
            let owner = name.strip_prefix(PREFIX).and_then(|rest| {
                rest.match_indices('.').rev().find_map(|(dot, _)| {
                    parts
                        .contains_key(&rest[..dot])
                        .then(|| (rest[..dot].to_owned(), rest[dot + 1..].to_owned()))
                })
            });
            match owner {
                Some((module, part)) => parts.entry(module).or_default().push(part),
                None => return Err(bad(tensors, &name, LoraProblem::Foreign)),
            }
        }
        Ok(Modules { parts })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// The names of A and B of a module that has exactly these two, as matrices.
    pub(super) fn linear(&self, module: &str, tensors: &TensorFile) -> Result<[String; 2], PeftError> {
        let Some(parts) = self.parts.get(module) else {
            let (file, modules) = (tensors.path().to_owned(), self.names().map(str::to_owned).collect());
            return Err(PeftError::NoSuchModule { file, module: module.to_owned(), modules });
        };
        let name = |part: &str| format!("{PREFIX}{module}.{part}");
        for part in parts {
            if part != LORA_A && part != LORA_B {
                let why = UNSUPPORTED.iter().find(|(start, _)| part.starts_with(start));
                let why = why.map_or("it is not part of a linear layer's LoRA", |(_, why)| why);
                return Err(bad(tensors, &name(part), LoraProblem::Unsupported { why }));
            }
        }
        let names = [LORA_A, LORA_B].map(name);
        for tensor in &names {
            if !tensors.contains(tensor) {
                return Err(bad(tensors, tensor, LoraProblem::Missing));
            }
            if tensors.info(tensor)?.shape.len() > 2 {
                let why = "the module is a convolution";
                return Err(bad(tensors, tensor, LoraProblem::Unsupported { why }));
            }
        }
        Ok(names)
    }
}

/// The error of a tensor of this file.
pub(super) fn bad(tensors: &TensorFile, tensor: &str, problem: LoraProblem) -> PeftError {
    PeftError::Lora { file: tensors.path().to_owned(), tensor: tensor.to_owned(), problem }
}

/// Module and part of a LoRA tensor's name: `base_model.model.layers.0.q.lora_A.weight` gives `layers.0.q`
/// and `lora_A.weight`.
fn split(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PREFIX)?;
    let dot = rest.rfind(".lora_")?;
    Some((&rest[..dot], &rest[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_the_last_lora_part() {
        for (name, expected) in [
            ("base_model.model.proj.lora_A.weight", Some(("proj", "lora_A.weight"))),
            ("base_model.model.layers.0.q.lora_B.weight", Some(("layers.0.q", "lora_B.weight"))),
            ("base_model.model.a.lora_net.q.lora_A.weight", Some(("a.lora_net.q", "lora_A.weight"))),
            ("base_model.model.emb.lora_embedding_A", Some(("emb", "lora_embedding_A"))),
            ("base_model.model.lora_A.weight", None),
            ("base_model.model.lm_head.weight", None),
            ("model.proj.lora_A.weight", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }
}

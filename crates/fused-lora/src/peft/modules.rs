//! Which tensors of an adapter file belong to which module.

use std::collections::BTreeMap;

use super::{
    error::{LoraProblem, PeftError},
    names::{core, nearest, uncompiled, without_peft},
    tensors::TensorFile,
};

/// `[r, K]`
const LORA_A: &str = "lora_A.weight";
/// `[N, r]`
const LORA_B: &str = "lora_B.weight";
/// The adapted module's own weight and bias, where the adapter brings them.
pub(super) const BASE_WEIGHT: &str = "base_layer.weight";
pub(super) const BASE_BIAS: &str = "base_layer.bias";
/// The same of a module that is saved as a whole, by `modules_to_save`.
pub(super) const WEIGHT: &str = "weight";
pub(super) const BIAS: &str = "bias";
/// The name that PEFT gives an adapter. Whoever saves a model's own state writes it into the keys.
const ADAPTER: &str = ".default";

/// Parts of a module's LoRA that are not implemented, by the beginning of their name.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("lora_embedding_", "the module is an embedding"),
    ("lora_magnitude_vector", "it is DoRA's magnitude"),
    ("lora_A.bias", "only weights are read"),
    ("lora_B.bias", "it is a bias of lora_B"),
    ("lora_diag", "it is KaSA's diagonal"),
    ("lora_a", "it is in MLX's format, not in PEFT's"),
    ("lora_b", "it is in MLX's format, not in PEFT's"),
    ("lora_down", "it is in kohya's format, not in PEFT's"),
    ("lora_up", "it is in kohya's format, not in PEFT's"),
    ("weight", "PEFT saves an adapted module's own weight as base_layer.weight, and ignores this"),
    ("bias", "PEFT saves an adapted module's own bias as base_layer.bias, and ignores this"),
];

/// The tensors of a module by their part: `lora_A.weight`, `lora_B.weight` and what else there is behind its
/// name. More than one tensor of a part is an error of the module.
type Parts = BTreeMap<String, Vec<String>>;

/// The modules of a file.
#[derive(Debug)]
pub(super) struct Modules {
    parts: BTreeMap<String, Parts>,
    /// Tensors of no LoRA module, such as whole weights, by their name in the model.
    others: BTreeMap<String, String>,
    /// A tensor whose name is not as PEFT writes it, and how it is read.
    pub(super) respelled: Option<[String; 2]>,
}

impl Modules {
    /// Assigns each tensor to its module, by name.
    pub(super) fn sort(tensors: &TensorFile) -> Modules {
        let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
        let (mut others, mut respelled) = (BTreeMap::new(), None);
        for name in tensors.names() {
            match split(&name) {
                (module, Some(part)) => {
                    let usual = format!("base_model.model.{module}.{part}");
                    if respelled.is_none() && usual != name {
                        respelled = Some([name.clone(), usual]);
                    }
                    parts.entry(module).or_default().entry(part).or_default().push(name);
                }
                (whole, None) => {
                    others.insert(whole, name);
                }
            }
        }
        // `proj.weight` or `proj.base_layer.weight` beside `proj.lora_A.weight`: judged with `proj`.
        others.retain(|whole, name| {
            let dots = whole.match_indices('.').rev();
            let owner = dots.map(|(dot, _)| whole.split_at(dot)).find(|(m, _)| parts.contains_key(*m));
            let Some((module, part)) = owner else { return true };
            let parts = parts.get_mut(module).expect("it was found");
            parts.entry(part[1..].to_owned()).or_default().push(name.clone());
            false
        });
        Modules { parts, others, respelled }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// The file's own name of a module that may be spelled with other prefixes.
    pub(super) fn find(&self, module: &str, tensors: &TensorFile) -> Result<&str, PeftError> {
        if let Some((name, _)) = self.parts.get_key_value(module) {
            return Ok(name);
        }
        let wanted = core(module);
        let same: Vec<_> = self.names().filter(|name| core(name) == wanted).collect();
        match same[..] {
            [name] => Ok(name),
            [] => {
                let whole = ["weight", "bias"].map(|part| format!("{}.{part}", without_peft(module)));
                if let Some(name) = whole.iter().find_map(|whole| self.others.get(whole)) {
                    return Err(bad(tensors, name, LoraProblem::Whole));
                }
                let (file, module) = (tensors.path().to_owned(), module.to_owned());
                let mut modules = nearest(&module, self.names());
                if modules.is_empty() {
                    modules = self.names().map(str::to_owned).collect();
                }
                Err(PeftError::NoSuchModule { file, module, modules })
            }
            [one, other, ..] => Err(PeftError::TwoModules {
                file: tensors.path().to_owned(),
                module: module.to_owned(),
                modules: [one.to_owned(), other.to_owned()],
            }),
        }
    }

    /// The names of A and B of a module that has these two, as matrices, and nothing that is not understood. One
    /// that is `saved` as a whole has its own weight beside them.
    pub(super) fn linear(
        &self,
        module: &str,
        tensors: &TensorFile,
        saved: bool,
    ) -> Result<[String; 2], PeftError> {
        let owned: &[_] = if saved { &[WEIGHT, BIAS] } else { &[BASE_WEIGHT, BASE_BIAS] };
        let parts = &self.parts[self.find(module, tensors)?];
        for (part, names) in parts {
            if let [one, other, ..] = &names[..] {
                return Err(bad(tensors, other, LoraProblem::Twice { other: one.clone() }));
            }
            if ![LORA_A, LORA_B].contains(&part.as_str()) && !owned.contains(&part.as_str()) {
                let why = UNSUPPORTED.iter().find(|(start, _)| part.starts_with(start));
                let why = why.map_or("it is not part of a linear layer's LoRA", |(_, why)| why);
                return Err(bad(tensors, &names[0], LoraProblem::Unsupported { why }));
            }
        }
        let found = [LORA_A, LORA_B].map(|part| parts.get(part).map(|names| names[0].clone()));
        let names = match found {
            [Some(a), Some(b)] => [a, b],
            [Some(a), None] => {
                return Err(bad(tensors, &a.replace("lora_A", "lora_B"), LoraProblem::Missing));
            }
            [None, Some(b)] => {
                return Err(bad(tensors, &b.replace("lora_B", "lora_A"), LoraProblem::Missing));
            }
            [None, None] => {
                let name = format!("base_model.model.{module}.{LORA_A}");
                return Err(bad(tensors, &name, LoraProblem::Missing));
            }
        };
        for tensor in &names {
            if tensors.info(tensor)?.shape.len() > 2 {
                let why = "the module is a convolution";
                return Err(bad(tensors, tensor, LoraProblem::Unsupported { why }));
            }
        }
        Ok(names)
    }

    /// The tensor that the adapter brings for a part of a LoRA module, such as its own bias.
    pub(super) fn part(&self, module: &str, part: &str) -> Option<&str> {
        Some(self.parts.get(module)?.get(part)?[0].as_str())
    }

    /// The tensor that replaces the weight of `module`, whether that is adapted or not.
    pub(super) fn weight_of(&self, module: &str) -> Option<&str> {
        let wanted = core(module);
        let is_it = |name: &str| name.strip_suffix(".weight").is_some_and(|owner| core(owner) == wanted);
        let whole = self.others.iter().find(|(name, _)| is_it(name)).map(|(_, tensor)| tensor.as_str());
        whole.or_else(|| self.part(self.names().find(|name| core(name) == wanted)?, BASE_WEIGHT))
    }
}

/// The error of a tensor of this file.
pub(super) fn bad(tensors: &TensorFile, tensor: &str, problem: LoraProblem) -> PeftError {
    PeftError::Lora { file: tensors.path().to_owned(), tensor: tensor.to_owned(), problem }
}

/// Module and part of a LoRA tensor's name: `base_model.model.layers.0.q.lora_A.weight` gives `layers.0.q`
/// and `lora_A.weight`. The name alone if it is none.
fn split(name: &str) -> (String, Option<String>) {
    let name = uncompiled(name);
    let rest = without_peft(&name);
    match rest.rfind(".lora_") {
        Some(dot) => (rest[..dot].to_owned(), Some(rest[dot + 1..].replacen(ADAPTER, "", 1))),
        None => (rest.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_the_last_lora_part() {
        for (name, module, part) in [
            ("base_model.model.proj.lora_A.weight", "proj", Some("lora_A.weight")),
            ("base_model.model.layers.0.q.lora_B.weight", "layers.0.q", Some("lora_B.weight")),
            ("base_model.model.a.lora_net.q.lora_A.weight", "a.lora_net.q", Some("lora_A.weight")),
            ("base_model.model.emb.lora_embedding_A", "emb", Some("lora_embedding_A")),
            ("_orig_mod.base_model.model.model.q.lora_A.weight", "model.q", Some("lora_A.weight")),
            ("base_model.model.base_model.model.q.lora_A.weight", "q", Some("lora_A.weight")),
            ("model.proj.lora_A.weight", "model.proj", Some("lora_A.weight")),
            ("base_model.model.q.lora_A.default.weight", "q", Some("lora_A.weight")),
            ("base_model.model.default.q.lora_A.weight", "default.q", Some("lora_A.weight")),
            ("base_model.model.lora_A.weight", "lora_A.weight", None),
            ("base_model.model.lm_head.weight", "lm_head.weight", None),
        ] {
            assert_eq!(split(name), (module.to_owned(), part.map(str::to_owned)), "{name}");
        }
    }
}

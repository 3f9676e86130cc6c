//! Which way round a base weight lies: `[out, in]` as `nn.Linear` keeps it, or `[in, out]` as the `Conv1D` of
//! GPT-2. `fan_in_fan_out` is only a hint: PEFT corrects it from each module's class, and writes one value for
//! modules of both classes.

use std::{fmt, str::FromStr};

use super::names::leaf;

/// Which way round a weight lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[N, K]`: `nn.Linear`.
    OutIn,
    /// `[K, N]`: the `Conv1D` of GPT-2.
    InOut,
}

impl Layout {
    /// Both, in the order in which they are explained.
    pub const ALL: [Layout; 2] = [Layout::OutIn, Layout::InOut];

    /// The name on a command line: `out-in` or `in-out`.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::OutIn => "out-in",
            Layout::InOut => "in-out",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|layout| layout.name() == name);
        found.ok_or_else(|| format!("{name:?} is no layout: out-in or in-out"))
    }
}

/// The model types of transformers whose blocks are made of `Conv1D`.
const CONV1D_TYPES: &[&str] = &["gpt2", "openai-gpt", "imagegpt", "decision_transformer"];
/// The modules of these models that are `Conv1D`; others of the models are `nn.Linear`.
const CONV1D_NAMES: &[&str] = &["c_attn", "c_proj", "c_fc", "q_attn"];
/// Modules of an MLP that take the hidden state, and such that give it.
const FROM_HIDDEN: &[&str] =
    &["up_proj", "gate_proj", "gate_up_proj", "fc1", "fc_in", "c_fc", "dense_h_to_4h", "wi", "wi_0", "wi_1"];
const TO_HIDDEN: &[&str] = &["down_proj", "fc2", "fc_out", "dense_4h_to_h"];

/// What a shape says of a layer with `n` outputs and `k` inputs; nothing where these are equal.
pub(super) fn by_shape(shape: &[usize], [n, k]: [usize; 2]) -> Option<Layout> {
    match shape {
        _ if n == k => None,
        [rows, columns] if [*rows, *columns] == [n, k] => Some(Layout::OutIn),
        [rows, columns] if [*rows, *columns] == [k, n] => Some(Layout::InOut),
        _ => None,
    }
}

/// What a bias of `len` elements says of its weight.
pub(super) fn by_bias(shape: &[usize], len: usize) -> Option<Layout> {
    match *shape {
        [rows, columns] if rows != columns && len == rows => Some(Layout::OutIn),
        [rows, columns] if rows != columns && len == columns => Some(Layout::InOut),
        _ => None,
    }
}

/// What the name of a module of an MLP says, in a model of this hidden size.
pub(super) fn by_role(module: &str, shape: &[usize], hidden: usize) -> Option<Layout> {
    let [rows, columns] = *shape else { return None };
    if (rows == hidden) == (columns == hidden) {
        return None;
    }
    let (from, to) = (FROM_HIDDEN.contains(&leaf(module)), TO_HIDDEN.contains(&leaf(module)));
    match (from, to) {
        (true, _) => Some(if columns == hidden { Layout::OutIn } else { Layout::InOut }),
        (_, true) => Some(if rows == hidden { Layout::OutIn } else { Layout::InOut }),
        _ => None,
    }
}

/// What a model's `config.json` says of a module: `types` are all the `model_type`s in it, `remote` whether
/// the model's code is not that of transformers.
pub(super) fn by_type(module: &str, types: &[String], remote: bool) -> Option<Layout> {
    let named = CONV1D_NAMES.contains(&leaf(module));
    if types.iter().any(|name| CONV1D_TYPES.contains(&name.as_str())) {
        return Some(if named { Layout::InOut } else { Layout::OutIn });
    }
    (!types.is_empty() && !remote).then_some(Layout::OutIn)
}

/// The layout of a square weight, from all that was found; else why it is not known.
pub(super) fn square(module: &str, found: &[(Layout, String)], hint: bool) -> Result<Layout, String> {
    let Some((layout, reason)) = found.first() else {
        // `Conv1D` is used under a few names only, and these are also names of `nn.Linear`.
        return match (CONV1D_NAMES.contains(&leaf(module)), hint) {
            (false, false) => Ok(Layout::OutIn),
            (true, true) => Ok(Layout::InOut),
            (_, hint) => {
                Err(format!("fan_in_fan_out = {hint} is no more than a hint for {:?}", leaf(module)))
            }
        };
    };
    match found.iter().find(|(other, _)| other != layout) {
        Some((other, contrary)) => Err(format!("{reason} says {layout}, but {contrary} says {other}")),
        None => Ok(*layout),
    }
}

#[cfg(test)]
mod tests {
    use super::{Layout::*, *};

    #[test]
    fn shapes_decide_where_they_can() {
        assert_eq!(by_shape(&[3, 2], [3, 2]), Some(OutIn));
        assert_eq!(by_shape(&[2, 3], [3, 2]), Some(InOut));
        assert_eq!(by_shape(&[2, 2], [2, 2]), None);
        assert_eq!(by_shape(&[4, 4], [3, 2]), None);
        assert_eq!((by_bias(&[3, 2], 3), by_bias(&[3, 2], 2)), (Some(OutIn), Some(InOut)));
        assert_eq!((by_bias(&[2, 2], 2), by_bias(&[3, 2], 4)), (None, None));
    }

    #[test]
    fn roles_need_the_hidden_size_on_one_side() {
        for (module, shape, expected) in [
            ("mlp.up_proj", [48, 32], Some(OutIn)),
            ("mlp.up_proj", [16, 32], Some(OutIn)),
            ("mlp.c_fc", [32, 128], Some(InOut)),
            ("mlp.down_proj", [32, 48], Some(OutIn)),
            ("mlp.down_proj", [48, 32], Some(InOut)),
            ("mlp.up_proj", [32, 32], None),
            ("mlp.up_proj", [48, 24], None),
            ("attn.k_proj", [16, 32], None),
        ] {
            assert_eq!(by_role(module, &shape, 32), expected, "{module} {shape:?}");
        }
    }

    #[test]
    fn types_of_models() {
        let types = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (module, names, remote, expected) in [
            ("h.0.attn.c_proj", &["gpt2"][..], false, Some(InOut)),
            ("score", &["gpt2"], false, Some(OutIn)),
            ("h.0.attn.c_proj", &["gpt_bigcode"], false, Some(OutIn)),
            ("q_proj", &["llama"], false, Some(OutIn)),
            ("q_proj", &["mine"], true, None),
            ("decoder.h.0.attn.c_proj", &["vision-encoder-decoder", "vit", "gpt2"], false, Some(InOut)),
            ("q_proj", &[], false, None),
        ] {
            assert_eq!(by_type(module, &types(names), remote), expected, "{module} {names:?}");
        }
    }

    #[test]
    fn what_contradicts_or_is_unknown_is_left_open() {
        let found = |layouts: &[Layout]| layouts.iter().map(|l| (*l, format!("<{l}>"))).collect::<Vec<_>>();
        assert_eq!(square("q_proj", &found(&[InOut, InOut]), false), Ok(InOut));
        let error = square("q_proj", &found(&[OutIn, InOut]), false).unwrap_err();
        assert!(error.contains("<out-in> says out-in, but <in-out> says in-out"), "{error}");
        assert_eq!(square("q_proj", &[], false), Ok(OutIn));
        assert_eq!(square("c_proj", &[], true), Ok(InOut));
        assert!(square("c_proj", &[], false).is_err() && square("q_proj", &[], true).is_err());
    }
}

//! `adapter_config.json`: rank and scale of each module, and which modules it changes in another way.

use std::path::{Path, PathBuf};

use super::{
    error::{ConfigError, ConfigProblem},
    files,
    json::Json,
    keys::{self, Meaning},
    pattern::Patterns,
    targets::{Exclusion, Targets},
};

/// The input embedding, by the last part of its name.
const EMBEDDINGS: &[&str] = &["embed_tokens", "wte", "word_embeddings", "embed_in", "shared"];

/// What the configuration says about the forward pass.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) file: PathBuf,
    pub(super) fan_in_fan_out: bool,
    /// Keys that are ignored, as PEFT does, and why.
    pub(super) warnings: Vec<String>,
    rank: usize,
    alpha: f64,
    rslora: bool,
    rank_pattern: Patterns<usize>,
    alpha_pattern: Patterns<f64>,
    targets: Targets,
    refusals: Vec<Refusal>,
}

/// Something that is not implemented, and the modules that it changes.
#[derive(Debug)]
struct Refusal {
    changes: Changes,
    key: String,
    found: String,
    /// None: the key is unknown.
    why: Option<&'static str>,
}

#[derive(Debug)]
enum Changes {
    All,
    /// Those that share the weight of an embedding.
    Tied,
    /// The modules of these names, or of names that end so.
    Named(Vec<String>),
}

impl Config {
    pub(super) fn read(file: &Path) -> Result<Config, ConfigError> {
        match files::read_text(file) {
            Ok(text) => Config::parse(file.to_owned(), &text),
            Err(source) => Err(ConfigError::Io { file: file.to_owned(), source }),
        }
    }

    fn parse(file: PathBuf, text: &[u8]) -> Result<Config, ConfigError> {
        match config(text) {
            Ok(config) => Ok(Config { file, ..config }),
            Err(problem) => Err(ConfigError::Content { file, problem }),
        }
    }

    /// The rank of `module`.
    pub(super) fn rank(&self, module: &str) -> Result<usize, ConfigError> {
        let rank = self.rank_pattern.get(module).map_err(|slow| self.too_slow("rank_pattern", slow))?;
        Ok(rank.unwrap_or(self.rank))
    }

    /// s of `module`: a finite f64 that is also finite as an f32.
    pub(super) fn scale(&self, module: &str) -> Result<f64, ConfigError> {
        let rank = self.rank(module)?;
        let alpha = self.alpha_pattern.get(module).map_err(|slow| self.too_slow("alpha_pattern", slow))?;
        let alpha = alpha.unwrap_or(self.alpha);
        let scale = alpha / if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
        if (scale as f32).is_finite() {
            Ok(scale)
        } else {
            Err(self.bad(ConfigProblem::Scale { module: module.to_owned(), alpha, rank, scale }))
        }
    }

    /// Fails if the configuration changes `module`, which may share the weight of an embedding, in a way that
    /// is not implemented.
    pub(super) fn check(&self, module: &str, tied: bool) -> Result<(), ConfigError> {
        let changed = |changes: &Changes| match changes {
            Changes::All => true,
            Changes::Tied => tied,
            Changes::Named(names) => names.iter().any(|name| {
                module.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
        };
        let Some(refusal) = self.refusals.iter().find(|refusal| changed(&refusal.changes)) else {
            return Ok(());
        };
        let (key, found) = (refusal.key.clone(), refusal.found.clone());
        Err(self.bad(match refusal.why {
            Some(why) => ConfigProblem::Unsupported { key, found, why },
            None => ConfigProblem::UnknownKey { key, found },
        }))
    }

    /// Why PEFT does not adapt `module`, whatever the file holds for it.
    pub(super) fn exclusion(&self, module: &str) -> Result<Option<Exclusion>, ConfigError> {
        self.targets.exclusion(module).map_err(|problem| self.bad(problem))
    }

    fn bad(&self, problem: ConfigProblem) -> ConfigError {
        ConfigError::Content { file: self.file.clone(), problem }
    }

    fn too_slow(&self, key: &'static str, (pattern, reason): (String, String)) -> ConfigError {
        self.bad(ConfigProblem::Pattern { key, pattern, reason })
    }
}

/// What a file says; its name is left open.
fn config(text: &[u8]) -> Result<Config, ConfigProblem> {
    let broken = |reason| ConfigProblem::Json { reason };
    let entries = match Json::parse(text) {
        Ok(Json::Object(entries)) => entries,
        Ok(json) => return Err(broken(format!("an object is expected, found {}", json.excerpt()))),
        Err(reason) => return Err(files::foreign_text(text).map_or(broken(reason), ConfigProblem::Foreign)),
    };
    let has = |key: &str| entries.iter().any(|(k, _)| k == key);
    if !has("peft_type") && (has("lora_parameters") || has("fine_tune_type")) {
        return Err(ConfigProblem::Foreign(MLX));
    }
    let (mut peft_type, mut r, mut alpha) = (None, None, None);
    let (mut rslora, mut fan_in_fan_out) = (false, false);
    let (mut rank_pattern, mut alpha_pattern) = (Patterns::new(), Patterns::new());
    let (mut refusals, mut warnings) = (Vec::new(), Vec::new());
    let mut refuse = |changes, key: &str, value: &Json, why| {
        refusals.push(Refusal { changes, key: key.to_owned(), found: value.excerpt(), why });
    };
    for (key, value) in &entries {
        match key.as_str() {
            "peft_type" if *value != Json::String("LORA".into()) => {
                let (key, found) = (key.clone(), value.excerpt());
                return Err(ConfigProblem::Unsupported { key, found, why: "only LORA is" });
            }
            "peft_type" => peft_type = Some(()),
            "r" => r = Some(rank(key, value)?),
            "lora_alpha" => alpha = Some(number(key, value)?),
            "use_rslora" => rslora = switch(key, value)?,
            "fan_in_fan_out" => fan_in_fan_out = switch(key, value)?,
            "rank_pattern" => rank_pattern = patterns("rank_pattern", value, rank)?,
            "alpha_pattern" => alpha_pattern = patterns("alpha_pattern", value, number)?,
            "init_lora_weights" if !init_keeps_base(value) => {
                refuse(
                    Changes::All,
                    key,
                    value,
                    Some("the initialisation may have changed the base weights"),
                );
            }
            "bias" if !["none", "all", "lora_only"].map(|b| Json::String(b.into())).contains(value) => {
                return Err(wrong(key, "\"none\", \"all\" or \"lora_only\"", value));
            }
            "init_lora_weights" | "bias" => {}
            // What they say is in `Targets`.
            "target_modules"
            | "exclude_modules"
            | "modules_to_save"
            | "layers_to_transform"
            | "layers_pattern" => {}
            _ => match keys::meaning(key) {
                Meaning::Neutral => {}
                _ if value.is_off() => {}
                Meaning::Ignored => {
                    warnings.push(format!("{key} = {} is ignored, as PEFT does", value.excerpt()));
                }
                Meaning::Unsupported(why) => refuse(Changes::All, key, value, Some(why)),
                Meaning::PerModule(why) => {
                    for changes in changes(key, value)? {
                        refuse(changes, key, value, Some(why));
                    }
                }
                Meaning::Unknown => refuse(Changes::All, key, value, None),
            },
        }
    }
    let missing = |key| ConfigProblem::MissingKey { key };
    peft_type.ok_or_else(|| missing("peft_type"))?;
    Ok(Config {
        file: PathBuf::new(),
        fan_in_fan_out,
        warnings,
        rank: r.ok_or_else(|| missing("r"))?,
        alpha: alpha.ok_or_else(|| missing("lora_alpha"))?,
        rslora,
        rank_pattern,
        alpha_pattern,
        targets: Targets::read(&entries)?,
        refusals,
    })
}

/// Another program's configuration under PEFT's file name.
const MLX: &str = "the configuration of an adapter of MLX, not of PEFT: its lora_a and lora_b lie the other way \
                   round and its scale is not alpha / r; convert it to PEFT's format";

/// The modules that a key changes while it is on.
fn changes(key: &str, value: &Json) -> Result<Vec<Changes>, ConfigProblem> {
    let module = |item: &Json| match item {
        Json::String(name) => {
            Ok(name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module).to_owned())
        }
        _ => Err(wrong(key, "a list of names", value)),
    };
    match (key, value) {
        ("target_parameters", Json::Array(items)) => {
            Ok(vec![Changes::Named(items.iter().map(module).collect::<Result<_, _>>()?)])
        }
        ("target_parameters", _) => Err(wrong(key, "a list of names", value)),
        ("trainable_token_indices", Json::Object(layers)) => {
            Ok(vec![Changes::Named(layers.iter().map(|(layer, _)| layer.clone()).collect()), Changes::Tied])
        }
        ("trainable_token_indices", _) => Ok(vec![
            Changes::Named(EMBEDDINGS.iter().map(|name| (*name).to_owned()).collect()),
            Changes::Tied,
        ]),
        _ => Ok(vec![Changes::Tied]),
    }
}

fn rank(key: &str, value: &Json) -> Result<usize, ConfigProblem> {
    match value {
        Json::Int(r) if *r >= 1 => {
            usize::try_from(*r).map_err(|_| wrong(key, "a rank that fits the machine", value))
        }
        _ => Err(wrong(key, "an integer of at least 1", value)),
    }
}

fn number(key: &str, value: &Json) -> Result<f64, ConfigProblem> {
    match value {
        Json::Int(i) => Ok(*i as f64),
        Json::Float(x) if x.is_finite() => Ok(*x),
        _ => Err(wrong(key, "a finite number", value)),
    }
}

fn switch(key: &str, value: &Json) -> Result<bool, ConfigProblem> {
    match value {
        Json::Bool(b) => Ok(*b),
        Json::Null => Ok(false),
        _ => Err(wrong(key, "true or false", value)),
    }
}

fn patterns<T: Copy>(
    key: &'static str,
    value: &Json,
    read: impl Fn(&str, &Json) -> Result<T, ConfigProblem>,
) -> Result<Patterns<T>, ConfigProblem> {
    let mut patterns = Patterns::new();
    match value {
        Json::Null => {}
        Json::Object(entries) => {
            for (pattern, value) in entries {
                let value = read(&format!("{key}[{pattern:?}]"), value)?;
                let bad = |reason| ConfigProblem::Pattern { key, pattern: pattern.clone(), reason };
                patterns.push(pattern, value).map_err(bad)?;
            }
        }
        _ => return Err(wrong(key, "an object", value)),
    }
    Ok(patterns)
}

fn init_keeps_base(value: &Json) -> bool {
    match value {
        Json::Bool(_) | Json::Null => true,
        Json::String(name) => keys::init_keeps_base(name),
        _ => false,
    }
}

fn wrong(key: &str, expected: &'static str, value: &Json) -> ConfigProblem {
    ConfigProblem::Value { key: key.to_owned(), expected, found: value.excerpt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with `entries` added to what must be there.
    fn parse(entries: &str) -> Result<Config, ConfigError> {
        let text = format!(r#"{{"peft_type": "LORA"{entries}}}"#);
        Config::parse("adapter_config.json".into(), text.as_bytes())
    }

    #[test]
    fn scale_is_alpha_over_r_or_over_its_root() {
        let config = parse(r#", "r": 16, "lora_alpha": 8"#).unwrap();
        assert_eq!(config.scale("m").unwrap(), 0.5);
        let config = parse(r#", "r": 16, "lora_alpha": 8.0, "use_rslora": true"#).unwrap();
        assert_eq!(config.scale("m").unwrap(), 2.0);
        let config = parse(r#", "r": 3, "lora_alpha": -1, "use_rslora": null"#).unwrap();
        assert_eq!(config.scale("m").unwrap(), -1.0 / 3.0);
    }

    #[test]
    fn patterns_decide_rank_and_alpha_in_the_order_of_the_file() {
        let config = parse(
            r#", "r": 8, "lora_alpha": 8, "use_rslora": true,
               "rank_pattern": {"q_proj": 16, ".*proj": 4},
               "alpha_pattern": {"^layers.0.*": 32, "k_proj": 2.5}"#,
        )
        .unwrap();
        for (module, rank, alpha) in [
            ("layers.0.q_proj", 16, 32.0),
            ("layers.1.q_proj", 16, 8.0),
            ("layers.1.k_proj", 4, 2.5),
            ("layers.0.k_proj", 4, 32.0),
            ("layers.1.mlp", 8, 8.0),
        ] {
            assert_eq!(config.rank(module).unwrap(), rank, "{module}");
            assert_eq!(config.scale(module).unwrap(), alpha / (rank as f64).sqrt(), "{module}");
        }
    }

    #[test]
    fn a_scale_beyond_f32_is_refused_with_its_module() {
        let config = parse(r#", "r": 2, "lora_alpha": 1, "alpha_pattern": {"q": 1e300}"#).unwrap();
        assert_eq!(config.scale("k").unwrap(), 0.5);
        let error = config.scale("q").unwrap_err().to_string();
        assert!(error.contains("module \"q\"") && error.contains("alpha 1e300"), "{error}");
    }

    #[test]
    fn neutral_keys_pass_and_off_is_off() {
        let base = r#", "r": 2, "lora_alpha": 4"#;
        for entry in [
            r#""qalora_group_size": 16, "megatron_core": "megatron.core", "lora_dropout": 0.1"#,
            r#""target_modules": ["q"], "layers_to_transform": [1, 2], "task_type": "CAUSAL_LM""#,
            r#""init_lora_weights": "eva", "eva_config": {"rho": 2.0}"#,
            r#""init_lora_weights": false, "bias": "none", "lora_bias": false, "use_dora": null"#,
            r#""corda_config": {"corda_method": "kpm"}, "lora_ga_config": {"direction": "ArB2r"}"#,
            r#""loftq_config": {}, "modules_to_save": null, "layer_replication": [], "use_bdlora": null"#,
            r#""of_the_future": null, "and": false, "more": [], "still": {}, "yet": """#,
            r#""rank_pattern": null, "alpha_pattern": {}"#,
        ] {
            let config = parse(&format!("{base}, {entry}"));
            config
                .and_then(|config| config.check("lm_head", true))
                .unwrap_or_else(|e| panic!("{entry}: {e}"));
        }
    }

    #[test]
    fn what_changes_the_result_is_refused_by_name() {
        for (key, value) in [
            ("use_dora", "true"),
            ("lora_bias", "true"),
            ("bias", "null"),
            ("peft_type", "\"LOHA\""),
            ("peft_type", "null"),
            ("use_qalora", "true"),
            ("alora_invocation_tokens", "[1, 2]"),
            ("modules_to_save", "\"lm_head\""),
            ("modules_to_save", "[\"(\"]"),
            ("target_modules", "\"(\""),
            ("target_modules", "[1]"),
            ("layers_to_transform", "[0.5]"),
            ("layers_pattern", "[\"(\"]"),
            ("target_parameters", "[\"m.up\"]"),
            ("trainable_token_indices", "{\"m\": [1]}"),
            ("trainable_token_indices", "{\"model.m\": [1]}"),
            ("layer_replication", "[[0, 4]]"),
            ("init_lora_weights", "\"pissa\""),
            ("init_lora_weights", "\"pissa_niter_4\""),
            ("init_lora_weights", "\"olora\""),
            ("init_lora_weights", "\"loftq\""),
            ("init_lora_weights", "\"corda\""),
            ("init_lora_weights", "\"lora_ga\""),
            ("init_lora_weights", "\"of_the_future\""),
            ("init_lora_weights", "1"),
            ("use_bdlora", "{\"nblocks\": 2}"),
            ("arrow_config", "{\"top_k\": 3}"),
            ("kasa_config", "{\"beta\": 0.1}"),
            ("monteclora_config", "{\"num_samples\": 8}"),
            ("velora_config", "{\"scale\": 1.0}"),
            ("megatron_config", "{\"x\": 1}"),
            ("enable_lora", "[true, false, true]"),
            ("of_the_future", "true"),
            ("of_the_future", "0"),
            ("of_the_future", "NaN"),
            ("of_the_future", "\"x\""),
            ("of_the_future", "[0]"),
            ("r", "0"),
            ("r", "-4"),
            ("r", "8.0"),
            ("r", "true"),
            ("r", "null"),
            ("r", "\"8\""),
            ("r", "100000000000000000000000000000"),
            ("lora_alpha", "NaN"),
            ("lora_alpha", "Infinity"),
            ("lora_alpha", "-Infinity"),
            ("lora_alpha", "\"16\""),
            ("lora_alpha", "null"),
            ("use_rslora", "1"),
            ("fan_in_fan_out", "\"yes\""),
            ("rank_pattern", "{\"q\": 0}"),
            ("rank_pattern", "{\"q\": 1.5}"),
            ("rank_pattern", "{\"(\": 2}"),
            ("rank_pattern", "[1]"),
            ("alpha_pattern", "{\"q\": NaN}"),
            ("alpha_pattern", "{\"q\": null}"),
        ] {
            let required = [("peft_type", "\"LORA\""), ("r", "2"), ("lora_alpha", "4")];
            let mut entries: Vec<_> = required.into_iter().filter(|(k, _)| *k != key).collect();
            entries.push((key, value));
            let text: Vec<_> = entries.iter().map(|(k, v)| format!("{k:?}: {v}")).collect();
            let text = format!("{{{}}}", text.join(", "));
            let found = Config::parse("dir/adapter_config.json".into(), text.as_bytes())
                .and_then(|config| config.check("model.m", false));
            let error = found.err().unwrap_or_else(|| panic!("{text} passed")).to_string();
            assert!(error.starts_with("dir/adapter_config.json: ") && error.contains(key), "{text}: {error}");
            assert!(!error.contains("broken JSON") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn what_changes_other_modules_is_left_alone() {
        for (entry, changed, tied) in [
            (r#""trainable_token_indices": [1, 2]"#, "lm_head", true),
            (r#""trainable_token_indices": {"embed_tokens": [1]}"#, "lm_head", true),
            (r#""trainable_token_indices": {"embed_tokens": [1]}"#, "model.embed_tokens", false),
            (r#""target_parameters": ["mlp.experts.up"]"#, "layers.0.mlp.experts", false),
            (r#""ensure_weight_tying": true"#, "lm_head", true),
        ] {
            let config = parse(&format!(r#", "r": 2, "lora_alpha": 4, {entry}"#)).unwrap();
            for module in ["layers.0.q_proj", "lm_head"] {
                config.check(module, false).unwrap_or_else(|e| panic!("{entry}: {e}"));
            }
            assert!(config.check(changed, tied).is_err(), "{entry}");
        }
        let config =
            parse(r#", "r": 2, "lora_alpha": 4, "merge_weights": true, "lora_dtype": null"#).unwrap();
        assert_eq!(config.warnings, ["merge_weights = true is ignored, as PEFT does"]);
    }

    #[test]
    fn the_deciding_keys_must_be_there() {
        for (text, key) in [
            (r#"{"r": 1, "lora_alpha": 1}"#, "peft_type"),
            (r#"{"peft_type": "LORA", "lora_alpha": 1}"#, "r"),
            (r#"{"peft_type": "LORA", "r": 1}"#, "lora_alpha"),
        ] {
            let error = config(text.as_bytes()).unwrap_err();
            assert!(matches!(error, ConfigProblem::MissingKey { key: found } if found == key), "{error}");
        }
        assert!(matches!(config(b"[]"), Err(ConfigProblem::Json { .. })));
    }
}

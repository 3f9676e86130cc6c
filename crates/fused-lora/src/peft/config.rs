//! `adapter_config.json`: rank and scale of each module, or a refusal.

use std::{fs, path::PathBuf};

use super::{
    error::{ConfigError, ConfigProblem},
    json::Json,
    keys::{self, Meaning},
    pattern::Patterns,
};

/// What the configuration says about the forward pass.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) file: PathBuf,
    pub(super) fan_in_fan_out: bool,
    rank: usize,
    alpha: f64,
    rslora: bool,
    rank_pattern: Patterns<usize>,
    alpha_pattern: Patterns<f64>,
}

impl Config {
    pub(super) fn read(file: PathBuf) -> Result<Config, ConfigError> {
        match fs::read(&file) {
            Ok(text) => Config::parse(file, &text),
            Err(source) => Err(ConfigError::Io { file, source }),
        }
    }

    fn parse(file: PathBuf, text: &[u8]) -> Result<Config, ConfigError> {
        match config(text) {
            Ok(config) => Ok(Config { file, ..config }),
            Err(problem) => Err(ConfigError::Content { file, problem }),
        }
    }

    /// The rank of `module`.
    pub(super) fn rank(&self, module: &str) -> usize {
        self.rank_pattern.get(module).unwrap_or(self.rank)
    }

    /// s of `module`: a finite f64 that is also finite as an f32.
    pub(super) fn scale(&self, module: &str) -> Result<f64, ConfigError> {
        let rank = self.rank(module);
        let alpha = self.alpha_pattern.get(module).unwrap_or(self.alpha);
        let scale = alpha / if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
        if (scale as f32).is_finite() {
            Ok(scale)
        } else {
            let problem = ConfigProblem::Scale { module: module.to_owned(), alpha, rank, scale };
            Err(ConfigError::Content { file: self.file.clone(), problem })
        }
    }
}

/// What a file says; its name is left open.
fn config(text: &[u8]) -> Result<Config, ConfigProblem> {
    let broken = |reason| ConfigProblem::Json { reason };
    let entries = match Json::parse(text).map_err(broken)? {
        Json::Object(entries) => entries,
        json => return Err(broken(format!("an object is expected, found {}", json.excerpt()))),
    };
    let (mut peft_type, mut r, mut alpha) = (None, None, None);
    let (mut rslora, mut fan_in_fan_out) = (false, false);
    let (mut rank_pattern, mut alpha_pattern) = (Patterns::new(), Patterns::new());
    for (key, value) in &entries {
        match key.as_str() {
            "peft_type" if *value != Json::String("LORA".into()) => {
                return Err(unsupported(key, value, "only LORA is"));
            }
            "peft_type" => peft_type = Some(()),
            "r" => r = Some(rank(key, value)?),
            "lora_alpha" => alpha = Some(number(key, value)?),
            "use_rslora" => rslora = switch(key, value)?,
            "fan_in_fan_out" => fan_in_fan_out = switch(key, value)?,
            "rank_pattern" => rank_pattern = patterns("rank_pattern", value, rank)?,
            "alpha_pattern" => alpha_pattern = patterns("alpha_pattern", value, number)?,
            "init_lora_weights" => init(key, value)?,
            "bias" if *value != Json::String("none".into()) => {
                let why = "trained biases replace those of the base; only \"none\" is";
                return Err(unsupported(key, value, why));
            }
            "bias" => {}
            _ => other(key, value)?,
        }
    }
    let missing = |key| ConfigProblem::MissingKey { key };
    peft_type.ok_or_else(|| missing("peft_type"))?;
    Ok(Config {
        file: PathBuf::new(),
        fan_in_fan_out,
        rank: r.ok_or_else(|| missing("r"))?,
        alpha: alpha.ok_or_else(|| missing("lora_alpha"))?,
        rslora,
        rank_pattern,
        alpha_pattern,
    })
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

fn init(key: &str, value: &Json) -> Result<(), ConfigProblem> {
    match value {
        Json::Bool(_) | Json::Null => Ok(()),
        Json::String(name) if keys::init_keeps_base(name) => Ok(()),
        _ => Err(unsupported(key, value, "the initialisation may have changed the base weights")),
    }
}

fn other(key: &str, value: &Json) -> Result<(), ConfigProblem> {
    match keys::meaning(key) {
        Meaning::Neutral => Ok(()),
        _ if value.is_off() => Ok(()),
        Meaning::Unsupported(why) => Err(unsupported(key, value, why)),
        Meaning::Unknown => Err(ConfigProblem::UnknownKey { key: key.to_owned(), found: value.excerpt() }),
    }
}

fn wrong(key: &str, expected: &'static str, value: &Json) -> ConfigProblem {
    ConfigProblem::Value { key: key.to_owned(), expected, found: value.excerpt() }
}

fn unsupported(key: &str, value: &Json, why: &'static str) -> ConfigProblem {
    ConfigProblem::Unsupported { key: key.to_owned(), found: value.excerpt(), why }
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
            assert_eq!(config.rank(module), rank, "{module}");
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
            r#""loftq_config": {}, "modules_to_save": null, "layer_replication": [], "use_bdlora": null"#,
            r#""of_the_future": null, "and": false, "more": [], "still": {}, "yet": """#,
            r#""rank_pattern": null, "alpha_pattern": {}"#,
        ] {
            parse(&format!("{base}, {entry}")).unwrap_or_else(|e| panic!("{entry}: {e}"));
        }
    }

    #[test]
    fn what_changes_the_result_is_refused_by_name() {
        for (key, value) in [
            ("use_dora", "true"),
            ("lora_bias", "true"),
            ("bias", "\"all\""),
            ("bias", "\"lora_only\""),
            ("bias", "null"),
            ("peft_type", "\"LOHA\""),
            ("peft_type", "null"),
            ("use_qalora", "true"),
            ("alora_invocation_tokens", "[1, 2]"),
            ("modules_to_save", "[\"lm_head\"]"),
            ("target_parameters", "[\"experts.up\"]"),
            ("trainable_token_indices", "{\"embed\": [1]}"),
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
            ("loftq_config", "{\"loftq_bits\": 4}"),
            ("corda_config", "{\"corda_method\": \"kpm\"}"),
            ("lora_ga_config", "{\"direction\": \"ArB2r\"}"),
            ("megatron_config", "{\"x\": 1}"),
            ("ensure_weight_tying", "true"),
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
            let error = match Config::parse("dir/adapter_config.json".into(), text.as_bytes()) {
                Ok(config) => panic!("{text} passed: {config:?}"),
                Err(error) => error.to_string(),
            };
            assert!(error.starts_with("dir/adapter_config.json: ") && error.contains(key), "{text}: {error}");
            assert!(!error.contains("broken JSON") && !error.contains('\n'), "{text}: {error}");
        }
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

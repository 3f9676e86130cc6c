//! Which modules a configuration leaves out: PEFT's `check_target_module_exists`, on names.

use super::{error::ConfigProblem, json::Json, names::leaf, python_regex::PythonRegex};

/// The shorthand for every linear layer but the head.
const ALL_LINEAR: &str = "all-linear";
/// Output layers, which `all-linear` leaves out; PEFT asks the model for them.
const HEADS: &[&str] = &["lm_head", "embed_out"];
/// Output layers of a sequence classifier, at the top of the model.
const CLASSIFIERS: &[&str] = &["score", "classifier"];

/// Why a module is not adapted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exclusion {
    /// It is not among `target_modules`.
    NotTargeted,
    /// `exclude_modules` names it.
    Excluded,
    /// It is, or is below, one of `modules_to_save`.
    Saved,
    /// `layers_to_transform` does not have its layer.
    Layer,
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotTargeted => "target_modules does not name it",
            Self::Excluded => "exclude_modules names it",
            Self::Saved => "modules_to_save names it or a module above it",
            Self::Layer => "layers_to_transform does not name its layer",
        })
    }
}

/// An expression for the whole name, or names and their endings.
#[derive(Debug)]
enum Names {
    Expression(PythonRegex),
    List(Vec<String>),
    AllLinear,
}

/// What the keys about modules say.
#[derive(Debug, Default)]
pub(super) struct Targets {
    target: Option<Names>,
    exclude: Option<Names>,
    saved: Vec<PythonRegex>,
    /// None: every layer.
    layers: Option<Vec<i128>>,
    layer_patterns: Vec<PythonRegex>,
    /// `target_parameters` alone, so that no module is targeted.
    parameters_only: bool,
    classifier: bool,
}

impl Targets {
    /// Reads the keys about modules.
    pub(super) fn read(entries: &[(String, Json)]) -> Result<Targets, ConfigProblem> {
        let get = |key: &str| entries.iter().find(|(k, v)| k == key && *v != Json::Null).map(|(_, v)| v);
        let mut targets =
            Targets { classifier: get("task_type") == Some(&text("SEQ_CLS")), ..Self::default() };
        targets.target = get("target_modules").map(|value| names("target_modules", value)).transpose()?;
        // An empty list or text is as none. PEFT compares with None only for `target_modules`.
        let on = |key| get(key).filter(|value| !value.is_off());
        targets.exclude = on("exclude_modules").map(|value| names("exclude_modules", value)).transpose()?;
        for name in on("modules_to_save").map_or(Ok(vec![]), |value| strings("modules_to_save", value))? {
            let expression = format!(r"(^|.*\.){name}($|\..*)");
            targets.saved.push(regex_as("modules_to_save", &name, &expression, PythonRegex::prefix)?);
        }
        targets.parameters_only = targets.target.is_none() && get("target_parameters").is_some();
        targets.layers = match get("layers_to_transform") {
            None => None,
            Some(Json::Int(layer)) => Some(vec![*layer]),
            Some(Json::Array(items)) if items.is_empty() => None,
            Some(value) => {
                let layer = |item: &Json| match item {
                    Json::Int(layer) => Ok(*layer),
                    _ => Err(wrong("layers_to_transform", "a layer's number or a list of them", value)),
                };
                let Json::Array(items) = value else { return Err(layer(value).unwrap_err()) };
                Some(items.iter().map(layer).collect::<Result<_, _>>()?)
            }
        };
        let patterns = match on("layers_pattern") {
            None => vec![],
            Some(Json::String(pattern)) => vec![pattern.clone()],
            Some(value) => strings("layers_pattern", value)?,
        };
        for pattern in &patterns {
            let expression = format!(r"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.");
            let compiled = regex_as("layers_pattern", pattern, &expression, PythonRegex::prefix)?;
            targets.layer_patterns.push(compiled);
        }
        if patterns.is_empty() {
            let first_number = r".*?\.[^.]*\.(?P<idx>\d+)\.";
            targets.layer_patterns.push(regex("layers_pattern", first_number, PythonRegex::prefix)?);
        }
        let fixed = matches!(targets.target, Some(Names::Expression(_) | Names::AllLinear));
        for key in ["layers_to_transform", "layers_pattern"] {
            if let Some(value) = get(key).filter(|_| fixed) {
                return Err(wrong(
                    key,
                    "null beside a target_modules that is one text, as PEFT requires",
                    value,
                ));
            }
        }
        Ok(targets)
    }

    /// Why PEFT leaves `module` out, or none where it adapts it. Fails where an expression takes too long.
    pub(super) fn exclusion(&self, module: &str) -> Result<Option<Exclusion>, ConfigProblem> {
        let too_long = |key| move |reason| ConfigProblem::TooLong { key, reason };
        if let Some(names) = &self.exclude
            && names.name(module).map_err(too_long("exclude_modules"))?.is_some()
        {
            return Ok(Some(Exclusion::Excluded));
        }
        for saved in &self.saved {
            if saved.is_match(module).map_err(too_long("modules_to_save"))? {
                return Ok(Some(Exclusion::Saved));
            }
        }
        if self.parameters_only {
            return Ok(Some(Exclusion::NotTargeted));
        }
        let how = match &self.target {
            // PEFT takes what it knows of the model's type; the file's tensors say the same.
            None => return Ok(None),
            Some(Names::AllLinear) => {
                let head = HEADS.contains(&leaf(module)) || self.classifier && CLASSIFIERS.contains(&module);
                return Ok(head.then_some(Exclusion::NotTargeted));
            }
            Some(names) => names.name(module).map_err(too_long("target_modules"))?,
        };
        match (how, &self.layers) {
            (None, _) => Ok(Some(Exclusion::NotTargeted)),
            // An exact name is not asked for its layer.
            (Some(How::Exactly), _) | (_, None) => Ok(None),
            (Some(How::ByEnding), Some(layers)) => {
                let layer = self.layer(module).map_err(too_long("layers_pattern"))?;
                let included = layer.is_some_and(|layer| layers.contains(&layer));
                Ok((!included).then_some(Exclusion::Layer))
            }
        }
    }

    /// The number of the layer that `module` is in, by the first pattern that matches.
    fn layer(&self, module: &str) -> Result<Option<i128>, String> {
        for pattern in &self.layer_patterns {
            if let Some(number) = pattern.group(module, "idx")? {
                return Ok(number.parse().ok());
            }
        }
        Ok(None)
    }
}

/// How a list names a module.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Exactly,
    ByEnding,
}

impl Names {
    fn name(&self, module: &str) -> Result<Option<How>, String> {
        match self {
            Names::Expression(regex) => Ok(regex.is_match(module)?.then_some(How::Exactly)),
            Names::List(names) if names.iter().any(|name| name == module) => Ok(Some(How::Exactly)),
            Names::List(names) => {
                let ends =
                    |name: &String| module.strip_suffix(name.as_str()).is_some_and(|m| m.ends_with('.'));
                Ok(names.iter().any(ends).then_some(How::ByEnding))
            }
            Names::AllLinear => Ok(None),
        }
    }
}

fn text(value: &str) -> Json {
    Json::String(value.to_owned())
}

fn names(key: &'static str, value: &Json) -> Result<Names, ConfigProblem> {
    match value {
        Json::String(name) if key == "target_modules" && name.to_lowercase() == ALL_LINEAR => {
            Ok(Names::AllLinear)
        }
        Json::String(expression) => Ok(Names::Expression(regex(key, expression, PythonRegex::full)?)),
        value => Ok(Names::List(strings(key, value)?)),
    }
}

fn strings(key: &'static str, value: &Json) -> Result<Vec<String>, ConfigProblem> {
    let string = |item: &Json| match item {
        Json::String(name) => Ok(name.clone()),
        _ => Err(wrong(key, "a list of names", value)),
    };
    match value {
        Json::Array(items) => items.iter().map(string).collect(),
        _ => Err(wrong(key, "a list of names", value)),
    }
}

type Compile = fn(&str) -> Result<PythonRegex, String>;

fn regex(key: &'static str, expression: &str, compile: Compile) -> Result<PythonRegex, ConfigProblem> {
    regex_as(key, expression, expression, compile)
}

/// Compiles `expression`; an error shows what the file says, `pattern`.
fn regex_as(
    key: &'static str,
    pattern: &str,
    expression: &str,
    compile: Compile,
) -> Result<PythonRegex, ConfigProblem> {
    compile(expression).map_err(|reason| ConfigProblem::Pattern { key, pattern: pattern.to_owned(), reason })
}

fn wrong(key: &str, expected: &'static str, value: &Json) -> ConfigProblem {
    ConfigProblem::Value { key: key.to_owned(), expected, found: value.excerpt() }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What PEFT says of each pair, by `tests/fixtures/peft_targets.py`.
    const ROWS: &str = include_str!("../../tests/fixtures/peft_targets.json");

    fn names(value: &Value) -> Vec<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn decides_as_peft_does() {
        let table: Value = serde_json::from_str(ROWS).unwrap();
        let mut pairs = 0;
        for row in table["rows"].as_array().unwrap() {
            let Json::Object(entries) = Json::parse(row["config"].to_string().as_bytes()).unwrap() else {
                panic!("{row}")
            };
            let targets = Targets::read(&entries).unwrap_or_else(|e| panic!("{row}: {e}"));
            let names = names(row.get("names").unwrap_or(&table["names"]));
            let answers = row["answers"].as_str().unwrap();
            assert_eq!(answers.len(), names.len());
            for (name, expected) in names.iter().zip(answers.chars()) {
                let found = match targets.exclusion(name).unwrap() {
                    None => 't',
                    Some(Exclusion::Excluded | Exclusion::Saved) => 'x',
                    Some(Exclusion::NotTargeted | Exclusion::Layer) => 'f',
                };
                assert_eq!(found, expected, "{name} under {}", row["config"]);
                pairs += 1;
            }
        }
        assert!(pairs >= 2000, "{pairs}");
    }
}

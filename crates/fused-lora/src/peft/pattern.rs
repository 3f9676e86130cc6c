//! `rank_pattern` and `alpha_pattern`: which entry of a table counts for a module.

use super::python_regex::PythonRegex;

/// A table from expressions to values, in the file's order.
#[derive(Debug)]
pub(super) struct Patterns<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    key: String,
    regex: PythonRegex,
    value: T,
}

impl<T: Copy> Patterns<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds an entry; on failure says what is wrong with the expression.
    pub(super) fn push(&mut self, key: &str, value: T) -> Result<(), String> {
        // The expression must end where the name ends and begin at the name's start or behind a dot, as in
        // PEFT's `get_pattern_key`.
        let regex = PythonRegex::prefix(&format!(r"(.*\.)?({key})$"))?;
        self.entries.push(Entry { key: key.to_owned(), regex, value });
        Ok(())
    }

    /// The first entry that matches `module`; if none does, one that is spelled exactly like it. The error is
    /// an expression that takes too long, and why.
    pub(super) fn get(&self, module: &str) -> Result<Option<T>, (String, String)> {
        for entry in &self.entries {
            if entry.regex.is_match(module).map_err(|reason| (entry.key.clone(), reason))? {
                return Ok(Some(entry.value));
            }
        }
        // This rule is PEFT's, too: without a match it looks the module's own name up in the table, and a name
        // such as `w[0]` does not match itself as an expression.
        Ok(self.entries.iter().find(|entry| entry.key == module).map(|entry| entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(keys: &[&str]) -> Patterns<usize> {
        let mut patterns = Patterns::new();
        for (i, key) in keys.iter().enumerate() {
            patterns.push(key, i).unwrap_or_else(|e| panic!("{key}: {e}"));
        }
        patterns
    }

    /// Each row was compared with what PEFT's `get_pattern_key` finds for the same table and name.
    #[test]
    fn matches_like_peft() {
        for (keys, module, expected) in [
            (&["q_proj"][..], "layers.0.q_proj", Some(0)),
            (&["q_proj"], "q_proj", Some(0)),
            (&["proj"], "layers.0.q_proj", None),
            (&["q_proj"], "layers.0.q_proj.x", None),
            (&["0.q_proj"], "layers.10.q_proj", None),
            (&["0.q_proj"], "layers.0.q_proj", Some(0)),
            (&["^layers.0.q_proj"], "layers.0.q_proj", Some(0)),
            (&["^layers.0.q_proj"], "model.layers.0.q_proj", None),
            (&["^q_proj"], "layers.0.q_proj", None),
            (&["q_proj|k_proj"], "layers.0.k_proj", Some(0)),
            (&[r"layers\.[0-3]\..*"], "model.layers.2.mlp.up", Some(0)),
            (&[r"layers\.[0-3]\..*"], "model.layers.4.mlp.up", None),
            (&["q.proj"], "layers.0.q_proj", Some(0)),
            (&[".*k_proj", "0.k_proj"], "layers.0.k_proj", Some(0)),
            (&["v_proj", "k_proj", ".*"], "layers.0.k_proj", Some(1)),
            (&["w[0]"], "w[0]", Some(0)),
            (&["w[0]"], "a.w[0]", None),
            (&["a)|(b"], "x.a", Some(0)),
            (&["a)|(b"], "b", Some(0)),
            (&["a)|(b"], "x.b", None),
            (&["(?!0).*_proj"], "0.q_proj", Some(0)),
            (&["^(?!0).*_proj"], "0.q_proj", None),
            (&[], "q_proj", None),
        ] {
            assert_eq!(patterns(keys).get(module), Ok(expected), "{keys:?} on {module}");
        }
    }

    #[test]
    fn bad_expressions_are_refused_in_one_line() {
        for key in ["(", "[a", r"\q"] {
            let error = Patterns::new().push(key, 0).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{key}: {error}");
        }
    }
}

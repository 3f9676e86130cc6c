//! Which modules `--module` names.

use anyhow::{Result, bail};
use fused_lora::peft::LoraFile;
use glob::Pattern;

/// Modules, and whether each has a tensor of its own name in input and output.
pub(crate) struct Selection {
    pub(crate) modules: Vec<String>,
    pub(crate) by_name: bool,
}

impl Selection {
    /// The modules that `asked` names, as the adapter spells them, each once. A name that the adapter does not
    /// have is a pattern if it has one of the characters `*`, `?` and `[`; a `*` takes dots as well.
    pub(crate) fn new(asked: &[String], adapter: &LoraFile) -> Result<Selection> {
        let mut selection = Selection { modules: Vec::new(), by_name: asked.len() > 1 };
        for name in asked {
            let is_pattern =
                name.contains(['*', '?', '[']) && !adapter.modules().any(|module| module == name);
            if is_pattern {
                selection.by_name = true;
                let pattern = match Pattern::new(name) {
                    Ok(pattern) => pattern,
                    Err(error) => bail!("--module {name:?} is no pattern: {}", error.msg),
                };
                let matching: Vec<_> = adapter.modules().filter(|module| pattern.matches(module)).collect();
                if matching.is_empty() {
                    let (file, count) = (adapter.paths()[1].display(), adapter.modules().count());
                    bail!("--module {name:?} matches none of the {count} modules of {file}");
                }
                selection.add(matching);
            } else {
                let module = adapter.module(name)?.name;
                selection.add([module.as_str()]);
            }
        }
        Ok(selection)
    }

    fn add<'a>(&mut self, modules: impl IntoIterator<Item = &'a str>) {
        for module in modules {
            if !self.modules.iter().any(|known| known == module) {
                self.modules.push(module.to_owned());
            }
        }
    }
}

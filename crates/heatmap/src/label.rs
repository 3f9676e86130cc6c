//! What stands to the left of a row of panels.

/// The words beside one row, both read from bottom to top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowLabel {
    /// The row's title, where the y label alone does not name the method.
    pub(crate) title: Option<String>,
    /// The y label: what the ranks are ranks of.
    pub(crate) y: String,
}

impl RowLabel {
    /// The label of a method. The adapters of a transformer layer are labelled as published (Hu et al. 2021,
    /// arXiv 2106.09685, Figure 5): Houlsby's with a raised H, Lin's with a raised L. LoRA follows their
    /// pattern, with whatever the method's name adds in brackets, such as the projections that it is on. Any
    /// other method gets its name as a title.
    pub(crate) fn of(method: &str) -> RowLabel {
        let y = match method {
            "adapter-h" => Some("Adapterᴴ r".to_owned()),
            "adapter-l" => Some("Adapterᴸ r".to_owned()),
            _ => lora(method),
        };
        match y {
            Some(y) => RowLabel { title: None, y },
            None => RowLabel { title: Some(method.to_owned()), y: "Adapter r".to_owned() },
        }
    }
}

/// `lora-fused` → `LoRA fused r`, `lora-fused-qv` → `LoRA fused (q, v) r`.
fn lora(method: &str) -> Option<String> {
    let rest = method.strip_prefix("lora-")?;
    let (strategy, on) = match rest.split_once('-') {
        None => (rest, String::new()),
        Some((_, "")) => return None,
        Some((strategy, "qv")) => (strategy, " (q, v)".to_owned()),
        Some((strategy, on)) => (strategy, format!(" ({on})")),
    };
    ["unfused", "fused"].contains(&strategy).then(|| format!("LoRA {strategy}{on} r"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_a_layer_need_no_title() {
        for (method, y) in [
            ("adapter-h", "Adapterᴴ r"),
            ("adapter-l", "Adapterᴸ r"),
            ("lora-unfused", "LoRA unfused r"),
            ("lora-fused", "LoRA fused r"),
            ("lora-fused-qv", "LoRA fused (q, v) r"),
            ("lora-unfused-mlp-only", "LoRA unfused (mlp-only) r"),
        ] {
            assert_eq!(RowLabel::of(method), RowLabel { title: None, y: y.to_owned() });
        }
    }

    #[test]
    fn others_are_named_by_a_title() {
        for method in
            ["fused", "unfused", "adapter-x", "lora", "lora-", "lora-fused-", "lora-fusedqv", "gemm/base"]
        {
            let label = RowLabel { title: Some(method.to_owned()), y: "Adapter r".to_owned() };
            assert_eq!(RowLabel::of(method), label);
        }
    }
}

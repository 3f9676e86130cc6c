//! The measurements that were published with this repository, for whoever has not measured yet.

/// A file of records below `figures/`: its name and its content.
macro_rules! published {
    ($name:literal) => {
        (concat!("figures/", $name), include_str!(concat!("../../../figures/", $name)))
    };
}

/// What is drawn where nothing was measured, one line per file.
pub(crate) const PUBLISHED: &[(&str, &str)] =
    &[published!("linear-1024x1024-cpu.csv"), published!("gpt2-medium-layer-cpu.csv")];

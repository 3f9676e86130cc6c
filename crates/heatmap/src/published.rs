//! The measurements that were published with this repository, for whoever has not measured yet.

/// File names and contents below `figures/`.
pub(crate) const PUBLISHED: &[(&str, &str)] =
    &[("figures/linear-1024x1024-cpu.csv", include_str!("../../../figures/linear-1024x1024-cpu.csv"))];

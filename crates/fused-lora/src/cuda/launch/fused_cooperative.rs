/// As with recomputed h, but that every cluster has its own, not every CTA: no workspace either.
pub(super) use super::fused_recompute::params;

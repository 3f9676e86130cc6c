//! `FUSED_LORA_PLAN=entry/cluster`: this kernel, in clusters of so many CTAs, wherever its operation is launched. For whoever
//! measures or debugs one kernel.

use std::sync::LazyLock;

use fused_lora_kernels::table::{Kernel, Target};

use super::{
    error::Error,
    gpu::{cluster_sizes, kernels},
};

/// The variable.
const VARIABLE: &str = "FUSED_LORA_PLAN";

/// A kernel that is launched whatever the cost model says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forced {
    pub(super) kernel: &'static Kernel,
    pub(super) cluster: u32,
}

/// What the environment asks for, read once.
pub(super) fn forced() -> Result<Option<Forced>, Error> {
    static FORCED: LazyLock<Result<Option<Forced>, Error>> =
        LazyLock::new(|| match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => Forced::parse(&text).map(Some),
            _ => Ok(None),
        });
    FORCED.clone()
}

impl Forced {
    /// `sm90_gemm_128x256/2`, or `gemm_64x64` for clusters of 1.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadPlan { plan: text.to_owned(), reason };
        let (name, cluster) = text.split_once('/').unwrap_or((text, "1"));
        let kernel = kernels(Target::Sm90a)
            .find(|kernel| kernel.name == name)
            .ok_or_else(|| bad(format!("there is no kernel `{name}`")))?;
        let cluster = cluster.parse().map_err(|_| bad(format!("`{cluster}` is no size of a cluster")))?;
        if !cluster_sizes(kernel, u32::MAX).any(|size| size == cluster) {
            return Err(bad(format!("{name} is not launched in clusters of {cluster}")));
        }
        Ok(Self { kernel, cluster })
    }

    /// The error of a call that it cannot serve.
    pub(super) fn refused(self, reason: &str) -> Error {
        let plan = format!("{}/{}", self.kernel.name, self.cluster);
        Error::BadPlan { plan, reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_and_its_cluster_are_read_or_refused_by_name() {
        let forced = Forced::parse("sm90_gemm_128x256/4").unwrap();
        assert_eq!((forced.kernel.name, forced.cluster), ("sm90_gemm_128x256", 4));
        assert_eq!(Forced::parse("gemm_64x64").unwrap().cluster, 1);
        for (text, part) in [
            ("gemm_1x1", "there is no kernel `gemm_1x1`"),
            ("gemm_64x64/x", "`x` is no size"),
            ("gemm_64x64/2", "gemm_64x64 is not launched in clusters of 2"),
            ("sm90_gemm_split_k_64x128/1", "not launched in clusters of 1"),
        ] {
            let text = Forced::parse(text).unwrap_err().to_string();
            assert!(text.contains(part) && text.contains("FUSED_LORA_PLAN"), "{text}");
        }
    }
}

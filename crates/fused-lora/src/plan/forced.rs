//! `FUSED_LORA_PLAN`: which kernels are launched whatever the cost model says. For whoever measures or debugs
//! one kernel, or has found one that is wrong.
//!
//! - `entry/cluster`: this kernel, in clusters of so many CTAs, wherever its operation is launched.
//! - `-entry/cluster,-entry`: never these; without a cluster, in none.

use std::sync::LazyLock;

use fused_lora_kernels::table::{Kernel, Target};

use super::{
    clusters::{cluster_sizes, kernels},
    error::Error,
};

/// The variable.
const VARIABLE: &str = "FUSED_LORA_PLAN";

/// What the variable asks for.
#[derive(Clone, Debug)]
enum Asked {
    Nothing,
    Always(Forced),
    Never(Vec<LeftOut>),
}

/// A kernel that is launched whatever the cost model says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forced {
    pub(crate) kernel: &'static Kernel,
    pub(crate) cluster: u32,
}

/// A kernel that is not launched, in clusters of one size or, without one, at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftOut {
    pub(crate) kernel: &'static Kernel,
    pub(crate) cluster: Option<u32>,
}

/// What the environment asks for, read once.
fn asked() -> &'static Result<Asked, Error> {
    static ASKED: LazyLock<Result<Asked, Error>> = LazyLock::new(|| match std::env::var(VARIABLE) {
        Ok(text) if text.starts_with('-') => LeftOut::parse_all(&text).map(Asked::Never),
        Ok(text) if !text.is_empty() => Forced::parse(&text).map(Asked::Always),
        _ => Ok(Asked::Nothing),
    });
    &ASKED
}

/// The kernel that the environment asks for. An error where the variable cannot be understood.
pub(crate) fn forced() -> Result<Option<Forced>, Error> {
    match asked() {
        Ok(Asked::Always(forced)) => Ok(Some(*forced)),
        Ok(_) => Ok(None),
        Err(error) => Err(error.clone()),
    }
}

/// The kernels that the environment leaves out. None where the variable cannot be understood: [`forced`] says
/// so.
pub(crate) fn left_out() -> &'static [LeftOut] {
    match asked() {
        Ok(Asked::Never(left_out)) => left_out,
        _ => &[],
    }
}

/// A kernel and, where there is one, the size of its clusters; `plan` is the whole value, for the error.
fn entry(text: &str, plan: &str) -> Result<(&'static Kernel, Option<u32>), Error> {
    let bad = |reason: String| Error::BadPlan { plan: plan.to_owned(), reason };
    let (name, cluster) = text.split_once('/').map_or((text, None), |(name, cluster)| (name, Some(cluster)));
    let kernel = kernels(Target::Sm90a)
        .find(|kernel| kernel.name == name)
        .ok_or_else(|| bad(format!("there is no kernel `{name}`")))?;
    let parse = |size: &str| size.parse().map_err(|_| bad(format!("`{size}` is no size of a cluster")));
    Ok((kernel, cluster.map(parse).transpose()?))
}

/// An error unless the kernel is launched in clusters of that size.
fn require(kernel: &Kernel, cluster: u32, plan: &str) -> Result<(), Error> {
    if cluster_sizes(kernel, u32::MAX).any(|size| size == cluster) {
        return Ok(());
    }
    let reason = format!("{} is not launched in clusters of {cluster}", kernel.name);
    Err(Error::BadPlan { plan: plan.to_owned(), reason })
}

impl Forced {
    /// `sm90_gemm_128x256/2`, or `gemm_64x64` for clusters of 1.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let (kernel, cluster) = entry(text, text)?;
        let cluster = cluster.unwrap_or(1);
        require(kernel, cluster, text)?;
        Ok(Self { kernel, cluster })
    }

    /// The error of a call that it cannot serve.
    pub(crate) fn refused(self, reason: &str) -> Error {
        let plan = format!("{}/{}", self.kernel.name, self.cluster);
        Error::BadPlan { plan, reason: reason.to_owned() }
    }
}

impl LeftOut {
    /// `-sm90_gemm_128x256/2,-gemm_64x64`.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, Error> {
        let one = |item: &str| {
            let item = item.strip_prefix('-').ok_or_else(|| Error::BadPlan {
                plan: text.to_owned(),
                reason: format!(
                    "`{item}` has no `-` in front of it: one kernel is forced, or some are left out"
                ),
            })?;
            let (kernel, cluster) = entry(item, text)?;
            cluster.map_or(Ok(()), |cluster| require(kernel, cluster, text))?;
            Ok(Self { kernel, cluster })
        };
        text.split(',').map(one).collect()
    }

    /// Whether it is this kernel in clusters of this size.
    pub(crate) fn is(self, kernel: &Kernel, cluster: u32) -> bool {
        self.kernel.name == kernel.name && self.cluster.is_none_or(|of| of == cluster)
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
            ("gemm_64x64,-gemm_64x128", "there is no kernel `gemm_64x64,-gemm_64x128`"),
        ] {
            let text = Forced::parse(text).unwrap_err().to_string();
            assert!(text.contains(part) && text.contains("FUSED_LORA_PLAN"), "{text}");
        }
    }

    #[test]
    fn kernels_that_are_left_out_are_read_or_refused_by_name() {
        let left_out = LeftOut::parse_all("-sm90_gemm_128x256/4,-gemm_64x64").unwrap();
        let is = |name, cluster| {
            let kernel = kernels(Target::Sm90a).find(|kernel| kernel.name == name).unwrap();
            left_out.iter().any(|left_out| left_out.is(kernel, cluster))
        };
        assert!(is("sm90_gemm_128x256", 4) && is("gemm_64x64", 1));
        assert!(!is("sm90_gemm_128x256", 2) && !is("gemm_64x64_any", 1));
        let all = LeftOut::parse_all("-sm90_gemm_128x256").unwrap();
        assert!([1, 2, 4, 8].iter().all(|&size| all[0].is(all[0].kernel, size)));
        for (text, part) in [
            ("-gemm_1x1", "there is no kernel `gemm_1x1`"),
            ("-gemm_64x64,gemm_64x128", "`gemm_64x128` has no `-` in front of it"),
            ("-gemm_64x64/", "`` is no size"),
            ("-gemm_64x64/2", "gemm_64x64 is not launched in clusters of 2"),
            ("-", "there is no kernel ``"),
            ("-gemm_64x64,", "`` has no `-`"),
        ] {
            let error = LeftOut::parse_all(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("FUSED_LORA_PLAN={text}: ")) && error.contains(part),
                "{error}"
            );
        }
    }
}

//! GPU architectures.

use std::fmt;

/// What PTX is compiled for, or what ptxas assembles it for.
///
/// Without a letter, `sm_80` PTX runs on every later architecture, and a cubin on later minor versions of the
/// same major one. With an `a`, both run on that one alone, and in exchange have instructions that no other
/// has (PTX ISA, `.target`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Arch {
    /// Ampere: A100.
    Sm80,
    /// Ampere: A10, RTX 30.
    Sm86,
    /// Ada: L4, L40, RTX 40.
    Sm89,
    /// Hopper: H100, H200.
    Sm90,
    /// Hopper alone, with `wgmma` and `setmaxnreg`: H100, H200.
    Sm90a,
    /// Blackwell: B200.
    Sm100,
    /// Blackwell: RTX 50.
    Sm120,
}

impl Arch {
    /// Those without a letter, oldest first.
    const GENERIC: [Self; 6] = [Self::Sm80, Self::Sm86, Self::Sm89, Self::Sm90, Self::Sm100, Self::Sm120];

    /// What PTX for this architecture must be assembled for, to know that it runs wherever it may be loaded:
    /// itself, and all later ones without a letter unless it has one.
    #[must_use]
    pub fn targets(self) -> Vec<Self> {
        if self == Self::Sm90a {
            return vec![self];
        }
        Self::GENERIC.into_iter().filter(|&other| other >= self).collect()
    }

    /// As `ptxas -arch` and `rustc -Ctarget-cpu` call it, and the oldest PTX version that has its
    /// instructions, as LLVM names the feature. Drivers reject PTX that is newer than they are, so nothing
    /// newer is asked for.
    ///
    /// PTX ISA, "Release notes": 7.0 (CUDA 11.0) has all of Ampere's. 8.0 (CUDA 12.0) has `wgmma`,
    /// `setmaxnreg`, bulk and tensor copies, `mbarrier.try_wait`, `stmatrix`, `griddepcontrol`, clusters and
    /// `fence.proxy.async`. Not in 8.0 are `st.async` and `red.async` (8.1), and `.shared::cta` as the
    /// destination of a bulk copy (8.6): `.shared::cluster` includes it.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Sm80 => ("sm_80", "ptx70"),
            Self::Sm86 => ("sm_86", "ptx71"),
            Self::Sm89 => ("sm_89", "ptx78"),
            Self::Sm90 => ("sm_90", "ptx78"),
            Self::Sm90a => ("sm_90a", "ptx80"),
            Self::Sm100 => ("sm_100", "ptx86"),
            Self::Sm120 => ("sm_120", "ptx87"),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().0)
    }
}

#[cfg(test)]
mod tests {
    use super::Arch::{Sm80, Sm86, Sm89, Sm90, Sm90a, Sm100, Sm120};

    #[test]
    fn ptx_without_a_letter_is_assembled_for_all_later_ones_without() {
        assert_eq!(Sm80.targets(), [Sm80, Sm86, Sm89, Sm90, Sm100, Sm120]);
        assert_eq!(Sm90.targets(), [Sm90, Sm100, Sm120]);
        assert_eq!(Sm90a.targets(), [Sm90a]);
    }
}

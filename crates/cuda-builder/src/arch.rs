//! GPU architectures.

use std::fmt;

/// What PTX is compiled for, or what ptxas assembles it for. Without a letter: code for `sm_80` PTX runs on every
/// later one, a cubin on later minor versions of the same major one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Blackwell: B200.
    Sm100,
    /// Blackwell: RTX 50.
    Sm120,
}

impl Arch {
    /// All of them, oldest first.
    pub const ALL: [Self; 6] = [Self::Sm80, Self::Sm86, Self::Sm89, Self::Sm90, Self::Sm100, Self::Sm120];

    /// As `ptxas -arch` and `rustc -Ctarget-cpu` call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm86 => "sm_86",
            Self::Sm89 => "sm_89",
            Self::Sm90 => "sm_90",
            Self::Sm100 => "sm_100",
            Self::Sm120 => "sm_120",
        }
    }

    /// The oldest PTX version that knows the architecture, as LLVM names the feature. Drivers reject PTX that is newer
    /// than they are, so nothing newer is asked for.
    ///
    /// PTX ISA, "Release notes": 7.0 (CUDA 11.0) has all of Ampere's instructions.
    #[must_use]
    pub const fn oldest_ptx(self) -> &'static str {
        match self {
            Self::Sm80 => "ptx70",
            Self::Sm86 => "ptx71",
            Self::Sm89 | Self::Sm90 => "ptx78",
            Self::Sm100 => "ptx86",
            Self::Sm120 => "ptx87",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

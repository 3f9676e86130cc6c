//! Which SIMD levels this machine has.

use std::str::FromStr;

use super::simd::{SIMD_VARIABLE, Simd};
use crate::error::Error;

impl Simd {
    /// The level that [`SIMD_VARIABLE`] names, otherwise the fastest that this machine has.
    ///
    /// # Errors
    ///
    /// [`Error::SimdUnknown`] if the variable names no level, [`Error::SimdUnavailable`] if it names one that
    /// this machine lacks.
    pub fn detect() -> Result<Simd, Error> {
        match std::env::var_os(SIMD_VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse::<Simd>()?.require(),
            _ => Ok(Self::available()[0]),
        }
    }

    /// The levels that this machine has, the fastest first. [`Simd::Portable`] is always one of them.
    pub fn available() -> Vec<Simd> {
        Self::ALL.iter().copied().filter(|simd| simd.is_available()).collect()
    }

    /// Returns the level itself if this machine has it.
    pub(crate) fn require(self) -> Result<Simd, Error> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(Error::SimdUnavailable { simd: self, available: Self::available() })
        }
    }
}

impl FromStr for Simd {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().copied().find(|simd| simd.name() == name);
        found.ok_or_else(|| Error::SimdUnknown { name: name.to_owned() })
    }
}

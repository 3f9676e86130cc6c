//! `--simd`: with which instructions the CPU computes.

use std::ffi::OsString;

use anyhow::Result;
use fused_lora::{
    Error,
    cpu::{SIMD_VARIABLE, Simd},
};

#[derive(clap::Args)]
pub(crate) struct Level {
    /// SIMD level on the CPU: amx, avx512bf16, avx512, avx2 or portable [default: the fastest that this
    /// machine has]
    #[arg(long, value_name = "LEVEL", env = SIMD_VARIABLE)]
    simd: Option<OsString>,
}

impl Level {
    /// The level that is asked for; None where none is, or an empty one.
    pub(crate) fn asked(&self) -> Result<Option<Simd>> {
        let Some(name) = self.simd.as_ref().filter(|name| !name.is_empty()) else { return Ok(None) };
        let simd: Simd = name.to_string_lossy().parse()?;
        let available = Simd::available();
        if available.contains(&simd) {
            Ok(Some(simd))
        } else {
            Err(Error::SimdUnavailable { simd, available }.into())
        }
    }

    /// That level, or the fastest that this machine has.
    pub(crate) fn simd(&self) -> Result<Simd> {
        Ok(self.asked()?.unwrap_or_else(|| Simd::available()[0]))
    }
}

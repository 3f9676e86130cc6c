//! What breaks a context: a kernel's or a copy's fault, and the error that the driver gives for it.

use fused_lora_simt::{Kind, Report};

use crate::code::Code;

/// What the name of an allocation starts with once it is freed.
pub(crate) const FREED: &str = "freed allocation";

/// A fault of work that was under way.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Fault {
    /// A copy that leaves every allocation.
    pub(crate) fn illegal_address(text: String) -> Self {
        Self { code: Code::ILLEGAL_ADDRESS, text }
    }
}

impl From<Report> for Fault {
    fn from(report: Report) -> Self {
        let code = match &report.kind {
            Kind::OutOfBounds { .. } | Kind::ReadOnly { .. } => Code::ILLEGAL_ADDRESS,
            Kind::Poison { address, .. } if address.starts_with(FREED) => Code::ILLEGAL_ADDRESS,
            Kind::Misaligned { .. } => Code::MISALIGNED_ADDRESS,
            _ => Code::LAUNCH_FAILED,
        };
        Self { code, text: report.to_string() }
    }
}

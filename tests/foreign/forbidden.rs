//! What foreign code does that the strict reading forbids, and real hardware does not mind.
//!
//! An entry names modules, an instruction, and an amendment of their PTX. With all amendments a module is clean; without this one
//! the machine reports that instruction, and nothing before it. So nothing is lenient: the machine reports it everywhere.

use fused_lora_simt::Report;

use crate::manifest::Kernel;

/// One thing that is forbidden, in some modules.
pub(crate) struct Forbidden {
    /// How the names of the modules begin.
    pub(crate) modules: &'static [&'static str],
    /// What the line contains that is reported.
    pub(crate) instruction: &'static str,
    /// What the report contains.
    pub(crate) report: &'static str,
    /// What is done to the PTX instead.
    pub(crate) amendment: Amendment,
    /// Why real hardware does not mind.
    #[expect(dead_code, reason = "for readers")]
    pub(crate) why: &'static str,
    /// The section of the PTX manual.
    #[expect(dead_code, reason = "for readers")]
    pub(crate) section: &'static str,
}

/// A change of the PTX.
pub(crate) enum Amendment {
    /// After each line that contains the first text comes the second as a line.
    InsertAfter(&'static str, &'static str),
}

/// All of it.
pub(crate) const FORBIDDEN: &[Forbidden] = &[];

impl Forbidden {
    /// Whether a report is about this.
    pub(crate) fn is_about(&self, report: &Report, line: &str) -> bool {
        line.contains(self.instruction) && report.to_string().contains(self.report)
    }

    fn is_in(&self, kernel: &Kernel) -> bool {
        self.modules.iter().any(|module| kernel.name.starts_with(module))
    }
}

/// What is forbidden in a kernel.
pub(crate) fn of(kernel: &Kernel) -> impl Iterator<Item = &'static Forbidden> {
    FORBIDDEN.iter().filter(|entry| entry.is_in(kernel))
}

/// The PTX with all amendments, `except` one.
pub(crate) fn amended(kernel: &Kernel, text: &str, except: Option<&Forbidden>) -> Result<String, String> {
    let mut text = text.to_owned();
    for entry in of(kernel).filter(|entry| !except.is_some_and(|except| std::ptr::eq(*entry, except))) {
        text = match entry.amendment {
            Amendment::InsertAfter(after, line) => {
                if !text.contains(after) {
                    return Err(format!("{after:?} is not there"));
                }
                let amended = |old: &str| {
                    if old.contains(after) { format!("{old}\n{line}\n") } else { format!("{old}\n") }
                };
                text.lines().map(amended).collect()
            }
        };
    }
    Ok(text)
}

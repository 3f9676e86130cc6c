//! PTX modules, as text: read, decoded, and run on the machine.
//!
//! [`Module::parse`] refuses what the machine does not know, by line, column and instruction. A [launch](Module::launch) of an entry
//! runs as any other; reports name lines of the PTX.

mod arithmetic;
mod code;
mod decode;
mod lane;
mod module;
mod slots;
mod text;

use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

pub use text::Refused;

use crate::Launch;
use code::Code;

/// A module: the entries of a PTX text.
#[derive(Debug)]
pub struct Module {
    name: &'static str,
    target: String,
    entries: Vec<Entry>,
}

/// An entry of a module: a kernel.
#[derive(Debug)]
pub struct Entry {
    name: String,
    parameter_bytes: u32,
    threads: Option<u32>,
    registers: Option<u32>,
    /// As decoded; registers get their slots at the first launch.
    decoded: Mutex<Option<Code>>,
    code: OnceLock<Arc<Code>>,
}

/// Names of modules, which reports keep: each is leaked once.
static NAMES: LazyLock<Mutex<Vec<&'static str>>> = LazyLock::new(Mutex::default);

/// The name for good.
fn interned(name: &str) -> &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.iter().find(|known| **known == name) {
        return known;
    }
    let new: &'static str = Box::leak(name.into());
    names.push(new);
    new
}

impl Module {
    /// Reads a module; `name` is what reports call it.
    ///
    /// # Errors
    ///
    /// The first thing that is no PTX, or that the machine does not know.
    pub fn parse(name: &str, text: &str) -> Result<Self, Refused> {
        let parsed = module::parse(text)?;
        let entry = |entry: &module::ParsedEntry<'_>| {
            Ok(Entry {
                name: entry.name.to_owned(),
                parameter_bytes: entry.parameters,
                threads: entry.threads,
                registers: entry.registers,
                decoded: Mutex::new(Some(decode::decode(entry)?)),
                code: OnceLock::new(),
            })
        };
        let entries = parsed.entries.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { name: interned(name), target: parsed.target.to_owned(), entries })
    }

    /// What it was compiled for: `sm_90a`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// A launch of an entry with these parameters: their bytes, one after another, each aligned as it is declared.
    ///
    /// # Panics
    ///
    /// If there are not as many bytes of parameters as the entry declares.
    #[must_use]
    pub fn launch(
        &self,
        entry: &Entry,
        parameters: &[u8],
        grid: u32,
        block: u32,
        shared_bytes: u32,
    ) -> Launch {
        assert_eq!(parameters.len(), entry.parameter_bytes as usize, "bytes of parameters of {}", entry.name);
        let kernel = lane::Kernel { module: self.name, code: entry.code(), parameters: parameters.into() };
        Launch::new(&*entry.name, grid, block, shared_bytes, move || lane::run(&kernel))
    }
}

impl Entry {
    /// The code, with slots for its registers.
    fn code(&self) -> Arc<Code> {
        let assigned = || {
            let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
            let mut code = decoded.take().expect("it is taken once");
            slots::assign(&mut code);
            Arc::new(code)
        };
        Arc::clone(self.code.get_or_init(assigned))
    }

    /// Registers of 64 bits that a lane keeps.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.code().registers
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its parameters.
    #[must_use]
    pub fn parameter_bytes(&self) -> u32 {
        self.parameter_bytes
    }

    /// Lanes of a CTA at most, where it says so (`.maxntid`, `.reqntid`).
    #[must_use]
    pub fn threads(&self) -> Option<u32> {
        self.threads
    }

    /// Registers of a lane at most, where it says so (`.maxnreg`).
    #[must_use]
    pub fn registers(&self) -> Option<u32> {
        self.registers
    }
}

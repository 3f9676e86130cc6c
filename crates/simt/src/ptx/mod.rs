//! PTX modules, as text: read, decoded, and run on the machine.
//!
//! [`Module::parse`] refuses what the machine does not know, by line, column and instruction. A
//! [launch](Module::launch) of an entry runs as any other; reports name lines of the PTX.

mod arithmetic;
mod blocks;
mod body;
mod code;
mod comparison;
mod constants;
mod conversion;
mod covered;
mod decode;
mod fences;
mod floats;
mod head;
mod lane;
mod module;
mod operand;
mod parameter;
mod parsed;
mod rounding;
mod shared;
mod slots;
mod target;
mod text;
mod types;

use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use crate::{coverage::Coverage, source::Lines};
pub use covered::{Covered, Missing};
pub use parameter::Parameter;
pub use text::Refused;

use crate::{coverage::Marks, launch::Launch, site::Place, source::Source};
use code::Code;
use target::Target;

/// A module: the entries of a PTX text.
#[derive(Debug)]
pub struct Module {
    source: Arc<Source>,
    version: String,
    target: String,
    entries: Vec<Entry>,
}

/// An entry of a module: a kernel.
#[derive(Debug)]
pub struct Entry {
    name: String,
    parameters: Vec<Parameter>,
    threads: Option<u32>,
    ctas: Option<u32>,
    registers: Option<u32>,
    static_shared: u32,
    /// As decoded; registers get their slots at the first launch.
    decoded: Mutex<Option<Code>>,
    code: OnceLock<Arc<Code>>,
}

impl Module {
    /// Reads a module; `name` is what reports call it.
    ///
    /// # Errors
    ///
    /// The first thing that is no PTX, or that the machine does not know.
    pub fn parse(name: &str, text: &str) -> Result<Self, Refused> {
        let parsed = module::parse(text)?;
        let target = Target::named(parsed.target);
        let parameter = |&parsed::Parameter { offset, bytes, align, .. }: &parsed::Parameter<'_>| Parameter {
            offset,
            bytes,
            align,
        };
        let entry = |entry: &parsed::ParsedEntry<'_>| {
            Ok(Entry {
                name: entry.name.to_owned(),
                parameters: entry.parameters.iter().map(parameter).collect(),
                threads: entry.threads,
                ctas: entry.ctas,
                registers: entry.registers,
                static_shared: entry.static_shared,
                decoded: Mutex::new(Some(decode::decode(entry, target, Arc::clone(&parsed.constants))?)),
                code: OnceLock::new(),
            })
        };
        let entries = parsed.entries.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self {
            source: Arc::new(Source::new(name)),
            version: parsed.version.to_owned(),
            target: parsed.target.to_owned(),
            entries,
        })
    }

    /// The same, with the lines of Rust that its own came from. Of those, `is_wrapper` says whether a place
    /// only wraps instructions: reports and [sites](crate::Site) name the first place that does not.
    #[must_use]
    pub fn with_lines(self, lines: Lines, is_wrapper: fn(&Place) -> bool) -> Self {
        Self { source: Arc::new(self.source.with_lines(lines, is_wrapper)), ..self }
    }

    /// The instructions of an entry: whether each was executed, each backward branch taken, and each wait for
    /// an mbarrier made for both parities.
    #[must_use]
    pub fn covered(&self, entry: &Entry, coverage: &Coverage) -> Vec<Covered> {
        covered::covered(&entry.code(), &self.source, coverage.seen(entry.name()))
    }

    /// Where the instruction on a line came from.
    #[must_use]
    pub fn place(&self, line: u32) -> Place {
        self.source.place(line)
    }

    /// The version of the PTX: `8.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
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

    /// A launch of an entry with these parameters: their bytes, one after another, each aligned as it is
    /// declared; of so many bytes of dynamic shared memory beside what the entry declares. See
    /// [`Launch::dimensions`] for more than one.
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
        assert_eq!(
            parameters.len(),
            entry.parameter_bytes() as usize,
            "bytes of parameters of {}",
            entry.name
        );
        let code = entry.code();
        let seen = Rc::new(Marks::new(&entry.name, code.instructions.len()));
        let kernel = lane::Kernel {
            code,
            seen: Rc::clone(&seen),
            parameters: parameters.into(),
            places: entry.parameters.clone(),
        };
        let shared_bytes = shared_bytes.saturating_add(entry.static_shared);
        let launch = Launch::new(&*entry.name, grid, block, shared_bytes, move || lane::run(&kernel));
        Launch { ptx: Some((Arc::clone(&self.source), seen)), ..launch }
    }
}

impl Entry {
    /// The code, with slots for its registers.
    fn code(&self) -> Arc<Code> {
        let assigned = || {
            let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
            let mut code = decoded.take().expect("it is taken once");
            fences::mark(&mut code);
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

    /// Its parameters.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn parameter_bytes(&self) -> u32 {
        self.parameters.last().map_or(0, |last| last.offset + last.bytes)
    }

    /// Lanes of a CTA at most, where it says so (`.maxntid`, `.reqntid`).
    #[must_use]
    pub fn threads(&self) -> Option<u32> {
        self.threads
    }

    /// Bytes of shared memory that it declares with a size, up to where its dynamic shared memory starts.
    #[must_use]
    pub fn static_shared(&self) -> u32 {
        self.static_shared
    }

    /// CTAs that a multiprocessor is to have room for, where it says so (`.minnctapersm`).
    #[must_use]
    pub fn ctas(&self) -> Option<u32> {
        self.ctas
    }

    /// Registers of a lane at most, where it says so (`.maxnreg`).
    #[must_use]
    pub fn registers(&self) -> Option<u32> {
        self.registers
    }
}

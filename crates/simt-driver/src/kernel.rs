//! Entries of loaded modules: what a launch must know of each.

use std::{ffi::c_void, sync::Arc};

use fused_lora_simt::{
    Launch,
    ptx::{self, Module},
};

use crate::code::{Code, Outcome};

/// Registers of a multiprocessor.
const REGISTERS: u32 = 64 * 1024;
/// The most registers of a lane.
const MOST_REGISTERS: u32 = 255;
/// Registers are given to the lanes of a warp in units of so many.
const REGISTER_UNIT: u32 = 8;
/// The most threads of a CTA where the entry does not say.
const MOST_THREADS: u32 = 1024;

/// An entry of a module.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    module: Arc<Module>,
    index: usize,
}

impl Entry {
    /// The entry of that name.
    pub(crate) fn of(module: &Arc<Module>, name: &[u8]) -> Option<Self> {
        let index = module.entries().iter().position(|entry| entry.name().as_bytes() == name)?;
        Some(Self { module: Arc::clone(module), index })
    }

    fn entry(&self) -> &ptx::Entry {
        &self.module.entries()[self.index]
    }

    pub(crate) fn has_parameters(&self) -> bool {
        !self.entry().parameters().is_empty()
    }

    pub(crate) fn name(&self) -> &str {
        self.entry().name()
    }

    /// The most threads of a CTA.
    pub(crate) fn threads(&self) -> u32 {
        self.entry().threads().unwrap_or(MOST_THREADS)
    }

    /// Registers of a lane: as many as its CTAs leave, since the machine counts none.
    pub(crate) fn registers(&self) -> u32 {
        let lanes = self.threads().max(1) * self.entry().ctas().unwrap_or(1).max(1);
        let most = (REGISTERS / lanes / REGISTER_UNIT * REGISTER_UNIT).min(MOST_REGISTERS);
        self.entry().registers().map_or(most, |registers| registers.min(most))
    }

    /// A copy of its parameters.
    ///
    /// # Safety
    ///
    /// `parameters` is valid for reads of as many pointers as the entry has parameters, and each of these is
    /// null or valid for reads of as many bytes as its parameter has.
    pub(crate) unsafe fn parameters(&self, parameters: *const *const c_void) -> Outcome<Arc<[u8]>> {
        let mut bytes = vec![0u8; self.entry().parameter_bytes() as usize];
        for (number, place) in self.entry().parameters().iter().enumerate() {
            // SAFETY: the caller's: a pointer for each parameter.
            let from = unsafe { parameters.add(number).read() };
            if from.is_null() {
                return Err(Code::INVALID_VALUE);
            }
            let (offset, length) = (place.offset as usize, place.bytes as usize);
            // SAFETY: the caller's, and it is not null.
            let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length) };
            bytes[offset..offset + length].copy_from_slice(from);
        }
        Ok(bytes.into())
    }

    /// A launch for the machine, of a CTA and a warp.
    pub(crate) fn launch(&self, parameters: &[u8], shared_bytes: u32) -> Launch {
        let registers = self.registers().next_multiple_of(REGISTER_UNIT);
        self.module.launch(self.entry(), parameters, 1, 32, shared_bytes).registers(registers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(directives: &str) -> Entry {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.entry e(.param .u32 a, .param .align 16 .b8 \
                b[8]){directives}{{ret;}}"
        );
        Entry::of(&Arc::new(Module::parse("a test", &text).expect("PTX")), b"e").expect("it is there")
    }

    #[test]
    fn registers_are_what_the_ctas_leave() {
        for (directives, registers) in [
            ("", 64),
            (".maxntid 384, 1, 1", 168),
            (".maxntid 128, 1, 1", 255),
            (".maxntid 128, 1, 1 .minnctapersm 4", 128),
            (".reqntid 256, 1, 1 .maxnreg 96", 96),
        ] {
            assert_eq!(entry(directives).registers(), registers, "{directives}");
        }
    }

    #[test]
    fn parameters_lie_where_the_text_says() {
        let (a, b) = (7u32, [1u8, 2, 3, 4, 5, 6, 7, 8]);
        let pointers = [(&raw const a).cast::<c_void>(), b.as_ptr().cast()];
        // SAFETY: a pointer for each parameter, each valid.
        let bytes = unsafe { entry("").parameters(pointers.as_ptr()) }.expect("none is null");
        assert_eq!(bytes[..4], 7u32.to_ne_bytes());
        assert_eq!(bytes[16..], b);
        let pointers = [pointers[0], std::ptr::null()];
        // SAFETY: as above; the second one is null.
        assert!(unsafe { entry("").parameters(pointers.as_ptr()) }.is_err());
    }
}

//! What a workload on a backend has to offer to be measured. All else of the harness, from rounds and budget to intervals and records,
//! does not know what a workload or a backend is.

use fused_lora_records::Record;

use crate::check::Expected;
use crate::method::{Call, Method};
use crate::ring;
use crate::size::Size;

/// A workload on a backend.
pub trait Suite {
    /// All methods of a size: each base before what is compared with it.
    fn methods(&self, size: Size) -> Vec<Method>;

    /// Slots of operands, so that between two uses of one `distance` bytes of others are touched: those that the first base takes from
    /// memory. Adapters rotate too, but not every call has any.
    fn slots(&self, size: Size, distance: usize) -> usize {
        ring::slots(self.methods(size)[0].work.bytes as usize, distance)
    }

    /// Makes operands of a size, and those methods ready on them. What was made ready before is no longer used.
    fn prepare(&mut self, size: Size, slots: usize, methods: &[Method])
    -> anyhow::Result<Vec<Box<dyn Call>>>;

    /// What y of the first slot should be, one for each product; nothing for a probe.
    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Vec<Expected>>;

    /// Adds to a record what only the suite knows: the version of another library.
    fn describe(&self, _method: &Method, _record: &mut Record) {}

    /// Clock of the device as it was last seen under load, in MHz; None where it is not read again.
    fn clock_mhz(&self) -> Option<f64> {
        None
    }

    /// Something to say before anything is measured.
    fn preamble(&self) -> anyhow::Result<Option<String>> {
        Ok(None)
    }
}

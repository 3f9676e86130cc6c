//! Launches that begin before the one ahead has ended. PTX ISA, "griddepcontrol".

use core::arch::asm;

use super::instruction::instructions;

instructions! {
    /// `griddepcontrol.wait`: waits until the launches that this one depends on are over and their writes are
    /// visible. Passes at once where the launch is an ordinary one.
    ///
    /// # Safety
    ///
    /// None of its own.
    pub unsafe fn griddepcontrol_wait() {
        asm!("griddepcontrol.wait;", options(nostack))
    }

    /// `griddepcontrol.launch_dependents`: this CTA does not mind if the launches that depend on this one
    /// begin.
    ///
    /// # Safety
    ///
    /// None of its own: a dependent must wait before it touches what this launch writes.
    pub unsafe fn griddepcontrol_launch_dependents() {
        asm!("griddepcontrol.launch_dependents;", options(nostack))
    }
}

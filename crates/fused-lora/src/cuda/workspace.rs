use super::{
    device::Device,
    error::Error,
    memory::Memory,
    stream::{Identity, Stream},
};
use crate::plan::layout::{Layout, workspace_size};

/// Device memory for h and for the counters of shared h, zeroed once; every launch leaves the counters zero.
///
/// It can be used with any layer, one call after another on one stream: the first call binds it to its
/// stream. Work on another stream, or a graph that runs concurrently, needs its own workspace. It does not
/// grow: [`workspace_size`](super::workspace_size), or the method of a layer, says how much is needed.
#[derive(Debug)]
pub struct Workspace {
    memory: Memory,
    stream: Option<Identity>,
}

impl Workspace {
    /// A workspace of `bytes`, which may be 0: calls without an adapter need no memory.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Driver`].
    pub fn new(device: &Device, bytes: usize) -> Result<Self, Error> {
        let mut memory = Memory::allocate(device, bytes)?;
        memory.zero()?;
        Ok(Self { memory, stream: None })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Zeroes the workspace and unbinds it from its stream. Call it after an aborted launch, which leaves
    /// counters behind, and before the workspace is used on another stream. Waits for all work on the device;
    /// not allowed while a stream of the device is in capture.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`]. After a kernel has failed, nothing on the device can be used in this process any
    /// more.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.memory.device().synchronize()?;
        self.memory.zero()?;
        self.stream = None;
        Ok(())
    }

    /// Binds it to the stream, and says where things are for a call with `m` rows and ranks up to `rank`.
    pub(super) fn lay_out(&mut self, stream: &Stream, m: usize, rank: usize) -> Result<Layout, Error> {
        stream.device().require("the workspace", self.memory.device().ordinal())?;
        let (needed, found) = (workspace_size(m, rank), self.bytes());
        if found < needed {
            return Err(Error::WorkspaceTooSmall { needed, found });
        }
        if self.stream.is_some_and(|bound| bound != stream.identity()) {
            return Err(Error::WorkspaceStream);
        }
        self.stream = Some(stream.identity());
        Ok(Layout::of(self.memory.address(), self.bytes()))
    }
}

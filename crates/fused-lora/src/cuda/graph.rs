use std::ptr;

use super::{
    device::Device,
    driver::{
        self,
        types::{CUgraph, CUgraphExec, STREAM_CAPTURE_MODE_THREAD_LOCAL},
    },
    error::Error,
    stream::Stream,
};

/// Work that was recorded once and can be launched many times, at the cost of one call.
#[derive(Debug)]
pub struct Graph {
    device: Device,
    executable: CUgraphExec,
}

impl Graph {
    /// Records the work that `record` queues on the stream, without running it. Without any work the graph is
    /// empty.
    ///
    /// Addresses are recorded, not contents: a launch reads the contents that the buffers have at that time.
    ///
    /// # Errors
    ///
    /// The errors of `record`, and [`Error::Driver`]. The stream leaves capture in this case, too.
    pub fn capture<E: From<Error>>(
        stream: &Stream,
        record: impl FnOnce(&Stream) -> Result<(), E>,
    ) -> Result<Self, E> {
        let device = stream.device().clone();
        let entered = device.enter()?;
        let mut capture = Capture::begin(stream)?;
        record(stream)?;
        let graph = Recorded(capture.end()?);
        let mut executable = CUgraphExec::NULL;
        // SAFETY: the graph is whole; no error node and no log are asked for.
        unsafe {
            driver::graph_instantiate(&mut executable, graph.0, ptr::null_mut(), ptr::null_mut(), 0)?;
        }
        drop(entered);
        Ok(Self { device, executable })
    }

    /// Queues the recorded work on a stream and returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::OtherDevice`], [`Error::Driver`].
    ///
    /// # Safety
    ///
    /// Until the work is done,
    ///
    /// - everything that was recorded is alive: layers, adapters, tables, segments, buffers, workspaces;
    /// - no other work uses the recorded workspaces, writes to what the recorded work uses, or reads what it
    ///   writes.
    pub unsafe fn launch(&self, stream: &Stream) -> Result<(), Error> {
        self.device.require("the stream", stream.device().ordinal())?;
        let _entered = self.device.enter()?;
        // SAFETY: graph and stream are alive; the rest is the caller's contract.
        unsafe { driver::graph_launch(self.executable, stream.raw()) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: instantiated once, destroyed once. Nobody is there to hear of a failure.
            let _ = unsafe { driver::graph_exec_destroy(self.executable) };
        }
    }
}

/// A stream in capture, which it leaves in any case: also where recording fails or panics.
struct Capture<'a> {
    stream: &'a Stream,
    ended: bool,
}

impl<'a> Capture<'a> {
    fn begin(stream: &'a Stream) -> Result<Self, Error> {
        // What other threads do meanwhile is their affair.
        let mode = STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive and its context current.
        unsafe { driver::stream_begin_capture(stream.raw(), mode)? };
        Ok(Self { stream, ended: false })
    }

    fn end(&mut self) -> Result<CUgraph, Error> {
        self.ended = true;
        let mut graph = CUgraph::NULL;
        // SAFETY: the stream is in capture since `begin`; `graph` is writable.
        unsafe { driver::stream_end_capture(self.stream.raw(), &mut graph)? };
        Ok(graph)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Ok(graph) = self.end()
        {
            drop(Recorded(graph));
        }
    }
}

/// A graph that was recorded. Once there is an executable one, it is not needed any more.
struct Recorded(CUgraph);

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.0 != CUgraph::NULL {
            // SAFETY: made once, destroyed once.
            let _ = unsafe { driver::graph_destroy(self.0) };
        }
    }
}

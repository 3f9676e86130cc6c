//! A CUDA graph: what was put into a stream while it was in capture. `cust` declares the calls and has no
//! type for them.

use std::ptr;

use anyhow::ensure;
use cust::sys::{self, CUgraphExec, CUresult, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL};
use fused_lora::cuda::Stream;

use super::gpu::Queue;

/// Work that was captured once and can be launched many times.
pub(super) struct Graph {
    executable: CUgraphExec,
}

impl Graph {
    /// Captures what `pass` puts into the stream, which does not run. Without any work the graph is empty.
    pub(super) fn capture(
        queue: &Queue,
        pass: impl FnOnce(&Stream) -> anyhow::Result<()>,
    ) -> anyhow::Result<Graph> {
        // SAFETY: the stream is alive.
        done("begin", unsafe {
            sys::cuStreamBeginCapture_v2(queue.raw(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        })?;
        let passed = pass(queue.stream());
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is alive and in capture; `graph` is writable.
        let ended = done("end", unsafe { sys::cuStreamEndCapture(queue.raw(), &mut graph) });
        // What the library says comes first: the driver's word on a capture that it spoilt says less.
        let mut executable = ptr::null_mut();
        let made = passed.and(ended).and_then(|()| {
            // SAFETY: the graph is whole; `executable` is writable; no error node and no log are asked for.
            done("instantiate", unsafe {
                sys::cuGraphInstantiate_v2(&mut executable, graph, ptr::null_mut(), ptr::null_mut(), 0)
            })
        });
        if !graph.is_null() {
            // SAFETY: made once, destroyed once; the executable does not need it.
            let _ = unsafe { sys::cuGraphDestroy(graph) };
        }
        made?;
        Ok(Graph { executable })
    }

    /// Puts the captured work into the stream and returns at once.
    ///
    /// # Safety
    ///
    /// Until the work is done, all memory that was captured is alive, and no other work uses it.
    pub(super) unsafe fn launch(&self, queue: &Queue) -> anyhow::Result<()> {
        // SAFETY: graph and stream are alive; the rest is the caller's contract.
        done("launch", unsafe { sys::cuGraphLaunch(self.executable, queue.raw()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated once, destroyed once. Nobody is there to hear of a failure.
        let _ = unsafe { sys::cuGraphExecDestroy(self.executable) };
    }
}

fn done(what: &str, result: CUresult) -> anyhow::Result<()> {
    ensure!(
        result == CUresult::CUDA_SUCCESS,
        "a CUDA graph's {what} failed with {}: {result:?}",
        result as u32
    );
    Ok(())
}

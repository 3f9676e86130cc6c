//! In which order work is done: what an operation of a stream comes after, and what events are for.

use crate::{
    code::{Code, Handle, Outcome},
    driver::Driver,
    stream::{Event, Kind, Recorded},
    work::{Op, WorkId},
};

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;

impl Driver {
    /// The stream of a handle as programs pass it: null is the default stream of the current context.
    pub(crate) fn stream(&self, handle: Handle) -> Outcome<Handle> {
        let current = self.current()?;
        let context = &self.contexts[&current];
        let handle = match handle {
            0 | LEGACY => context.legacy,
            PER_THREAD => context.per_thread,
            other => other,
        };
        match self.streams.get(&handle) {
            Some(stream) if stream.context == current => Ok(handle),
            _ => Err(Code::INVALID_HANDLE),
        }
    }

    pub(crate) fn event(&mut self, handle: Handle) -> Outcome<&mut Event> {
        self.events.get_mut(&handle).ok_or(Code::INVALID_HANDLE)
    }

    /// What an operation of a stream comes after: its own, and by the rules of the default stream others'.
    pub(crate) fn before(&self, stream: Handle) -> Vec<WorkId> {
        let this = &self.streams[&stream];
        let mut before = this.tail.clone();
        let others = self.streams.values().filter(|other| other.context == this.context);
        let counts = |kind| match this.kind {
            Kind::Legacy => kind == Kind::Blocking,
            Kind::Blocking => kind == Kind::Legacy,
            Kind::NonBlocking => false,
        };
        before.extend(others.filter(|other| counts(other.kind)).flat_map(|other| &other.tail));
        before.retain(|&id| !self.queue.is_done(id));
        before
    }

    /// Adds an operation to a stream, or to the capture that it is part of.
    pub(crate) fn submit(&mut self, stream: Handle, op: Op) -> Outcome {
        if self.streams[&stream].capture.is_some() {
            return self.capture_op(stream, op);
        }
        self.forbid_implicit_dependency(stream)?;
        let before = self.before(stream);
        let is_launch = op.is_launch();
        let this = &self.streams[&stream];
        let overlaps = this.overlapped(&this.tail, &op);
        let id = self.add_work(op, &before, overlaps);
        self.set_tail(stream, vec![id]);
        self.set_ends_with_launch(stream, is_launch);
        Ok(())
    }

    pub(crate) fn set_tail(&mut self, stream: Handle, tail: Vec<WorkId>) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.tail = tail;
            stream.ends_with_launch = false;
        }
    }

    pub(crate) fn set_ends_with_launch(&mut self, stream: Handle, is_launch: bool) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.ends_with_launch = is_launch;
        }
    }

    /// `cuEventRecord`.
    pub(crate) fn record(&mut self, event: Handle, stream: Handle) -> Outcome {
        if self.event(event)?.context != self.streams[&stream].context {
            return Err(Code::INVALID_HANDLE);
        }
        if let Some((capture, after)) = self.streams[&stream].capture.clone() {
            self.valid_capture(capture)?;
            self.event(event)?.recorded = Recorded::Captured(capture, after);
            return Ok(());
        }
        self.submit(stream, Op::Record(event))
    }

    /// `cuStreamWaitEvent`.
    pub(crate) fn wait_event(&mut self, stream: Handle, event: Handle) -> Outcome {
        let recorded = self.event(event)?.recorded.clone();
        match (self.streams[&stream].capture.clone(), recorded) {
            (_, Recorded::Never) => Ok(()),
            (capture, Recorded::Captured(from, nodes)) => self.join_capture(stream, capture, from, nodes),
            (Some((capture, _)), Recorded::Live(..)) => {
                Err(self.invalidate(capture, Code::STREAM_CAPTURE_ISOLATION))
            }
            (None, Recorded::Live(id, _)) => {
                self.forbid_implicit_dependency(stream)?;
                let mut tail = self.before(stream);
                tail.push(id);
                self.set_tail(stream, tail);
                Ok(())
            }
        }
    }

    /// Work that an event waits for.
    pub(crate) fn work_of_event(&mut self, event: Handle) -> Outcome<Vec<WorkId>> {
        match self.event(event)?.recorded.clone() {
            Recorded::Never => Ok(Vec::new()),
            Recorded::Live(id, _) => Ok(vec![id]),
            Recorded::Captured(capture, _) => Err(self.invalidate(capture, Code::CAPTURED_EVENT)),
        }
    }

    /// `cuStreamDestroy`: the stream is gone, its work is not.
    pub(crate) fn destroy_stream(&mut self, handle: Handle) -> Outcome {
        let is_default =
            self.contexts.values().any(|context| [context.legacy, context.per_thread].contains(&handle));
        if is_default {
            return Err(Code::NOT_PERMITTED);
        }
        let stream = self.streams.remove(&handle).ok_or(Code::INVALID_HANDLE)?;
        if let Some((capture, _)) = stream.capture {
            self.invalidate(capture, Code::STREAM_CAPTURE_INVALIDATED);
        }
        // The default stream goes on to wait for what the stream had begun.
        if stream.kind == Kind::Blocking {
            let legacy = self.contexts[&stream.context].legacy;
            let mut tail = self.streams[&legacy].tail.clone();
            tail.extend(stream.tail);
            self.set_tail(legacy, tail);
        }
        Ok(())
    }
}

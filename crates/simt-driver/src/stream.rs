//! Streams and events: in which order work is done.

use std::time::Instant;

use crate::{
    code::{Code, Outcome},
    driver::{Driver, Handle},
    work::{Op, WorkId},
};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: u32 = 2;
/// What events resolve, in milliseconds: no two are measured closer.
const RESOLUTION: f32 = 0.0005;

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;

/// Whether the default stream waits for a stream, and it for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The default stream.
    Legacy,
    Blocking,
    NonBlocking,
}

pub(crate) struct Stream {
    pub(crate) context: Handle,
    pub(crate) kind: Kind,
    pub(crate) flags: u32,
    pub(crate) priority: i32,
    /// What its next operation comes after.
    pub(crate) tail: Vec<WorkId>,
    /// The capture that it is part of, and what its next operation comes after there.
    pub(crate) capture: Option<(Handle, Vec<usize>)>,
    /// Whether that, here or there, is one launch of its own and nothing else, which a programmatic one may overlap.
    pub(crate) ends_with_launch: bool,
}

impl Stream {
    pub(crate) fn new(context: Handle, flags: u32, priority: i32) -> Self {
        let kind = if flags & NON_BLOCKING == 0 { Kind::Blocking } else { Kind::NonBlocking };
        Self { context, kind, flags, priority, tail: Vec::new(), capture: None, ends_with_launch: false }
    }

    pub(crate) fn legacy(context: Handle) -> Self {
        Self { kind: Kind::Legacy, ..Self::new(context, 0, 0) }
    }

    /// Which of the stream's end an operation may overlap.
    pub(crate) fn overlapped<T: Copy>(&self, end: &[T], op: &Op) -> Option<T> {
        end.first().copied().filter(|_| self.ends_with_launch && op.is_programmatic())
    }
}

/// What an event stands for.
#[derive(Clone, Debug)]
pub(crate) enum Recorded {
    Never,
    /// Work, and when it was done.
    Live(WorkId, Option<Instant>),
    /// Nodes of a capture.
    Captured(Handle, Vec<usize>),
}

pub(crate) struct Event {
    pub(crate) context: Handle,
    flags: u32,
    pub(crate) recorded: Recorded,
}

impl Event {
    pub(crate) fn new(context: Handle, flags: u32) -> Self {
        Self { context, flags, recorded: Recorded::Never }
    }

    /// It stands for this work from now on.
    pub(crate) fn recorded_by(&mut self, id: WorkId) {
        self.recorded = Recorded::Live(id, None);
    }

    /// The work is done, unless the event stands for later work.
    pub(crate) fn complete(&mut self, id: WorkId, now: Instant) {
        if let Recorded::Live(latest, time) = &mut self.recorded
            && *latest == id
        {
            *time = Some(now);
        }
    }

    fn time(&self) -> Outcome<Instant> {
        match self.recorded {
            _ if self.flags & DISABLE_TIMING != 0 => Err(Code::INVALID_HANDLE),
            Recorded::Never => Err(Code::INVALID_HANDLE),
            Recorded::Captured(..) => Err(Code::CAPTURED_EVENT),
            Recorded::Live(_, time) => time.ok_or(Code::NOT_READY),
        }
    }

    /// Milliseconds from `self` to `end`.
    pub(crate) fn elapsed(&self, end: &Self) -> Outcome<f32> {
        let (start, end) = (self.time()?, end.time()?);
        let milliseconds =
            |later: Instant, earlier: Instant| later.duration_since(earlier).as_secs_f32() * 1e3;
        let elapsed = if end >= start { milliseconds(end, start) } else { -milliseconds(start, end) };
        Ok(if elapsed.abs() < RESOLUTION { RESOLUTION } else { elapsed })
    }
}

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

    /// `cuStreamQuery` and `cuEventQuery`: whether work is done. If it is not, it is by the next time, so that whoever
    /// asks again and again comes to an end, and whoever takes the first answer for granted does not.
    pub(crate) fn query(&mut self, goal: &[WorkId]) -> Outcome {
        if goal.iter().all(|&id| self.queue.is_done(id)) {
            return Ok(());
        }
        self.finish(goal)?;
        Err(Code::NOT_READY)
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

//! Streams and events.

use std::time::Instant;

use crate::{
    code::{Code, Handle, Outcome},
    work::{Op, WorkId},
};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: u32 = 2;
/// What events resolve, in milliseconds: no two are measured closer.
const RESOLUTION: f32 = 0.0005;

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
    /// What its next operation comes after.
    pub(crate) tail: Vec<WorkId>,
    /// The capture that it is part of, and what its next operation comes after there.
    pub(crate) capture: Option<(Handle, Vec<usize>)>,
    /// Whether that, here or there, is one launch of its own and nothing else, which a programmatic one may
    /// overlap.
    pub(crate) ends_with_launch: bool,
}

impl Stream {
    pub(crate) fn new(context: Handle, flags: u32) -> Self {
        let kind = if flags & NON_BLOCKING == 0 { Kind::Blocking } else { Kind::NonBlocking };
        Self { context, kind, tail: Vec::new(), capture: None, ends_with_launch: false }
    }

    pub(crate) fn legacy(context: Handle) -> Self {
        Self { kind: Kind::Legacy, ..Self::new(context, 0) }
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

//! Stream capture, and launches of the graphs that it gives.

use crate::{
    code::{Code, Handle, Outcome},
    driver::Driver,
    graph::{Capture, Executable, Graph, Mode, Node},
    stream::Kind,
    work::{Op, WorkId},
};

impl Driver {
    /// Spoils a capture; gives the error back.
    pub(crate) fn invalidate(&mut self, capture: Handle, code: Code) -> Code {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.invalid = true;
        }
        code
    }

    /// A capture that can go on.
    pub(crate) fn valid_capture(&mut self, capture: Handle) -> Outcome<&mut Capture> {
        let capture = self.captures.get_mut(&capture).ok_or(Code::STREAM_CAPTURE_INVALIDATED)?;
        if capture.invalid { Err(Code::STREAM_CAPTURE_INVALIDATED) } else { Ok(capture) }
    }

    /// What must not happen while a capture forbids it: allocating, waiting, synchronous copies.
    pub(crate) fn forbid_unsafe(&mut self) -> Outcome {
        let thread = std::thread::current().id();
        let mut result = Ok(());
        for capture in self.captures.values_mut() {
            if capture.mode == Mode::Global || capture.mode == Mode::ThreadLocal && capture.thread == thread {
                capture.invalid = true;
                result = Err(Code::STREAM_CAPTURE_UNSUPPORTED);
            }
        }
        result
    }

    /// Waiting for a stream that is being captured, whatever the mode.
    pub(crate) fn forbid_capturing(&mut self, stream: Handle) -> Outcome {
        match self.streams[&stream].capture {
            Some((capture, _)) => Err(self.invalidate(capture, Code::STREAM_CAPTURE_UNSUPPORTED)),
            None => Ok(()),
        }
    }

    /// The default stream must not come to depend on a blocking stream that is being captured.
    pub(crate) fn forbid_implicit_dependency(&mut self, stream: Handle) -> Outcome {
        let this = &self.streams[&stream];
        if this.kind != Kind::Legacy {
            return Ok(());
        }
        let captures: Vec<Handle> = self
            .streams
            .values()
            .filter(|other| other.context == this.context && other.kind == Kind::Blocking)
            .filter_map(|other| Some(other.capture.as_ref()?.0))
            .collect();
        for &capture in &captures {
            self.invalidate(capture, Code::STREAM_CAPTURE_IMPLICIT);
        }
        if captures.is_empty() { Ok(()) } else { Err(Code::STREAM_CAPTURE_IMPLICIT) }
    }

    /// `cuStreamBeginCapture`.
    pub(crate) fn begin_capture(&mut self, stream: Handle, mode: Mode) -> Outcome {
        match &self.streams[&stream] {
            this if this.kind == Kind::Legacy => return Err(Code::STREAM_CAPTURE_UNSUPPORTED),
            this if this.capture.is_some() => return Err(Code::ILLEGAL_STATE),
            _ => {}
        }
        let handle = self.new_handle();
        let thread = std::thread::current().id();
        let capture = Capture { origin: stream, mode, thread, graph: Graph::default(), invalid: false };
        self.captures.insert(handle, capture);
        self.set_capture(stream, Some((handle, Vec::new())));
        Ok(())
    }

    fn set_capture(&mut self, stream: Handle, capture: Option<(Handle, Vec<usize>)>) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.capture = capture;
            stream.ends_with_launch = false;
        }
    }

    /// An operation of a stream that is being captured.
    pub(crate) fn capture_op(&mut self, stream: Handle, op: Op) -> Outcome {
        let Some((handle, after)) = self.streams[&stream].capture.clone() else {
            return Err(Code::ILLEGAL_STATE);
        };
        let is_launch = op.is_launch();
        let overlaps = self.streams[&stream].overlapped(&after, &op);
        let graph = &mut self.valid_capture(handle)?.graph;
        graph.nodes.push(Node { op, after, overlaps });
        let node = graph.len() - 1;
        self.set_capture(stream, Some((handle, vec![node])));
        self.set_ends_with_launch(stream, is_launch);
        Ok(())
    }

    /// A stream waits for an event of a capture: it joins that, if it was in none.
    pub(crate) fn join_capture(
        &mut self,
        stream: Handle,
        capture: Option<(Handle, Vec<usize>)>,
        from: Handle,
        nodes: Vec<usize>,
    ) -> Outcome {
        if !self.captures.contains_key(&from) {
            return Err(Code::CAPTURED_EVENT);
        }
        let mut after = match capture {
            Some((handle, after)) if handle == from => after,
            Some((handle, _)) => {
                self.invalidate(from, Code::STREAM_CAPTURE_MERGE);
                return Err(self.invalidate(handle, Code::STREAM_CAPTURE_MERGE));
            }
            None if self.streams[&stream].kind == Kind::Legacy => {
                return Err(self.invalidate(from, Code::STREAM_CAPTURE_IMPLICIT));
            }
            None => Vec::new(),
        };
        self.valid_capture(from)?;
        after.extend(nodes);
        after.sort_unstable();
        after.dedup();
        self.set_capture(stream, Some((from, after)));
        Ok(())
    }

    /// `cuStreamEndCapture`.
    pub(crate) fn end_capture(&mut self, stream: Handle) -> Outcome<Handle> {
        let Some((handle, after)) = self.streams[&stream].capture.clone() else {
            return Err(Code::ILLEGAL_STATE);
        };
        let Some(capture) = self.captures.get(&handle) else { return Err(Code::ILLEGAL_STATE) };
        if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
            return Err(self.invalidate(handle, Code::STREAM_CAPTURE_WRONG_THREAD));
        }
        if capture.origin != stream {
            return Err(self.invalidate(handle, Code::STREAM_CAPTURE_UNMATCHED));
        }
        let Some(Capture { graph, invalid, .. }) = self.captures.remove(&handle) else {
            return Err(Code::ILLEGAL_STATE);
        };
        for stream in self.streams.values_mut() {
            if stream.capture.as_ref().is_some_and(|(of, _)| *of == handle) {
                stream.capture = None;
                stream.ends_with_launch = false;
            }
        }
        if invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        if graph.with_what_comes_before(&after).len() < graph.len() {
            return Err(Code::STREAM_CAPTURE_UNJOINED);
        }
        let handle = self.new_handle();
        self.graphs.insert(handle, graph);
        Ok(handle)
    }

    /// `cuGraphLaunch`, also into a stream that is being captured.
    pub(crate) fn launch_graph(&mut self, executable: Handle, stream: Handle) -> Outcome {
        let Executable { graph, last, context } =
            self.executables.get(&executable).ok_or(Code::INVALID_HANDLE)?;
        let (graph, last) = (graph.clone(), last.clone());
        if *context != self.streams[&stream].context {
            return Err(Code::INVALID_HANDLE);
        }
        if let Some((handle, after)) = self.streams[&stream].capture.clone() {
            let into = &mut self.valid_capture(handle)?.graph;
            let first = into.len();
            for node in &graph.nodes {
                let inside = |n: &usize| n + first;
                let after = if node.after.is_empty() {
                    after.clone()
                } else {
                    node.after.iter().map(inside).collect()
                };
                let overlaps = node.overlaps.as_ref().map(inside);
                into.nodes.push(Node { op: node.op.clone(), after, overlaps });
            }
            let end = graph.last().iter().map(|node| node + first).collect();
            self.set_capture(stream, Some((handle, if graph.len() == 0 { after } else { end })));
            return Ok(());
        }
        self.forbid_implicit_dependency(stream)?;
        let mut start = self.before(stream);
        start.extend(last);
        let mut ids: Vec<WorkId> = Vec::with_capacity(graph.len());
        for Node { op, after, overlaps } in &graph.nodes {
            let after =
                if after.is_empty() { start.clone() } else { after.iter().map(|&n| ids[n]).collect() };
            let overlaps = overlaps.map(|n| ids[n]);
            ids.push(self.add_work(op.clone(), &after, overlaps));
        }
        let end: Vec<WorkId> = graph.last().iter().map(|&node| ids[node]).collect();
        if graph.len() > 0 {
            if let Some(executable) = self.executables.get_mut(&executable) {
                executable.last.clone_from(&end);
            }
            self.set_tail(stream, end);
        }
        Ok(())
    }
}

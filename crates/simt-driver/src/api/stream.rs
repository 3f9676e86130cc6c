//! Streams.

use crate::{
    code::{Code, Handle, Outcome},
    driver::Driver,
    entry::{Out, exports},
    graph::Mode,
    stream::Stream,
};

/// `CUstreamCaptureStatus`.
const NOT_CAPTURING: u32 = 0;
const CAPTURING: u32 = 1;
const INVALIDATED: u32 = 2;

impl Driver {
    fn create_stream(&mut self, to: Out<Handle>, flags: u32) -> Outcome {
        if to.is_null() || flags > 1 {
            return Err(Code::INVALID_VALUE);
        }
        let context = self.current()?;
        let handle = self.new_handle();
        self.streams.insert(handle, Stream::new(context, flags));
        to.set(handle)
    }

    fn capture_status(&self, stream: Handle) -> u32 {
        match &self.streams[&stream].capture {
            Some((handle, _)) if self.captures.get(handle).is_none_or(|capture| capture.invalid) => {
                INVALIDATED
            }
            Some(_) => CAPTURING,
            None => NOT_CAPTURING,
        }
    }

    /// What must be so before somebody waits for a stream.
    fn check_wait(&mut self, stream: Handle) -> Outcome {
        self.forbid_capturing(stream)?;
        self.forbid_implicit_dependency(stream)?;
        self.forbid_unsafe()
    }
}

exports! {
    fn cuStreamCreate(driver, to: Out<Handle>, flags: u32) needs Health {
        driver.create_stream(to, flags)
    }

    /// No stream comes before another.
    fn cuStreamCreateWithPriority(driver, to: Out<Handle>, flags: u32, _priority: i32) needs Health {
        driver.create_stream(to, flags)
    }

    fn cuStreamDestroy_v2(driver, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        driver.destroy_stream(stream)
    }

    fn cuStreamSynchronize(driver, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        driver.check_wait(stream)?;
        let goal = driver.before(stream);
        driver.finish(&goal)
    }

    fn cuStreamWaitEvent(driver, stream: Handle, event: Handle, _flags: u32) needs Health {
        let stream = driver.stream(stream)?;
        driver.wait_event(stream, event)
    }

    fn cuStreamBeginCapture_v2(driver, stream: Handle, mode: u32) needs Health {
        let stream = driver.stream(stream)?;
        driver.begin_capture(stream, Mode::from_number(mode)?)
    }

    fn cuStreamEndCapture(driver, stream: Handle, to: Out<Handle>) needs Health {
        let stream = driver.stream(stream)?;
        let graph = driver.end_capture(stream);
        to.set(*graph.as_ref().unwrap_or(&0))?;
        graph.map(|_| ())
    }

    fn cuStreamIsCapturing(driver, stream: Handle, to: Out<u32>) needs Health {
        let stream = driver.stream(stream)?;
        to.set(driver.capture_status(stream))
    }
}

//! Events.

use crate::{
    code::{Code, Handle},
    entry::{Out, exports},
    stream::Event,
};

exports! {
    fn cuEventCreate(driver, to: Out<Handle>, flags: u32) needs Health {
        if to.is_null() || flags > 7 {
            return Err(Code::INVALID_VALUE);
        }
        let context = driver.current()?;
        let handle = driver.new_handle();
        driver.events.insert(handle, Event::new(context, flags));
        to.set(handle)
    }

    fn cuEventDestroy_v2(driver, event: Handle) needs Health {
        driver.events.remove(&event).map(|_| ()).ok_or(Code::INVALID_HANDLE)
    }

    fn cuEventRecord(driver, event: Handle, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        driver.record(event, stream)
    }

    fn cuEventSynchronize(driver, event: Handle) needs Health {
        let goal = driver.work_of_event(event)?;
        driver.forbid_unsafe()?;
        driver.finish(&goal)
    }

    /// Real time, of this machine: it says nothing of a GPU.
    fn cuEventElapsedTime(driver, to: Out<f32>, start: Handle, end: Handle) needs Health {
        let start = driver.events.get(&start).ok_or(Code::INVALID_HANDLE)?;
        let end = driver.events.get(&end).ok_or(Code::INVALID_HANDLE)?;
        let milliseconds = start.elapsed(end)?;
        to.set(milliseconds)
    }
}

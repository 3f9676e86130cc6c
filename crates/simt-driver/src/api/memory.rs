//! Device memory: allocation and filling.

use std::sync::Arc;

use crate::{
    code::{Code, Handle, Outcome},
    driver::Driver,
    entry::{Out, exports},
    work::Op,
};

impl Driver {
    fn allocate(&mut self, to: Out<u64>, bytes: usize) -> Outcome {
        self.forbid_unsafe()?;
        if to.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let context = self.current()?;
        let device = self.current_device()?;
        let address = self.memory.allocate(bytes as u64, context, device, self.device.memory)?;
        to.set(address)
    }

    /// Repeats `pattern` in a stream.
    fn fill(&mut self, to: u64, pattern: &[u8], count: usize, stream: Handle) -> Outcome {
        let stream = self.stream(stream)?;
        let bytes = count.checked_mul(pattern.len()).ok_or(Code::INVALID_VALUE)?;
        if !to.is_multiple_of(pattern.len() as u64) || !self.memory.holds(to, bytes as u64) {
            return Err(Code::INVALID_VALUE);
        }
        if bytes == 0 {
            return Ok(());
        }
        self.submit(stream, Op::Fill { to, pattern: Arc::from(pattern), count })
    }

    /// The same in the default stream; not waited for, but not allowed while a capture forbids such calls.
    fn fill_in_default(&mut self, to: u64, pattern: &[u8], count: usize) -> Outcome {
        let stream = self.stream(0)?;
        self.forbid_implicit_dependency(stream)?;
        self.forbid_unsafe()?;
        self.fill(to, pattern, count, 0)
    }
}

exports! {
    fn cuMemAlloc_v2(driver, to: Out<u64>, bytes: usize) needs Health {
        driver.allocate(to, bytes)
    }

    /// Waits for everything first, as the driver does though it does not promise it.
    fn cuMemFree_v2(driver, address: u64) needs Health {
        driver.forbid_unsafe()?;
        if address == 0 {
            return Ok(());
        }
        driver.finish_all()?;
        driver.memory.free(address)
    }

    fn cuMemGetInfo_v2(driver, free: Out<usize>, total: Out<usize>) needs Health {
        let memory = driver.device.memory;
        let used = driver.memory.used(driver.current_device()?);
        free.set(memory.saturating_sub(used) as usize)?;
        total.set(memory as usize)
    }

    fn cuMemsetD8_v2(driver, to: u64, value: u8, count: usize) needs Health {
        driver.fill_in_default(to, &[value], count)
    }

    fn cuMemsetD8Async(driver, to: u64, value: u8, count: usize, stream: Handle) needs Health {
        driver.fill(to, &[value], count, stream)
    }

    fn cuMemsetD16Async(driver, to: u64, value: u16, count: usize, stream: Handle) needs Health {
        driver.fill(to, &value.to_ne_bytes(), count, stream)
    }
}

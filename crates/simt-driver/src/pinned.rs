//! Page-locked host memory.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    collections::BTreeMap,
};

use crate::code::{Code, Outcome};

/// What a page of the host's is taken for.
const PAGE: usize = 4096;

/// A range of host memory, by its first address.
struct Range {
    bytes: usize,
    /// How it was allocated; `None` if it is the caller's, registered.
    layout: Option<Layout>,
}

/// Host memory that copies may be reading and writing after the call that started them.
#[derive(Default)]
pub(crate) struct Pinned {
    ranges: BTreeMap<usize, Range>,
}

impl Pinned {
    /// Allocates, filled with 0xff: a NaN in f16 and f32, so that nobody takes it for data.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Outcome<*mut u8> {
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Code::OUT_OF_MEMORY)?;
        // SAFETY: its size is not 0.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: as long as it was allocated.
        unsafe { pointer.write_bytes(0xff, bytes) };
        self.ranges.insert(pointer.addr(), Range { bytes, layout: Some(layout) });
        Ok(pointer)
    }

    /// Frees what [`Self::allocate`] gave.
    pub(crate) fn free(&mut self, pointer: *mut u8) -> Outcome {
        let layout =
            self.ranges.get(&pointer.addr()).and_then(|range| range.layout).ok_or(Code::INVALID_VALUE)?;
        self.ranges.remove(&pointer.addr());
        // SAFETY: `allocate` made it with this layout, and it is no longer in the table.
        unsafe { dealloc(pointer, layout) };
        Ok(())
    }

    /// Takes memory of the caller's for page-locked from now on.
    pub(crate) fn register(&mut self, address: usize, bytes: usize) -> Outcome {
        let end =
            address.checked_add(bytes).filter(|_| bytes > 0 && address > 0).ok_or(Code::INVALID_VALUE)?;
        if self.ranges.range(..end).next_back().is_some_and(|(&start, range)| start + range.bytes > address) {
            return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.ranges.insert(address, Range { bytes, layout: None });
        Ok(())
    }

    /// Ends what [`Self::register`] began.
    pub(crate) fn unregister(&mut self, address: usize) -> Outcome {
        match self.ranges.get(&address) {
            Some(Range { layout: None, .. }) => {
                self.ranges.remove(&address);
                Ok(())
            }
            Some(_) => Err(Code::INVALID_VALUE),
            None => Err(Code::HOST_MEMORY_NOT_REGISTERED),
        }
    }

    /// Whether bytes are page-locked.
    pub(crate) fn holds(&self, address: usize, bytes: usize) -> bool {
        self.ranges.range(..=address).next_back().is_some_and(|(&start, range)| {
            address - start <= range.bytes && bytes <= range.bytes - (address - start)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_exact() {
        let mut pinned = Pinned::default();
        let pointer = pinned.allocate(10).expect("memory");
        assert!(pinned.holds(pointer.addr() + 4, 6));
        assert!(!pinned.holds(pointer.addr() + 4, 7));
        assert_eq!(pinned.register(pointer.addr() + 9, 1), Err(Code::HOST_MEMORY_ALREADY_REGISTERED));
        assert_eq!(pinned.unregister(pointer.addr()), Err(Code::INVALID_VALUE));
        pinned.free(pointer).expect("allocated here");
        assert_eq!(pinned.free(pointer), Err(Code::INVALID_VALUE));
        assert!(!pinned.holds(pointer.addr(), 1));

        let mine = [0u8; 16];
        pinned.register(mine.as_ptr().addr(), 16).expect("free");
        assert!(pinned.holds(mine.as_ptr().addr() + 15, 1));
        assert_eq!(pinned.free(mine.as_ptr().cast_mut()), Err(Code::INVALID_VALUE), "not allocated here");
        pinned.unregister(mine.as_ptr().addr()).expect("registered");
        assert_eq!(pinned.unregister(mine.as_ptr().addr()), Err(Code::HOST_MEMORY_NOT_REGISTERED));
    }
}

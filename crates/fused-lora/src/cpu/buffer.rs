use half::{bf16, f16};

/// A line of the cache, and of a buffer's alignment.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const ZERO: Line = Line([0; 64]);
/// Stands behind the last line in debug builds, and must still stand there when the buffer is dropped. As f16
/// and as f32 it is a NaN, so that one read where a number should be does not go unnoticed either.
const GUARD: Line = Line([0xff; 64]);
const GUARDS: usize = if cfg!(debug_assertions) { 1 } else { 0 };

/// Bytes of a huge page. A buffer that holds one begins at one, and asks the system for them: a weight is
/// read from end to end at the speed of memory, and a translation every 4 KiB costs a tenth of that (measured
/// on Zen 4, few rows, 4096 × 4096: 0.79 to 0.89 of the time).
const HUGE: usize = 2 << 20;

/// Plain memory, aligned to a cache line, that only grows. Its content is whatever was last written, zero at
/// first.
#[derive(Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    /// What it begins with, in lines.
    first: usize,
}

/// What a buffer may be read and written as.
///
/// # Safety
///
/// Any bytes are a value of it, and its alignment divides a line.
pub(crate) unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: numbers.
unsafe impl Plain for f16 {}
// SAFETY: as above.
unsafe impl Plain for bf16 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}

impl Buffer {
    /// Room for an array of these dimensions.
    ///
    /// # Panics
    ///
    /// If its size in bytes is no `usize`: kernels write through pointers into it, so it must not wrap.
    pub(crate) fn zeroed<T: Plain>(dimensions: &[usize]) -> Self {
        let count = Self::lines_for::<T>(dimensions) + GUARDS;
        let is_huge = count * size_of::<Line>() >= HUGE;
        let mut lines = Vec::with_capacity(count + if is_huge { HUGE / size_of::<Line>() } else { 0 });
        let first = if is_huge { huge_pages(&mut lines) } else { 0 };
        lines.resize(first + count - GUARDS, ZERO);
        lines.resize(first + count, GUARD);
        Self { lines, first }
    }

    /// Grows to at least that room. Allocates only then.
    ///
    /// # Panics
    ///
    /// As [`zeroed`](Self::zeroed).
    pub(crate) fn reserve<T: Plain>(&mut self, dimensions: &[usize]) {
        if Self::lines_for::<T>(dimensions) + GUARDS > self.lines.len() - self.first {
            // A new one rather than `resize`: the old content is worth no copy.
            *self = Self::zeroed::<T>(dimensions);
        }
    }

    fn lines_for<T>(dimensions: &[usize]) -> usize {
        let bytes = dimensions.iter().try_fold(size_of::<T>(), |bytes, &d| bytes.checked_mul(d));
        bytes.expect("an array larger than the address space").div_ceil(size_of::<Line>())
    }

    pub(crate) fn as_ptr<T: Plain>(&self) -> *const T {
        self.lines[self.first..].as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr<T: Plain>(&mut self) -> *mut T {
        self.lines[self.first..].as_mut_ptr().cast()
    }

    /// Elements of T that fit.
    pub(crate) fn len<T: Plain>(&self) -> usize {
        self.lines[self.first..].len().saturating_sub(GUARDS) * size_of::<Line>() / size_of::<T>()
    }

    pub(crate) fn as_mut_slice<T: Plain>(&mut self) -> &mut [T] {
        let len = self.len::<T>();
        // SAFETY: the lines are initialised, aligned to 64 bytes and borrowed for as long as the slice; any
        // bytes are a T.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

/// Asks for huge pages for the capacity of an empty vector, and returns at which line the first one begins.
fn huge_pages(lines: &mut Vec<Line>) -> usize {
    let spare = lines.spare_capacity_mut();
    let first = spare.as_ptr().align_offset(HUGE);
    // Miri does not know the call, and it is advice: where the system does not take it, pages are small.
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        let bytes = size_of_val(&spare[first..]) / HUGE * HUGE;
        // SAFETY: whole pages of this vector's memory; the advice changes no content.
        unsafe { libc::madvise(spare[first..].as_mut_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    }
    first
}

#[cfg(debug_assertions)]
impl Drop for Buffer {
    fn drop(&mut self) {
        let intact = self.lines.last().is_none_or(|&last| last == GUARD);
        assert!(intact || std::thread::panicking(), "something was written behind a buffer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_keeps_its_alignment() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.len::<f16>(), 0);
        for (dimensions, least) in [([3, 5], 15), ([1, 1], 15), ([40, 7], 280), ([3 << 20, 1], 3 << 20)] {
            buffer.reserve::<f16>(&dimensions);
            assert!(buffer.len::<f16>() >= least, "{dimensions:?}");
            assert!(buffer.as_ptr::<f16>().addr().is_multiple_of(if least < 1 << 20 { 64 } else { HUGE }));
        }
        assert_eq!(buffer.len::<f16>(), 3 << 20);
        assert!(buffer.as_mut_slice::<f32>().iter().all(|&value| value == 0.0));
    }

    #[test]
    #[should_panic(expected = "larger than the address space")]
    fn a_size_that_wraps_is_refused() {
        Buffer::default().reserve::<f32>(&[1 << (usize::BITS / 2), 1 << (usize::BITS / 2)]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "written behind a buffer")]
    fn a_write_behind_the_end_is_noticed() {
        let mut buffer = Buffer::zeroed::<f32>(&[16]);
        // SAFETY: in a debug build the guard is there to be written.
        unsafe { *buffer.as_mut_ptr::<f32>().add(16) = 0.0 };
    }
}

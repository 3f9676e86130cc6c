use std::{
    alloc::Layout,
    mem::MaybeUninit,
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError},
};

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

/// Plain memory, aligned to a cache line, that only grows. Its content is whatever was last written, zero at
/// first.
#[derive(Default)]
pub(crate) struct Buffer {
    chunk: Option<Arc<Chunk>>,
    /// This buffer's lines, from here on in the chunk.
    first: usize,
    /// Without the guard.
    count: usize,
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
        Self::of(Self::lines_for::<T>(dimensions), |bytes| (Arc::new(Chunk::new(bytes)), 0))
    }

    /// The same in a chunk that it shares with others, if it is small: for weights, of which a call may read
    /// many. (Packed x is not among them: there, 512 rows took 3 to 6 % longer.)
    ///
    /// # Panics
    ///
    /// As [`zeroed`](Self::zeroed).
    pub(crate) fn zeroed_in_chunk<T: Plain>(dimensions: &[usize]) -> Self {
        Self::of(Self::lines_for::<T>(dimensions), Chunk::part)
    }

    fn of(count: usize, chunk: impl FnOnce(usize) -> (Arc<Chunk>, usize)) -> Self {
        let bytes = count.checked_add(GUARDS).and_then(|lines| lines.checked_mul(size_of::<Line>()));
        let (chunk, first) = chunk(bytes.expect("an array larger than the address space"));
        let mut buffer = Self { chunk: Some(chunk), first, count };
        buffer.lines_mut().fill(MaybeUninit::new(ZERO));
        if GUARDS > 0 {
            // SAFETY: the chunk's part has room for it.
            unsafe { buffer.as_mut_ptr::<u8>().cast::<Line>().add(count).write(GUARD) };
        }
        buffer
    }

    /// Grows to at least that room. Allocates only then.
    ///
    /// # Panics
    ///
    /// As [`zeroed`](Self::zeroed).
    pub(crate) fn reserve<T: Plain>(&mut self, dimensions: &[usize]) {
        if Self::lines_for::<T>(dimensions) > self.count {
            // A new one rather than `resize`: the old content is worth no copy.
            *self = Self::zeroed::<T>(dimensions);
        }
    }

    fn lines_for<T>(dimensions: &[usize]) -> usize {
        let bytes = dimensions.iter().try_fold(size_of::<T>(), |bytes, &d| bytes.checked_mul(d));
        bytes.expect("an array larger than the address space").div_ceil(size_of::<Line>())
    }

    fn lines_mut(&mut self) -> &mut [MaybeUninit<Line>] {
        // SAFETY: these lines of the chunk are this buffer's, and borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr::<u8>().cast(), self.count) }
    }

    pub(crate) fn as_ptr<T: Plain>(&self) -> *const T {
        let Some(chunk) = &self.chunk else { return std::ptr::without_provenance(align_of::<Line>()) };
        // SAFETY: the buffer's lines lie inside the chunk.
        unsafe { chunk.memory.as_ptr().add(self.first).cast_const().cast() }
    }

    pub(crate) fn as_mut_ptr<T: Plain>(&mut self) -> *mut T {
        self.as_ptr::<T>().cast_mut()
    }

    /// Elements of T that fit.
    pub(crate) fn len<T: Plain>(&self) -> usize {
        self.count * size_of::<Line>() / size_of::<T>()
    }

    pub(crate) fn as_mut_slice<T: Plain>(&mut self) -> &mut [T] {
        let len = self.len::<T>();
        // SAFETY: the lines are initialised, aligned to 64 bytes and borrowed for as long as the slice; any
        // bytes are a T.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

/// Bytes of a huge page. Weights are read from end to end at the speed of memory, and a translation every 4
/// KiB costs a tenth of that (measured on Zen 4, few rows, 4096 × 4096: 0.79 to 0.89 of the time). Adapters
/// are smaller than a page, and read a little at a time: they share chunks.
const HUGE: usize = 2 << 20;
/// Bytes of a chunk that buffers share; those of a huge page and more have one of their own.
const SHARED: usize = 4 * HUGE;

/// Memory of one buffer or several, of huge pages where the system gives them. It is freed with its last
/// buffer: one adapter that stays may keep what others have left. The chunk that is being filled stays.
struct Chunk {
    memory: NonNull<Line>,
    layout: Layout,
}

// SAFETY: each line belongs to one buffer, which hands it out as its own borrow says.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Room for so many bytes, whole lines, and which line is the first.
    fn part(bytes: usize) -> (Arc<Self>, usize) {
        /// The chunk that is being filled, and how many of its lines are taken.
        static SHARED_CHUNK: Mutex<Option<(Arc<Chunk>, usize)>> = Mutex::new(None);
        if bytes >= HUGE {
            return (Arc::new(Self::new(bytes)), 0);
        }
        let lines = bytes / size_of::<Line>();
        // Whoever panicked while it was locked has left no chunk, and a new one is made.
        let mut shared = SHARED_CHUNK.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SHARED / size_of::<Line>();
        let (chunk, taken) = match shared.take() {
            Some((chunk, taken)) if taken + lines <= room => (chunk, taken),
            _ => (Arc::new(Self::new(SHARED)), 0),
        };
        *shared = Some((Arc::clone(&chunk), taken + lines));
        (chunk, taken)
    }

    fn new(bytes: usize) -> Self {
        let align = if bytes < HUGE { align_of::<Line>() } else { HUGE };
        let layout = Layout::from_size_align(bytes.max(1), align).expect("less than the address space");
        // SAFETY: the layout has a size.
        let memory = unsafe { std::alloc::alloc(layout) };
        let Some(memory) = NonNull::new(memory.cast::<Line>()) else {
            std::alloc::handle_alloc_error(layout)
        };
        // Miri does not know the call, and it is advice: where the system does not take it, pages are small.
        #[cfg(all(target_os = "linux", not(miri)))]
        // SAFETY: whole pages of this memory; the advice changes no content.
        unsafe {
            libc::madvise(memory.as_ptr().cast(), bytes / HUGE * HUGE, libc::MADV_HUGEPAGE);
        }
        Self { memory, layout }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated with that layout; no buffer is left.
        unsafe { std::alloc::dealloc(self.memory.as_ptr().cast(), self.layout) };
    }
}

#[cfg(debug_assertions)]
impl Drop for Buffer {
    fn drop(&mut self) {
        let guard = || self.as_ptr::<u8>().cast::<Line>().wrapping_add(self.count);
        // SAFETY: the guard is the last line of the buffer's part.
        let intact = self.chunk.is_none() || unsafe { *guard() } == GUARD;
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
            assert!(buffer.as_mut_slice::<f32>().iter().all(|&value| value == 0.0));
        }
        assert_eq!(buffer.len::<f16>(), 3 << 20);
    }

    /// Buffers of one chunk, and more than it holds: each is its own, wherever the others are made and
    /// dropped.
    #[test]
    fn buffers_share_chunks_and_nothing_else() {
        let mut buffers: Vec<Buffer> = Vec::new();
        for i in 0..60 {
            let mut buffer = Buffer::zeroed_in_chunk::<f32>(&[100_000 + 777 * i]);
            assert!(buffer.as_mut_slice::<f32>().iter().all(|&value| value == 0.0));
            buffer.as_mut_slice::<f32>().fill(i as f32 + 1.0);
            buffers.push(buffer);
            if i % 3 == 0 {
                buffers.swap_remove(i / 3);
            }
        }
        for buffer in &mut buffers {
            let values = buffer.as_mut_slice::<f32>();
            assert!(values.iter().all(|&value| value == values[0] && value >= 1.0));
        }
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

use half::f16;

/// A line of the cache, and of a buffer's alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Plain memory, aligned to a cache line, that only grows. Its content is whatever was last written, zero at first.
#[derive(Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

/// What a buffer may be read and written as: any bytes are a value of it.
pub(crate) trait Plain: Copy {}
impl Plain for f16 {}
impl Plain for f32 {}

impl Buffer {
    /// Room for `len` elements of T.
    pub(crate) fn zeroed<T: Plain>(len: usize) -> Self {
        Self { lines: vec![Line([0; 64]); Self::lines_for::<T>(len)] }
    }

    /// Grows to at least `len` elements of T. Allocates only then.
    pub(crate) fn reserve<T: Plain>(&mut self, len: usize) {
        let lines = Self::lines_for::<T>(len);
        if lines > self.lines.len() {
            // A new one rather than `resize`: the old content is worth no copy.
            *self = Self::zeroed::<T>(len);
        }
    }

    fn lines_for<T>(len: usize) -> usize {
        (len * size_of::<T>()).div_ceil(size_of::<Line>())
    }

    pub(crate) fn as_ptr<T: Plain>(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr<T: Plain>(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }

    /// Elements of T that fit.
    pub(crate) fn len<T: Plain>(&self) -> usize {
        self.lines.len() * size_of::<Line>() / size_of::<T>()
    }

    pub(crate) fn as_mut_slice<T: Plain>(&mut self) -> &mut [T] {
        let len = self.len::<T>();
        // SAFETY: the lines are initialised, aligned to 64 bytes and borrowed for as long as the slice; any
        // bytes are a T.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

//! Bytes read from memory by all threads.

use std::hint::black_box;
use std::rc::Rc;

use rayon::prelude::*;

use crate::method::Call;
use crate::time::Time;

/// Bytes that one call reads: a few milliseconds' worth.
pub(super) const READ: usize = 32 << 20;
/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// Memory that has left the caches, for as long as it is read part after part.
#[derive(Clone)]
pub(super) struct Memory {
    words: Rc<Vec<u64>>,
    /// The word at which the first part begins.
    first: usize,
    /// The part that is read next.
    next: usize,
}

impl Memory {
    /// More than the last-level cache holds, of so many bytes. In huge pages where the system gives them, as
    /// the library's packed weights are: no product may read faster than this.
    pub(super) fn new(last_level_cache: usize) -> Memory {
        let length = (2 * last_level_cache).div_ceil(READ).max(1) * READ / size_of::<u64>();
        let mut words = Vec::with_capacity(length + HUGE / size_of::<u64>());
        let first = huge_pages(&mut words, length);
        words.resize(first + length, 1);
        Memory { words: Rc::new(words), first, next: 0 }
    }

    fn parts(&self) -> usize {
        (self.words.len() - self.first) * size_of::<u64>() / READ
    }
}

/// Asks for huge pages for so many words in the capacity of an empty vector, and returns at which word the
/// first page begins.
fn huge_pages(words: &mut Vec<u64>, length: usize) -> usize {
    let spare = words.spare_capacity_mut();
    let first = spare.as_ptr().align_offset(HUGE);
    let pages = &mut spare[first..first + length];
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        // SAFETY: the pages are this vector's memory, whole ones, since they begin at one and a part is made
        // of such; the advice changes no content. It is advice: where it is not taken, pages are small.
        let _ = unsafe { madvise(pages.as_mut_ptr().cast(), size_of_val(pages), Advice::LinuxHugepage) };
    }
    let _ = pages;
    first
}

impl Call for Memory {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        let length = READ / size_of::<u64>();
        let part = &self.words[self.first + self.next * length..][..length];
        self.next = (self.next + 1) % self.parts();
        Time::of(|| {
            let of_thread = length.div_ceil(rayon::current_num_threads());
            let sum = part.par_chunks(of_thread).map(|part| part.iter().fold(0u64, |sum, &word| sum ^ word));
            black_box(sum.reduce(|| 0, |a, b| a ^ b));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each call reads another part, and all of it.
    #[test]
    fn memory_is_read_part_after_part() {
        let mut memory = Memory::new(3 * READ / 2);
        assert_eq!((memory.words.len() - memory.first) * size_of::<u64>(), 3 * READ);
        assert!(memory.words[memory.first..].as_ptr().addr().is_multiple_of(HUGE));
        let parts: Vec<usize> = (0..4).map(|_| (memory.call(0).unwrap(), memory.next).1).collect();
        assert_eq!(parts, [1, 2, 0, 1]);
        let gigabytes = READ as f64 / memory.call(0).unwrap().wall * 1e-9;
        assert!((0.1..=5000.0).contains(&gigabytes), "{gigabytes} GB/s");
    }
}

//! What this machine could do at best, timed in the same rounds: f32 multiply-adds, and bytes read from
//! memory.
//!
//! Every product that is timed beside them sums in f32, so none can be faster than the multiply-adds. Their
//! loop touches no memory: each thread keeps more independent sums in registers than the units have stages,
//! and adds to them in turn.

use std::hint::black_box;
use std::rc::Rc;

use rayon::prelude::*;

use crate::method::{Call, Method, Probe, Provider, Task, Work};
use crate::time::Time;

/// Independent sums, each a vector: as many as units times stages at least, and no more than fit the
/// registers beside the factors. x86-64 has two units of four stages, and sixteen registers with AVX2; large
/// aarch64 cores have four units of four stages, and 32 registers. (Where there is neither, the rate has not
/// been compared with a data sheet.)
const SUMS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };
/// Operations of one call, bounded: long enough to time, short enough to repeat.
const FEWEST: f64 = 0.4e9;
const MOST: f64 = 2e9;
/// Bytes that one call reads: a few milliseconds' worth.
const READ: usize = 32 << 20;

/// The two probes beside calls of so many operations.
pub fn methods(flops: f64) -> [Method; 2] {
    let method = |probe, name, work| {
        let method = Method::new(name, 0, Task::Probe(probe), Provider::Library(0));
        Method { ids: Vec::new(), work, dtype: "f32", ..method }
    };
    let peak = Work { flops: Peak::new(flops).flops(), bytes: 0.0 };
    let bandwidth = Work { flops: 0.0, bytes: READ as f64 };
    [method(Probe::Peak, "fma-peak", peak), method(Probe::Bandwidth, "read-bandwidth", bandwidth)]
}

/// Memory that has left the caches, for as long as it is read part after part.
#[derive(Clone)]
pub struct Memory {
    words: Rc<Vec<u64>>,
    /// The part that is read next.
    next: usize,
}

impl Memory {
    /// More than the last-level cache holds, of so many bytes.
    pub fn new(last_level_cache: usize) -> Memory {
        let parts = (2 * last_level_cache).div_ceil(READ).max(1);
        Memory { words: Rc::new(vec![1; parts * READ / size_of::<u64>()]), next: 0 }
    }

    /// A probe, ready.
    pub fn probe(&self, probe: Probe, flops: f64) -> Box<dyn Call> {
        match probe {
            Probe::Peak => Box::new(Peak::new(flops)),
            Probe::Bandwidth => Box::new(self.clone()),
        }
    }
}

impl Call for Memory {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        let length = READ / size_of::<u64>();
        let part = &self.words[self.next * length..][..length];
        self.next = (self.next + 1) % (self.words.len() / length);
        Time::of(|| {
            let of_thread = length.div_ceil(rayon::current_num_threads());
            let sum = part.par_chunks(of_thread).map(|part| part.iter().fold(0u64, |sum, &word| sum ^ word));
            black_box(sum.reduce(|| 0, |a, b| a ^ b));
            Ok(())
        })
    }
}

/// Multiply-adds on all threads.
struct Peak {
    steps: usize,
}

impl Peak {
    /// A loop of about as many operations as what it is compared with, or fewer.
    fn new(flops: f64) -> Peak {
        Peak { steps: (flops.clamp(FEWEST, MOST) / Peak { steps: 1 }.flops()).ceil() as usize }
    }

    /// Operations of one call, a multiply-add counted as two.
    fn flops(&self) -> f64 {
        self.steps as f64 * step_flops() * rayon::current_num_threads() as f64
    }
}

impl Call for Peak {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        Time::of(|| {
            rayon::broadcast(|_| multiply_add(self.steps));
            Ok(())
        })
    }
}

/// Operations of one step on one thread.
fn step_flops() -> f64 {
    (2 * SUMS * lanes_and_loop().0) as f64
}

/// One thread's part.
fn multiply_add(steps: usize) {
    // SAFETY: the features that the loop needs were just found.
    unsafe { lanes_and_loop().1(steps) }
}

/// How many f32 one multiply-add works on, and a loop of them. To be called only on this processor: others
/// may lack what it needs.
fn lanes_and_loop() -> (usize, unsafe fn(usize)) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return (16, x86::avx512);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return (8, x86::avx2);
        }
    }
    (LANES, portable)
}

/// sum ← sum · FACTOR + TERM goes to 1: no overflow, and no denormals, which are slow.
const FACTOR: f32 = 0.5;
const TERM: f32 = 0.5;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    use super::{FACTOR, SUMS, TERM, black_box};

    macro_rules! multiply_add {
        ($name:ident, $features:literal, $set:ident, $multiply_add:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(steps: usize) {
                let (factor, term) = ($set(black_box(FACTOR)), $set(black_box(TERM)));
                let mut sums = [term; SUMS];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = $multiply_add(*sum, factor, term);
                    }
                }
                black_box(sums);
            }
        };
    }

    multiply_add!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
    multiply_add!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
}

/// Of the vectors that every 64-bit target has.
const LANES: usize = 4;

fn portable(steps: usize) {
    let (factor, term) = (black_box(FACTOR), black_box(TERM));
    let mut sums = [[term; LANES]; SUMS];
    for _ in 0..steps {
        for sum in sums.as_flattened_mut() {
            // Without the instruction `mul_add` is a call into the C library.
            *sum = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                sum.mul_add(factor, term)
            } else {
                *sum * factor + term
            };
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn seconds(steps: usize) -> f64 {
        let start = Instant::now();
        multiply_add(steps);
        start.elapsed().as_secs_f64()
    }

    /// If the loop were optimised away, or took no more time for more steps, its rate would be no peak.
    #[test]
    fn twice_the_steps_take_twice_the_time() {
        // In turn, and the fastest of many: other tests run beside this one.
        let mut fastest = [f64::INFINITY; 2];
        for _ in 0..40 {
            for (fastest, steps) in fastest.iter_mut().zip([200_000, 400_000]) {
                *fastest = fastest.min(seconds(steps));
            }
        }
        let ratio = fastest[1] / fastest[0];
        assert!((1.4..=3.0).contains(&ratio), "{ratio}");
        // One thread of anything from the last ten years; a debug build is optimised too.
        let gflops = 400_000.0 * step_flops() / fastest[1] * 1e-9;
        assert!((1.0..=1000.0).contains(&gflops), "{gflops} GFLOP/s");
    }

    /// Each call reads another part, and all of it.
    #[test]
    fn memory_is_read_part_after_part() {
        let mut memory = Memory::new(3 * READ / 2);
        assert_eq!(memory.words.len() * size_of::<u64>(), 3 * READ);
        let parts: Vec<usize> = (0..4).map(|_| (memory.call(0).unwrap(), memory.next).1).collect();
        assert_eq!(parts, [1, 2, 0, 1]);
        let gigabytes = READ as f64 / memory.call(0).unwrap().wall * 1e-9;
        assert!((0.1..=5000.0).contains(&gigabytes), "{gigabytes} GB/s");
        let [peak, bandwidth] = methods(1e9);
        assert!(peak.work.flops >= 1e9 && bandwidth.work.bytes == READ as f64);
    }

    #[test]
    fn a_call_does_what_it_says() {
        for flops in [0.0, 1e9, 1e12] {
            let peak = Peak::new(flops);
            let asked = flops.clamp(FEWEST, MOST);
            assert!(peak.flops() >= asked && peak.flops() < asked * 1.001 + 1e6, "{flops}: {}", peak.flops());
        }
    }
}

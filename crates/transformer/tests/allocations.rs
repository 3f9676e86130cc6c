//! `forward` allocates nothing after the first call of a size, on a thread of the pool. Alone in its process
//! and without libtest, whose own thread allocates when it likes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fused_lora::cpu::Simd;
use fused_lora_transformer::{
    Config, Method, Targets,
    cpu::{Model, Workspace},
};
use half::f16;
use ndarray::Array2;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    f();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// A thread sets up its part of rayon's work stealing, once, when it first looks for something to steal.
fn have_both_threads_steal() {
    let barrier = Barrier::new(2);
    let second = || {
        barrier.wait();
        std::thread::sleep(Duration::from_millis(20));
    };
    rayon::join(|| barrier.wait(), second);
}

fn main() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))), 1, "the counter does not count");
    let config = Config { d: 64, heads: 4, mlp: 256, layers: 3 };
    let model = Model::random(&Simd::detect().unwrap(), config, 1).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let x = Array2::from_shape_fn((96, 64), |(i, j)| f16::from_f32((i * 7 + j * 3) as f32 % 5.0 - 2.0));
    let mut y = Array2::zeros((96, 64));
    pool.install(|| {
        have_both_threads_steal();
        for method in Method::ALL {
            for targets in Targets::ALL {
                let model = model.with_random_adapters(method, targets, 5, 2).unwrap();
                let mut workspace = Workspace::new();
                let mut call =
                    |seq_len| model.forward(x.view(), seq_len, y.view_mut(), &mut workspace, &()).unwrap();
                call(96);
                let found = allocations(|| [96, 48, 96, 1, 96].into_iter().for_each(&mut call));
                assert_eq!(found, 0, "{method} {targets}: {found} allocations");
            }
        }
    });
    println!("forward allocates nothing after the first call: ok");
}

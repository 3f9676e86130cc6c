//! `forward` allocates nothing after the first call of a size.
//!
//! Alone in its process and without libtest, whose own thread allocates when it likes: the counter counts every
//! thread.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Operands, Strided};
use fused_lora::{
    Epilogue, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
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
    // The second half can only be running because the other thread has stolen it; and while it goes on, this
    // thread has nothing to do but look for work.
    let second = || {
        barrier.wait();
        std::thread::sleep(Duration::from_millis(20));
    };
    rayon::join(|| barrier.wait(), second);
}

fn main() {
    const CALLS: usize = 130;
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))) > 0, "the counter does not count");

    // A few rows and many, one K block and several: each way through the loops.
    for (m, k, threads) in [(3, 40, 1), (8, 1500, 2), (70, 300, 2), (200, 1500, 2)] {
        let operands = Operands::random(1, m, 150, k, 20);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        if threads == 2 {
            pool.install(have_both_threads_steal);
        }
        for simd in Simd::available() {
            let adapter = Adapter::with_simd(simd, operands.a.view(), operands.b.view(), 1.0).unwrap();
            let layer = Layer::with_simd(simd, operands.w.view()).unwrap().with_adapter(adapter).unwrap();
            let layer = layer.with_epilogue(&Epilogue::bias(operands.bias.clone())).unwrap();
            let x = Strided::copy_of(&operands.x, 3, 1);
            let mut y = Strided::poisoned(m, 150, 3, 1);
            for strategy in Strategy::ALL {
                let mut workspace = Workspace::new();
                let mut call =
                    || layer.forward_with(strategy, x.view(), y.view_mut(), &mut workspace).unwrap();

                pool.install(&mut call);
                let inside = pool.install(|| allocations(|| (0..CALLS).for_each(|_| call())));
                assert_eq!(inside, 0, "{simd} {strategy} m {m} k {k}: {inside} allocations in {CALLS} calls");

                // From a thread outside the pool each call is one job put into rayon's queue, whose blocks hold
                // 63 jobs (unfused: three products, three jobs). That is rayon's, and all there is.
                call();
                let outside = allocations(|| (0..CALLS).for_each(|_| call()));
                assert!(
                    outside <= 3 * CALLS / 63 + 1,
                    "{simd} {strategy} m {m} k {k}: {outside} allocations outside"
                );
            }
        }
    }
    println!("forward allocates nothing after the first call: ok");
}

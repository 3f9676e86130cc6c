//! A call allocates nothing after the first one of its size.
//!
//! Alone in its process and without libtest, whose own thread allocates when it likes: the counters count
//! every thread, the main one apart. While it waits for a pool it is not `forward` that runs on it, and how
//! long it takes to begin to wait depends on the machine's load.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Operands, Strided};
use fused_lora::{
    Activation, AdapterElement, Element, Epilogue, Problem, Residual, Strategy,
    cpu::{Adapter, AdapterTable, Executor, Layer, Rayon, Segments, Serial, Simd, Workspace},
};
use half::{bf16, f16};

struct Counting;

/// By the main thread, and by all others.
static ALLOCATIONS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

thread_local! {
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // Gone only when its thread is about to be.
    let is_main = IS_MAIN.try_with(Cell::get).unwrap_or(false);
    ALLOCATIONS[usize::from(!is_main)].fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
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

/// Allocations during `f`: by the main thread, by all others.
fn allocations(f: impl FnOnce()) -> [usize; 2] {
    let now = || ALLOCATIONS.each_ref().map(|count| count.load(Ordering::SeqCst));
    let before = now();
    f();
    let after = now();
    [after[0] - before[0], after[1] - before[1]]
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

/// A program's own threads, two of them: the caller, and one that waits for tasks in [`serve`](Self::serve).
struct Own {
    task: Mutex<Option<&'static (dyn Fn(usize) + Sync)>>,
    there: Barrier,
    begin: Barrier,
    end: Barrier,
}

impl Own {
    fn new() -> Self {
        Self { task: Mutex::new(None), there: Barrier::new(2), begin: Barrier::new(2), end: Barrier::new(2) }
    }

    fn serve(&self) {
        self.there.wait();
        loop {
            self.begin.wait();
            let Some(task) = *self.task.lock().unwrap() else { return };
            task(1);
            self.end.wait();
        }
    }

    fn finish(&self) {
        *self.task.lock().unwrap() = None;
        self.begin.wait();
    }
}

impl Executor for Own {
    fn threads(&self) -> usize {
        2
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        assert_eq!(tasks, 2);
        // SAFETY: the other thread calls it before `end`, which this function waits for.
        let forever =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        *self.task.lock().unwrap() = Some(forever);
        self.begin.wait();
        task(0);
        self.end.wait();
    }
}

fn main() {
    IS_MAIN.set(true);
    let allocate = || drop(std::hint::black_box(vec![1u8; 10]));
    assert_eq!(allocations(allocate), [1, 0], "the counters do not count");
    let of_a_thread = std::thread::spawn(move || allocations(allocate)).join().unwrap();
    assert!(of_a_thread[1] > 0, "the counters do not count other threads");

    calls::<f16>();
    calls::<bf16>();
    calls::<f32>();
    #[cfg(feature = "cuda")]
    plans_that_were_made_before_are_found_without_an_allocation();
    println!("a call allocates nothing after the first one: ok");
}

/// More than twice what a block of rayon's queue holds.
const CALLS: usize = 130;
/// Calls without a queue.
const FEW: usize = 5;

fn calls<T: Element + AdapterElement<T>>() {
    // A few rows and many, one K block and several: each way through the loops.
    for (m, k, threads) in [(3, 40, 1), (8, 1500, 2), (70, 300, 2), (200, 1500, 2)] {
        let operands = Operands::<T>::random(1, m, 150, k, 20);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        if threads == 2 {
            pool.install(have_both_threads_steal);
        }
        for simd in Simd::available() {
            let adapter = Adapter::with_simd(simd, operands.a.view(), operands.b.view(), 1.0).unwrap();
            let layer = Layer::with_simd(simd, operands.w.view()).unwrap().with_adapter(adapter).unwrap();
            let epilogue = Epilogue::bias(operands.bias.clone()).with_activation(Activation::GeluTanh);
            let layer = layer.with_epilogue(&epilogue).unwrap();
            let x = Strided::copy_of(&operands.x, 3, 1);
            let mut y = Strided::poisoned(m, 150, 3, 1);
            // Cuts inside of row tiles, and rows without an adapter.
            let table = AdapterTable::<T>::with_simd::<T>(simd, k, 150, &[]).unwrap();
            let table = table.with(0, layer.adapter().unwrap().clone()).unwrap();
            let rows = [(0..m / 2, Some(0)), (m - m / 3..m, Some(0))];
            let segments = Segments::new(&table, m, &rows).unwrap();
            for strategy in Strategy::ALL {
                let case = format!("{} {simd} {strategy} m {m} k {k}", T::DTYPE);
                let mut workspace = Workspace::new();
                let mut call_on = |executor: &dyn Executor, segments: Option<&Segments<T>>| {
                    let (y, workspace) = (y.view_mut(), &mut workspace);
                    let call = layer.call(x.view()).residual(Residual::Output).strategy(strategy);
                    let call = segments.into_iter().fold(call, |call, segments| call.segments(segments));
                    call.on(executor).run(y, workspace).unwrap();
                };
                let (own, mut counted) = (Own::new(), Vec::new());
                std::thread::scope(|scope| {
                    scope.spawn(|| own.serve());
                    // What a thread allocates to begin is not a call's, and a small call does not wait for it.
                    own.there.wait();
                    for executor in [&own as &dyn Executor, &Serial] {
                        for segments in [None, Some(&segments)] {
                            call_on(executor, segments);
                            let calls = || (0..FEW).for_each(|_| call_on(executor, segments));
                            counted.push((executor.threads(), segments.is_some(), allocations(calls)));
                        }
                    }
                    own.finish();
                });
                for (threads, batch, counts) in counted {
                    let case = format!("{case}, {threads} threads of the caller's, a batch: {batch}");
                    assert_eq!(counts, [0, 0], "{case}: allocations in {FEW} calls");
                }

                // How many jobs a call is does not depend on the level, and the portable one takes its time.
                let calls = if simd == Simd::Portable && m > 100 { FEW } else { CALLS };
                let mut call = || call_on(&Rayon, None);
                pool.install(&mut call);
                // What rayon's threads set up once, whenever they come to it, is in one of three at most;
                // what a call, or every 63rd job, allocates is in all.
                let mut inside = || pool.install(|| allocations(|| (0..calls).for_each(|_| call())))[1];
                let inside = (0..3).map(|_| inside()).min().unwrap();
                assert_eq!(inside, 0, "{case}: {inside} allocations in {calls} calls");

                // From a thread outside the pool each call is one job put into rayon's queue, whose blocks
                // hold 63 jobs (unfused: three products, three jobs). That is rayon's, and all there is.
                call();
                let outside: usize = allocations(|| (0..CALLS).for_each(|_| call())).iter().sum();
                assert!(outside <= 3 * CALLS / 63 + 1, "{case}: {outside} allocations outside");
            }
        }
    }
}

/// Of a GPU that need not be there.
#[cfg(feature = "cuda")]
fn plans_that_were_made_before_are_found_without_an_allocation() {
    let gpu = fused_lora::plan::Gpu::from_data_sheet("h200").unwrap();
    let plan = || {
        for (n, k) in [(1024, 1024), (4096, 1024), (1024, 4096)] {
            for strategy in Strategy::ALL {
                gpu.plan(&Problem::new(512, n, k, 10), strategy).unwrap();
            }
        }
    };
    plan();
    let [here, elsewhere] = allocations(|| (0..100).for_each(|_| plan()));
    assert_eq!(here, 0, "{here} allocations, and {elsewhere} of other threads");
}

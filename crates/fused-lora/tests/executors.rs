//! Calls on threads of the program's own.

mod common;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use common::{Operands, poison};
use fused_lora::{
    Strategy,
    cpu::{Adapter, Executor, Layer, Rayon, Serial, Workspace},
};
use half::f16;
use ndarray::Array2;

/// Threads that run each task so many times, one after another or at once, and count.
struct Own {
    threads: usize,
    times: usize,
    at_once: bool,
    runs: AtomicUsize,
}

impl Executor for Own {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for i in (0..tasks * self.times).map(|i| i % tasks).rev() {
                self.runs.fetch_add(1, Ordering::Relaxed);
                if self.at_once {
                    scope.spawn(move || task(i));
                } else {
                    task(i);
                }
            }
        });
    }
}

/// Few rows, many, and odd ones; every executor gives the same numbers, since a sum is made in the same
/// order.
#[test]
fn every_executor_gives_the_same() {
    let own = |threads, times, at_once| Own { threads, times, at_once, runs: AtomicUsize::new(0) };
    let (threads, twice, serial, many) =
        (own(3, 1, true), own(2, 2, true), own(2, 2, false), own(40, 1, true));
    let executors: [&dyn Executor; 5] = [&Rayon, &threads, &twice, &serial, &many];
    for m in [1, 5, 40, 65, 200] {
        let operands = Operands::<f16>::random(1, m, 500, 1030, 60);
        let adapter = Adapter::new(operands.a.view(), operands.b.view(), operands.scale).unwrap();
        let layer = Layer::new(operands.w.view()).unwrap().with_adapter(adapter).unwrap();
        for strategy in Strategy::ALL {
            let run = |executor: &dyn Executor| {
                let mut y = Array2::from_elem((m, 500), poison());
                let call = layer.call(operands.x.view()).strategy(strategy).on(executor);
                call.run(y.view_mut(), &mut Workspace::new()).unwrap();
                y
            };
            let expected = run(&Serial);
            for (i, executor) in executors.into_iter().enumerate() {
                assert_eq!(run(executor), expected, "executor {i}, m {m}, {strategy}");
            }
        }
    }
    for own in [threads, twice, serial, many] {
        assert!(own.runs.load(Ordering::Relaxed) > 0);
    }
}

/// One pool for a whole program: calls from several threads, each with a workspace of its own, on one
/// executor.
#[test]
fn an_executor_serves_several_calls_at_once() {
    let operands = Operands::<f16>::random(2, 65, 300, 700, 20);
    let adapter = Adapter::new(operands.a.view(), operands.b.view(), operands.scale).unwrap();
    let layer = Layer::new(operands.w.view()).unwrap().with_adapter(adapter).unwrap();
    let mut expected = Array2::from_elem((65, 300), poison());
    layer.call(operands.x.view()).on(&Serial).run(expected.view_mut(), &mut Workspace::new()).unwrap();
    let own = Own { threads: 2, times: 1, at_once: true, runs: AtomicUsize::new(0) };
    let outputs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut workspace = Workspace::new();
                for _ in 0..10 {
                    let mut y = Array2::from_elem((65, 300), poison());
                    layer.call(operands.x.view()).on(&own).run(y.view_mut(), &mut workspace).unwrap();
                    outputs.lock().unwrap().push(y);
                }
            });
        }
    });
    assert!(outputs.into_inner().unwrap().iter().all(|y| *y == expected));
}

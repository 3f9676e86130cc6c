//! Methods, calls and suites of which nothing matters but what a test asks for.

use std::rc::Rc;

use half::f16;
use ndarray::Array2;

use crate::check::check;
use crate::machine::Machine;
use crate::method::{Call, Expected, Method, Probe, Provider, Ready, Suite, Task, Work};
use crate::samples::{Observation, Samples};
use crate::size::Size;
use crate::time::Time;
use fused_lora_records::Record;

/// 128 tokens.
pub const SIZE: Size = Size { seq_len: 128, batch: 1 };

/// A method of this library.
pub fn method(name: &str, rank: usize, base: Option<usize>) -> Method {
    let task = Task::Linear(fused_lora::Strategy::Base);
    Method {
        base,
        work: Work { flops: 1e6, bytes: 1e3 },
        ..Method::new(name, rank, task, Provider::Library(0))
    }
}

/// A limit of the machine.
pub fn probe(probe: Probe) -> Method {
    Method { task: Task::Probe(probe), ids: Vec::new(), ..method("probe", 0, None) }
}

/// A machine of two threads.
pub fn machine() -> Machine {
    Machine {
        device: "some device".to_owned(),
        threads: Some(2),
        simd: "avx2".to_owned(),
        driver: "12.4".to_owned(),
        clock_mhz: None,
        last_level_cache: 32 << 20,
        granule: fused_lora::Granule { shrink_n: 8, expand_k: 1 },
    }
}

/// A call that does what a test says. y is given; one without a y cannot be had.
pub struct MadeCall {
    /// What a call does with its slot.
    pub run: Box<dyn FnMut(usize) -> anyhow::Result<Time>>,
    /// y of the first slot.
    pub y: Array2<f16>,
}

impl Call for MadeCall {
    fn call(&mut self, slot: usize) -> anyhow::Result<Time> {
        (self.run)(slot)
    }

    fn output(&mut self) -> anyhow::Result<Vec<Array2<f32>>> {
        Ok(vec![self.y.mapv(f16::to_f32)])
    }
}

/// Makes the call of the method at a place. y should be one 1.
pub struct MadeSuite<F>(pub F);

impl<F: FnMut(Size, usize, &Method) -> MadeCall> Suite for MadeSuite<F> {
    fn methods(&self, _: Size) -> Vec<Method> {
        Vec::new()
    }

    fn slots(&self, _: Size, distance: usize) -> usize {
        1 + distance
    }

    fn prepare(&mut self, size: Size, _: usize, methods: &[Method]) -> anyhow::Result<Vec<Ready>> {
        let call = |(place, method)| -> Ready {
            let call = (self.0)(size, place, method);
            if call.y.is_empty() { None } else { Some(Box::new(call)) }
        };
        Ok(methods.iter().enumerate().map(call).collect())
    }

    fn expected(&mut self, _: Size, _: &Method) -> anyhow::Result<Rc<Vec<Expected>>> {
        let one = |value| Array2::from_elem((1, 1), value);
        let y = Expected { rows: vec![(0, 0)], y: one(1.0), tolerance: one(0.1), norm_tolerance: 0.1 };
        Ok(Rc::new(vec![y]))
    }

    fn describe(&self, method: &Method, record: &mut Record) {
        if !method.is_ours() {
            record.driver = "torch 2".to_owned();
        }
    }
}

/// A call between two of its base, which is the first of the methods.
pub fn leg(seen: &mut Samples, place: usize, round: usize, own: Time, bases: [Time; 2]) {
    bases.iter().for_each(|&base| seen.called(0, base));
    seen.observed(place, Observation { round, own, bases });
}

/// A suite's methods, ready on so many slots: all of them can be had.
pub fn prepared(suite: &mut impl Suite, size: Size, slots: usize, methods: &[Method]) -> Vec<Box<dyn Call>> {
    suite.prepare(size, slots, methods).unwrap().into_iter().map(Option::unwrap).collect()
}

/// Likewise, after each was found right. A probe runs and has no y.
pub fn checked(suite: &mut impl Suite, size: Size, slots: usize, methods: &[Method]) -> Vec<Box<dyn Call>> {
    let mut calls = prepared(suite, size, slots, methods);
    for (method, call) in methods.iter().zip(&mut calls) {
        let expected = suite.expected(size, method).unwrap();
        check(method, &mut **call, &expected).unwrap_or_else(|error| panic!("{error}"));
    }
    calls
}

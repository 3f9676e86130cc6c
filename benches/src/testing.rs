//! Methods, calls, suites and records of which nothing matters but what a test asks for.

use std::process::Command;
use std::rc::Rc;

use half::f16;
use ndarray::Array2;

use crate::check::check;
use crate::machine::Machine;
use crate::method::{Call, Expected, Method, Probe, Provider, Ready, Suite, Task, Work};
use crate::samples::{Observation, Samples};
use crate::size::Size;
use crate::time::Time;
use fused_lora_records::{COLUMNS, Cell, Record, VERSION_LINE, parse};

/// In the environment of a test that runs in a process of its own.
pub(crate) const CHILD: &str = "FUSED_LORA_BENCHES_TEST_CHILD";

/// Runs the test of that path again, in a process of its own with these variables: it must pass.
pub(crate) fn run_in_child(test: &str, variables: &[(&str, &str)]) {
    let program = std::env::current_exe().unwrap();
    let child =
        Command::new(program).args(["--exact", test]).envs(variables.iter().copied()).output().unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && stdout.contains("1 passed"), "{variables:?}: {stdout}");
}

pub(crate) const SIZE: Size = Size { seq_len: 128, batch: 1 };

pub(crate) fn method(name: &str, rank: usize, base: Option<usize>) -> Method {
    let task = Task::Linear(fused_lora::Strategy::Base);
    Method {
        base,
        work: Work { flops: 1e6, bytes: 1e3 },
        ..Method::new(name, rank, task, Provider::Library(0))
    }
}

pub(crate) fn probe(probe: Probe) -> Method {
    Method { task: Task::Probe(probe), ids: Vec::new(), ..method("probe", 0, None) }
}

pub(crate) fn machine() -> Machine {
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
pub(crate) struct MadeCall {
    pub(crate) run: Box<dyn FnMut(usize) -> anyhow::Result<Time>>,
    pub(crate) y: Array2<f16>,
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
pub(crate) struct MadeSuite<F>(pub(crate) F);

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
pub(crate) fn leg(seen: &mut Samples, place: usize, round: usize, own: Time, bases: [Time; 2]) {
    bases.iter().for_each(|&base| seen.called(0, base));
    seen.observed(place, Observation { round, own, bases });
}

/// A suite's methods, ready on so many slots: all of them can be had.
pub(crate) fn prepared(
    suite: &mut impl Suite,
    size: Size,
    slots: usize,
    methods: &[Method],
) -> Vec<Box<dyn Call>> {
    suite.prepare(size, slots, methods).unwrap().into_iter().map(Option::unwrap).collect()
}

/// Likewise, after each was found right. A probe runs and has no y.
pub(crate) fn checked(
    suite: &mut impl Suite,
    size: Size,
    slots: usize,
    methods: &[Method],
) -> Vec<Box<dyn Call>> {
    let mut calls = prepared(suite, size, slots, methods);
    for (method, call) in methods.iter().zip(&mut calls) {
        let expected = suite.expected(size, method).unwrap();
        check(method, &mut **call, &expected).unwrap_or_else(|error| panic!("{error}"));
    }
    calls
}

/// The first GPU; None, and a line that says why, where there is none. A simulated one will do.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn gpu() -> Option<crate::cuda::Gpu> {
    match crate::cuda::Gpu::open(0, false) {
        Ok(gpu) => Some(gpu),
        Err(error) if crate::target::is_missing(&error) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("there is a driver, but {error}"),
    }
}

/// A record of the layer, with nothing in the columns that may be empty.
pub(crate) fn record(method: &str, Cell { seq_len, batch, rank }: Cell, time_ns: f64) -> Record {
    let text = format!(
        "{VERSION_LINE}\n{}\nmade-up,gpt2-medium-layer,cpu,some cpu,2,avx2,,,cold,f16,{method},1024,1024,\
         {seq_len},{batch},{rank},1,{time_ns},,,,,,,,,,6,0,wall,unknown,false,2026-01-31T12:00:00Z\n",
        COLUMNS.join(",")
    );
    parse("made-up".as_ref(), text.as_bytes()).unwrap().records.remove(0)
}

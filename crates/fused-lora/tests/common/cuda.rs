//! Matrices on a device, in awkward memory, for tests that run where there is one: a GPU, or a driver that
//! simulates one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use fused_lora::{
    Epilogue, Strategy,
    cuda::{Adapter, Buffer, Device, Error, Layer, Matrix, MatrixMut, Stream},
    reference::{self, Expected, Inputs, LoraView},
};
use half::f16;
use ndarray::Array2;

use super::common::{Operands, Strided, is_poison, poison};

/// Held by the one test that is on the device: while one captures a graph, no other can wait for all work.
pub(crate) type Alone = MutexGuard<'static, ()>;

/// The first device, for one test at a time; None, and a line that says why, where there is none. With
/// `FUSED_LORA_REQUIRE_DEVICE=1` that is a failure.
pub(crate) fn device() -> Option<(Device, Alone)> {
    static ALONE: Mutex<()> = Mutex::new(());
    match Device::open(0) {
        // The slower kernels would be right, too, and nobody would notice.
        Ok(device) if device.without_sm90a().is_some() => panic!("{:?}", device.without_sm90a()),
        Ok(device) => Some((device, ALONE.lock().unwrap_or_else(PoisonError::into_inner))),
        Err(error @ (Error::NoDriver(_) | Error::NoDevice)) => {
            let required = std::env::var_os("FUSED_LORA_REQUIRE_DEVICE").is_some_and(|value| value == "1");
            assert!(!required, "{error}");
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("there is a driver, but {error}"),
    }
}

/// The same, with a stream on it.
pub(crate) fn with_stream() -> Option<(Device, Stream, Alone)> {
    let (device, alone) = device()?;
    let stream = Stream::new(&device).unwrap();
    Some((device, stream, alone))
}

/// How a case lies in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Elements between rows.
    pub(crate) gap: usize,
    /// Elements before the first row.
    pub(crate) offset: usize,
}

/// A matrix on a device; around it are NaNs with a number in them.
pub(crate) struct Placed {
    pub(crate) buffer: Buffer,
    rows: usize,
    columns: usize,
    memory: Memory,
}

impl Placed {
    pub(crate) fn copy_of(device: &Device, matrix: &Array2<f16>, memory: Memory) -> Self {
        let ((rows, columns), Memory { gap, offset }) = (matrix.dim(), memory);
        let on_host = Strided::copy_of(matrix, gap, offset);
        Self { buffer: Buffer::from_slice(device, &on_host.memory).unwrap(), rows, columns, memory }
    }

    pub(crate) fn poisoned(device: &Device, rows: usize, columns: usize, memory: Memory) -> Self {
        Self::copy_of(device, &Array2::from_elem((rows, columns), poison()), memory)
    }

    /// Other values in the same place.
    pub(crate) fn write(&mut self, matrix: &Array2<f16>) {
        let Memory { gap, offset } = self.memory;
        self.buffer.write(&Strided::copy_of(matrix, gap, offset).memory).unwrap();
    }

    pub(crate) fn view(&self) -> Matrix<'_> {
        let Memory { gap, offset } = self.memory;
        Matrix::strided(&self.buffer, offset, self.rows, self.columns, self.columns + gap).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> MatrixMut<'_> {
        let Memory { gap, offset } = self.memory;
        MatrixMut::strided(&mut self.buffer, offset, self.rows, self.columns, self.columns + gap).unwrap()
    }

    /// The matrix, and whether all around it is as it was.
    pub(crate) fn read(&self) -> (Array2<f16>, bool) {
        let Memory { gap, offset } = self.memory;
        let mut on_host = Strided::poisoned(self.rows, self.columns, gap, offset);
        on_host.memory = self.buffer.to_vec().unwrap();
        (on_host.view().to_owned(), on_host.gaps_are_untouched())
    }

    /// Whether nothing has been written at all.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.buffer.to_vec().unwrap().iter().all(|v| is_poison(*v))
    }
}

/// The layer of a case.
pub(crate) fn layer(device: &Device, operands: &Operands, bias: bool) -> Layer {
    let Operands { w, a, b, scale, .. } = operands;
    let adapter = Adapter::new(device, a.view(), b.view(), *scale).unwrap();
    let layer = Layer::new(device, w.view()).unwrap().with_adapter(adapter).unwrap();
    layer.with_epilogue(&epilogue(operands, bias)).unwrap()
}

pub(crate) fn epilogue(operands: &Operands, bias: bool) -> Epilogue {
    if bias { Epilogue::bias(operands.bias.clone()) } else { Epilogue::default() }
}

/// What the reference says of a case.
pub(crate) fn expected(operands: &Operands, strategy: Strategy, bias: bool) -> Expected {
    let Operands { x, w, a, b, scale, .. } = operands;
    let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: *scale });
    let epilogue = epilogue(operands, bias);
    reference::forward(&Inputs { x: x.view(), w: w.view(), adapter, epilogue: &epilogue }, strategy).unwrap()
}

/// Fails unless y is what the reference says, and nothing around it was touched.
#[track_caller]
pub(crate) fn assert_agrees(y: &Placed, expected: &Expected, case: &str) {
    let (values, untouched) = y.read();
    if let Err(mismatch) = reference::check(expected, values.view()) {
        panic!("{case}: {mismatch}");
    }
    assert!(untouched, "{case}: wrote around y");
}

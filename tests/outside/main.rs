//! A program outside of the workspace: `run` puts it into a crate of its own that depends on `fused-lora`.

use fused_lora::cpu;
use half::f16;
use ndarray::Array2;

const SCALE: f32 = 0.5;

/// Eighths from -1/2 to 3/8: every sum of their products below is exact in f32.
fn matrix(rows: usize, columns: usize, seed: usize) -> Array2<f16> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        f16::from_f32(((i * 31 + j * 17 + seed) % 8) as f32 / 8.0 - 0.5)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (m, n, k, rank) = (33, 48, 40, 10);
    let (x, w) = (matrix(m, k, 0), matrix(n, k, 3));
    let (a, b) = (matrix(rank, k, 1), matrix(n, rank, 5));

    let mut expected = Array2::zeros((m, n));
    let adapter = cpu::Adapter::new(a.view(), b.view(), SCALE)?;
    let layer = cpu::Layer::new(w.view())?.with_adapter(adapter)?;
    layer.call(x.view()).run(expected.view_mut(), &mut cpu::Workspace::new())?;
    println!("cpu: {}", layer.simd());

    #[cfg(feature = "cuda")]
    {
        use fused_lora::cuda::{Adapter, Buffer, Device, Error, Layer, Matrix, MatrixMut, Stream, Workspace};

        let device = match Device::open(0) {
            Err(missing @ (Error::NoDriver(_) | Error::NoDevice)) => {
                println!("{missing}");
                return Ok(());
            }
            device => device?,
        };
        println!("device: {}", device.properties());
        let adapter = Adapter::new(&device, a.view(), b.view(), SCALE)?;
        let layer = Layer::new(&device, w.view())?.with_adapter(adapter)?;
        let stream = Stream::new(&device)?;
        let mut workspace = Workspace::new(&device, layer.workspace_size(m))?;
        let x = Buffer::from_slice(&device, x.as_slice().ok_or("x has gaps")?)?;
        let mut y = Buffer::zeroed(&device, m * n)?;
        layer.call(Matrix::new(&x, m, k)?).run(MatrixMut::new(&mut y, m, n)?, &mut workspace, &stream)?;
        assert_eq!(Array2::from_shape_vec((m, n), y.to_vec()?)?, expected);
        println!("{m} x {n} elements are those of the CPU");
    }
    Ok(())
}

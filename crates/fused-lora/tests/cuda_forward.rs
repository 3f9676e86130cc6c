//! Every kernel and strategy on a device against the f64 reference, through the library's own launches.
//! Skipped where there is no device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;

use common::Operands;
use fused_lora::{
    Strategy,
    cuda::{
        Adapter, Device, KERNELS, Kernel, Launch, Layer, Operation, SM90_KERNELS, Stream, Target, Workspace,
    },
    reference,
};
use half::f16;
use ndarray::{Array2, array};
use on_device::{Memory, Placed, assert_agrees, device, expected, layer, with_stream};

/// What is tested on a kernel: `allow` picks it.
struct Case<'a> {
    device: &'a Device,
    stream: &'a Stream,
    operands: &'a Operands,
    bias: bool,
    x: Memory,
    y: Memory,
}

impl Case<'_> {
    fn agrees(&self, strategy: Strategy, allow: impl Fn(&Launch) -> bool, name: &str) {
        let Case { device, stream, operands, bias, .. } = *self;
        let (m, n) = (operands.x.nrows(), operands.w.nrows());
        let layer = layer(device, operands, bias);
        let expected = expected(operands, strategy, bias);
        let x = Placed::copy_of(device, &operands.x, self.x);
        let mut workspace = Workspace::new(device, layer.workspace_size(m)).unwrap();
        // The second call finds a workspace in use.
        for call in 1..=2 {
            let mut y = Placed::poisoned(device, m, n, self.y);
            layer
                .call(x.view())
                .strategy(strategy)
                .among(&allow)
                .run(y.view_mut(), &mut workspace, stream)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let case = || {
                format!(
                    "{name} {strategy} m {m} n {n} k {} r {} call {call}",
                    layer.in_features(),
                    layer.rank()
                )
            };
            assert_agrees(&y, &expected, &case());
        }
    }
}

/// Runs a kernel on its own, over tails in every dimension.
fn runs(device: &Device, stream: &Stream, kernel: &Kernel, rank: usize, [m, n, k]: [usize; 3]) {
    let operands = Operands::random(rank as u64 + 1, m, n, k, rank);
    let memory = Memory::default();
    let case = Case { device, stream, operands: &operands, bias: true, x: memory, y: memory };
    // The others of an unfused call are the smallest.
    let only = |launch: &Launch| {
        let other = launch.kernel;
        other.name == kernel.name
            || kernel.operation != other.operation
                && (other.name.ends_with("_64x64") || other.name.ends_with("_64x64_any"))
    };
    let alone = |launch: &Launch| launch.kernel.name == kernel.name;
    match kernel.operation {
        Operation::Gemm | Operation::GemmSplitK => case.agrees(Strategy::Base, alone, kernel.name),
        Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative => {
            case.agrees(Strategy::Fused, alone, kernel.name);
        }
        Operation::Shrink | Operation::Expand => case.agrees(Strategy::Unfused, only, kernel.name),
    }
}

#[test]
fn every_kernel_at_every_rank_it_is_for() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for kernel in KERNELS.iter().filter(|kernel| device.resident(kernel) > 0) {
        // A tile and a bit, along M and N; whole and broken steps of K, and of 16 bytes for those who can.
        let (m, n) = (kernel.block_m as usize + 3, kernel.block_n as usize + 5);
        let k = if kernel.aligned { 72 } else { 77 };
        let ranks: &[usize] = match kernel.operation {
            Operation::Gemm => &[0],
            Operation::FusedRecompute => &[1, 10, 16, 17, 32],
            _ => &[1, 7, 10, 16, 100, 250],
        };
        for &rank in ranks {
            if kernel.operation != Operation::FusedRecompute || rank <= kernel.h as usize {
                runs(&device, &stream, kernel, rank, [m, n, k]);
            }
        }
    }
}

/// Those for compute capability 9.0, in clusters of every size that they are for: a tile and a bit along M
/// and N, whole and broken steps of K, rows of x and y that are not a multiple of 16 bytes long, but that far
/// apart.
#[test]
fn every_kernel_for_9_0_in_every_cluster() {
    let Some((device, _alone)) = device() else { return };
    assert_eq!(
        device.target() == Target::Sm90a,
        device.properties().compute_capability == (9, 0),
        "a driver of CUDA 12"
    );
    let stream = Stream::new(&device).unwrap();
    for kernel in SM90_KERNELS {
        let (m, n) = (kernel.block_m as usize + 3, kernel.block_n as usize + 5);
        for cluster in [1, 2, 4, 8].into_iter().filter(|&size| device.gpu().clusters(kernel, size) > 0) {
            let (k, ranks) = match kernel.operation {
                Operation::Gemm => (77, vec![0]),
                // A step for each CTA, the last one broken.
                Operation::GemmSplitK => (64 * cluster as usize - 5, vec![0]),
                Operation::FusedCooperative => {
                    let most = kernel.max_rank.min(kernel.h * cluster) as usize;
                    (77, vec![10, most - 1])
                }
                _ => (77, vec![10, 100]),
            };
            if kernel.operation == Operation::GemmSplitK && cluster > kernel.block_n / 16 {
                continue;
            }
            for rank in ranks {
                let operands = Operands::random(rank as u64 + 1, m, n, k, rank);
                let apart = |columns: usize| columns.next_multiple_of(8) - columns;
                let case = Case {
                    device: &device,
                    stream: &stream,
                    operands: &operands,
                    bias: true,
                    x: Memory { gap: apart(k), offset: 8 },
                    y: Memory { gap: 8 + apart(n), offset: 16 },
                };
                let strategy = if rank == 0 { Strategy::Base } else { Strategy::Fused };
                let only = |launch: &Launch| launch.kernel.name == kernel.name && launch.cluster == cluster;
                case.agrees(strategy, only, &format!("{} in clusters of {cluster}", kernel.name));
            }
        }
    }
}

#[test]
fn the_smallest_sizes() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for ([m, n, k], rank) in
        [([1, 1, 1], 1), ([1, 8, 8], 7), ([2, 9, 16], 10), ([5, 1, 100], 16), ([65, 3, 33], 1)]
    {
        let operands = Operands::random(11, m, n, k, rank);
        let memory = Memory::default();
        let case =
            Case { device: &device, stream: &stream, operands: &operands, bias: false, x: memory, y: memory };
        for strategy in Strategy::ALL {
            case.agrees(strategy, |_| true, "chosen");
        }
    }
}

#[test]
fn rows_apart_and_unaligned() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let operands = Operands::random(12, 67, 75, 72, 10);
    let memory = |gap, offset| Memory { gap, offset };
    for (x, y) in [
        (memory(8, 16), memory(5, 8)),
        (memory(0, 1), memory(0, 1)),
        (memory(3, 0), memory(1, 3)),
        (memory(8, 4), memory(5, 0)),
    ] {
        for bias in [false, true] {
            let case = Case { device: &device, stream: &stream, operands: &operands, bias, x, y };
            for strategy in Strategy::ALL {
                case.agrees(strategy, |_| true, &format!("x {x:?} y {y:?} bias {bias}"));
            }
        }
    }
}

fn run(layer: &Layer, strategy: Strategy, x: &Array2<f16>, stream: &Stream) -> Array2<f16> {
    let device = layer.device();
    let x = Placed::copy_of(device, x, Memory::default());
    let mut y = Placed::poisoned(device, x.view().rows(), layer.out_features(), Memory::default());
    let mut workspace = Workspace::new(device, layer.workspace_size(x.view().rows())).unwrap();
    layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut workspace, stream).unwrap();
    y.read().0
}

#[test]
fn rank_zero_is_the_base_product_bit_for_bit() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let operands = Operands::random(3, 70, 100, 72, 0);
    let layer = layer(&device, &operands, true);
    assert_eq!((layer.rank(), layer.workspace_size(70)), (0, 0));
    let base = run(&layer, Strategy::Base, &operands.x, &stream);
    for strategy in [Strategy::Fused, Strategy::Unfused] {
        assert_eq!(run(&layer, strategy, &operands.x, &stream), base, "{strategy}");
    }
}

#[test]
fn the_adapter_can_be_changed_and_dropped() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let operands = Operands::random(4, 20, 50, 40, 9);
    let mut layer = layer(&device, &operands, false);
    let first = run(&layer, Strategy::Fused, &operands.x, &stream);
    reference::check(&expected(&operands, Strategy::Fused, false), first.view()).unwrap();

    let other = Operands {
        a: Operands::random(5, 1, 1, 40, 21).a,
        b: Operands::random(5, 1, 50, 1, 21).b,
        ..operands
    };
    let adapter = Adapter::new(&device, other.a.view(), other.b.view(), other.scale).unwrap();
    let kept = layer.set_adapter(Some(adapter)).unwrap().unwrap();
    assert_eq!((kept.rank(), layer.rank()), (9, 21));
    let changed = run(&layer, Strategy::Fused, &other.x, &stream);
    reference::check(&expected(&other, Strategy::Fused, false), changed.view()).unwrap();

    layer.set_adapter(None).unwrap();
    assert_eq!(
        run(&layer, Strategy::Fused, &other.x, &stream),
        run(&layer, Strategy::Base, &other.x, &stream)
    );
    layer.set_adapter(Some(kept)).unwrap();
    assert_eq!(run(&layer, Strategy::Fused, &other.x, &stream), first);
}

#[test]
fn nan_stays_in_its_row() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for rank in [10, 40] {
        let mut operands = Operands::random(9, 70, 50, 72, rank);
        operands.x[[13, 71]] = f16::NAN;
        let layer = layer(&device, &operands, true);
        for strategy in Strategy::ALL {
            let y = run(&layer, strategy, &operands.x, &stream);
            for (i, row) in y.outer_iter().enumerate() {
                assert!(row.iter().all(|v| v.is_nan() == (i == 13)), "rank {rank} {strategy} row {i}");
            }
        }
    }
}

#[test]
fn overflow_is_infinity_in_y_and_in_h() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    // y: 2 · 60000 overflows; -2 · 60000 to the other side; 60000 does not.
    let (x, w) = (array![[1.0f32, 1.0]], array![[60000.0, 60000.0], [-60000.0, -60000.0], [60000.0, 0.0]]);
    // h: 2 · 60000 overflows, and B's sign decides the infinity; inf · 0 is NaN.
    let (a, b) = (array![[60000.0, 60000.0]], array![[1.0], [-1.0], [0.0]]);
    let [x, w, a, b] = [x, w, a, b].map(|matrix| matrix.mapv(f16::from_f32));
    let adapter = |scale| Adapter::new(&device, a.view(), b.view(), scale).unwrap();
    let mut layer = Layer::new(&device, w.view()).unwrap();
    let base = run(&layer, Strategy::Base, &x, &stream);
    assert_eq!(base.row(0).to_vec(), [f16::INFINITY, f16::NEG_INFINITY, f16::from_f32(60000.0)]);
    layer.set_adapter(Some(adapter(1.0))).unwrap();
    for strategy in [Strategy::Fused, Strategy::Unfused] {
        let y = run(&layer, strategy, &x, &stream);
        assert_eq!((y[[0, 0]], y[[0, 1]]), (f16::INFINITY, f16::NEG_INFINITY), "{strategy}");
        assert!(y[[0, 2]].is_nan(), "{strategy}");
    }
    // The scale is in h before it is rounded: half of 120000 is no overflow.
    layer.set_adapter(Some(adapter(0.5))).unwrap();
    assert_eq!(run(&layer, Strategy::Fused, &x, &stream)[[0, 2]], f16::from_f32(60000.0));
}

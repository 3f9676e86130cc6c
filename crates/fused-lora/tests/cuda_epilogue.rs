//! Activation and residuals on a device against the f64 reference, through the library's own launches.
//! Skipped where there is no device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;

use common::{Operands, normal, rng};
use fused_lora::{
    Activation, Epilogue, Operand, Residual, Strategy,
    cuda::{
        Buffer, Device, Error, KERNELS, Launch, Layer, Matrix, MatrixMut, Operation, SM90_KERNELS, Stream,
        Workspace, workspace_size,
    },
    plan,
    reference::{self, Expected, Inputs, LoraView},
};
use half::f16;
use ndarray::{Array2, ArrayView2};
use on_device::{Memory, Placed, assert_agrees, layer, with_stream};

/// Where what is added to y is held.
#[derive(Clone, Copy, Debug)]
enum Held {
    Nowhere,
    InY,
    InOne,
    InTwo,
}

impl Held {
    const ALL: [Held; 4] = [Held::Nowhere, Held::InY, Held::InOne, Held::InTwo];

    /// Those of two matrices that are added.
    fn of<T: Clone>(self, matrices: &[T; 2]) -> Vec<T> {
        let count = match self {
            Held::Nowhere => 0,
            Held::InY | Held::InOne => 1,
            Held::InTwo => 2,
        };
        matrices[..count].to_vec()
    }
}

/// A product with residuals, on a device and on the host.
struct Case<'a> {
    device: &'a Device,
    stream: &'a Stream,
    operands: Operands,
    residuals: [Array2<f16>; 2],
    epilogue: Epilogue,
}

impl<'a> Case<'a> {
    fn new(device: &'a Device, stream: &'a Stream, [m, n, k]: [usize; 3], rank: usize, gelu: bool) -> Self {
        let operands = Operands::random(rank as u64 + 31, m, n, k, rank);
        let mut rng = rng(rank as u64 + 32);
        let residuals = [(); 2].map(|()| normal(&mut rng, m, n, 1.0));
        let epilogue = Epilogue::bias(operands.bias.clone());
        let epilogue = if gelu { epilogue.with_activation(Activation::GeluTanh) } else { epilogue };
        Self { device, stream, operands, residuals, epilogue }
    }

    fn layer(&self) -> Layer {
        layer(self.device, &self.operands, false).with_epilogue(&self.epilogue).unwrap()
    }

    fn expected(&self, strategy: Strategy, held: Held) -> Expected {
        let Operands { x, w, a, b, scale, .. } = &self.operands;
        let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: *scale });
        let inputs = Inputs { x: x.view(), w: w.view(), adapter, epilogue: &self.epilogue };
        let residuals: Vec<ArrayView2<'_, f16>> =
            held.of(&[self.residuals[0].view(), self.residuals[1].view()]);
        reference::forward_residual(&inputs, &residuals, strategy).unwrap()
    }

    /// Runs it among the launches that `allow` lets pass and holds y to the reference; x, y and the residuals
    /// lie as said.
    fn agrees(
        &self,
        strategy: Strategy,
        held: Held,
        allow: impl Fn(&Launch) -> bool,
        [x, y, one, two]: [Memory; 4],
        name: &str,
    ) {
        let Case { device, stream, operands, residuals, .. } = self;
        let (layer, (m, n)) = (self.layer(), residuals[0].dim());
        let x = Placed::copy_of(device, &operands.x, x);
        let [one, two] = [(0, one), (1, two)].map(|(i, at)| Placed::copy_of(device, &residuals[i], at));
        let mut workspace =
            Workspace::new(device, workspace_size(m, layer.rank().next_multiple_of(16) + n)).unwrap();
        let mut y = match held {
            Held::InY => Placed::copy_of(device, &residuals[0], y),
            _ => Placed::poisoned(device, m, n, y),
        };
        let residual = match held {
            Held::Nowhere => Residual::None,
            Held::InY => Residual::Output,
            Held::InOne => Residual::Matrix(one.view()),
            Held::InTwo => Residual::Sum(one.view(), two.view()),
        };
        let case = || format!("{name} {strategy} {held:?} {:?}", self.epilogue.activation);
        layer
            .call(x.view())
            .residual(residual)
            .strategy(strategy)
            .among(&allow)
            .run(y.view_mut(), &mut workspace, stream)
            .unwrap_or_else(|error| panic!("{}: {error}", case()));
        assert_agrees(&y, &self.expected(strategy, held), &case());
    }
}

/// Where the copy engine can address it: rows multiples of 16 bytes apart.
fn boxed(columns: usize, offset: usize) -> Memory {
    Memory { gap: columns.next_multiple_of(8) - columns, offset }
}

#[test]
fn every_kernel_with_every_residual() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let kernels = KERNELS.iter().chain(SM90_KERNELS).filter(|kernel| device.resident(kernel) > 0);
    for (turn, kernel) in kernels.enumerate() {
        let (strategy, rank) = match kernel.operation {
            Operation::Gemm | Operation::GemmSplitK => (Strategy::Base, 0),
            Operation::Shrink => continue,
            Operation::Expand => (Strategy::Unfused, 10),
            _ => (Strategy::Fused, 10),
        };
        let (m, n) = (kernel.block_m as usize + 3, kernel.block_n as usize + 5);
        let k = if kernel.operation == Operation::GemmSplitK { 136 } else { 72 };
        // The others of an unfused call are the smallest.
        let only = |launch: &Launch| {
            let other = launch.kernel;
            other.name == kernel.name
                || strategy == Strategy::Unfused
                    && other.name.ends_with("_64x64")
                    && other.operation != kernel.operation
        };
        let case = Case::new(&device, &stream, [m, n, k], rank, turn % 2 == 0);
        // Two of the four for each kernel.
        for held in [Held::ALL[turn / 2 % 2 + 1], Held::ALL[if turn % 2 == 0 { 3 } else { 0 }]] {
            // The second residual lies nowhere near a multiple of 16 bytes.
            let memory = [boxed(k, 8), boxed(n, 16), boxed(n, 24), Memory { gap: 2, offset: 1 }];
            case.agrees(strategy, held, only, memory, kernel.name);
        }
    }
}

#[test]
fn every_strategy_with_every_residual_anywhere_in_memory() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for (rank, gelu) in [(0, true), (10, false), (10, true), (40, true)] {
        let case = Case::new(&device, &stream, [67, 75, 72], rank, gelu);
        for held in Held::ALL {
            for strategy in Strategy::ALL {
                let memory = |gap, offset| Memory { gap, offset };
                for memory in [
                    [Memory::default(); 4],
                    [memory(8, 16), memory(5, 8), memory(5, 0), memory(13, 8)],
                    [memory(3, 0), memory(1, 3), memory(2, 1), memory(4, 5)],
                ] {
                    case.agrees(strategy, held, |_| true, memory, &format!("rank {rank}, {memory:?}"));
                }
            }
        }
    }
}

/// A residual whose rows are all one: what may be said with a stride of 0.
#[test]
fn rows_of_a_residual_may_be_the_same() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let mut case = Case::new(&device, &stream, [70, 48, 40], 10, true);
    let row = case.residuals[0].row(0).to_owned();
    case.residuals[0] = Array2::from_shape_fn((70, 48), |(_, j)| row[j]);
    let buffer = Buffer::from_slice(&device, &row.to_vec()).unwrap();
    let x = Placed::copy_of(&device, &case.operands.x, Memory::default());
    let mut y = Placed::poisoned(&device, 70, 48, Memory::default());
    let layer = case.layer();
    let mut workspace = Workspace::new(&device, layer.workspace_size(70)).unwrap();
    let residual = Residual::Matrix(Matrix::strided(&buffer, 0, 70, 48, 0).unwrap());
    layer.call(x.view()).residual(residual).run(y.view_mut(), &mut workspace, &stream).unwrap();
    assert_agrees(&y, &case.expected(Strategy::Fused, Held::InOne), "one row");
}

/// It replaces the whole of what was set before.
#[test]
fn the_epilogue_can_be_changed() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let mut case = Case::new(&device, &stream, [20, 40, 40], 9, true);
    for epilogue in [
        Epilogue::default().with_activation(Activation::GeluTanh),
        Epilogue::bias(case.operands.bias.clone()),
        Epilogue::default(),
    ] {
        let layer = case.layer().with_epilogue(&epilogue).unwrap();
        case.epilogue = epilogue;
        let x = Placed::copy_of(&device, &case.operands.x, Memory::default());
        let mut y = Placed::poisoned(&device, 20, 40, Memory::default());
        let mut workspace = Workspace::new(&device, layer.workspace_size(20)).unwrap();
        layer.call(x.view()).run(y.view_mut(), &mut workspace, &stream).unwrap();
        assert_agrees(&y, &case.expected(Strategy::Fused, Held::Nowhere), "changed");
    }
}

#[test]
fn residuals_that_do_not_fit_are_refused_by_name() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let case = Case::new(&device, &stream, [6, 24, 40], 9, true);
    let layer = case.layer();
    let x = Placed::copy_of(&device, &case.operands.x, Memory::default());
    let good = Buffer::zeroed(&device, 6 * 24).unwrap();
    let good = Matrix::new(&good, 6, 24).unwrap();
    let memory = Buffer::zeroed(&device, 400).unwrap();
    let mut workspace = Workspace::new(&device, layer.workspace_size(6)).unwrap();
    let refused = |axis, expected, found| {
        Error::Problem(fused_lora::Error::Shape { operand: Operand::Residual, axis, expected, found })
    };
    let y = || Placed::poisoned(&device, 6, 24, Memory::default());
    for (rows, columns, error) in
        [(5, 24, refused("rows", 6, 5)), (7, 24, refused("rows", 6, 7)), (6, 23, refused("columns", 24, 23))]
    {
        let bad = Matrix::new(&memory, rows, columns).unwrap();
        for residual in [Residual::Matrix(bad), Residual::Sum(good, bad), Residual::Sum(bad, good)] {
            for strategy in Strategy::ALL {
                let mut y = y();
                let found = layer.call(x.view()).residual(residual).strategy(strategy).run(
                    y.view_mut(),
                    &mut workspace,
                    &stream,
                );
                assert_eq!(found.unwrap_err(), error, "{strategy} {residual:?}");
                assert!(y.is_poisoned());
            }
        }
    }
    // A stride that the kernels cannot count. (Nobody looks behind the address.)
    // SAFETY: the call is refused before anything is read.
    let far = unsafe { Matrix::from_raw_parts(1 << 20, 6, 24, 1 << 31) };
    let mut y = y();
    let found =
        layer.call(x.view()).residual(Residual::Matrix(far)).run(y.view_mut(), &mut workspace, &stream);
    let too_large =
        plan::Error::TooLarge { what: "the stride of the residual", value: 1 << 31, limit: i32::MAX as u64 };
    assert_eq!(found.unwrap_err(), too_large.into());
    assert!(y.is_poisoned());
}

/// Where y holds the residual, the base product of `unfused` lies beside h.
#[test]
fn unfused_in_place_says_how_much_workspace_it_needs() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let (m, n, rank) = (600, 72, 20);
    let case = Case::new(&device, &stream, [m, n, 40], rank, true);
    let layer = case.layer();
    let x = Placed::copy_of(&device, &case.operands.x, Memory::default());
    let mut y = Buffer::from_slice(&device, case.residuals[0].as_slice().unwrap()).unwrap();
    let mut run = |strategy, bytes| {
        let mut workspace = Workspace::new(&device, bytes).unwrap();
        let y = MatrixMut::new(&mut y, m, n).unwrap();
        layer.call(x.view()).residual(Residual::Output).strategy(strategy).run(y, &mut workspace, &stream)
    };
    let (small, needed) = (layer.workspace_size(m), workspace_size(m, 32 + n));
    assert!(small < needed);
    let error = Error::WorkspaceTooSmall { needed, found: small };
    assert_eq!(run(Strategy::Unfused, small).unwrap_err(), error);
    run(Strategy::Unfused, needed).unwrap();
    let found = Array2::from_shape_vec((m, n), y.to_vec().unwrap()).unwrap();
    reference::check(&case.expected(Strategy::Unfused, Held::InY), found.view()).unwrap();
    // The others need no more than ever.
    let mut run = |strategy| {
        let mut workspace = Workspace::new(&device, small).unwrap();
        let y = MatrixMut::new(&mut y, m, n).unwrap();
        layer.call(x.view()).residual(Residual::Output).strategy(strategy).run(y, &mut workspace, &stream)
    };
    run(Strategy::Fused).unwrap();
    run(Strategy::Base).unwrap();
}

//! Streams, workspaces and graphs on a device. Skipped where there is no device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;

use common::{Operands, normal, rng};
use fused_lora::{
    Strategy,
    cuda::{Buffer, Error, Event, Graph, Launch, Operation, Stream, Workspace, workspace_size},
    plan,
    reference::{self, Inputs, LoraView},
};
use half::f16;
use ndarray::Array2;
use on_device::{Memory, Placed, assert_agrees, device, expected, layer, with_stream};

/// Those whose h goes through the workspace.
fn shared_h(launch: &Launch) -> bool {
    !matches!(launch.kernel.operation, Operation::FusedRecompute | Operation::FusedCooperative)
}

#[test]
fn two_streams_with_two_workspaces_run_side_by_side() {
    let Some((device, _alone)) = device() else { return };
    let cases = [Operands::random(1, 130, 100, 72, 100), Operands::random(2, 70, 200, 40, 16)];
    let layers = cases.each_ref().map(|operands| layer(&device, operands, false));
    let xs = cases.each_ref().map(|operands| Placed::copy_of(&device, &operands.x, Memory::default()));
    let mut ys =
        cases.each_ref().map(|o| Placed::poisoned(&device, o.x.nrows(), o.w.nrows(), Memory::default()));
    let streams = [(); 2].map(|()| Stream::new(&device).unwrap());
    let mut workspaces =
        [0, 1].map(|i| Workspace::new(&device, layers[i].workspace_size(cases[i].x.nrows())).unwrap());
    for _ in 0..3 {
        for i in 0..2 {
            let (x, y) = (xs[i].view(), ys[i].view_mut());
            layers[i].call(x).among(&shared_h).run(y, &mut workspaces[i], &streams[i]).unwrap();
        }
    }
    for (i, operands) in cases.iter().enumerate() {
        streams[i].synchronize().unwrap();
        assert_agrees(&ys[i], &expected(operands, Strategy::Fused, false), &format!("stream {i}"));
    }
}

#[test]
fn calls_of_changing_size_share_a_workspace() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let largest = Operands::random(3, 200, 90, 40, 20);
    let layer = layer(&device, &largest, false);
    let mut workspace = Workspace::new(&device, layer.workspace_size(200)).unwrap();
    for m in [200, 1, 129, 64, 200, 65, 3] {
        let operands = Operands {
            x: largest.x.slice(ndarray::s![..m, ..]).to_owned(),
            ..Operands::random(3, 200, 90, 40, 20)
        };
        let x = Placed::copy_of(&device, &operands.x, Memory::default());
        for strategy in [Strategy::Fused, Strategy::Unfused] {
            let mut y = Placed::poisoned(&device, m, 90, Memory::default());
            layer
                .call(x.view())
                .strategy(strategy)
                .among(&shared_h)
                .run(y.view_mut(), &mut workspace, &stream)
                .unwrap();
            assert_agrees(&y, &expected(&operands, strategy, false), &format!("m {m} {strategy}"));
        }
    }
}

#[test]
fn a_graph_replays_with_what_is_in_x_then() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for strategy in Strategy::ALL {
        let mut operands = Operands::random(4, 70, 100, 72, 40);
        let layer = layer(&device, &operands, true);
        let mut x = Placed::copy_of(&device, &operands.x, Memory::default());
        let mut y = Placed::poisoned(&device, 70, 100, Memory::default());
        let mut workspace = Workspace::new(&device, layer.workspace_size(70)).unwrap();
        let graph = Graph::capture::<Error>(&stream, |stream| {
            for _ in 0..2 {
                layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut workspace, stream)?;
            }
            Ok(())
        })
        .unwrap();
        assert!(y.is_poisoned(), "{strategy}: capturing ran it");
        for seed in 5..8 {
            operands.x = normal(&mut rng(seed), 70, 72, 1.0);
            x.write(&operands.x);
            y.write(&Array2::from_elem((70, 100), f16::NAN));
            // SAFETY: all that was recorded is alive, and nothing else is under way.
            unsafe { graph.launch(&stream).unwrap() };
            stream.synchronize().unwrap();
            assert_agrees(&y, &expected(&operands, strategy, true), &format!("{strategy} replay {seed}"));
        }
    }
}

/// What a layer reads, the one before it writes: on compute capability 9.0 kernels are launched before the
/// one in front of them has ended, and wait for it themselves.
#[test]
fn layers_in_a_chain_wait_for_each_other() {
    let Some((device, _alone)) = device() else { return };
    // 72 and 136 columns: what the copy engine addresses. The workspace is shared by all.
    let widths = [72, 136, 72, 136];
    let chain: Vec<_> = widths
        .windows(2)
        .enumerate()
        .map(|(i, width)| Operands::random(30 + i as u64, 70, width[1], width[0], 20))
        .collect();
    let layers: Vec<_> = chain.iter().map(|operands| layer(&device, operands, true)).collect();
    for programmatic in [true, false] {
        let stream = Stream::new(&device).unwrap().with_programmatic_launches(programmatic);
        let mut workspace = Workspace::new(&device, workspace_size(70, 20)).unwrap();
        let mut placed = vec![Placed::copy_of(&device, &chain[0].x, Memory::default())];
        placed.extend(widths[1..].iter().map(|n| Placed::poisoned(&device, 70, *n, Memory::default())));
        for strategy in Strategy::ALL {
            for captured in [false, true] {
                for (y, n) in placed.iter_mut().zip(widths).skip(1) {
                    y.write(&Array2::from_elem((70, n), f16::NAN));
                }
                let mut run = |stream: &Stream| {
                    for (i, layer) in layers.iter().enumerate() {
                        let (before, after) = placed.split_at_mut(i + 1);
                        let (x, y) = (before[i].view(), after[0].view_mut());
                        layer.call(x).strategy(strategy).run(y, &mut workspace, stream)?;
                    }
                    Ok::<_, Error>(())
                };
                if captured {
                    let graph = Graph::capture(&stream, run).unwrap();
                    // SAFETY: all that was recorded is alive, and nothing else is under way.
                    unsafe { graph.launch(&stream).unwrap() };
                } else {
                    run(&stream).unwrap();
                }
                stream.synchronize().unwrap();
                for (i, operands) in chain.iter().enumerate() {
                    let (x, _) = placed[i].read();
                    let operands = Operands { x, ..Operands::clone(operands) };
                    let case = format!("layer {i} {strategy} programmatic {programmatic} graph {captured}");
                    assert_agrees(&placed[i + 1], &expected(&operands, strategy, true), &case);
                }
            }
        }
    }
}

#[test]
fn a_capture_that_fails_leaves_the_stream_as_it_was() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let failed = Graph::capture(&stream, |_| Err(Error::NoDevice));
    assert_eq!(failed.unwrap_err(), Error::NoDevice);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = Graph::capture::<Error>(&stream, |_| panic!("on purpose"));
    }));
    assert!(panicked.is_err());

    let empty = Graph::capture::<Error>(&stream, |_| Ok(())).unwrap();
    // SAFETY: nothing was recorded.
    unsafe { empty.launch(&stream).unwrap() };
    let mut buffer = Buffer::zeroed(&device, 5).unwrap();
    buffer.fill(f16::ONE, &stream).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [f16::ONE; 5]);
}

#[test]
fn a_workspace_belongs_to_one_stream_until_it_is_reset() {
    let Some((device, _alone)) = device() else { return };
    let [first, second] = [(); 2].map(|()| Stream::new(&device).unwrap());
    let operands = Operands::random(5, 20, 30, 40, 33);
    let layer = layer(&device, &operands, false);
    let x = Placed::copy_of(&device, &operands.x, Memory::default());
    let mut y = Placed::poisoned(&device, 20, 30, Memory::default());
    let mut workspace = Workspace::new(&device, layer.workspace_size(20)).unwrap();
    layer.call(x.view()).run(y.view_mut(), &mut workspace, &first).unwrap();
    let refused = layer.call(x.view()).run(y.view_mut(), &mut workspace, &second);
    assert_eq!(refused, Err(Error::WorkspaceStream));
    // The base product needs none; y it shares with the call before.
    first.synchronize().unwrap();
    layer.call(x.view()).strategy(Strategy::Base).run(y.view_mut(), &mut workspace, &second).unwrap();
    workspace.reset().unwrap();
    layer.call(x.view()).run(y.view_mut(), &mut workspace, &second).unwrap();
    assert_agrees(&y, &expected(&operands, Strategy::Fused, false), "after the reset");
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let operands = Operands::random(6, 200, 30, 40, 250);
    let layer = layer(&device, &operands, false);
    let x = Placed::copy_of(&device, &operands.x, Memory::default());
    let mut y = Placed::poisoned(&device, 200, 30, Memory::default());
    let mut workspace = Workspace::new(&device, layer.workspace_size(200)).unwrap();

    let mut small = Workspace::new(&device, 256).unwrap();
    for strategy in [Strategy::Fused, Strategy::Unfused] {
        let refused = layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut small, &stream);
        let needed = workspace_size(200, 250);
        assert_eq!(refused, Err(Error::WorkspaceTooSmall { needed, found: 256 }));
    }
    let mut shape = |x: &Placed, y: &mut Placed, operand, axis, expected, found| {
        let refused = layer.call(x.view()).run(y.view_mut(), &mut workspace, &stream);
        assert_eq!(refused, Err(fused_lora::Error::Shape { operand, axis, expected, found }.into()));
        assert!(y.is_poisoned());
    };
    let placed = |rows, columns| Placed::poisoned(&device, rows, columns, Memory::default());
    use fused_lora::Operand::{X, Y};
    shape(&placed(200, 39), &mut y, X, "columns", 40, 39);
    shape(&x, &mut placed(199, 30), Y, "rows", 200, 199);
    shape(&x, &mut placed(200, 31), Y, "columns", 30, 31);
    let empty = placed(0, 40);
    let refused = layer.call(empty.view()).run(y.view_mut(), &mut workspace, &stream);
    assert!(matches!(refused, Err(Error::Problem(fused_lora::Error::ZeroSize { .. }))));
    let none = layer.call(x.view()).among(&|_| false).run(y.view_mut(), &mut workspace, &stream);
    assert_eq!(
        none,
        Err(plan::Error::NoKernel { strategy: Strategy::Fused, operation: Operation::Fused }.into())
    );
    assert!(y.is_poisoned());
}

#[test]
fn matrices_stay_within_their_buffers() {
    use fused_lora::cuda::{Matrix, MatrixMut};
    let Some((device, _alone)) = device() else { return };
    let mut buffer = Buffer::poisoned(&device, 20).unwrap();
    assert!(buffer.to_vec().unwrap().iter().all(|v| v.is_nan()));
    assert!(Matrix::new(&buffer, 4, 5).is_ok() && Matrix::strided(&buffer, 3, 4, 5, 4).is_ok());
    assert!(matches!(Matrix::new(&buffer, 4, 6), Err(Error::Plan(plan::Error::OutOfBounds { len: 20, .. }))));
    assert!(matches!(
        Matrix::strided(&buffer, 6, 4, 3, 4),
        Err(Error::Plan(plan::Error::OutOfBounds { .. }))
    ));
    assert!(matches!(
        MatrixMut::strided(&mut buffer, 0, 4, 5, 4),
        Err(Error::RowsOverlap { columns: 5, stride: 4 })
    ));
    assert!(MatrixMut::strided(&mut buffer, 0, 1, 20, 0).is_ok());
    assert_eq!(buffer.write(&[f16::ZERO; 19]), Err(Error::Length { expected: 20, found: 19 }));
}

#[test]
fn buffers_copy_and_events_tell_the_time() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let values: Vec<_> = (0..100).map(|i| f16::from_f32(i as f32)).collect();
    let from = Buffer::from_slice(&device, &values).unwrap();
    let mut to = Buffer::zeroed(&device, 100).unwrap();
    let [start, stop] = [(); 2].map(|()| Event::new(&device).unwrap());
    start.record(&stream).unwrap();
    to.copy_from(&from, &stream).unwrap();
    stop.record(&stream).unwrap();
    stop.synchronize().unwrap();
    assert!(stop.seconds_since(&start).unwrap() >= 0.0);
    assert_eq!(to.to_vec().unwrap(), values);

    let doubled: Vec<_> = values.iter().map(|v| f16::from_f32(2.0 * v.to_f32())).collect();
    let mut back = vec![f16::NAN; 100];
    // SAFETY: both live, untouched, until the stream has passed the copies.
    unsafe {
        to.write_async(&doubled, &stream).unwrap();
        to.read_async(&mut back, &stream).unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(back, doubled);
    let empty = Buffer::zeroed(&device, 0).unwrap();
    assert!(empty.is_empty() && empty.to_vec().unwrap().is_empty());
}

#[test]
fn memory_that_is_not_there_is_an_error_with_numbers() {
    let Some((device, _alone)) = device() else { return };
    let len = 1 << 50;
    match Buffer::zeroed(&device, len) {
        Err(Error::OutOfMemory { bytes, free }) => {
            assert_eq!(bytes, 2 * len);
            assert!(free as u64 <= device.properties().memory_bytes);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn threads_share_a_device_and_a_layer() {
    let Some((device, _alone)) = device() else { return };
    let operands = Operands::random(7, 40, 50, 40, 10);
    let layer = layer(&device, &operands, false);
    let expected = expected(&operands, Strategy::Fused, false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let stream = Stream::new(&device).unwrap();
                let x = Placed::copy_of(&device, &operands.x, Memory::default());
                let mut y = Placed::poisoned(&device, 40, 50, Memory::default());
                let mut workspace = Workspace::new(&device, layer.workspace_size(40)).unwrap();
                layer.call(x.view()).run(y.view_mut(), &mut workspace, &stream).unwrap();
                assert_agrees(&y, &expected, "a thread's");
            });
        }
    });
}

#[test]
fn a_foreign_stream_and_foreign_memory_are_taken_as_they_are() {
    use fused_lora::cuda::{Matrix, MatrixMut};
    let Some((device, _alone)) = device() else { return };
    let own = Stream::new(&device).unwrap();
    // SAFETY: it lives as long as this function.
    let stream = unsafe { Stream::from_raw(&device, own.as_raw()) };
    let operands = Operands::random(8, 30, 40, 24, 7);
    let layer = layer(&device, &operands, false);
    let x = Buffer::from_slice(&device, operands.x.as_slice().unwrap()).unwrap();
    let y = Buffer::poisoned(&device, 30 * 40).unwrap();
    let mut workspace = Workspace::new(&device, layer.workspace_size(30)).unwrap();
    // SAFETY: both buffers are on the device, as large as that, and used by nothing else.
    unsafe {
        let x = Matrix::from_raw_parts(x.address(), 30, 24, 24);
        let y = MatrixMut::from_raw_parts(y.address(), 30, 40, 40);
        layer.call(x).run(y, &mut workspace, &stream).unwrap();
    }
    stream.synchronize().unwrap();
    let y = Array2::from_shape_vec((30, 40), y.to_vec().unwrap()).unwrap();
    let lora = LoraView { a: operands.a.view(), b: operands.b.view(), scale: operands.scale };
    let inputs = Inputs {
        x: operands.x.view(),
        w: operands.w.view(),
        adapter: Some(lora),
        epilogue: fused_lora::Epilogue::NONE,
    };
    reference::check(&reference::forward(&inputs, Strategy::Fused).unwrap(), y.view()).unwrap();
}

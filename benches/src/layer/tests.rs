//! The suite on each backend.

use fused_lora::cpu::Simd;
use half::f16;

use super::*;
use crate::check::{Wrong, check};
use crate::processor::Processor;
use crate::testing::{MadeCall, checked, prepared};

const CONFIG: Config = Config { d: 64, heads: 2, mlp: 128, layers: 2 };
const SIZE: Size = Size { seq_len: 9, batch: 3 };

fn cpu(targets: Targets, cache: Cache) -> Layers<Processor> {
    let processor = Processor::new(Simd::detect().unwrap(), 0);
    Layers::new(processor, CONFIG, targets, cache, None).unwrap()
}

/// Every method's y is right in every slot, and taken for no other's: at the smallest rank, too, an adapter
/// is seen.
#[test]
fn every_method_is_right_and_none_passes_for_another() {
    for targets in Targets::ALL {
        let mut cpu = cpu(targets, Cache::Cold);
        let mut methods = cpu.methods(SIZE);
        methods.retain(|method| matches!(method.task, Task::Layer(_)));
        let mut calls = checked(&mut cpu, SIZE, 2, &methods);
        for (i, method) in methods.iter().enumerate() {
            calls[i].call(1).unwrap();
            assert!(calls[i].output().unwrap()[0].iter().all(|y| !y.is_nan()));
            let expected = cpu.expected(SIZE, method).unwrap();
            for (call, other) in calls.iter_mut().zip(&methods) {
                let (Task::Layer(a), Task::Layer(b)) = (method.task, other.task) else { continue };
                let result = check(method, &mut **call, &expected);
                assert_eq!(result.is_ok(), a.of_weights() == b.of_weights(), "{a:?} taken for {b:?}");
            }
        }
    }
}

#[test]
fn one_wrong_row_is_seen_and_named() {
    let mut cpu = cpu(Targets::QueryValue, Cache::WarmW);
    let methods = cpu.methods(SIZE);
    let fused = methods.iter().position(|method| method.ids[0] == "r10/lora-fused-qv").unwrap();
    let mut calls = prepared(&mut cpu, SIZE, 3, &methods[..=fused]);
    let time = calls[fused].call(2).unwrap();
    calls[fused].call(0).unwrap();
    let mut y = calls[fused].output().unwrap().remove(0).mapv(f16::from_f32);
    y[[26, 5]] += f16::from_f32(0.1);
    let mut spoilt = MadeCall { run: Box::new(move |_| Ok(time)), y };
    let expected = cpu.expected(SIZE, &methods[fused]).unwrap();
    let error = check(&methods[fused], &mut spoilt, &expected).unwrap_err();
    assert!(matches!(error, Wrong::Mismatch { deviation, .. } if deviation.at == (26, 5)), "{error}");
    assert!(error.to_string().contains("lora-fused-qv at r10"), "{error}");
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
/// Every method is one graph and right; another method's y is wrong.
#[test]
fn every_method_is_one_graph_and_right() {
    // One layer, and a batch of both sequences: a simulated GPU takes its time. The CPU's tests have more of
    // either.
    const CONFIG: Config = Config { layers: 1, ..self::CONFIG };
    const SIZE: Size = Size { seq_len: 4, batch: 2 };
    let Some(gpu) = crate::testing::gpu() else { return };
    for (cache, targets) in [(Cache::Cold, Targets::All), (Cache::WarmW, Targets::QueryValue)] {
        let mut cuda = Layers::new(gpu.clone(), CONFIG, targets, cache, None).unwrap();
        let mut methods = cuda.methods(SIZE);
        methods.retain(|method| method.rank <= 10);
        let mut calls = checked(&mut cuda, SIZE, 1, &methods);
        for method in &methods {
            let expected = cuda.expected(SIZE, method).unwrap();
            let other = if method.rank == 0 { methods.len() - 1 } else { 0 };
            check(method, &mut *calls[other], &expected).expect_err("that is another method's y");
        }
    }
}

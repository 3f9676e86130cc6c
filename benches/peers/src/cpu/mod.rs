//! Libraries on the CPU: the base product, and base, shrink and expand as three calls.
//!
//! They get the operands as a user has them (W is [N, K], y is [M, N]) and all threads.

mod gemm_f16;
mod gemmkit_f16;
mod gemmkit_packed;

use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cpu::{Ground, theirs, this_library};
use half::f16;
use ndarray::Array2;

/// All that run in `peers`, this library first.
#[must_use]
pub fn libraries() -> Vec<Library<Ground>> {
    let fused = |rank| -> &'static [Strategy] { if rank == 0 { &[] } else { &[Strategy::Fused] } };
    vec![
        this_library("fused-lora/", fused),
        gemm_f16::library(),
        gemmkit_f16::library(),
        gemmkit_packed::library(),
    ]
}

type Shared = Rc<Array2<f16>>;

/// One projection's weights as a user has them.
struct Matrices {
    /// [N, K]
    w: Shared,
    /// A, [r, K], and B, [N, r]; None for the base alone.
    adapter: Option<(Shared, Shared)>,
}

/// By slot and projection.
fn matrices(ground: &Ground, strategy: Strategy, rank: usize) -> Vec<Vec<Matrices>> {
    let of_slots = ground.weights.slots(ground.weight_slots).iter();
    let of_slot = |slot: &Vec<_>| {
        slot.iter()
            .map(|linear: &fused_lora_benches::linear::weights::Linear<_>| Matrices {
                w: Rc::clone(&linear.w),
                adapter: (strategy != Strategy::Base).then(|| {
                    let lora = linear.adapter(rank);
                    (Rc::clone(&lora.a), Rc::clone(&lora.b))
                }),
            })
            .collect()
    };
    of_slots.map(of_slot).collect()
}

/// A library of that name, with [`theirs`] as its strategies.
fn library(
    name: &'static str,
    make: impl Fn(&Ground, Strategy, usize) -> Box<dyn fused_lora_benches::method::Call> + 'static,
) -> Library<Ground> {
    Library {
        name: Box::new(move |strategy| format!("{name}/{strategy}")),
        strategies: theirs,
        make: Box::new(move |ground, strategy, rank| Ok(make(ground, strategy, rank))),
    }
}

#[cfg(test)]
mod tests {
    use fused_lora::cpu::Simd;
    use fused_lora_benches::check::{Wrong, check};
    use fused_lora_benches::linear::cpu::Cpu;
    use fused_lora_benches::method::What;
    use fused_lora_benches::settings::Cache;
    use fused_lora_benches::size::Size;
    use fused_lora_benches::suite::Suite as _;
    use fused_lora_records::Workload;

    use super::*;

    /// A peer may sum less exactly than the rule allows, but it must compute the same thing: a wrong operand,
    /// a missing scale or a swapped stride is off by orders of magnitude.
    #[test]
    fn peers_compute_the_operation() {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let mut cpu = Cpu::new(workload, Cache::Cold, Simd::detect().unwrap(), 0, libraries());
        let size = Size { seq_len: 9, batch: 1 };
        let mut methods = cpu.methods(size);
        methods.retain(|method| method.rank <= 10 && matches!(method.what, What::Linear(..)));
        let names: Vec<&str> = methods.iter().map(|method| method.names[0].as_str()).collect();
        assert_eq!(
            names,
            [
                "fused-lora/base",
                "gemm-f16/base",
                "gemmkit-f16/base",
                "gemmkit-f16-packed/base",
                "fused-lora/fused",
                "gemm-f16/unfused",
                "gemmkit-f16/unfused",
                "gemmkit-f16-packed/unfused",
            ]
        );
        let mut calls = cpu.prepare(size, 2, &methods).unwrap();
        for (method, call) in methods.iter().zip(&mut calls) {
            // Another slot in between: what is kept from call to call must not be that of the first.
            call.call(1).unwrap();
            let expected = cpu.expected(size, method).unwrap();
            match check(method, &mut **call, &expected) {
                Ok(()) => (),
                Err(Wrong::Mismatch { deviation, .. }) if !method.ours => {
                    println!("{}: {deviation:?}", method.names[0]);
                    assert!(deviation.norm < 3.0, "{}: {deviation:?}", method.names[0]);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

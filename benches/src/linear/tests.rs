//! The list of methods, and the suite on each backend.

use fused_lora::cpu::Simd;
use fused_lora_records::RANKS;
use half::{bf16, f16};
use ndarray::Array2;
use safetensors::SafeTensors;

use super::*;
use crate::check::{Wrong, check};
use crate::processor::Processor;
use crate::settings::GridPart;
use crate::testing::{checked, prepared};

/// 40 tokens.
const SIZE: Size = Size { seq_len: 20, batch: 2 };
const GRANULE: Granule = Granule { shrink_n: 16, expand_k: 1 };

fn library(prefix: &'static str, strategies: fn(usize) -> &'static [Strategy]) -> Library<Processor> {
    let make = Box::new(|_: &_, _, _| anyhow::bail!("made for its names"));
    Library { name: Box::new(move |strategy| format!("{prefix}{strategy}")), strategies, make }
}

fn alike(workload: &Workload, size: Size) -> Alike<'_> {
    Alike { workload, cache: Cache::Cold, dtype: DType::F16, ranks: &RANKS, mix: 1, size }
}

#[test]
fn a_size_has_one_base_and_all_that_is_compared_with_it() {
    const SIZE: Size = Size { seq_len: 128, batch: 2 };
    let workload = Workload::by_name("linear-1024x1024").unwrap();
    let libraries = [library("", ours), library("peer/", theirs)];
    let like = alike(workload, SIZE);
    let of = |libraries| methods(&like, GRANULE, libraries);
    let ours = of(&libraries[..1]);
    assert_eq!(ours.len(), 9);
    let ids: BTreeSet<&str> = ours.iter().map(|method| method.ids[0].as_str()).collect();
    assert_eq!(ids.len(), 9);
    assert!(["r0/base", "r0/fused", "r250/unfused"].iter().all(|id| ids.contains(id)), "{ids:?}");
    assert!(ours[0].is_base(0) && ours[1..].iter().enumerate().all(|(i, method)| !method.is_base(i + 1)));

    let fused = ours.iter().find(|method| method.ids[0] == "r100/fused").unwrap();
    assert_eq!(fused.work.flops, 2.0 * 256.0 * (1024.0 * 1024.0 + 100.0 * 2048.0));
    assert_eq!(fused.work.bytes, 2.0 * (1024.0 * 1024.0 + 100.0 * 2048.0 + 256.0 * 2048.0));
    let floor = fused.floor.unwrap();
    assert!((floor.pct - 19.531).abs() < 1e-3 && (floor.pad_pct.unwrap() - 20.703).abs() < 1e-3, "{floor:?}");
    assert_eq!((ours[0].floor, ours[0].work.flops), (None, 2.0 * 256.0 * 1024.0 * 1024.0));
    let warm = Alike { cache: Cache::WarmW, ..alike(workload, SIZE) };
    assert_eq!(warm.work(100).bytes, 2.0 * 256.0 * 2048.0);
    assert_eq!(Alike { dtype: DType::F32, ..warm }.work(100).bytes, 4.0 * 256.0 * 2048.0);
    let several = Workload::by_name("gpt2-medium-linears").unwrap();
    let [cold, warm] = [Cache::Cold, Cache::WarmW].map(|cache| {
        let size = Size { seq_len: 3, batch: 1 };
        Alike { cache, ..alike(several, size) }.work(0).bytes
    });
    assert_eq!(cold - warm, 2.0 * 12.0 * 1024.0 * 1024.0);
    assert_eq!(warm, 2.0 * 3.0 * 1024.0 * (1.0 + 3.0 + 1.0 + 1.0 + 1.0 + 4.0 + 4.0 + 1.0));

    let both = of(&libraries);
    let peer = both.iter().find(|method| method.names[0] == "peer/unfused" && method.rank == 100).unwrap();
    assert!(!peer.is_ours() && peer.floor.unwrap().pad_pct.is_none());
    let base = both.iter().find(|method| method.names[0] == "peer/base").unwrap();
    assert_eq!((base.rank, base.base), (0, Some(0)), "compared with this library's");
}

#[test]
fn pytorchs_methods_are_compared_with_its_own_base_of_the_same_kind() {
    let workload = Workload::by_name("linear-1024x1024").unwrap();
    let like = alike(workload, SIZE);
    let mut methods = methods(&like, GRANULE, &[library("", ours)]);
    for (name, needs_adapter) in [
        ("torch-fp16/base", false),
        ("torch-fp16/base-graph", false),
        ("torch-fp16/vllm-graph", true),
        ("torch-bf16/unfused", false),
        ("torch-fp16/peft", false),
    ] {
        with_torch(&mut methods, &like, (name, needs_adapter));
    }
    let found = methods[9..].iter().map(|method| {
        let Task::Linear(strategy) = method.task else { panic!("{method:?}") };
        let base = &methods[method.base.unwrap()].names[0];
        format!("{} {} to {base}: {strategy}", method.ids[0], method.dtype)
    });
    let mut all = ["base", "base-graph"]
        .map(|name| format!("r0/torch-fp16/{name} f16 to torch-fp16/{name}: base"))
        .to_vec();
    let of_rank = |rank| format!("r{rank}/torch-fp16/vllm-graph f16 to torch-fp16/base-graph: unfused");
    all.extend([10, 100, 250].map(of_rank));
    // There is no base of bf16.
    let of_rank = |rank| format!("r{rank}/torch-fp16/peft f16 to torch-fp16/base: unfused");
    all.extend([0, 10, 100, 250].map(of_rank));
    assert_eq!(found.collect::<Vec<_>>(), all);
    let peft = methods.last().unwrap();
    assert!(!peft.is_ours() && !peft.is_for_criterion() && methods[9].floor.is_none());
    assert_eq!(peft.floor, Some(Floor { pct: workload.floor_pct(250), pad_pct: None }));
}

/// Each type has operands of its own, is right by its own bound, and is recorded as itself. Two sizes: what
/// is known of the first is not taken for the second.
#[test]
fn each_type_is_held_to_its_own_unit() {
    fn of<T: Number>(unit: f64) {
        const SIZES: [Size; 2] = [Size { seq_len: 1, batch: 3 }, Size { seq_len: 1, batch: 1 }];
        let settings = Settings { dtype: T::DTYPE, grid: GridPart::Decode, ..Settings::default() };
        let processor = Processor::<T>::new(Simd::detect().unwrap(), 0);
        let mut cpu = Linears::new(processor, &settings, vec![this_library("", ours)], None);
        for size in SIZES {
            let methods = cpu.methods(size);
            let of_products = methods.iter().filter(|method| !method.is_probe());
            assert!(of_products.clone().all(|method| method.dtype == T::DTYPE.name()));
            assert_eq!(of_products.count(), 13);
            assert_eq!(methods[0].work.bytes, (T::DTYPE.size() * 1024 * (1024 + 2 * size.m())) as f64);
            drop(checked(&mut cpu, size, 1, &methods));
            let Expected { y, tolerance, .. } = &cpu.expected(size, &methods[0]).unwrap()[0];
            assert_eq!(y.dim(), (size.m(), 1024));
            let mean = |values: &Array2<f64>| values.iter().map(|value| value.abs()).sum::<f64>();
            let relative = mean(tolerance) / mean(y);
            assert!((unit..8.0 * unit).contains(&relative), "{}: {relative:e}", T::DTYPE);
        }
    }
    of::<f16>(2f64.powi(-10));
    of::<bf16>(2f64.powi(-7));
    // What the sums may be off is more than the unit: 112 · 2⁻²⁴ of magnitudes that are some 20 times y.
    of::<f32>(2f64.powi(-13));
}

/// A batch of several adapters, at sizes with more tokens than adapters and with fewer: each method is right,
/// and moves the bytes of the adapters that it has.
#[test]
fn a_batch_mixes_adapters() {
    let settings = Settings { mix: 3, grid: GridPart::Decode, ..Settings::default() };
    let processor = Processor::<f16>::new(Simd::detect().unwrap(), 0);
    let mut cpu = Linears::new(processor, &settings, vec![this_library("", ours), clones()], None);
    for (batch, adapters) in [(7, 3), (2, 2)] {
        let size = Size { seq_len: 1, batch };
        let methods = cpu.methods(size);
        let named = |name: &str| methods.iter().filter(|method| method.names[0] == name).collect::<Vec<_>>();
        assert_eq!((named("clones").len(), named("fused").len()), (5, 6));
        for method in named("clones") {
            let own = adapters * method.rank * 2 * 2048;
            assert_eq!(method.work.bytes, methods[0].work.bytes + own as f64);
        }
        drop(checked(&mut cpu, size, 1, &methods));
    }
    let share: Vec<_> = cpu.setup.weights.share(7).collect();
    assert_eq!(share, [0..2, 2..4, 4..7]);
}

/// A shell in PyTorch's place keeps what it is given.
#[cfg(unix)]
#[test]
fn pytorch_gets_the_operands_of_the_first_slot() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "echo 'ok - torch-fp16/base,torch-fp16/vllm+ torch 2'
        while read -r verb rest; do
            case $verb-$rest in
                load-*) n=$((n + 1)); cp \"$rest\" \"{}/$n\"; echo ok ;;
                ready-*vllm*) echo ok there is no memory ;;
                *) echo ok ;;
            esac
        done",
        folder.path().display()
    );
    let torch = Torch::start_script("sh".as_ref(), &[("child.sh", &script)], &[]).unwrap();
    let mut cpu = Linears { torch: Some(torch), ..cpu(Cache::Cold, 2) };
    let mut methods = cpu.methods(SIZE);
    methods.retain(|method| method.provider == Provider::Torch && method.rank <= 10);
    let calls = cpu.prepare(SIZE, 2, &methods).unwrap();
    assert_eq!(calls.iter().map(|call| call.is_some()).collect::<Vec<_>>(), [true, false]);
    let [weights, x] = ["1", "2"].map(|file| std::fs::read(folder.path().join(file)).unwrap());
    let [weights, x] = [&weights, &x].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert_eq!((weights.len(), x.len()), (4 * 5 + 1, 4));
    let bytes = |values: &[f16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let Linear { w, .. } = &cpu.setup.weights.slots(1)[0][1];
    let [first, second] = cpu.setup.weights.slots(1)[0][1].adapters(10) else { panic!("there are two") };
    let of_second = [("a.10.1.1", &second.a), ("b.10.1.1", &second.b)];
    for (name, matrix) in
        [("w.1", w), ("a.10.1", &first.a), ("b.10.1", &first.b)].into_iter().chain(of_second)
    {
        let tensor = weights.tensor(name).unwrap();
        assert_eq!((tensor.shape(), tensor.data()), (matrix.shape(), &bytes(matrix.as_slice().unwrap())[..]));
    }
    assert_eq!(weights.tensor("scale").unwrap().data(), SCALE.to_le_bytes());
    let second = x.tensor("x.1").unwrap();
    assert_eq!(
        (second.shape(), second.data()),
        (&[40, 1024][..], &bytes(&cpu.first[40 * 1024..][..40 * 1024])[..])
    );
}

fn cpu(cache: Cache, mix: usize) -> Linears<Processor> {
    let workload = Workload::by_name("gpt2-medium-linears").unwrap();
    let processor = Processor::new(Simd::detect().unwrap(), 0);
    let settings = Settings { workload, cache, mix, ..Settings::default() };
    Linears::new(processor, &settings, vec![this_library("", ours)], None)
}

#[test]
fn every_method_is_right_on_its_own_operands_alone() {
    let mut cpu = cpu(Cache::Cold, 1);
    let methods = cpu.methods(SIZE);
    let mut calls = checked(&mut cpu, SIZE, 2, &methods);
    for (call, _) in calls.iter_mut().zip(&methods).filter(|(_, method)| !method.is_probe()) {
        // The second slot has other weights and another x.
        call.poison().unwrap();
        call.call(1).unwrap();
        assert!(call.output().unwrap()[0].iter().all(|y| y.is_nan()), "that was another y");
    }
    // The base is not taken for the whole, nor one rank for another.
    let fused = methods.iter().position(|method| method.ids[0] == "r100/fused").unwrap();
    let expected = cpu.expected(SIZE, &methods[fused]).unwrap();
    for other in [0, fused - 2] {
        let error = check(&methods[other], &mut *calls[other], &expected).unwrap_err();
        let Wrong::Mismatch { deviation, .. } = error else { panic!("{error}") };
        assert!(deviation.element > 10.0 && deviation.norm > 10.0, "{deviation:?}");
    }
}

#[test]
fn warm_weights_are_those_of_one_slot() {
    let mut cpu = cpu(Cache::WarmW, 1);
    let methods = cpu.methods(SIZE);
    let (warm, cold) = (cpu.slots(SIZE, 32 << 20), self::cpu(Cache::Cold, 1).slots(SIZE, 32 << 20));
    assert!(warm > 20 && cold < 4, "{warm} {cold}");
    let mut calls = prepared(&mut cpu, SIZE, 3, &methods[..1]);
    assert_eq!(cpu.setup.weight_slots, 1);
    calls[0].call(2).unwrap();
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod on_a_gpu {
    use fused_lora_records::Projection;

    use super::*;
    use crate::cuda::Gpu;
    use crate::cuda::captured::Captured;
    use crate::testing::gpu;

    const SIZE: Size = Size { seq_len: 4, batch: 2 };

    fn cuda(gpu: &Gpu, cache: Cache) -> Linears<Gpu> {
        // A simulated GPU takes seconds for a product of 1024 x 1024.
        const SMALL: &Workload = &Workload::of("small", &[Projection { d_in: 64, d_out: 64 }]);
        let settings = Settings { workload: SMALL, cache, ..Settings::default() };
        Linears::new(gpu.clone(), &settings, vec![this_library("", ours)], None)
    }

    #[test]
    fn strategies_are_right_and_no_other_passes_for_them() {
        let Some(gpu) = gpu() else { return };
        let mut cuda = cuda(&gpu, Cache::Cold);
        let mut methods = cuda.methods(SIZE);
        methods.retain(|method| method.rank <= 10);
        let mut calls = checked(&mut cuda, SIZE, 1, &methods);
        assert_eq!(calls.len(), 5);
        assert!(calls.iter_mut().all(|call| call.call(0).unwrap().wall > 0.0));
        let of_rank_10 = cuda.expected(SIZE, &methods[4]).unwrap();
        let error = check(&methods[0], &mut *calls[0], &of_rank_10).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
    }

    /// Each slot's x with that slot's weights, or with the first one's where they stay warm.
    #[test]
    fn a_call_goes_round_the_whole_ring() {
        let Some(gpu) = gpu() else { return };
        for (cache, weights) in [(Cache::Cold, 2), (Cache::WarmW, 1)] {
            let mut cuda = cuda(&gpu, cache);
            let methods = &cuda.methods(SIZE)[..1];
            let mut calls = prepared(&mut cuda, SIZE, 2, methods);
            assert_eq!((cuda.setup.weight_slots, cuda.setup.passes % 2), (weights, 0));
            calls[0].call(0).unwrap();
            let seen = [0, 1].map(|slot| cuda.setup.operands.read(slot).unwrap().remove(0).0);
            assert!(seen.iter().flatten().all(|y| y.is_finite()), "a slot was not written");
            assert_ne!(seen[0], seen[1], "a slot has the x of another");
        }
    }

    #[test]
    fn a_graph_that_computes_nothing_is_not_timed() {
        let Some(gpu) = gpu() else { return };
        let mut cuda = cuda(&gpu, Cache::Cold);
        let methods = &cuda.methods(SIZE)[..1];
        drop(cuda.prepare(SIZE, 1, methods).unwrap());
        // SAFETY: the graph is empty.
        let empty = unsafe { Captured::new(&gpu, &cuda.setup.operands, 1, (), |(), _, _| Ok(())) };
        let expected = cuda.expected(SIZE, &methods[0]).unwrap();
        let error = check(&methods[0], &mut empty.unwrap(), &expected).unwrap_err();
        assert!(matches!(error, Wrong::NotWritten { missing: 512, .. }), "{error}");
    }
}

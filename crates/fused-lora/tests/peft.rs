//! `peft::LoraFile` on what PEFT wrote, and on the variants of it that must give the same.

mod support;

use std::{fs, path::Path};

use fused_lora::{
    Epilogue, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
    peft::{LoraFile, LoraProblem, LoraWeights, PeftError, TensorError},
    reference::{self, Inputs, LoraView},
};
use half::f16;
use ndarray::Array2;
use serde_json::json;
use support::{
    A, B, CASES, Tensor, edit_config, fixture, read_matrix, relative_error, safetensors_bytes, shift_data,
};
use tempfile::TempDir;

/// A writable copy of a case's adapter.
fn adapter(case: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::write(folder.path().join(name), fs::read(fixture(case).join(name)).unwrap()).unwrap();
    }
    folder
}

fn put(folder: &Path, tensors: &[(&str, Tensor)]) {
    fs::write(folder.join("adapter_model.safetensors"), safetensors_bytes(tensors)).unwrap();
}

fn to_f16(matrix: &Array2<f32>) -> Array2<f16> {
    matrix.mapv(f16::from_f32)
}

/// `scale · B A` in f64.
fn delta(lora: &LoraWeights) -> Array2<f64> {
    lora.b.mapv(f16::to_f64).dot(&lora.a.mapv(f16::to_f64)) * f64::from(lora.scale)
}

#[test]
fn reads_the_cases() {
    for (case, rank) in CASES.into_iter().zip([10, 100]) {
        let folder = fixture(case);
        let file = LoraFile::open(&folder).unwrap();
        assert_eq!(file.modules().collect::<Vec<_>>(), ["proj"]);
        assert!(!file.fan_in_fan_out());
        assert_eq!(
            file.paths(),
            [folder.join("adapter_config.json"), folder.join("adapter_model.safetensors")]
        );
        let lora = file.load("proj").unwrap();
        let weight = read_matrix(&folder.join("base.safetensors"), "proj.weight");
        assert_eq!((lora.a.dim(), lora.b.dim()), ((rank, weight.ncols()), (weight.nrows(), rank)));
    }
}

/// Scale, conversion and kernels together, at every level: what the command does, without the command.
#[test]
fn the_layer_agrees_with_peft() {
    for case in CASES {
        let folder = fixture(case);
        let lora = LoraFile::open(&folder).unwrap().load("proj").unwrap();
        let w = to_f16(&read_matrix(&folder.join("base.safetensors"), "proj.weight"));
        let x = to_f16(&read_matrix(&folder.join("input.safetensors"), "x"));
        let expected = read_matrix(&folder.join("expected.safetensors"), "y");
        let view = LoraView { a: lora.a.view(), b: lora.b.view(), scale: lora.scale };
        let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(view), epilogue: Epilogue::NONE };
        for simd in Simd::available() {
            let adapter = Adapter::with_simd(simd, lora.a.view(), lora.b.view(), lora.scale).unwrap();
            let layer = Layer::with_simd(simd, w.view()).unwrap().with_adapter(adapter).unwrap();
            for strategy in [Strategy::Unfused, Strategy::Fused] {
                let mut y = Array2::from_elem(expected.dim(), f16::NAN);
                layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut Workspace::new()).unwrap();
                let error = relative_error(&y.mapv(f16::to_f32), &expected);
                assert!(error <= 1e-3, "{case}, {simd}, {strategy}: {error:e}");
                // The element rule holds on normalised weights, too.
                reference::check(&reference::forward(&inputs, strategy).unwrap(), y.view()).unwrap();
            }
        }
    }
}

#[test]
fn f16_is_moved_by_powers_of_two_alone() {
    for (case, alpha_over) in CASES.into_iter().zip([16.0 / 10.0, 32.0 / 100f64.sqrt()]) {
        let folder = adapter(case);
        let weights = folder.path().join("adapter_model.safetensors");
        // Subnormal numbers.
        let [a, b] = [A, B].map(|name| read_matrix(&weights, name).mapv(|v| v * 1e-5));
        put(folder.path(), &[(A, Tensor::f16(&a)), (B, Tensor::f16(&b))]);
        let lora = LoraFile::open(folder.path()).unwrap().load("proj").unwrap();
        assert_eq!(
            delta(&lora),
            delta(&LoraWeights { a: to_f16(&a), b: to_f16(&b), scale: alpha_over as f32 })
        );
    }
}

#[test]
fn bf16_and_f32_of_the_same_values_are_the_same() {
    let folder = adapter("r10");
    let weights = folder.path().join("adapter_model.safetensors");
    let rounded = |name| read_matrix(&weights, name).mapv(|v| half::bf16::from_f32(v).to_f32());
    let (a, b) = (rounded(A), rounded(B));
    put(folder.path(), &[(A, Tensor::f32(&a)), (B, Tensor::f32(&b))]);
    let wide = LoraFile::open(folder.path()).unwrap().load("proj").unwrap();
    for (a, b) in [(Tensor::bf16(&a), Tensor::bf16(&b)), (Tensor::bf16(&a), Tensor::f32(&b))] {
        put(folder.path(), &[(B, b), (A, a)]);
        assert_eq!(LoraFile::open(folder.path()).unwrap().load("proj").unwrap(), wide);
    }
    // Eight bits of mantissa fit f16's eleven: nothing but the scale's power of two may have changed.
    let (found, exact) = (delta(&wide), b.mapv(f64::from).dot(&a.mapv(f64::from)) * 1.6f64);
    for (found, exact) in found.iter().zip(&exact) {
        assert!((found - exact).abs() <= 1e-6 * exact.abs() + 1e-9, "{found} {exact}");
    }
}

#[test]
fn data_may_begin_at_any_byte() {
    for case in CASES {
        let folder = adapter(case);
        let path = folder.path().join("adapter_model.safetensors");
        let expected = LoraFile::open(folder.path()).unwrap().load("proj").unwrap();
        let bytes = fs::read(&path).unwrap();
        for pad in 1..8 {
            fs::write(&path, shift_data(&bytes, pad)).unwrap();
            assert_eq!(LoraFile::open(folder.path()).unwrap().load("proj").unwrap(), expected, "{pad}");
        }
        // An odd offset of a tensor within the data.
        let [a, b] = [A, B]
            .map(|name| Tensor::f32(&read_matrix(&fixture(case).join("adapter_model.safetensors"), name)));
        let odd = Tensor { dtype: "U8", shape: vec![1], bytes: vec![7] };
        put(folder.path(), &[("base_model.model.other.lora_x", odd), (A, a), (B, b)]);
        assert_eq!(LoraFile::open(folder.path()).unwrap().load("proj").unwrap(), expected);
    }
}

#[test]
fn small_values_survive_in_f32_that_f16_would_lose() {
    let folder = adapter("r10");
    let weights = folder.path().join("adapter_model.safetensors");
    let [a, b] = [A, B].map(|name| read_matrix(&weights, name));
    let expected = b.dot(&a).mapv(f64::from) * 1.6;
    let norm = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>().sqrt();
    // 1e-9 is zero in f16; alpha takes it back.
    for (a_factor, b_factor) in [(1e-9, 1.0), (1.0, 1e-9), (1e-5, 1e-5)] {
        let (a, b) = (a.mapv(|v| v * a_factor), b.mapv(|v| v * b_factor));
        put(folder.path(), &[(A, Tensor::f32(&a)), (B, Tensor::f32(&b))]);
        edit_config(
            folder.path(),
            &[("lora_alpha", json!(16.0 / f64::from(a_factor) / f64::from(b_factor)))],
        );
        let lora = LoraFile::open(folder.path()).unwrap().load("proj").unwrap();
        let error = norm(&(delta(&lora) - &expected)) / norm(&expected);
        assert!(error <= 1e-3, "{a_factor:e}, {b_factor:e}: {error:e}");
    }
}

#[test]
fn each_module_has_its_own_rank_and_scale() {
    let folder = adapter("r10");
    let name = |module: &str, part: &str| format!("base_model.model.{module}.{part}.weight");
    let mut tensors = Vec::new();
    for (module, rank, n) in
        [("layers.0.q_proj", 4, 6), ("layers.0.k_proj", 8, 3), ("layers.10.q_proj", 2, 5)]
    {
        tensors.push((name(module, "lora_A"), Tensor::f16(&Array2::from_elem((rank, 7), 0.5))));
        tensors.push((name(module, "lora_B"), Tensor::f16(&Array2::from_elem((n, rank), 0.25))));
    }
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    put(folder.path(), &named);
    edit_config(
        folder.path(),
        &[
            ("r", json!(2)),
            ("lora_alpha", json!(3)),
            ("use_rslora", json!(true)),
            ("rank_pattern", json!({"layers.0.q_proj": 4, "k_proj": 8})),
            ("alpha_pattern", json!({"0.q_proj": 6})),
        ],
    );
    let file = LoraFile::open(folder.path()).unwrap();
    assert_eq!(
        file.modules().collect::<Vec<_>>(),
        ["layers.0.k_proj", "layers.0.q_proj", "layers.10.q_proj"]
    );
    for (module, rank, n, scale) in [
        ("layers.0.q_proj", 4, 6, 3.0),
        ("layers.0.k_proj", 8, 3, 3.0 / 8f64.sqrt()),
        ("layers.10.q_proj", 2, 5, 3.0 / 2f64.sqrt()),
    ] {
        let lora = file.load_f32(module).unwrap();
        assert_eq!(
            (lora.a.dim(), lora.b.dim(), lora.scale),
            ((rank, 7), (n, rank), scale as f32),
            "{module}"
        );
    }
}

#[test]
fn modules_that_are_not_linear_are_listed_and_refused_alone() {
    let folder = adapter("r10");
    let [a, b] =
        [A, B].map(|name| Tensor::f32(&read_matrix(&folder.path().join("adapter_model.safetensors"), name)));
    put(
        folder.path(),
        &[
            ("base_model.model.conv.lora_A.weight", Tensor::zeros("F32", 4, &[10, 3, 3, 3])),
            ("base_model.model.conv.lora_B.weight", Tensor::zeros("F32", 4, &[8, 10, 1, 1])),
            ("base_model.model.emb.lora_embedding_A", Tensor::zeros("F32", 4, &[10, 100])),
            ("base_model.model.emb.lora_embedding_B", Tensor::zeros("F32", 4, &[16, 10])),
            (A, a),
            (B, b),
        ],
    );
    let file = LoraFile::open(folder.path()).unwrap();
    assert_eq!(file.modules().collect::<Vec<_>>(), ["conv", "emb", "proj"]);
    file.load("proj").unwrap();
    for (module, tensor) in [("conv", "conv.lora_A.weight"), ("emb", "emb.lora_embedding_A")] {
        match file.load(module) {
            Err(PeftError::Lora { tensor: found, problem: LoraProblem::Unsupported { .. }, .. }) => {
                assert!(found.ends_with(tensor), "{found}");
            }
            other => panic!("{module}: {other:?}"),
        }
    }
}

#[test]
fn errors_carry_fields() {
    let folder = adapter("r10");
    let file = LoraFile::open(folder.path()).unwrap();
    match file.load("nope") {
        Err(PeftError::NoSuchModule { module, modules, .. }) => {
            assert_eq!((module.as_str(), modules), ("nope", vec!["proj".to_owned()]));
        }
        other => panic!("{other:?}"),
    }
    edit_config(folder.path(), &[("r", json!(9))]);
    match LoraFile::open(folder.path()).unwrap().load("proj") {
        Err(PeftError::Lora { tensor, problem: LoraProblem::Rank { found: 10, config: 9 }, .. }) => {
            assert_eq!(tensor, A);
        }
        other => panic!("{other:?}"),
    }
    // The file is read tensor by tensor: one that shrinks after it was opened is an error, not a panic.
    let weights = folder.path().join("adapter_model.safetensors");
    fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len(600).unwrap();
    match file.load("proj") {
        Err(PeftError::Tensor(TensorError::Io { file, .. })) => assert_eq!(file, weights),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_can_be_shared_between_threads() {
    let file = LoraFile::open(&fixture("r100-rslora")).unwrap();
    let expected = file.load("proj").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(file.load("proj").unwrap(), expected);
                }
            });
        }
    });
}

//! `fused-lora apply` on what PEFT computed, and on variants of its files.

mod support;

use std::fs;

use fused_lora::{DType, cpu::Simd};
use half::f16;
use ndarray::{Array2, Axis};
use safetensors::SafeTensors;
use serde_json::json;
use support::{
    A, B, CASES, Tensor,
    command::{Case, assert_success, stderr},
    edit_config, fixture, read_matrix, relative_error, safetensors_bytes, shift_data,
};

/// The project's promise for the PEFT cases.
const TOLERANCE: f64 = 1e-3;

fn expected(case: &str) -> Array2<f32> {
    read_matrix(&fixture(case).join("expected.safetensors"), "y")
}

fn base_product(case: &Case) -> Array2<f32> {
    read_matrix(&case.input, "x").dot(&read_matrix(&case.base, "proj.weight").t())
}

/// What each type promises for the PEFT cases, whose x and W are f16: rounded to bf16, or as they are.
const TYPES: [(DType, f64); 3] =
    [(DType::F16, TOLERANCE), (DType::Bf16, 8.0 * TOLERANCE), (DType::F32, 1e-6)];

#[test]
fn agrees_with_peft_in_every_type_at_every_simd_level() {
    for (name, simd) in
        CASES.into_iter().flat_map(|name| Simd::available().into_iter().map(move |s| (name, s)))
    {
        for (dtype, tolerance) in TYPES {
            for strategy in ["fused", "unfused"] {
                let case = Case::new(name);
                let dtype_name = dtype.name();
                let types = ["--dtype", dtype_name, "--output-dtype", dtype_name];
                let mut command = case.command(&[&["--strategy", strategy][..], &types].concat());
                assert_success(&command.env("FUSED_LORA_SIMD", simd.name()).output().unwrap());
                let error = relative_error(&read_matrix(&case.output, "y"), &expected(name));
                assert!(error <= tolerance, "{name}, {dtype}, {simd}, {strategy}: {error:e}");
            }
        }
    }
}

#[test]
fn base_leaves_the_adapter_out() {
    for name in CASES {
        for simd in Simd::available() {
            let case = Case::new(name);
            let output =
                case.command(&["--strategy", "base"]).env("FUSED_LORA_SIMD", simd.name()).output().unwrap();
            assert_success(&output);
            let y = read_matrix(&case.output, "y");
            let error = relative_error(&y, &base_product(&case));
            assert!(error <= TOLERANCE, "{name}, {simd}: {error:e}");
            // The adapter must be visible at this tolerance, or the tests above show nothing.
            assert!(relative_error(&y, &expected(name)) > 10.0 * TOLERANCE);
        }
    }
}

/// Each row is what its adapter alone gives, and where there is none what the base gives; in any order, in
/// every type.
#[test]
fn several_adapters_in_one_batch() {
    for dtype in DType::ALL {
        let case = Case::new("r10");
        let m = read_matrix(&case.input, "x").nrows();
        let other = case.folder().join("other");
        fs::create_dir(&other).unwrap();
        for file in [case.config(), case.weights()] {
            fs::copy(&file, other.join(file.file_name().unwrap())).unwrap();
        }
        edit_config(&other, &[("lora_alpha", json!(3))]);
        let run = |options: &[&str]| {
            let options: Vec<_> = ["--dtype", dtype.name()].iter().chain(options).copied().collect();
            assert_success(&case.apply(&options));
            read_matrix(&case.output, "y")
        };
        let (one, base) = (run(&[]), run(&["--strategy", "base"]));
        let other = other.to_str().unwrap();
        // The first adapter is the case's own.
        let (late, early) = (format!("{}..{m}", m - 2), format!("1..{}", m - 3));
        let mixed = run(&["--rows", &late, "--adapter", other, "--rows", &early]);
        let mut case_of_other = Case::new("r10");
        case_of_other.adapter = other.into();
        assert_success(&case_of_other.apply(&["--dtype", dtype.name()]));
        let two = read_matrix(&case_of_other.output, "y");
        assert_ne!(one, two);
        for row in 0..m {
            let expected = match row {
                row if row >= m - 2 => &one,
                row if row >= 1 && row < m - 3 => &two,
                _ => &base,
            };
            assert_eq!(mixed.row(row), expected.row(row), "{dtype}, row {row}");
        }
        assert_eq!(run(&["--rows", &format!("0..{m}")]), one);
    }
}

#[test]
fn fused_is_the_default() {
    let case = Case::new("r10");
    assert_success(&case.apply(&["--strategy", "fused"]));
    let fused = fs::read(&case.output).unwrap();
    assert_success(&case.apply(&[]));
    assert_eq!(fs::read(&case.output).unwrap(), fused);
}

#[test]
fn data_may_begin_at_any_byte() {
    let case = Case::new("r10");
    assert_success(&case.apply(&[]));
    let aligned = fs::read(&case.output).unwrap();
    for pad in [1, 2, 3, 5, 7] {
        let case = Case::new("r10");
        for file in [case.weights(), case.base.clone(), case.input.clone()] {
            fs::write(&file, shift_data(&fs::read(&file).unwrap(), pad)).unwrap();
        }
        assert_success(&case.apply(&[]));
        assert_eq!(fs::read(&case.output).unwrap(), aligned, "{pad}");
    }
}

/// y is written in the type of x, or in the one that is asked for, and rounded to it once.
#[test]
fn the_types_of_x_and_y() {
    type Convert = fn(&Array2<f32>) -> Tensor;
    let (f16, bf16, f32): (Convert, Convert, Convert) = (Tensor::f16, Tensor::bf16, Tensor::f32);
    for (of_weight, of_x, options, dtype, tolerance) in [
        (f32, bf16, &[][..], "BF16", 4.0 * TOLERANCE),
        (bf16, f32, &[], "F32", 1e-6),
        (f16, bf16, &["--output-dtype", "f32"], "F32", 1e-6),
        (f16, f16, &[], "F16", TOLERANCE),
        (f16, f16, &["--dtype", "bf16", "--output-dtype", "f32"], "F32", 8.0 * TOLERANCE),
        (f16, f32, &["--dtype", "f16"], "F32", TOLERANCE),
    ] {
        let case = Case::new("r10");
        let weight = read_matrix(&case.base, "proj.weight");
        // Few enough bits for bf16, so that the expected y is the same for both.
        let x = read_matrix(&case.input, "x").mapv(|v| (v * 4.0).round() / 4.0);
        let weight = weight.mapv(|v| (v * 64.0).round() / 64.0);
        fs::write(&case.base, safetensors_bytes(&[("proj.weight", of_weight(&weight))])).unwrap();
        fs::write(&case.input, safetensors_bytes(&[("x", of_x(&x))])).unwrap();
        assert_success(&case.apply(&[options, &["--strategy", "base"]].concat()));
        let error = relative_error(&read_matrix(&case.output, "y"), &x.dot(&weight.t()));
        assert!(error <= tolerance, "{dtype}, {options:?}: {error:e}");
        assert_eq!(shape_of(&case, "y"), (dtype.to_owned(), vec![x.nrows(), weight.nrows()]));
    }
}

/// Type and shape of a tensor of the output.
fn shape_of(case: &Case, tensor: &str) -> (String, Vec<usize>) {
    let bytes = fs::read(&case.output).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(tensor).unwrap();
    (format!("{:?}", view.dtype()), view.shape().to_vec())
}

/// y has the dimensions of x, whatever x is called if it is alone.
#[test]
fn x_as_a_hook_gives_it() {
    let case = Case::new("r10");
    let x = read_matrix(&case.input, "x");
    assert_success(&case.apply(&[]));
    let y = fs::read(&case.output).unwrap();
    let (n, k) = (read_matrix(&case.output, "y").ncols(), x.ncols());
    let data = |file: &[u8]| SafeTensors::deserialize(file).unwrap().tensor("y").unwrap().data().to_vec();
    for (name, rows, leading) in
        [("hidden_states", 4, &[2, 2, 1][..]), ("proj", 1, &[]), ("x", 4, &[4]), ("x", 3, &[1, 3])]
    {
        let part = x.slice(ndarray::s![..rows, ..]).to_owned();
        let tensor = Tensor { shape: [leading, &[k]].concat(), ..Tensor::f16(&part) };
        fs::write(&case.input, safetensors_bytes(&[(name, tensor)])).unwrap();
        assert_success(&case.apply(&[]));
        assert_eq!(shape_of(&case, "y"), ("F16".to_owned(), [leading, &[n]].concat()));
        assert_eq!(data(&fs::read(&case.output).unwrap()), data(&y)[..rows * n * 2]);
    }
}

/// Each module with a tensor of its name, in one file; names and patterns.
#[test]
fn several_modules() {
    let case = Case::new("r10");
    let [a, b] = [A, B].map(|name| Tensor::f32(&read_matrix(&case.weights(), name)));
    let (x, weight) = (read_matrix(&case.input, "x"), read_matrix(&case.base, "proj.weight"));
    let modules = ["h.0.q_proj", "h.0.v_proj", "h.1.q_proj"];
    let prefix = "base_model.model.";
    let names: Vec<_> = modules
        .iter()
        .flat_map(|m| [("A", &a), ("B", &b)].map(|(part, t)| (format!("{prefix}{m}.lora_{part}.weight"), t)))
        .collect();
    let tensors: Vec<_> = names.iter().map(|(name, tensor)| (name.as_str(), (*tensor).clone())).collect();
    fs::write(case.weights(), safetensors_bytes(&tensors)).unwrap();
    edit_config(&case.adapter, &[("target_modules", json!(["q_proj", "v_proj"]))]);
    let scaled = |matrix: &Array2<f32>, i: usize| Tensor::f16(&matrix.mapv(|v| v * (1 << i) as f32));
    let weights: Vec<_> = modules.iter().enumerate().map(|(i, m)| (format!("{m}.weight"), i)).collect();
    let weights: Vec<_> = weights.iter().map(|(name, i)| (name.as_str(), scaled(&weight, *i))).collect();
    fs::write(&case.base, safetensors_bytes(&weights)).unwrap();
    let inputs: Vec<_> = modules[..2].iter().map(|m| (*m, Tensor::f16(&x))).collect();
    fs::write(&case.input, safetensors_bytes(&inputs)).unwrap();

    let run = |modules: &[&str]| {
        let options = ["--strategy", "base", "--output-dtype", "f32", "--device", "cpu"];
        case.command_of(modules, &options).output().unwrap()
    };
    for modules in [&["h.0.*"][..], &["h.0.v_proj", "h.0.q_proj"], &["h.[0].*", "h.0.q_proj"]] {
        assert_success(&run(modules));
        for (i, module) in ["h.0.q_proj", "h.0.v_proj"].into_iter().enumerate() {
            let expected = x.dot(&weight.t()).mapv(|v| v * (1 << i) as f32);
            assert!(relative_error(&read_matrix(&case.output, module), &expected) <= 1e-6, "{module}");
        }
    }
    // One module is `y`, from a tensor of its name among others.
    assert_success(&run(&["h.0.v_proj"]));
    assert_eq!(shape_of(&case, "y").1, [x.nrows(), weight.nrows()]);
    for (modules, part) in [
        (&["*.q_proj"][..], "no tensor \"h.1.q_proj\""),
        (&["*.k_proj"], "matches none of the 3 modules"),
        (&["h.0.q_proj", "h.[0.v_proj"], "is no pattern"),
    ] {
        let error = stderr(&run(modules));
        assert!(error.contains(part) && error.lines().count() == 1, "{error}");
    }
}

/// What f16 cannot hold is an error with its place, and the way that it names works; h may be beyond f16.
#[test]
fn y_is_finite_or_an_error() {
    let case = Case::new("r10");
    let (x, weight) = (read_matrix(&case.input, "x"), read_matrix(&case.base, "proj.weight"));
    let [a, b] = [A, B].map(|name| read_matrix(&case.weights(), name));
    let mut large = x.mapv(|v| f16::from_f32(v * 1e4).to_f32());
    large.row_mut(0).fill(0.0);
    large.row_mut(1).fill(0.0);
    large[[1, 0]] = f32::NAN;
    let large_weight = weight.mapv(|v| v * 64.0);
    let row = large.slice(ndarray::s![2..3, ..]);
    let exact = row.dot(&large_weight.t()) + row.dot(&a.t()).dot(&b.t()) * 1.6;
    fs::write(&case.input, safetensors_bytes(&[("x", Tensor::f16(&large))])).unwrap();
    fs::write(&case.base, safetensors_bytes(&[("proj.weight", Tensor::f16(&large_weight))])).unwrap();
    for (options, way) in [
        (&[][..], "; give --output-dtype f32 or bf16"),
        (&["--dtype", "f16"], "; give --dtype and --output-dtype f32 or bf16"),
        (&["--dtype", "f16", "--output-dtype", "f32"], "; give --dtype f32 or bf16"),
        (&["--dtype", "bf16"], "; give --output-dtype f32 or bf16"),
    ] {
        let error = stderr(&case.apply(options));
        assert!(error.contains("module \"proj\": y[2, ") && error.contains("though row 2 of x"), "{error}");
        assert!(error.ends_with(&format!("f16 cannot hold it{way}\n")), "{error}");
        assert!(!case.output.exists());
    }
    assert_success(&case.apply(&["--output-dtype", "f32"]));
    let y = read_matrix(&case.output, "y").slice(ndarray::s![2..3, ..]).to_owned();
    assert!(relative_error(&y, &exact) <= 1e-6);

    // A is 2¹⁶ times as large, B as small, so that h is beyond f16: as f16 tensors, B's are subnormal.
    let case = Case::new("r10");
    let shift = 2f32.powi(16);
    let a = read_matrix(&case.weights(), A).mapv(|v| v * shift);
    let b = read_matrix(&case.weights(), B).mapv(|v| f16::from_f32(v / shift).to_f32());
    let exact = x.dot(&weight.t()) + x.dot(&a.t()).dot(&b.t()) * 1.6;
    let [a, b] = [Tensor::f16(&a), Tensor::f16(&b)];
    fs::write(case.weights(), safetensors_bytes(&[(A, a), (B, b)])).unwrap();
    for strategy in ["fused", "unfused"] {
        assert_success(&case.apply(&["--strategy", strategy]));
        assert!(relative_error(&read_matrix(&case.output, "y"), &exact) <= TOLERANCE);
    }
}

#[test]
fn the_bias_of_the_base_is_added() {
    for strategy in ["base", "unfused", "fused"] {
        let case = Case::new("r10");
        let weight = read_matrix(&case.base, "proj.weight");
        let n = weight.nrows();
        let bias = Array2::from_shape_fn((1, n), |(_, i)| (i as f32 - 30.0) / 4.0);
        let bias_tensor = Tensor { shape: vec![n], ..Tensor::f16(&bias) };
        fs::write(
            &case.base,
            safetensors_bytes(&[("proj.bias", bias_tensor), ("proj.weight", Tensor::f16(&weight))]),
        )
        .unwrap();
        assert_success(&case.apply(&["--strategy", strategy]));
        let without = if strategy == "base" { base_product(&case) } else { expected("r10") };
        let error = relative_error(&read_matrix(&case.output, "y"), &(without + &bias));
        assert!(error <= TOLERANCE, "{strategy}: {error:e}");
    }
}

/// The shapes of A and B decide, whatever `fan_in_fan_out` says.
#[test]
fn a_base_that_lies_the_other_way_round() {
    for says in [false, true] {
        for transposed in [false, true] {
            let case = Case::new("r10");
            edit_config(&case.adapter, &[("fan_in_fan_out", json!(says))]);
            if transposed {
                let weight = read_matrix(&case.base, "proj.weight").t().as_standard_layout().into_owned();
                fs::write(&case.base, safetensors_bytes(&[("proj.weight", Tensor::f16(&weight))])).unwrap();
            }
            assert_success(&case.apply(&[]));
            let error = relative_error(&read_matrix(&case.output, "y"), &expected("r10"));
            assert!(error <= TOLERANCE, "{says}, {transposed}: {error:e}");
            let refused = stderr(&case.apply(&["--layout", if transposed { "out-in" } else { "in-out" }]));
            assert!(refused.contains("was asked for"), "{refused}");
        }
    }
}

#[test]
fn patterns_reach_the_product() {
    let case = Case::new("r10");
    // What the case has in `r` and `lora_alpha` now comes from the patterns.
    edit_config(
        &case.adapter,
        &[
            ("r", json!(3)),
            ("lora_alpha", json!(1)),
            ("rank_pattern", json!({"^pro.$": 10})),
            ("alpha_pattern", json!({"other": 5, "proj": 16})),
        ],
    );
    assert_success(&case.apply(&[]));
    let error = relative_error(&read_matrix(&case.output, "y"), &expected("r10"));
    assert!(error <= TOLERANCE, "{error:e}");
}

#[test]
fn the_split_between_a_b_and_alpha_does_not_matter() {
    let exp2 = |e: i32| 2f64.powi(e) as f32;
    for (i, j) in [(-40, 0), (0, -40), (40, 0), (0, 40), (-60, 50), (50, -60), (-30, -30), (30, 30)] {
        let case = Case::new("r10");
        let a = read_matrix(&case.weights(), A).mapv(|v| v * exp2(i));
        let b = read_matrix(&case.weights(), B).mapv(|v| v * exp2(j));
        fs::write(case.weights(), safetensors_bytes(&[(A, Tensor::f32(&a)), (B, Tensor::f32(&b))])).unwrap();
        edit_config(&case.adapter, &[("lora_alpha", json!(16.0 * 2f64.powi(-i - j)))]);
        for strategy in ["fused", "unfused"] {
            assert_success(&case.apply(&["--strategy", strategy]));
            let error = relative_error(&read_matrix(&case.output, "y"), &expected("r10"));
            assert!(error <= TOLERANCE, "2^{i} A, 2^{j} B, {strategy}: {error:e}");
        }
    }
}

#[test]
fn nan_in_a_row_of_x_stays_in_that_row() {
    let case = Case::new("r10");
    let mut x = read_matrix(&case.input, "x");
    x[[1, 0]] = f32::NAN;
    fs::write(&case.input, safetensors_bytes(&[("x", Tensor::f16(&x))])).unwrap();
    assert_success(&case.apply(&[]));
    for (i, row) in read_matrix(&case.output, "y").axis_iter(Axis(0)).enumerate() {
        assert!(row.iter().all(|v| v.is_nan() == (i == 1)), "row {i}");
    }
}

#[test]
fn an_existing_output_is_replaced_whole() {
    let case = Case::new("r10");
    assert_success(&case.apply(&[]));
    let y = fs::read(&case.output).unwrap();
    fs::write(&case.output, vec![b'x'; 100_000]).unwrap();
    let before = case.files();
    assert_success(&case.apply(&[]));
    assert_eq!(fs::read(&case.output).unwrap(), y);
    assert_eq!(case.files(), before, "nothing is left beside it");
}

/// Killed at any time, the command leaves the whole output or none, and nothing else.
#[test]
fn a_killed_run_leaves_nothing_half_written() {
    let case = Case::new("r10");
    let x = read_matrix(&case.input, "x");
    let many = Array2::from_shape_fn((10_000, x.ncols()), |(i, j)| x[[i % x.nrows(), j]]);
    fs::write(&case.input, safetensors_bytes(&[("x", Tensor::f16(&many))])).unwrap();
    let before = case.files();
    let start = std::time::Instant::now();
    assert_success(&case.apply(&[]));
    let (whole, y) = (start.elapsed(), fs::read(&case.output).unwrap());
    let mut killed = 0;
    for part in 1..20 {
        fs::remove_file(&case.output).unwrap_or_default();
        let mut child = case.command(&[]).spawn().unwrap();
        std::thread::sleep(whole * part / 16);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        if case.output.exists() {
            assert!(fs::read(&case.output).unwrap() == y);
            fs::remove_file(&case.output).unwrap();
        }
        assert_eq!(case.files(), before);
    }
    assert!(killed > 0);
}

#[test]
fn a_bare_name_is_a_file_in_the_current_folder() {
    let mut case = Case::new("r10");
    case.output = "y.safetensors".into();
    assert_success(&case.apply(&[]));
    assert_eq!(read_matrix(&case.folder().join("y.safetensors"), "y").dim(), expected("r10").dim());
}

#[cfg(unix)]
#[test]
fn the_output_has_the_mode_of_any_other_file() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;

    let case = Case::new("r10");
    assert_success(&case.apply(&[]));
    let any_other = case.folder().join("other");
    fs::write(&any_other, "").unwrap();
    assert_eq!(mode(&case.output), mode(&any_other));

    fs::set_permissions(&case.output, fs::Permissions::from_mode(0o640)).unwrap();
    assert_success(&case.apply(&[]));
    assert_eq!(mode(&case.output), 0o640, "an existing file keeps its own");
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_written_through() {
    let mut case = Case::new("r10");
    let target = case.output.clone();
    fs::write(&target, "old").unwrap();
    case.output = case.folder().join("link");
    std::os::unix::fs::symlink(&target, &case.output).unwrap();
    assert_success(&case.apply(&[]));
    assert!(case.output.is_symlink());
    assert_eq!(read_matrix(&target, "y").dim(), expected("r10").dim());
}

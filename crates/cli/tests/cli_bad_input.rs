//! Every bad input of `fused-lora apply` gets one line that names what and where, exit code 1, and no
//! output: what was there before is untouched.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use ndarray::Array2;
use serde_json::{Value, json};
use support::{
    A, B, Tensor,
    command::{Case, assert_success, stderr},
    edit_config, read_matrix, safetensors_bytes, shift_data, with_header,
};

/// Widths of the case.
const K: usize = 96;
const N: usize = 80;
const OLD: &[u8] = b"what was there before";

/// Spoils a case of rank 10 with `spoil` and expects the error to contain every one of `parts`.
#[track_caller]
fn refused(spoil: impl Fn(&mut Case), parts: &[&str]) {
    refused_with(&[], spoil, parts);
}

/// As [`refused`], of a command with these options.
#[track_caller]
fn refused_with(options: &[&str], spoil: impl Fn(&mut Case), parts: &[&str]) {
    for old in [None, Some(OLD)] {
        let mut case = Case::new("r10");
        if let Some(old) = old {
            fs::write(&case.output, old).unwrap();
        }
        let first_output = case.output.clone();
        spoil(&mut case);
        let before = case.files();
        let output = case.apply(options);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(output.stdout.is_empty());
        assert!(error.starts_with("error: ") && error.ends_with('\n'), "{error:?}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("panicked"), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
        assert_eq!(case.files(), before, "{error}");
        if case.output == first_output {
            assert_eq!(fs::read(&case.output).ok().as_deref(), old, "{error}");
        }
    }
}

fn f16(shape: &[usize]) -> Tensor {
    Tensor::zeros("F16", 2, shape)
}

fn f32(shape: &[usize]) -> Tensor {
    Tensor::zeros("F32", 4, shape)
}

/// Replaces a file by these tensors.
fn put(path: &Path, tensors: &[(&str, Tensor)]) {
    fs::write(path, safetensors_bytes(tensors)).unwrap();
}

/// Replaces A, B or both of the adapter.
fn put_adapter(case: &Case, a: Option<Tensor>, b: Option<Tensor>) {
    let kept = |name| Tensor::f32(&read_matrix(&case.weights(), name));
    put(&case.weights(), &[(A, a.unwrap_or_else(|| kept(A))), (B, b.unwrap_or_else(|| kept(B)))]);
}

/// The file that holds the tensor of this name.
fn file_of(case: &Case, name: &str) -> PathBuf {
    match name {
        "x" => case.input.clone(),
        A | B => case.weights(),
        _ => case.base.clone(),
    }
}

/// Replaces a tensor, and expects an error that names it and its file, and contains `parts`.
#[track_caller]
fn refused_tensor(name: &str, tensor: impl Fn(&Case) -> Tensor, parts: &[&str]) {
    let file = file_of(&Case::new("r10"), name);
    let spoil = |case: &mut Case| match (name, tensor(case)) {
        (A, tensor) => put_adapter(case, Some(tensor), None),
        (B, tensor) => put_adapter(case, None, Some(tensor)),
        (_, tensor) => put(&file_of(case, name), &[(name, tensor)]),
    };
    let names = [file.file_name().unwrap().to_str().unwrap(), &format!("{name:?}")];
    refused_with(&["--dtype", "f16"], spoil, &[&names[..], parts].concat());
}

/// A tensor of the case with one value set.
fn with_value(case: &Case, name: &str, at: [usize; 2], value: f32) -> Array2<f32> {
    let mut matrix = read_matrix(&file_of(case, name), name);
    matrix[at] = value;
    matrix
}

#[test]
fn the_case_itself_is_accepted() {
    assert_success(&Case::new("r10").apply(&[]));
}

#[test]
fn shapes_and_types_that_do_not_fit() {
    for (name, tensor, part) in [
        ("proj.weight", f16(&[N + 1, K]), "has shape"),
        ("proj.weight", f16(&[N, K, 1]), "2 dimension(s)"),
        ("proj.weight", f16(&[N, 0]), ", 0]"),
        ("x", f16(&[4, K - 1]), "columns, but module \"proj\" takes "),
        ("x", f16(&[]), "1 dimension(s)"),
        ("x", f16(&[0, K]), "[0, "),
        (A, f32(&[10]), "2 dimension(s)"),
        (A, f32(&[0, K]), "[0, "),
        (A, f32(&[10, 3, 3, 3]), "convolution"),
        (B, f32(&[0, 10]), "[0, 10]"),
        (B, f32(&[N, 9]), "rank 9"),
    ] {
        refused_tensor(name, |_| tensor.clone(), &[part]);
    }
    for (name, shape) in [("proj.weight", [N, K]), (A, [10, K]), ("x", [3, K])] {
        for (dtype, size) in [("I8", 1), ("F64", 8), ("I32", 4), ("F8_E4M3", 1), ("BOOL", 1)] {
            refused_tensor(name, |_| Tensor::zeros(dtype, size, &shape), &[dtype]);
        }
    }
    for shape in [&[3][..], &[1, 1]] {
        let tensors = || [("proj.bias", f16(shape)), ("proj.weight", f16(&[N, K]))];
        refused(|case| put(&case.base, &tensors()), &["base.safetensors", "\"proj.bias\""]);
    }
    refused(
        |case| put_adapter(case, Some(f32(&[10, K + 1])), None),
        &["base.safetensors", "\"proj.weight\"", "adapter"],
    );
    let f128 = with_header(r#"{"x": {"dtype": "F128", "shape": [1], "data_offsets": [0, 16]}}"#, &[0; 16]);
    refused(|case| fs::write(&case.input, &f128).unwrap(), &["input.safetensors", "F128"]);
}

#[test]
fn rank_and_scale() {
    let config = "adapter_config.json";
    for (entries, parts) in [
        (&[("r", json!(9))][..], &["adapter_model.safetensors", A, "rank 10", "9"][..]),
        (&[("rank_pattern", json!({"proj": 11}))], &["adapter_model.safetensors", A, "rank 10", "11"]),
        (&[("rank_pattern", json!({"x": 0}))], &[config, "rank_pattern[\"x\"]", "found 0"]),
        (&[("lora_alpha", json!(1e300))], &[config, "module \"proj\"", "alpha 1e300"]),
        (&[("alpha_pattern", json!({"proj": -1e40}))], &[config, "module \"proj\"", "alpha -1e40"]),
        (&[("rank_pattern", json!({"(?!x)proj": 3}))], &["adapter_model.safetensors", A, "rank 10", "3"]),
        (&[("rank_pattern", json!({"(": 3}))], &[config, "rank_pattern", "\"(\""]),
        (&[("target_modules", json!("(?m)proj"))], &[config, "target_modules", "flag 'm'"]),
        (&[("use_dora", json!(true))], &[config, "use_dora"]),
    ] {
        refused(|case| edit_config(&case.adapter, entries), parts);
    }
}

#[test]
fn missing_files_modules_and_tensors() {
    refused(
        |case| case.module = "proj2".into(),
        &["adapter_model.safetensors", "\"proj2\"", "there is \"proj\""],
    );
    refused(|case| case.base = "nowhere.safetensors".into(), &["nowhere.safetensors"]);
    refused(|case| case.input = "nowhere.safetensors".into(), &["nowhere.safetensors"]);
    refused(|case| case.adapter = "nowhere".into(), &["there is no folder nowhere"]);
    refused(|case| case.adapter = "org/name".into(), &["org/name", "local folder"]);
    refused(|case| case.base = "org/name".into(), &["org/name", "local folder"]);
    refused(|case| case.adapter = case.base.clone(), &["base.safetensors", "not an adapter"]);
    refused(|case| fs::remove_file(case.config()).unwrap(), &["adapter_config.json"]);
    refused(|case| fs::remove_file(case.weights()).unwrap(), &["adapter_model.safetensors"]);
    refused(
        |case| fs::rename(case.weights(), case.adapter.join("adapter_model.bin")).unwrap(),
        &["adapter_model.bin", "pickle"],
    );
    refused(
        |case| put(&case.base, &[("other.weight", f16(&[1, 1]))]),
        &["base.safetensors", "\"proj.weight\"", "--base-module"],
    );
    refused(
        |case| put(&case.input, &[("input", f16(&[1, 1])), ("other", f16(&[1, 1]))]),
        &["input.safetensors", "\"x\"", "there is \"input\", \"other\""],
    );
    for (kept, missing) in [(A, B), (B, A)] {
        refused(
            |case| {
                let tensor = Tensor::f32(&read_matrix(&case.weights(), kept));
                put(&case.weights(), &[(kept, tensor)]);
            },
            &["adapter_model.safetensors", missing, "missing"],
        );
    }
    refused(|case| put(&case.weights(), &[]), &["adapter_model.safetensors", "\"proj\"", "there is none"]);
    refused(|case| case.base = case.folder().to_owned(), &["several files", "base.safetensors"]);
}

/// Files that are no safetensors, or lie about themselves.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let tensor = |name: &str, shape: &str, start: u64, end: u64| {
        format!(r#""{name}": {{"dtype": "F16", "shape": {shape}, "data_offsets": [{start}, {end}]}}"#)
    };
    let file =
        |tensors: &[String], len: usize| with_header(&format!("{{{}}}", tensors.join(", ")), &vec![0; len]);
    let max = u64::MAX;
    vec![
        ("empty", Vec::new()),
        ("seven bytes", vec![1; 7]),
        ("a header of 2^64 - 1 bytes", vec![0xff; 64]),
        ("a header of 100 MB", 100_000_000u64.to_le_bytes().to_vec()),
        ("a header longer than the format allows", 100_000_001u64.to_le_bytes().to_vec()),
        ("no header", 0u64.to_le_bytes().to_vec()),
        ("a header that is no JSON", with_header("{\"x\": ", &[])),
        ("a header that is no object", with_header("[1, 2]", &[])),
        ("a header that is not UTF-8", [&4u64.to_le_bytes()[..], b"{\"\xff\""].concat()),
        ("a header that nests", with_header(&"[".repeat(100_000), &[])),
        ("no dtype", with_header(r#"{"x": {"shape": [1], "data_offsets": [0, 2]}}"#, &[0; 2])),
        ("a negative dimension", file(&[tensor("x", "[-1]", 0, 2)], 2)),
        ("a fractional dimension", file(&[tensor("x", "[1.5]", 0, 2)], 2)),
        ("an end behind the file", file(&[tensor("x", "[4, 4]", 0, 32)], 16)),
        ("an end before the start", file(&[tensor("x", "[1]", 2, 0)], 2)),
        ("bytes behind the last tensor", file(&[tensor("x", "[1, 1]", 0, 2)], 3)),
        ("a gap", file(&[tensor("x", "[1]", 0, 2), tensor("y", "[1]", 4, 6)], 6)),
        ("an overlap", file(&[tensor("x", "[2]", 0, 4), tensor("y", "[2]", 2, 6)], 6)),
        ("the same bytes twice", file(&[tensor("x", "[2]", 0, 4), tensor("y", "[2]", 0, 4)], 4)),
        ("a shape that is too small for its bytes", file(&[tensor("x", "[1, 1]", 0, 4)], 4)),
        ("a shape whose size overflows", file(&[tensor("x", &format!("[{max}, {max}]"), 0, 4)], 4)),
        ("a shape whose bytes overflow", file(&[tensor("x", &format!("[{max}]"), 0, max)], 4)),
        (
            "lengths whose sum overflows",
            file(
                &(0..8u64)
                    .map(|i| {
                        tensor(
                            &format!("t{i}"),
                            &format!("[{}]", max >> 4),
                            i * (max >> 3),
                            (i + 1) * (max >> 3),
                        )
                    })
                    .collect::<Vec<_>>(),
                0,
            ),
        ),
    ]
}

#[test]
fn truncated_and_hostile_safetensors() {
    let file_of: [fn(&Case) -> PathBuf; 3] =
        [|case| case.base.clone(), |case| case.input.clone(), Case::weights];
    for (what, bytes) in hostile() {
        for file in file_of {
            let name = file(&Case::new("r10")).file_name().unwrap().to_str().unwrap().to_owned();
            eprintln!("{what}, as {name}");
            refused(|case| fs::write(file(case), &bytes).unwrap(), &[&name, "not a valid safetensors file"]);
        }
    }
    for file in file_of {
        let case = Case::new("r10");
        let whole = fs::read(file(&case)).unwrap();
        for len in [0, 7, 8, 20, whole.len() / 2, whole.len() - 1] {
            refused(|case| fs::write(file(case), &whole[..len]).unwrap(), &["not a valid safetensors file"]);
        }
        refused(|case| fs::write(file(case), [&whole[..], &[0]].concat()).unwrap(), &["the tensors end at"]);
        // One byte of the length, so that the header ends early or late.
        for change in [1u8, 0x80] {
            let mut bytes = shift_data(&whole, 3);
            bytes[0] ^= change;
            refused(|case| fs::write(file(case), &bytes).unwrap(), &["not a valid safetensors file"]);
        }
    }
}

#[test]
fn broken_json() {
    // As Python writes it, and JSON does not know it.
    let nan = br#"{"peft_type": "LORA", "r": 1, "lora_alpha": NaN}"#;
    for (text, part) in [
        (&b"{"[..], "broken JSON: EOF"),
        (b"[]", "broken JSON: an object is expected"),
        (b"{\"peft_type\": \"\xff\"}", "line 1"),
        (nan, "lora_alpha must be"),
    ] {
        refused(|case| fs::write(case.config(), text).unwrap(), &["adapter_config.json", part]);
    }
}

#[test]
fn tensors_that_are_not_understood() {
    for (name, part) in [
        ("base_model.model.proj.lora_magnitude_vector", "DoRA"),
        ("base_model.model.proj.lora_B.bias", "bias"),
        ("base_model.model.proj.lora_embedding_A", "embedding"),
        ("base_model.model.proj.lora_of_the_future", "linear"),
        ("base_model.model.proj.base_layer.weight", "2 dimension(s)"),
        ("base_model.model.proj.weight", "PEFT"),
        ("proj.lora_A.weight", "the same part"),
    ] {
        refused(
            |case| {
                let [a, b] = [A, B].map(|name| Tensor::f32(&read_matrix(&case.weights(), name)));
                put(&case.weights(), &[(A, a), (B, b), (name, Tensor::zeros("F32", 4, &[1]))]);
            },
            &["adapter_model.safetensors", name, part],
        );
    }
}

#[test]
fn values_that_f16_cannot_hold() {
    type Convert = fn(&Array2<f32>) -> Tensor;
    for (name, at, value, convert, parts) in [
        ("proj.weight", [2, 3], 1e6, Tensor::f32 as Convert, &["overflows f16", "1e6", "[2, 3]"][..]),
        ("x", [1, 0], -70000.0, Tensor::bf16, &["overflows f16", "[1, 0]"]),
    ] {
        refused_tensor(name, |case| convert(&with_value(case, name, at, value)), parts);
    }
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        for convert in [Tensor::f32 as Convert, Tensor::f16, Tensor::bf16] {
            for (name, at, place) in [(A, [4, 5], "[4, 5]"), (B, [6, 7], "[6, 7]")] {
                refused_tensor(name, |case| convert(&with_value(case, name, at, value)), &[shown, place]);
            }
        }
    }
}

#[test]
fn an_output_that_is_an_input() {
    type File = fn(&Case) -> PathBuf;
    let files: [(File, &str); 4] = [
        (|case| case.base.clone(), "--base"),
        (|case| case.input.clone(), "--input"),
        (Case::config, "--adapter"),
        (Case::weights, "--adapter"),
    ];
    for (file, option) in files {
        // Each leaves the file's bytes alone.
        let check = |spell: &dyn Fn(&mut Case, &Path)| {
            refused(
                |case| {
                    let path = file(case);
                    spell(case, &path);
                },
                &["same file", option],
            );
            let mut case = Case::new("r10");
            let path = file(&case);
            let bytes = fs::read(&path).unwrap();
            spell(&mut case, &path);
            assert!(!case.apply(&[]).status.success());
            assert_eq!(fs::read(&path).unwrap(), bytes);
        };
        check(&|case, path| case.output = path.to_owned());
        check(&|case, path| {
            let folder = path.parent().unwrap();
            let other = case.folder().join("a");
            fs::create_dir(&other).unwrap();
            // <temporary>/a/../… is the same folder, spelled differently.
            case.output = other
                .join("..")
                .join(folder.strip_prefix(case.folder()).unwrap())
                .join(path.file_name().unwrap());
        });
        check(&|case, path| case.output = path.strip_prefix(case.folder()).unwrap().to_owned());
        #[cfg(unix)]
        check(&|case, path| {
            case.output = case.folder().join("symlink");
            std::os::unix::fs::symlink(path, &case.output).unwrap();
        });
        check(&|case, path| {
            case.output = case.folder().join("hardlink");
            fs::hard_link(path, &case.output).unwrap();
        });
    }
}

#[test]
fn an_output_that_cannot_be_written() {
    refused(|case| case.output = case.folder().join("nowhere/y"), &["cannot write", "nowhere"]);
    refused(|case| case.output = case.folder().to_owned(), &["cannot write", "not a regular file"]);
    refused(|case| case.output = case.base.join("y"), &["cannot write", "base.safetensors"]);
    refused(|case| case.output = case.folder().join("x/.."), &["cannot write"]);

    let mut case = Case::new("r10");
    case.output = case.folder().join("read-only");
    fs::write(&case.output, OLD).unwrap();
    let mut permissions = fs::metadata(&case.output).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&case.output, permissions).unwrap();
    let output = case.apply(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("read-only: it is read-only"), "{}", stderr(&output));
    assert_eq!(fs::read(&case.output).unwrap(), OLD);
}

/// A socket stands for all that is neither file nor folder. (Not /dev/null: a command that fails this test as
/// root would replace the machine's.)
#[cfg(unix)]
#[test]
fn an_output_that_is_no_file_stays_what_it_is() {
    use std::os::unix::{fs::FileTypeExt, net::UnixListener};
    refused(
        |case| {
            case.output = case.folder().join("socket");
            UnixListener::bind(&case.output).unwrap();
        },
        &["socket", "not a regular file"],
    );
    let mut case = Case::new("r10");
    case.output = case.folder().join("socket");
    let _listener = UnixListener::bind(&case.output).unwrap();
    assert!(!case.apply(&[]).status.success());
    assert!(fs::metadata(&case.output).unwrap().file_type().is_socket());

    refused(
        |case| {
            case.output = case.folder().join("dangling");
            std::os::unix::fs::symlink("nothing", &case.output).unwrap();
        },
        &["dangling", "symbolic link to nothing"],
    );
}

/// A folder in which nobody, not even root, can make a file.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files() {
    refused(|case| case.output = "/proc/self/y".into(), &["cannot write /proc/self/y"]);
}

#[test]
fn names_from_files_cannot_write_to_the_terminal() {
    refused(
        |case| {
            let header =
                r#"{"\u001b[2J\n.proj.weight": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}"#;
            fs::write(&case.base, with_header(header, &[0; 2])).unwrap();
        },
        &[r#""\u{1b}[2J\n.proj.weight""#],
    );
    refused(|case| edit_config(&case.adapter, &[("\u{1b}[2J\n", Value::Bool(true))]), &[r#""\u{1b}[2J\n""#]);
}

#[test]
fn rows_of_several_adapters() {
    let case = Case::new("r10");
    let m = read_matrix(&case.input, "x").nrows();
    let folder = case.adapter.to_str().unwrap().to_owned();
    let with = |rows: &[&str], parts: &[&str]| {
        let mut options = vec!["--adapter", &folder];
        rows.iter().for_each(|rows| options.extend(["--rows", rows]));
        refused_with(&options, |_| (), parts);
    };
    with(&[], &["2 times --adapter", "0 times --rows"]);
    with(&["0..1"], &["2 times --adapter", "1 times --rows"]);
    with(&["0..1", "1..2", "2..3"], &["2 times --adapter", "3 times --rows"]);
    with(&["2..4", "0..3"], &["--rows 0..3 and 2..4 overlap"]);
    let end = format!("0..{}", m + 1);
    with(&["0..1", &end], &[&format!("--rows {end} are no rows of x, which has {m}")]);
    with(&["0..1", "2..2"], &["--rows 2..2 are no rows of x"]);
    for rows in ["3", "a..b", "..", "1..-2", "0..=3"] {
        let output = case.apply(&["--rows", rows]);
        assert_eq!(output.status.code(), Some(2), "{rows}");
        assert!(stderr(&output).contains("FIRST..END"), "{}", stderr(&output));
    }
}

#[test]
fn adapters_of_different_modules() {
    let other = Case::new("r10");
    let a = Array2::<f32>::zeros((10, K + 1));
    let b = Array2::<f32>::zeros((N, 10));
    fs::write(other.weights(), safetensors_bytes(&[(A, Tensor::f32(&a)), (B, Tensor::f32(&b))])).unwrap();
    let folder = other.adapter.to_str().unwrap();
    let parts = [&format!("[{N}, {K}]"), &format!("[{N}, {}]", K + 1), "\"proj.weight\""];
    refused_with(&["--rows", "0..1", "--adapter", folder, "--rows", "1..2"], |_| (), &parts);
}

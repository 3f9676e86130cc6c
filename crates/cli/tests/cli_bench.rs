//! `fused-lora bench`: what is measured once, table, files, and what is refused before any work.

mod support;

use std::{fs, process::Output};

use ndarray::Array2;
use serde_json::json;
use support::{
    Tensor,
    command::{Case, fused_lora, stderr},
    edit_config, safetensors_bytes,
};

fn bench(case: &Case, more: &[&str]) -> Output {
    let mut command = fused_lora();
    command.args(["bench", "adapter", "--base", "base.safetensors", "--simd", "portable"]).args(more);
    command.current_dir(case.folder()).output().unwrap()
}

/// Five modules: three of one shape and type, one with a bias, one that the base does not have.
fn model(case: &Case) {
    let matrix = |rows, columns| Array2::from_elem((rows, columns), 0.5);
    let (mut adapter, mut base) = (Vec::new(), Vec::new());
    let names = ["layers.0.q", "layers.1.q", "layers.0.v", "layers.0.down", "layers.0.gone"];
    for name in names {
        let (n, k) = if name.ends_with("down") { (24, 40) } else { (16, 24) };
        let key = |part: &str| format!("base_model.model.{name}.lora_{part}.weight");
        adapter.push((key("A"), Tensor::f32(&matrix(10, k))));
        adapter.push((key("B"), Tensor::f32(&matrix(n, 10))));
        if !name.ends_with("gone") {
            base.push((format!("{name}.weight"), Tensor::bf16(&matrix(n, k))));
        }
    }
    base.push(("layers.0.down.bias".to_owned(), Tensor { shape: vec![24], ..Tensor::bf16(&matrix(1, 24)) }));
    for (path, tensors) in [(case.weights(), adapter), (case.base.clone(), base)] {
        let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        fs::write(path, safetensors_bytes(&named)).unwrap();
    }
    edit_config(&case.adapter, &[("target_modules", json!(["q", "v", "down", "gone"]))]);
}

#[test]
fn equal_modules_are_measured_once_and_count_as_often_as_they_are() {
    let case = Case::new("r10");
    model(&case);
    let output = bench(&case, &["--tokens", "3,1,3", "--seconds", "4", "--out", "new/results"]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "progress is for terminals");
    assert!(text.starts_with("adapter on base.safetensors: 4 modules, 2 shapes\n"), "{text}");
    assert!(text.contains("\n1 token\n") && text.contains("\n3 tokens\n"), "{text}");
    assert!(text.contains("\nnot measured:\n  layers.0.gone: "), "{text}");
    let words = |start: &[&str]| -> Vec<Vec<&str>> {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter(|words| words.starts_with(start)).collect()
    };
    let of_q = words(&["16", "24", "10", "bf16", "f32", "no"]);
    assert!(of_q.len() == 2 && of_q.iter().all(|words| words.ends_with(&["3:", "q,", "v"])), "{text}");
    assert_eq!(words(&["24", "40", "10", "bf16", "f32", "yes"]).len(), 2, "{text}");

    let folder = case.folder().join("new/results");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["bench.csv", "bench.png", "bench.svg"]);
    let svg = fs::read_to_string(folder.join("bench.svg")).unwrap();
    assert!(
        svg.contains("N 16, K 24, rank 10") && svg.contains("all modules") && svg.contains("3 tokens"),
        "{svg}"
    );
    let csv = fs::read_to_string(folder.join("bench.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.replace("\"q, v\"", "q+v"));
    let head = lines.next().unwrap();
    let place = |name: &str| head.split(',').position(|column| column == name).unwrap();
    let rows: Vec<Vec<String>> = lines.map(|line| line.split(',').map(str::to_owned).collect()).collect();
    assert_eq!(rows.len(), 2 * 3 * 3, "tokens, shapes and their sum, strategies: {csv}");
    let number = |row: &[String], name: &str| row[place(name)].parse::<f64>().unwrap();
    for part in rows.chunks(9) {
        let [q, down, all] = [0, 3, 6].map(|first| &part[first..first + 3]);
        assert_eq!(
            (&*q[0][place("modules")], &*down[0][place("modules")], &*all[0][place("n")]),
            ("3", "1", "")
        );
        for i in 0..3 {
            // Rounded to nanoseconds.
            let sum = 3.0 * number(&q[i], "time_ns") + number(&down[i], "time_ns");
            assert!((number(&all[i], "time_ns") - sum).abs() <= 2.5, "{csv}");
            assert!(number(&q[i], "samples") >= 1.0 && number(&q[i], "limit_ns") > 0.0, "{csv}");
        }
        assert_eq!(q[0][place("slowdown_pct")], "");
        assert!((number(&q[2], "floor_pct") - 100.0 * (10.0 / 16.0 + 10.0 / 24.0)).abs() < 1e-3, "{csv}");
        let floor = 100.0 * (3.0 * 400.0 + 640.0) / (3.0 * 384.0 + 960.0);
        assert!((number(&all[2], "floor_pct") - floor).abs() < 1e-3, "{csv}");
    }
}

/// A and B are f32 in the file, and stay it; of W's type, they would have its name.
#[test]
fn a_type_can_be_asked_for() {
    let case = Case::new("r10");
    model(&case);
    for dtype in ["f16", "f32"] {
        let output = bench(&case, &["--tokens", "1", "--seconds", "1", "--dtype", dtype]);
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("q, v")).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], [dtype, "f32"]);
    }
}

#[test]
fn what_cannot_be_measured_is_refused_before_the_work() {
    let case = Case::new("r10");
    fs::write(case.folder().join("file"), "").unwrap();
    for (more, code, part) in [
        (&["--tokens", "0"][..], 2, "tokens are numbers from 1"),
        (&["--tokens", "1,x"], 2, "tokens are numbers from 1"),
        (&["--dtype", "f64"], 2, "f64"),
        (&["--out", "file"], 1, "file is no folder"),
        (&["--out", "file/deeper"], 1, "file is no folder"),
    ] {
        let output = bench(&case, more);
        let text = stderr(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{more:?}: {text}");
        assert!(text.contains(part), "{more:?}: {text}");
    }
    model(&case);
    fs::write(&case.base, safetensors_bytes(&[("other.weight", Tensor::zeros("F32", 4, &[3, 5]))])).unwrap();
    let output = bench(&case, &[]);
    let text = stderr(&output);
    assert!(
        text.starts_with("error: adapter: no module can be measured: ") && text.lines().count() == 1,
        "{text}"
    );
}

//! `fused-lora inspect`: its table and its JSON, and modules that cannot be applied.

mod support;

use std::{fs, path::Path, process::Output};

use ndarray::Array2;
use serde_json::{Value, json};
use support::{
    Tensor,
    command::{Case, fused_lora, stderr},
    edit_config, safetensors_bytes,
};

fn inspect(case: &Case, more: &[&str]) -> Output {
    fused_lora().arg("inspect").arg("adapter").args(more).current_dir(case.folder()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_table_and_the_json_of_peft_s_cases() {
    for (case, text, rank, scale) in [("r10", R10, 10, 1.6), ("r100-rslora", R100, 100, 3.2)] {
        let case = Case::new(case);
        let base = ["--base", "base.safetensors"];
        assert_eq!(stdout(&inspect(&case, &base)), text);
        let object: Value =
            serde_json::from_str(&stdout(&inspect(&case, &[&base[..], &["--json"]].concat()))).unwrap();
        let module = &object["modules"][0];
        let [n, k] = ["n", "k"].map(|name| module["lora"][name].as_u64().unwrap());
        let parameters = rank * (n + k);
        assert_eq!(
            object,
            json!({
                "adapter": "adapter", "base": "base.safetensors", "warnings": [],
                "modules": [{
                    "name": "proj", "refused": null,
                    "lora": {
                        "tensors": ["base_model.model.proj.lora_A.weight", "base_model.model.proj.lora_B.weight"],
                        "n": n, "k": k, "rank": rank, "scale": scale, "dtypes": ["f32", "f32"], "excluded": null,
                    },
                    "weight": {
                        "file": "base.safetensors", "tensor": "proj.weight", "from_adapter": false,
                        "dtype": "f16", "layout": "out-in", "tied_to": null,
                    },
                    "bias": null,
                }],
                "totals": {
                    "modules": 1, "applied": 1, "refused": 0, "parameters": parameters, "bytes": 4 * parameters,
                    "multiply_adds_per_token": parameters, "base_multiply_adds_per_token": n * k,
                    "floor_pct": 100.0 * parameters as f64 / (n * k) as f64,
                },
            })
        );
    }
}

const R10: &str = "\
rank  scale   N   K  A, B  module  W           where             bias
  10    1.6  80  96  f32   proj    f16 out-in  base.safetensors  no

modules: 1, of which 1 are applied, 0 left out by the configuration, 0 refused
parameters: 1760 (7040 bytes)
floor: 1760 multiply-adds a token, 22.92 % of the 7680 of the base products
";
const R100: &str = "\
rank  scale    N    K  A, B  module  W           where             bias
 100    3.2  320  256  f32   proj    f16 out-in  base.safetensors  no

modules: 1, of which 1 are applied, 0 left out by the configuration, 0 refused
parameters: 57600 (230400 bytes)
floor: 57600 multiply-adds a token, 70.31 % of the 81920 of the base products
";

/// The case with modules of all kinds: of another type with a bias and W the other way round, without a
/// weight in the base, of a wrong rank, and an embedding.
fn with_others(case: &Case) {
    let lora = |module: &str, part: &str| format!("base_model.model.{module}.lora_{part}.weight");
    let matrix = |rows, columns| Array2::from_elem((rows, columns), 0.5);
    let mut adapter = Vec::new();
    for (module, rank, n) in
        [("net.c_fc", 10, 24), ("net.gone", 10, 24), ("net.rank", 3, 24), ("proj", 10, 80)]
    {
        let k = if module == "proj" { 96 } else { 12 };
        adapter.push((lora(module, "A"), Tensor::f16(&matrix(rank, k))));
        adapter.push((lora(module, "B"), Tensor::f32(&matrix(n, rank))));
    }
    adapter.push(("base_model.model.net.wte.lora_embedding_A".to_owned(), Tensor::f32(&matrix(10, 12))));
    let base = [
        ("net.c_fc.weight", Tensor::bf16(&matrix(12, 24))),
        ("net.c_fc.bias", Tensor { shape: vec![24], ..Tensor::bf16(&matrix(1, 24)) }),
        ("net.rank.weight", Tensor::bf16(&matrix(24, 12))),
        ("proj.weight", Tensor::f32(&matrix(80, 96))),
    ];
    let named: Vec<_> = adapter.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    fs::write(case.weights(), safetensors_bytes(&named)).unwrap();
    fs::write(&case.base, safetensors_bytes(&base)).unwrap();
    edit_config(&case.adapter, &[("target_modules", json!(["c_fc", "gone", "rank", "wte", "proj"]))]);
}

/// What cannot be applied is listed with its reason, and neither stops the list nor counts.
#[test]
fn one_bad_module_does_not_stop_the_list() {
    let case = Case::new("r10");
    with_others(&case);
    let text = stdout(&inspect(&case, &["--base", "base.safetensors"]));
    let lines: Vec<&str> = text.lines().collect();
    let line = |part: &str| {
        *lines.iter().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {text}"))
    };
    let words = |part: &str| line(part).split_whitespace().collect::<Vec<_>>();
    let of_fc = ["10", "1.6", "24", "12", "f16,", "f32", "net.c_fc", "bf16", "in-out"];
    assert_eq!(words(" net.c_fc "), [&of_fc[..], &["base.safetensors"; 2]].concat());
    assert!(line("refused: net.gone: ").contains("net.gone"), "{text}");
    assert!(line("refused: net.rank: ").contains("lora_A"), "{text}");
    assert!(line("refused: net.wte: ").contains("embedding"), "{text}");
    assert_eq!(words(" proj ")[..3], ["10", "1.6", "80"]);
    assert!(
        text.contains("modules: 5, of which 2 are applied, 0 left out by the configuration, 3 refused"),
        "{text}"
    );
    // 10 · (24 + 12) + 10 · (80 + 96) parameters; A is f16, B f32.
    assert!(
        text.contains(&format!("parameters: 2120 ({} bytes)", 10 * (2 * (12 + 96) + 4 * (24 + 80)))),
        "{text}"
    );
    assert!(
        text.contains("floor: 2120 multiply-adds a token, 26.61 % of the 7968 of the base products"),
        "{text}"
    );

    let object: Value =
        serde_json::from_str(&stdout(&inspect(&case, &["--base", "base.safetensors", "--json"]))).unwrap();
    let modules = object["modules"].as_array().unwrap();
    let refused = |name: &str| {
        let module = modules.iter().find(|module| module["name"] == name).unwrap();
        module["refused"].as_str().map(str::to_owned)
    };
    assert_eq!((refused("net.c_fc"), refused("proj")), (None, None));
    for name in ["net.gone", "net.rank", "net.wte"] {
        let reason = refused(name).unwrap();
        assert_eq!(
            line(&format!("refused: {name}: ")),
            format!("refused: {name}: {reason}"),
            "as the table says"
        );
        assert!(!reason.contains('\n'), "{reason:?}");
    }

    // Without a base what the adapter alone says is left.
    let text = stdout(&inspect(&case, &[]));
    assert!(text.contains("of which 3 are applied") && text.contains("refused: net.rank: "), "{text}");
}

#[test]
fn a_square_weight_lies_as_the_user_says() {
    let case = Case::new("r10");
    let square = Array2::from_elem((12, 12), 0.5);
    let lora = |part: &str| format!("base_model.model.h.0.attn.c_proj.lora_{part}.weight");
    let [a, b] = [(10, 12), (12, 10)].map(|shape| Tensor::f32(&Array2::from_elem(shape, 0.5)));
    let (name_a, name_b) = (lora("A"), lora("B"));
    fs::write(case.weights(), safetensors_bytes(&[(&name_a, a), (&name_b, b)])).unwrap();
    fs::write(&case.base, safetensors_bytes(&[("h.0.attn.c_proj.weight", Tensor::bf16(&square))])).unwrap();
    edit_config(&case.adapter, &[("target_modules", json!(["c_proj"]))]);
    let base = ["--base", "base.safetensors"];
    let text = stdout(&inspect(&case, &base));
    assert!(text.contains("refused: h.0.attn.c_proj: ") && text.contains("--layout in-out"), "{text}");
    for layout in ["out-in", "in-out"] {
        let text = stdout(&inspect(&case, &[&base[..], &["--layout", layout]].concat()));
        assert!(text.contains(&format!(" bf16 {layout} ")) && text.contains(" 1 are applied"), "{text}");
    }
}

#[test]
fn an_adapter_or_a_base_that_cannot_be_opened_is_an_error() {
    let case = Case::new("r10");
    fs::write(case.folder().join("page.html"), "<!DOCTYPE html>").unwrap();
    for (adapter, more, part) in [
        ("nowhere", &[][..], "nowhere"),
        ("adapter", &["--base", "nowhere"], "nowhere"),
        ("adapter", &["--base", "page.html"], "page.html"),
    ] {
        let mut command = fused_lora();
        let output =
            command.arg("inspect").arg(adapter).args(more).current_dir(case.folder()).output().unwrap();
        let text = stderr(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{text}");
        assert!(text.starts_with("error: ") && text.contains(part) && text.lines().count() == 1, "{text}");
    }
    assert!(Path::new(&case.adapter).is_dir());
}

//! `fused-lora apply` on adapters and bases as people have them: the cases of `tests/fixtures/wild` of the
//! library, with PEFT's own forward as the truth, and variants of them.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use ndarray::Array2;
use serde_json::{Value, json};
use support::{
    Tensor,
    command::{fused_lora, stderr},
    edit_config, read_matrix, relative_error, safetensors_bytes, with_header,
};
use tempfile::TempDir;

const TOLERANCE: f64 = 1e-6;

/// A writable copy of a case.
struct Wild {
    folder: TempDir,
    module: String,
    base: PathBuf,
    adapter: PathBuf,
}

impl Wild {
    fn new(case: &str) -> Wild {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fused-lora");
        let folder = tempfile::tempdir().unwrap();
        copy(&library.join("tests/fixtures/wild").join(case), folder.path());
        let case: Value =
            serde_json::from_slice(&fs::read(folder.path().join("case.json")).unwrap()).unwrap();
        let path = |key: &str| folder.path().join(case[key].as_str().unwrap());
        let module = case["module"].as_str().unwrap().to_owned();
        Wild { base: path("base"), adapter: path("adapter"), module, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn apply(&self, more: &[&str]) -> Output {
        let mut command = fused_lora();
        command.args(["apply", "--device", "cpu", "--dtype", "f32", "--output-dtype", "f32"]);
        command.args(["--module", &self.module]);
        command.arg("--base").arg(&self.base).arg("--adapter").arg(&self.adapter);
        command.arg("--input").arg(self.path("x.safetensors")).arg("--output").arg(self.path("y"));
        command.args(more).current_dir(self.folder.path()).output().unwrap()
    }

    /// Runs it, compares y with PEFT's, and looks for `note` on stderr, which is empty otherwise.
    #[track_caller]
    fn is_right(&self, more: &[&str], note: &str) {
        let output = self.apply(more);
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(note) && said.is_empty() == note.is_empty(), "{note:?} is not in: {said}");
        let expected = read_matrix(&self.path("expected.safetensors"), "y");
        let error = relative_error(&read_matrix(&self.path("y"), "y"), &expected);
        assert!(error <= TOLERANCE, "{error:e}");
    }

    /// Runs it, and expects one line with these parts, and no output.
    #[track_caller]
    fn is_refused(&self, more: &[&str], parts: &[&str]) {
        let _ = fs::remove_file(self.path("y"));
        let output = self.apply(more);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        assert!(!self.path("y").exists());
    }

    /// Renames the tensors of a safetensors file; those that get no name are left out.
    fn rename(&self, file: &Path, name: impl Fn(&str) -> Option<String>) {
        let (header, data) = self.header(file);
        let tensors = header.as_object().unwrap().iter().filter(|(key, _)| *key != "__metadata__");
        let mut renamed = Vec::new();
        for (key, tensor) in tensors {
            let Some(key) = name(key) else { continue };
            let [from, to] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap() as usize);
            let dtype: &'static str = tensor["dtype"].as_str().unwrap().to_owned().leak();
            let shape = serde_json::from_value(tensor["shape"].clone()).unwrap();
            renamed.push((key, Tensor { dtype, shape, bytes: data[from..to].to_vec() }));
        }
        let tensors: Vec<_> = renamed.iter().map(|(key, tensor)| (key.as_str(), tensor.clone())).collect();
        fs::write(file, safetensors_bytes(&tensors)).unwrap();
    }

    fn header(&self, file: &Path) -> (Value, Vec<u8>) {
        let bytes = fs::read(file).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        (serde_json::from_slice(&bytes[8..8 + len]).unwrap(), bytes[8 + len..].to_vec())
    }

    fn weights(&self) -> PathBuf {
        self.adapter.join("adapter_model.safetensors")
    }

    fn index(&self) -> PathBuf {
        self.path("model/model.safetensors.index.json")
    }

    /// The shard that the index gives for a tensor.
    fn shard(&self, tensor: &str) -> PathBuf {
        let index: Value = serde_json::from_slice(&fs::read(self.index()).unwrap()).unwrap();
        self.path("model").join(index["weight_map"][tensor].as_str().unwrap())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &to) } else { fs::write(to, fs::read(path).unwrap()).unwrap() }
    }
}

#[test]
fn the_cases_are_right_or_refused_as_they_must_be() {
    for (case, note) in [
        ("config_narrower_than_file", "the base product alone, since target_modules does not name it"),
        ("gpt2_fan_false_square", ""),
        ("gpt2_hub_names", ""),
        ("lm_head_target_q", ""),
        ("old_config_merge_weights", "merge_weights = true is ignored"),
        ("orig_mod_outside", "which PEFT would not load"),
        ("seq_cls_modules_to_save", ""),
        ("sharded_base_directory", ""),
        ("sharded_bias_in_other_shard", ""),
        ("tied_lm_head", "its weight is tied to model.embed_tokens"),
    ] {
        eprintln!("{case}");
        Wild::new(case).is_right(&[], note);
    }
    for (case, parts) in [
        ("bin_base", &["pytorch_model.bin", "pickle", "safe_serialization"][..]),
        ("mlx_adapter", &["adapter_config.json", "MLX"]),
        (
            "zero3_empty_tensors",
            &["adapter_model.safetensors", "lora_A.weight", "holds no weights", "ZeRO-3"],
        ),
    ] {
        Wild::new(case).is_refused(&[], parts);
    }
}

#[test]
fn a_base_is_a_folder_an_index_a_shard_or_a_file() {
    let mut case = Wild::new("sharded_base_directory");
    for base in ["model", "model/model.safetensors.index.json", "model/model-00009-of-00014.safetensors"] {
        case.base = case.path(base);
        case.is_right(&[], "");
    }
    case.base = case.path("model/config.json");
    case.is_refused(&[], &["config.json", "no index of shards"]);
    // Without an index, the headers of all shards say the same.
    fs::remove_file(case.index()).unwrap();
    for base in ["model", "model/model-00001-of-00014.safetensors"] {
        case.base = case.path(base);
        case.is_right(&[], "");
    }
    // A bias in a shard that is not there cannot be ruled out.
    let weight = "model-00002-of-00014.safetensors";
    fs::remove_file(case.path("model/model-00003-of-00014.safetensors")).unwrap();
    case.base = case.path("model").join(weight);
    case.is_refused(&[], &["k_proj.bias", "is not known", "model-00003-of-00014.safetensors"]);
    case.base = case.path("model");
    case.is_refused(&[], &["several files"]);
}

#[test]
fn an_index_that_lies() {
    let k_proj = "model.layers.0.self_attn.k_proj";
    let [weight, bias] = ["weight", "bias"].map(|part| format!("{k_proj}.{part}"));
    let edit = |change: &dyn Fn(&mut Value)| {
        let case = Wild::new("sharded_bias_in_other_shard");
        let mut index: Value = serde_json::from_slice(&fs::read(case.index()).unwrap()).unwrap();
        change(&mut index);
        fs::write(case.index(), index.to_string()).unwrap();
        case
    };
    let file = "model.safetensors.index.json";
    let case = edit(&|index| index["weight_map"][&bias] = json!("model-00001-of-00014.safetensors"));
    case.is_refused(&[], &[file, &bias, "model-00001-of-00014.safetensors", "does not"]);
    let case = edit(&|index| index["weight_map"][&bias] = json!("../model-00001-of-00014.safetensors"));
    case.is_refused(&[], &[file, "outside of its folder"]);
    let case = edit(&|index| index["weight_map"] = json!(3));
    case.is_refused(&[], &[file, "no index of shards"]);
    let case = edit(&|index| index["weight_map"][&weight] = json!("model-00002-of-00014.bin"));
    case.is_refused(&[], &[file, "pickles"]);
    // A shard that is missing matters only if it has what is needed.
    let case = edit(&|_| ());
    fs::remove_file(case.shard("lm_head.weight")).unwrap();
    case.is_right(&[], "");
    fs::remove_file(case.shard(&bias)).unwrap();
    case.is_refused(&[], &["cannot read", "model-00003-of-00014.safetensors"]);
    // A bias beside the weight that the index does not list.
    let mut case = edit(&|index| {
        index["weight_map"].as_object_mut().unwrap().remove("model.layers.0.self_attn.q_proj.bias");
    });
    case.module = "model.layers.0.self_attn.q_proj".into();
    case.is_refused(&[], &["q_proj.bias", "the index does not list it"]);
}

#[test]
fn names_that_differ_by_known_prefixes() {
    let put = |prefix: &'static str| move |key: &str| Some(format!("{prefix}{key}"));
    for prefix in ["_orig_mod.", "language_model.", "base_model.model.", "transformer."] {
        let case = Wild::new("lm_head_target_q");
        case.rename(&case.base, put(prefix));
        case.is_right(&[], "");
    }
    for change in [
        (|key| key.strip_prefix("base_model.model.").map(str::to_owned)) as fn(&str) -> Option<String>,
        |key| Some(format!("base_model.model.{key}")),
        |key| Some(key.replace(".weight", ".default.weight")),
        |key| Some(key.replace(".self_attn", "._orig_mod.self_attn")),
        |key| Some(key.replace("model.model.model.", "model.model.model.language_model.")),
    ] {
        let case = Wild::new("old_config_merge_weights");
        case.rename(&case.weights(), change);
        case.is_right(&[], "merge_weights");
    }
    // The module may be spelled as the base has it.
    let mut case = Wild::new("gpt2_hub_names");
    case.module = "h.0.attn.c_attn".into();
    case.is_right(&[], "");

    // Anything else is another module.
    let other = |case: &Wild, from: &'static str, to: &'static str| {
        case.rename(&case.base, move |key| Some(key.replace(from, to)));
    };
    let case = Wild::new("lm_head_target_q");
    other(&case, "model.layers", "encoder.layers");
    let encoder = "encoder.layers.0.self_attn.q_proj";
    case.is_refused(&[], &["base.safetensors", "--base-module", &format!("{encoder}.weight")]);
    case.is_right(&["--base-module", encoder], "");
    case.is_right(&["--base-module", &format!("{encoder}.weight")], "");
    case.is_refused(&["--base-module", "encoder.layers.7.self_attn.q_proj"], &["encoder.layers.7", encoder]);
    // Two that fit.
    let case = Wild::new("lm_head_target_q");
    other(&case, "model.layers.0", "transformer.layers.0");
    other(&case, "model.layers.1", "language_model.layers.0");
    case.is_refused(
        &[],
        &["transformer.layers.0.self_attn.q_proj", "language_model.layers.0.self_attn.q_proj"],
    );
}

#[test]
fn a_square_weight_whose_layout_is_not_known() {
    let case = Wild::new("gpt2_fan_false_square");
    let only = "transformer.h.0.attn.c_proj";
    case.rename(&case.base, |key| key.starts_with(only).then(|| key.to_owned()));
    case.is_refused(&[], &["c_proj.weight", "fan_in_fan_out = false", "--layout in-out"]);
    case.is_right(&["--layout", "in-out"], "");
    edit_config(&case.adapter, &[("fan_in_fan_out", json!(true))]);
    case.is_right(&[], "");
    edit_config(&case.adapter, &[("fan_in_fan_out", json!(false))]);
    fs::write(case.path("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
    case.is_right(&[], "");
    // Evidence that contradicts itself.
    let case = Wild::new("gpt2_fan_false_square");
    fs::write(case.path("config.json"), r#"{"model_type": "gpt_bigcode"}"#).unwrap();
    case.is_refused(&[], &["c_proj.weight", "gpt_bigcode", "says out-in, but tensor"]);
}

/// What changes other modules does not matter; what changes this one is an error that names it.
#[test]
fn the_module_is_judged_and_not_the_adapter() {
    for (entry, refused) in [
        (("trainable_token_indices", json!({"embed_tokens": [1]})), false),
        (("ensure_weight_tying", json!(true)), false),
        (("target_parameters", json!(["mlp.experts.up"])), false),
        (("lora_ga_config", json!({"direction": "ArB2r"})), false),
        (("use_dora", json!(true)), true),
        (("of_the_future", json!(1)), true),
        (("init_lora_weights", json!("pissa")), true),
        (("target_parameters", json!(["layers.0.self_attn.q_proj.weight"])), true),
    ] {
        let case = Wild::new("lm_head_target_q");
        edit_config(&case.adapter, &[(entry.0, entry.1)]);
        match refused {
            true => case.is_refused(&[], &["adapter_config.json", entry.0]),
            false => case.is_right(&[], ""),
        }
    }
    let mut case = Wild::new("seq_cls_modules_to_save");
    case.module = "score".into();
    case.is_refused(&[], &["adapter_model.safetensors", "score.weight", "as a whole"]);
    // An adapter that is given by a file of it.
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        let mut case = Wild::new("lm_head_target_q");
        case.adapter = case.adapter.join(file);
        case.is_right(&[], "");
    }
}

#[test]
fn files_of_other_formats() {
    for (bytes, part) in [
        (&b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0"[..], "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html></html>", "HTML"),
        (b"\x80\x02}q\0.", "pickle"),
        (b"{\"a\": 1}", "JSON"),
    ] {
        for file in [|case: &Wild| case.base.clone(), Wild::weights as fn(&Wild) -> PathBuf] {
            let case = Wild::new("lm_head_target_q");
            fs::write(file(&case), bytes).unwrap();
            case.is_refused(&[], &[file(&case).to_str().unwrap(), part]);
        }
        let case = Wild::new("lm_head_target_q");
        fs::write(case.adapter.join("adapter_config.json"), bytes).unwrap();
        case.is_refused(&[], &["adapter_config.json"]);
    }
    let mut case = Wild::new("bin_base");
    fs::create_dir(case.path("model")).unwrap();
    fs::rename(&case.base, case.path("model/pytorch_model.bin")).unwrap();
    case.base = case.path("model");
    case.is_refused(&[], &["pytorch_model.bin", "pickle"]);
    // A weight that bitsandbytes quantised.
    let case = Wild::new("lm_head_target_q");
    let name = "model.layers.0.self_attn.q_proj.weight";
    let tensors = [
        (name, Tensor::zeros("U8", 1, &[512, 1])),
        ("model.layers.0.self_attn.q_proj.weight.absmax", Tensor::zeros("F32", 4, &[8])),
    ];
    fs::write(&case.base, safetensors_bytes(&tensors)).unwrap();
    case.is_refused(&[], &["base.safetensors", name, "quantised", "absmax"]);
    let case = Wild::new("lm_head_target_q");
    case.rename(&case.base, |key| Some(key.replace("proj.weight", "proj.qweight")));
    case.is_refused(&[], &["base.safetensors", name, "quantised", "GPTQ"]);
}

/// A model of 100 GB, of which one layer is needed. The file is sparse: it has no data but that layer's.
#[cfg(target_os = "linux")]
#[test]
fn of_a_large_base_one_layer_is_read() {
    use std::os::unix::fs::FileExt;

    let case = Wild::new("sharded_base_directory");
    let large: u64 = 100 << 30;
    let name = "model.layers.0.self_attn.k_proj.weight";
    let shard = case.shard(name);
    let weight = read_matrix(&shard, name);
    let bias = "model.layers.0.self_attn.k_proj.bias";
    // The shard that holds the weight has a tensor of 100 GB before it.
    let (first, last) = (large, large + 4 * weight.len() as u64);
    let header = format!(
        r#"{{"{name}": {{"dtype": "F32", "shape": [32, 32], "data_offsets": [{first}, {last}]}},
            "large": {{"dtype": "F32", "shape": [{}], "data_offsets": [0, {large}]}}}}"#,
        large / 4
    );
    fs::write(&shard, with_header(&header, &[])).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&shard).unwrap();
    let data = 8 + header.len() as u64;
    file.set_len(data + last).unwrap();
    file.write_all_at(&Tensor::f32(&weight).bytes, data + first).unwrap();
    assert_ne!(case.shard(bias), shard);
    // The index lists what the test left out of the shard, which must not matter; 1 GiB of addresses is
    // enough for the program and a layer, and not for a hundredth of the model.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\""]).env("RAYON_NUM_THREADS", "1");
    command.arg(fused_lora().get_program());
    command.args(["apply", "--device", "cpu", "--dtype", "f32", "--output-dtype", "f32"]);
    command.args(["--module", &case.module]);
    command.arg("--base").arg(&case.base).arg("--adapter").arg(&case.adapter);
    command.arg("--input").arg(case.path("x.safetensors")).arg("--output").arg(case.path("y"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let expected: Array2<f32> = read_matrix(&case.path("expected.safetensors"), "y");
    assert!(relative_error(&read_matrix(&case.path("y"), "y"), &expected) <= TOLERANCE);
}

/// x as a hook gives it, y in its shape and type, and finite where f16 would not be.
#[test]
fn inputs_as_hooks_give_them() {
    for case in ["x_batch_seq_hidden_bf16", "x_one_token_1d", "y_overflows_f16"] {
        let case = Wild::new(case);
        let mut command = fused_lora();
        command.args(["apply", "--device", "cpu", "--module", &case.module]);
        command.arg("--base").arg(&case.base).arg("--adapter").arg(&case.adapter);
        command.arg("--input").arg(case.path("x.safetensors")).arg("--output").arg(case.path("y"));
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
        let [y, expected] = ["y", "expected.safetensors"].map(|file| {
            let (mut header, data) = case.header(&case.path(file));
            let tensor = header["y"].take();
            let of_dtype: fn(&[u8]) -> f32 = match tensor["dtype"].as_str().unwrap() {
                "BF16" => |bytes| f32::from_bits(u32::from_le_bytes([0, 0, bytes[0], bytes[1]])),
                _ => |bytes| f32::from_le_bytes(bytes.try_into().unwrap()),
            };
            let size = if tensor["dtype"] == "BF16" { 2 } else { 4 };
            let values: Vec<f32> = data.chunks_exact(size).map(of_dtype).collect();
            (
                tensor["shape"].clone(),
                tensor["dtype"].clone(),
                Array2::from_shape_vec((1, values.len()), values),
            )
        });
        assert_eq!((y.0, y.1.as_str()), (expected.0, Some("BF16")));
        let error = relative_error(&y.2.unwrap(), &expected.2.unwrap());
        assert!(error <= 4e-3, "{error:e}");
    }
}

/// A configuration that is warned of, with an input that does not fit.
#[test]
fn an_error_is_one_line_also_after_a_warning() {
    let case = Wild::new("old_config_merge_weights");
    let x = Tensor::zeros("F32", 4, &[1, 1]);
    fs::write(case.path("x.safetensors"), safetensors_bytes(&[("x", x)])).unwrap();
    case.is_refused(&[], &["has 1 columns"]);
}

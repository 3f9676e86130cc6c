"""Compares `fused-lora apply` with PEFT's own forward, module by module, on tiny models with random weights.

    python3 peft_models.py path/to/fused-lora [WORDS]

Each case is a model of transformers, saved as a file or in shards, and an adapter that PEFT saved. Every module
of the adapter is applied in f32 and compared with the same module of the model that PEFT loaded from these files.
With WORDS, only cases whose names contain one of them run. Exit status 77: PEFT is not installed.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

try:
    import peft
    import torch
    import transformers
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
os.environ["HF_HUB_OFFLINE"] = "1"

TOLERANCE = 2e-6
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
T = transformers


def llama(**more):
    return T.LlamaForCausalLM(T.LlamaConfig(**{**SMALL, "num_key_value_heads": 2, **more}))


def gpt2(model=T.GPT2LMHeadModel, **more):
    return model(T.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, pad_token_id=0, **more))


MODELS = {
    "gpt2": gpt2,
    "gpt2-score": lambda: gpt2(T.GPT2ForSequenceClassification, num_labels=3),
    "llama": llama,
    "llama-square": lambda: llama(num_key_value_heads=4, intermediate_size=32),
    "llama-tied": lambda: llama(tie_word_embeddings=True),
    "llama-bias": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama-score": lambda: T.LlamaForSequenceClassification(T.LlamaConfig(**SMALL, num_labels=3, pad_token_id=0)),
    "qwen2": lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**SMALL, num_key_value_heads=4)),
    "opt": lambda: T.OPTForCausalLM(T.OPTConfig(hidden_size=32, ffn_dim=48, num_hidden_layers=2,
                                                num_attention_heads=4, vocab_size=64, word_embed_proj_dim=32)),
    "bert": lambda: T.BertForSequenceClassification(T.BertConfig(**SMALL)),
    "t5": lambda: T.T5ForConditionalGeneration(T.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                                                          vocab_size=64)),
    "bigcode": lambda: T.GPTBigCodeForCausalLM(T.GPTBigCodeConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=64)),
    "bloom": lambda: T.BloomForCausalLM(T.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64)),
    "openai": lambda: T.OpenAIGPTLMHeadModel(T.OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=64)),
    "bart": lambda: T.BartForConditionalGeneration(T.BartConfig(d_model=32, encoder_layers=2, decoder_layers=2,
                                                                encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=64,
                                                                encoder_attention_heads=4, decoder_attention_heads=4)),
    "neox": lambda: T.GPTNeoXForCausalLM(T.GPTNeoXConfig(**SMALL)),
    "llava": lambda: T.LlavaForConditionalGeneration(T.LlavaConfig(
        text_config=T.LlamaConfig(**SMALL), image_token_index=3,
        vision_config=T.CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, image_size=8,
                                         num_attention_heads=4, patch_size=4, projection_dim=32))),
    "mixtral": lambda: T.MixtralForCausalLM(T.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=2)),
}

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONV = ["c_attn", "c_proj", "c_fc"]
CASES = []


def case(name, model, edit=None, refused=(), save={}, adapters=None, rename=None, base=None, unadapted=0, dtype=None,
         **config):
    """A case: a model, the keys of its LoraConfig, and what is done to the files.

    `dtype` is that of the files. `edit` changes the saved configuration, `rename` a key of the adapter, `base` a key of the base, both after
    saving. `refused`: modules that must be refused, by the ends of their names. `adapters` makes one adapter of
    several. `unadapted`: how many modules must be said to be the base product alone.
    """
    CASES.append(dict(name=name, model=model, edit=edit, refused=tuple(refused), save=save, adapters=adapters,
                      rename=rename, base=base, unadapted=unadapted, dtype=dtype,
                      config=dict(r=4, lora_alpha=10, **config) if "r" not in config else config))


for name, targets in [("gpt2", CONV), ("llama", ALL), ("llama-bias", ALL), ("llama-square", ALL), ("qwen2", ALL),
                      ("opt", ["q_proj", "v_proj", "out_proj", "fc1", "fc2"]), ("t5", ["q", "v", "o", "wi", "wo"]),
                      ("bert", ["query", "value", "dense"]), ("bigcode", CONV), ("mixtral", ALL[:4]),
                      ("openai", CONV), ("bart", ["q_proj", "out_proj", "fc1", "fc2"]),
                      ("neox", ["query_key_value", "dense", "embed_out"]),
                      ("bloom", ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"])]:
    case(f"{name} plain", name, target_modules=targets)
case("gpt2 both kinds", "gpt2", target_modules=["attn.c_proj", "lm_head"])
case("gpt2 both kinds, other order", "gpt2", target_modules=["lm_head", "c_attn", "mlp.c_proj", "attn.c_proj"])
for says in [True, False]:
    hint = {"fan_in_fan_out": says}
    case(f"gpt2 fan_in_fan_out {says}", "gpt2", target_modules=["attn.c_proj"], edit=hint)
    case(f"llama fan_in_fan_out {says}", "llama", target_modules=["q_proj", "o_proj"], edit=hint)
    case(f"llama without config.json, fan_in_fan_out {says}", "llama", target_modules=["q_proj"], edit=hint,
         base="no config")
    case(f"gpt2 without config.json, fan_in_fan_out {says}", "gpt2", target_modules=["attn.c_proj"], edit=hint,
         base="no config")
    case(f"bigcode fan_in_fan_out {says}", "bigcode", target_modules=["attn.c_proj"], edit=hint)
case("gpt2 score", "gpt2-score", target_modules=["c_attn"], task_type="SEQ_CLS", refused=["score"])
case("llama score", "llama-score", target_modules=ALL, task_type="SEQ_CLS")
case("llama adapted score", "llama-score", target_modules=["q_proj", "score"])
case("rslora", "llama", target_modules=ALL, use_rslora=True)
case("patterns", "llama", target_modules=ALL, rank_pattern={"q_proj": 8, r"layers.1.mlp.*": 3},
     alpha_pattern={r"^model\.layers\.0.*": 5, "(?!.*gate).*_proj": 7})
case("patterns rslora gpt2", "gpt2", target_modules=CONV, use_rslora=True, rank_pattern={"attn.c_proj": 8})
case("bias lora_only", "qwen2", target_modules=ALL, bias="lora_only")
case("bias all", "qwen2", target_modules=["q_proj", "o_proj"], bias="all")
case("bias all gpt2", "gpt2", target_modules=["c_attn"], bias="all")
case("bias lora_only opt", "opt", target_modules=["q_proj", "fc1"], bias="lora_only")
case("layers", "llama", target_modules=ALL, layers_to_transform=[1])
case("layers with pattern", "llama", target_modules=ALL, layers_to_transform=0, layers_pattern="layers")
case("layers narrowed", "llama", target_modules=ALL, edit={"layers_to_transform": [1]}, unadapted=7)
case("targets narrowed", "llama", target_modules=["q_proj", "v_proj"], edit={"target_modules": ["v_proj"]}, unadapted=2)
case("targets narrowed by lookahead", "llama", target_modules=["q_proj", "v_proj"],
     edit={"target_modules": r"(?!.*layers\.1).*_proj"}, unadapted=2)
case("all-linear", "llama", target_modules="all-linear")
case("all-linear edited", "llama", target_modules=ALL + ["lm_head"], edit={"target_modules": "all-linear"},
     unadapted=1, save=dict(save_embedding_layers=False))
case("exclude", "llama", target_modules=ALL, exclude_modules=r".*mlp.*")
case("exclude edited", "llama", target_modules=ALL, edit={"exclude_modules": ["o_proj"]}, unadapted=2)
case("modules_to_save", "llama", target_modules=ALL, modules_to_save=["lm_head", "embed_tokens"])
case("modules_to_save of an adapted module", "llama", target_modules=["q_proj", "v_proj"],
     edit={"modules_to_save": ["v_proj"]}, rename="saved", unadapted=2)
case("lm_head", "llama", target_modules=["q_proj", "lm_head"])
case("lm_head saved alone", "llama", target_modules=["q_proj", "lm_head"], save=dict(save_embedding_layers=False))
case("tied lm_head", "llama-tied", target_modules=["q_proj", "lm_head"], save=dict(save_embedding_layers=False))
case("tied lm_head, saved", "llama-tied", target_modules=["q_proj", "lm_head"])
case("tied lm_head and embedding", "llama-tied", target_modules=["lm_head", "embed_tokens"], refused=["embed_tokens"])
case("tied, whole embeddings", "llama-tied", target_modules=["lm_head"], save=dict(save_embedding_layers=True),
     rename="embedding")
case("tied, modules_to_save embedding", "llama-tied", target_modules=["lm_head", "q_proj"],
     modules_to_save=["embed_tokens"], save=dict(save_embedding_layers=False))
case("tied gpt2 lm_head", "gpt2", target_modules=["lm_head"], save=dict(save_embedding_layers=False))
case("tied opt lm_head", "opt", target_modules=["lm_head"], save=dict(save_embedding_layers=False))
case("tied t5 lm_head", "t5", target_modules=["q", "lm_head"], save=dict(save_embedding_layers=False))
case("tied, trained tokens", "llama-tied", target_modules=["q_proj", "lm_head"], trainable_token_indices=[1, 3],
     refused=["lm_head"], save=dict(save_embedding_layers=False))
case("trained tokens", "llama", target_modules=["q_proj", "lm_head"], trainable_token_indices=[1, 3],
     save=dict(save_embedding_layers=False))
case("tied, ensure_weight_tying", "llama-tied", target_modules=["lm_head", "q_proj"], ensure_weight_tying=True,
     refused=["lm_head", "embed_tokens"], save=dict(save_embedding_layers=False))
case("bart lm_head", "bart", target_modules=["fc1", "lm_head"], save=dict(save_embedding_layers=False))
case("openai without config.json", "openai", target_modules=["attn.c_proj"], edit={"fan_in_fan_out": False},
     base="no config")
case("llava", "llava", target_modules=["q_proj", "o_proj", "linear_1", "fc1", "lm_head"],
     save=dict(save_embedding_layers=False))
case("llava, language model alone", "llava", target_modules=r".*language_model.*\.(q|v)_proj")
case("target_parameters", "mixtral", target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"],
     refused=["experts"])
case("whole embeddings beside", "llama", target_modules=["q_proj"], save=dict(save_embedding_layers=True))
case("bf16", "llama", target_modules=ALL, dtype=torch.bfloat16)
case("f16", "gpt2", target_modules=CONV, dtype=torch.float16)
case("dora", "llama", target_modules=["q_proj"], use_dora=True, refused=["q_proj"])
case("lora_bias", "llama", target_modules=["q_proj"], lora_bias=True, refused=["q_proj"])
case("pissa", "llama", target_modules=["q_proj"], init_lora_weights="pissa", refused=["q_proj"])
case("pissa converted", "llama", target_modules=["q_proj"], init_lora_weights="pissa", adapters="converted")
case("weighted, cat", "llama", target_modules=ALL, adapters="cat")
case("weighted, linear", "gpt2", target_modules=CONV, adapters="linear")
case("weighted, svd", "llama", target_modules=["q_proj", "v_proj"], adapters="svd")
case("merged into the base", "llama", target_modules=ALL, adapters="merged")
case("base with other prefixes, gpt2", "gpt2", target_modules=CONV, base=lambda key: key.removeprefix("transformer."))
case("base with other prefixes, llama", "llama", target_modules=ALL,
     base=lambda key: "language_model." + key)
case("base compiled", "llama", target_modules=ALL, base=lambda key: "_orig_mod." + key)


def randomise(model):
    """Gives what the adapter brings random values, so that nothing is by chance what the base has."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        trained = parameter.requires_grad or "lora_" in name
        if trained and "original_module" not in name:
            scale = 0.5 if "magnitude" in name else 0.1
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.data = noise if "lora_" in name and "magnitude" not in name else parameter.data + noise


def make_adapter(test, model, config, folder):
    """Saves what PEFT makes of the case."""
    how = test["adapters"]
    tuned = get_peft_model(model, config)
    if how == "converted":
        tuned.save_pretrained(folder + "/initial")
    randomise(tuned)
    if how in ("cat", "linear", "svd"):
        tuned.add_adapter("two", copy.deepcopy(config))
        randomise(tuned)
        tuned.add_weighted_adapter(["default", "two"], [0.7, -0.4], "both", combination_type=how, svd_rank=3)
        tuned.save_pretrained(folder, selected_adapters=["both"])
        return folder + "/both"
    if how == "merged":
        merged = tuned.merge_and_unload()
        merged.save_pretrained(folder + "/merged")
        return merged
    if how == "converted":
        tuned.save_pretrained(folder, path_initial_model_for_weight_conversion=folder + "/initial")
        return folder
    tuned.save_pretrained(folder, **test["save"])
    return folder


def save_base(test, number, model, folder):
    """Saves the model in one of the ways in which people have it; returns what `--base` is given."""
    way = number % 4
    model.save_pretrained(folder, max_shard_size="20KB" if way % 2 else "1GB")
    files = sorted(f for f in os.listdir(folder) if f.endswith(".safetensors"))
    if callable(test["base"]):
        for file in files:
            tensors = load_file(f"{folder}/{file}")
            save_file({test["base"](key): t for key, t in tensors.items()}, f"{folder}/{file}")
        index = f"{folder}/model.safetensors.index.json"
        if os.path.exists(index):
            text = json.load(open(index))
            text["weight_map"] = {test["base"](key): file for key, file in text["weight_map"].items()}
            json.dump(text, open(index, "w"))
    if test["base"] == "no config":
        os.remove(f"{folder}/config.json")
    if way % 2 == 0:
        return folder if way == 0 else f"{folder}/model.safetensors"
    return f"{folder}/model.safetensors.index.json" if way == 1 else f"{folder}/{files[len(files) // 2]}"


def edit_adapter(test, adapter, model):
    if test["edit"]:
        path = f"{adapter}/adapter_config.json"
        config = json.load(open(path))
        config.update(test["edit"])
        json.dump(config, open(path, "w"))
    path = f"{adapter}/adapter_model.safetensors"
    if test["rename"] == "saved":
        tensors = load_file(path)
        for layer in range(2):
            name = f"model.layers.{layer}.self_attn.v_proj"
            weight = model.get_submodule(name).weight
            tensors[f"base_model.model.{name}.weight"] = torch.randn(weight.shape)
        save_file(tensors, path)
    if test["rename"] == "embedding":
        tensors = {k: v for k, v in load_file(path).items() if "base_layer" not in k}
        weight = model.get_input_embeddings().weight
        tensors["base_model.model.model.embed_tokens.weight"] = torch.randn(weight.shape)
        save_file(tensors, path)


def run(test, number, binary, folder):
    """Runs a case; returns the number of modules compared and of modules refused."""
    torch.manual_seed(number)
    model = MODELS[test["model"]]()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.1)
    if test["dtype"]:
        model = model.to(test["dtype"])
    config = LoraConfig(**test["config"])
    adapter = make_adapter(test, copy.deepcopy(model), config, folder + "/adapter")
    if not isinstance(adapter, str):
        # Another adapter on the merged model.
        model = adapter
        adapter = make_adapter({**test, "adapters": None}, copy.deepcopy(model), LoraConfig(**test["config"]),
                               folder + "/second")
    edit_adapter(test, adapter, model)
    base = save_base(test, number, model, folder + "/base")
    truth = PeftModel.from_pretrained(copy.deepcopy(model).float(), adapter).eval()

    keys = load_file(f"{adapter}/adapter_model.safetensors")
    modules = sorted({m[1] for key in keys if (m := re.match(r"base_model\.model\.(.*)\.lora_(?:embedding_)?A", key))})
    assert modules, f"no module in {sorted(keys)}"
    compared = refused = unadapted = 0
    for module in modules:
        output = folder + "/y.safetensors"
        layer = truth.base_model.model.get_submodule(module)
        must_refuse = module.endswith(test["refused"]) if test["refused"] else False
        k = layer.in_features if hasattr(layer, "in_features") else 32
        if hasattr(layer, "original_module"):
            k = layer.original_module.in_features
        x = torch.randn(5, k)
        save_file({"x": x}, folder + "/x.safetensors")
        command = [binary, "apply", "--device", "cpu", "--dtype", "f32", "--base", base, "--adapter", adapter,
                   "--module", module, "--input", folder + "/x.safetensors", "--output", output]
        done = subprocess.run(command, capture_output=True, text=True)
        if must_refuse:
            assert done.returncode == 1 and done.stderr.count("\n") == 1, f"{module} was not refused: {done.stderr}"
            refused += 1
            continue
        assert done.returncode == 0, f"{module}: {done.stderr}"
        unadapted += "the base product alone" in done.stderr
        with torch.no_grad():
            expected = layer(x)
        y = load_file(output)["y"]
        error = ((y - expected).norm() / expected.norm()).item()
        assert error <= TOLERANCE, f"{module}: error {error:.1e} ({done.stderr.strip()})"
        compared += 1
    assert unadapted == test["unadapted"], f"{unadapted} modules are said to be the base product alone"
    return compared, refused


def main():
    binary, words = sys.argv[1], sys.argv[2:]
    total, failed = [0, 0, 0], 0
    for number, test in enumerate(CASES):
        if words and not any(word in test["name"] for word in words):
            continue
        folder = tempfile.mkdtemp()
        try:
            counts = run(test, number, binary, folder)
            total = [a + b for a, b in zip(total, (1, *counts))]
        except Exception as error:
            failed += 1
            print(f"FAILED {test['name']}: {type(error).__name__}: {str(error)[:700]}", flush=True)
        finally:
            shutil.rmtree(folder)
    print(f"PEFT {peft.__version__}, transformers {transformers.__version__}: {total[0]} cases agree, with {total[1]} "
          f"modules compared and {total[2]} refused as they must be; {failed} cases fail")
    sys.exit(failed > 0)


main()

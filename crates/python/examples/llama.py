"""PEFT's un-merged LoRA against ours on a Llama with random weights: a table, and a plot if matplotlib is there.

    python llama.py [--hidden 1024] [--layers 4] [--rank 16] [--rounds 40] [--plot llama.svg]

Times are ratios to merged adapters in plain torch, medians over rounds in which each method is called in turn.
"""

import argparse
import copy
import statistics
import tempfile
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

import fused_lora

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def models(base, folder):
    """The methods that are compared, by name, and the report of the fused one."""
    peft = PeftModel.from_pretrained(base, folder).eval()
    fused = copy.deepcopy(peft)
    merged = copy.deepcopy(peft).merge_and_unload()
    return {"merged": merged, "PEFT": peft, "fused": fused}, fused_lora.patch(fused)


def ratios(methods, ids, rounds):
    """Median time of each method over that of the first, in the same round."""
    first = next(iter(methods))
    seen = {name: [] for name in methods}
    for _ in range(rounds + 2):
        times = {}
        for name, model in methods.items():
            start = time.perf_counter()
            model(ids, use_cache=False)
            times[name] = time.perf_counter() - start
        for name, seconds in times.items():
            seen[name].append(seconds / times[first])
    return {name: statistics.median(values[2:]) for name, values in seen.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 128, 512])
    parser.add_argument("--plot", default="llama.svg")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=16,
        vocab_size=1000,
    )
    torch.manual_seed(0)
    base = LlamaForCausalLM(config).eval()
    cells = {}
    with tempfile.TemporaryDirectory() as folder:
        lora = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=LINEARS, init_lora_weights=False)
        get_peft_model(copy.deepcopy(base), lora).save_pretrained(folder)
        print("time over merged    " + "".join(f"{name:>10}" for name in ("PEFT", "fused")))
        for name, dtype in TYPES.items():
            methods, report = models(copy.deepcopy(base).to(dtype), folder)
            for tokens in options.tokens:
                ids = torch.randint(0, 1000, (1, tokens))
                cell = cells[name, tokens] = ratios(methods, ids, options.rounds)
                print(f"{name:5} {tokens:6} tokens " + "".join(f"{cell[m]:10.2f}" for m in ("PEFT", "fused")))
            if report.peft_calls:
                raise SystemExit(f"calls did not run fused:\n{report}")
    print(report.threads)
    try:
        from matplotlib import pyplot
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    labels = [f"{name}\n{tokens}" for name, tokens in cells]
    for i, method in enumerate(("PEFT", "fused")):
        places = [place + (i - 0.5) * 0.4 for place in range(len(cells))]
        pyplot.bar(places, [cell[method] for cell in cells.values()], 0.4, label=method)
    pyplot.axhline(1, color="black", linewidth=0.8)
    pyplot.xticks(range(len(cells)), labels)
    pyplot.ylabel("time over merged adapters")
    pyplot.legend()
    pyplot.savefig(options.plot)
    print(f"plot: {options.plot}")


if __name__ == "__main__":
    main()

"""PEFT's un-merged LoRA against ours on a Llama with random weights: a table, and a plot if matplotlib is there.

    python llama.py [--hidden 1024] [--layers 4] [--rank 16] [--seconds 20] [--plot llama.svg]

Times are ratios to merged adapters in plain torch: medians, with 95 % intervals, over rounds in which each method is
called in turn. With eight adapters eight sequences have one each; merged is then what one of them takes for all.
"""

import argparse
import copy
import math
import statistics
import tempfile
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

import fused_lora

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
ADAPTERS = 8


def models(base, folders):
    """The methods that are compared, by name, and the report of the fused one."""
    peft = PeftModel.from_pretrained(base, folders[0], adapter_name="0").eval()
    merged = copy.deepcopy(peft).merge_and_unload()
    for number, folder in enumerate(folders[1:], 1):
        peft.load_adapter(folder, str(number))
    fused = copy.deepcopy(peft)
    return {"merged": merged, "PEFT": peft, "fused": fused}, fused_lora.patch(fused)


def close(a, b):
    """Whether two results differ by no more than roundings of their type."""
    tolerance = 100 * torch.finfo(a.dtype).eps
    return (a - b).float().norm() <= tolerance * b.float().norm()


def interval(values):
    """The median, and a 95 % interval of it: order statistics, which assume no distribution."""
    values = sorted(values)
    count = len(values)
    half = math.ceil(0.98 * math.sqrt(count))
    return statistics.median(values), values[max(0, count // 2 - half)], values[min(count - 1, count // 2 + half)]


def measure(methods, report, ids, mixed, seconds):
    """Times of each method, round by round."""

    def call(name):
        names = {"adapter_names": [str(i) for i in range(ADAPTERS)]} if mixed and name != "merged" else {}
        return methods[name](input_ids=ids, use_cache=False, **names).logits

    if not close(call("fused"), call("PEFT")):
        raise SystemExit("fused and PEFT differ")
    on_peft, times = report.peft_calls, {name: [] for name in methods}
    end = time.perf_counter() + seconds
    while (rounds := len(times["merged"])) < 12 or (time.perf_counter() < end and rounds < 1000):
        for name in methods:
            start = time.perf_counter()
            call(name)
            times[name].append(time.perf_counter() - start)
    if report.peft_calls != on_peft:
        raise SystemExit(f"calls did not run fused:\n{report}")
    return {name: seconds[2:] for name, seconds in times.items()}


def ratio(times, name, other):
    return interval([a / b for a, b in zip(times[name], times[other], strict=True)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20, help="for each line of the table")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 128, 512], help="of one sequence")
    parser.add_argument("--mixed", type=int, nargs="*", default=[1, 64], help="of each of eight sequences")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
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
    lora = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=LINEARS, init_lora_weights=False)
    shapes = [(1, tokens) for tokens in options.tokens] + [(ADAPTERS, tokens) for tokens in options.mixed]
    cells = {}
    with tempfile.TemporaryDirectory() as folder:
        folders = [f"{folder}/{number}" for number in range(ADAPTERS)]
        for path in folders:
            get_peft_model(copy.deepcopy(base), lora).save_pretrained(path)
        columns = ("PEFT / merged", "fused / merged", "PEFT / fused")
        print("type  adapters  tokens  rounds" + "".join(f"{name:>23}" for name in columns))
        for name in options.types:
            methods, report = models(copy.deepcopy(base).to(TYPES[name]), folders)
            for sequences, tokens in shapes:
                ids = torch.randint(0, 1000, (sequences, tokens))
                times = measure(methods, report, ids, sequences > 1, options.seconds)
                pairs = [("PEFT", "merged"), ("fused", "merged"), ("PEFT", "fused")]
                cell = cells[name, sequences, tokens] = [ratio(times, *pair) for pair in pairs]
                print(f"{name:5}{sequences:9}{sequences * tokens:8}{len(times['merged']):8}", end="")
                print("".join(f"{median:9.3f} ({low:.3f}-{high:.3f})" for median, low, high in cell), flush=True)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print(f"fused: {report.threads}")
    try:
        from matplotlib import pyplot
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    pyplot.figure(figsize=(1.2 + 0.7 * len(cells), 4.2))
    for i, method in enumerate(("PEFT", "fused")):
        places = [place + (i - 0.5) * 0.4 for place in range(len(cells))]
        medians, lows, highs = zip(*(cell[i] for cell in cells.values()), strict=True)
        errors = [[m - low for m, low in zip(medians, lows)], [high - m for m, high in zip(medians, highs)]]
        pyplot.bar(places, medians, 0.4, yerr=errors, label=f"{method}, un-merged", capsize=2)
    pyplot.axhline(1, color="black", linewidth=0.8)
    labels = [f"{name}\n{n} × {tokens}" for name, n, tokens in cells]
    pyplot.xticks(range(len(cells)), labels, fontsize=8)
    pyplot.xlabel("type, sequences × tokens; with eight sequences, eight adapters")
    pyplot.ylabel("time over merged adapters")
    pyplot.title(f"Llama, hidden {options.hidden}, {options.layers} layers, r = {options.rank} on all linears")
    pyplot.legend()
    pyplot.tight_layout()
    pyplot.savefig(options.plot)
    print(f"plot: {options.plot}")


if __name__ == "__main__":
    main()

"""PyTorch on the CPU or on a GPU over the grid, with HF PEFT's LoRA linear and vLLM's kernels. One CSV of records.

    python benches/peers/torch_peers.py                       # 16 cells of linear-1024x1024, about 3 minutes
    python benches/peers/torch_peers.py --cells full --budget 7200 --workload gpt2-medium-linears
    python benches/peers/torch_peers.py --device cuda

The environment variables of the Criterion benches (see ENVIRONMENT) set the defaults of the options. README.md beside
this file says what is measured, and how. Exit codes: 2 bad arguments or missing packages, 3 no GPU for PyTorch, 1
another failure. Records go to the file, all else to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import records
from common import INSTALL, missing, say

ENVIRONMENT = {
    "--device": "FUSED_LORA_BACKEND",
    "--gpu": "FUSED_LORA_DEVICE",
    "--workload": "FUSED_LORA_WORKLOAD",
    "--cells": "FUSED_LORA_GRID",
    "--shard": "FUSED_LORA_SHARD",
    "--budget": "FUSED_LORA_BUDGET_S",
    "--cache": "FUSED_LORA_CACHE",
}
# Named sets of cells, beside patterns.
CELLS = {"full": "*", "sizes": "seq128/batch1/*,seq128/batch4/*,seq128/batch32/*,seq512/batch32/*"}
# Share of the cores that others keep busy above which a warning is due.
BUSY = 0.3


def shard(text: str) -> tuple[int, int]:
    """(i, n) from "i/n", 1 <= i <= n."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a shard: expected i/n with 1 <= i <= n, such as 2/4")
    return int(index), int(count)


def above(least: float, kind: type) -> Callable[[str], Any]:
    """Parses a finite number above `least`."""

    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if least < kind(text) < float("inf"):
                return kind(text)
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above {least} ({kind.__name__})")

    return parse


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace, list[records.Cell]]:
    """The options and the cells that they select. Exits with 2 on a bad one, from the environment too. What depends
    on PyTorch, the element types and methods, is not looked at yet."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    option = parser.add_argument
    option("--device", choices=("cpu", "cuda"), default="cpu", help="where PyTorch computes")
    option("--gpu", type=above(-1, int), default=0, help="the GPU's number")
    option("--workload", choices=tuple(records.WORKLOADS), default="linear-1024x1024", help="the layers")
    option("--cells", default="sizes", help="sizes, full, or patterns like 'seq*/batch4/r10,seq128/*'")
    option("--shard", type=shard, default=(1, 1), help="I/N: every N-th cell from the I-th on")
    option("--budget", type=above(0, float), default=180.0, help="seconds for all cells")
    option("--cache", choices=("cold", "warm", "warm-w"), default="cold", help="warm: always the same W, A, B")
    option("--dtypes", default="", help="some of fp16,bf16,fp32; all that the device has if empty")
    option("--methods", default="", help="some of base,unfused,compiled,peft,peft-f32,vllm; likewise")
    option("--threads", type=above(0, int), help="PyTorch's threads on the CPU; as many as cores if not given")
    option("--rounds", type=above(0, int), help="rounds of a cell; what the budget allows if not given")
    option("--output", type=Path, help="a new file; measurements/<run>.csv if not given")
    told = [f"{name}={os.environ[variable]}" for name, variable in ENVIRONMENT.items() if os.environ.get(variable)]
    args = parser.parse_args([*told, *(sys.argv[1:] if argv is None else argv)])
    args.cache = "cold" if args.cache == "cold" else "warm-w"
    try:
        return parser, args, records.select(CELLS.get(args.cells, args.cells).split(","), args.shard)
    except ValueError as error:
        parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: that of the process)."""
    parser, args, cells = parse_args(argv)
    if packages := missing("torch", "numpy"):
        say(f"error: missing Python packages: {', '.join(packages)}\ninstall them with: {INSTALL}")
        return 2
    from devices import CORES, Cpu, Cuda, NoDevice
    from measure import measure_all
    from methods import DTYPES, METHODS, choose

    try:
        args.dtypes, chosen = choose(DTYPES, args.device, args.dtypes), choose(METHODS, args.device, args.methods)
    except ValueError as error:
        parser.error(str(error))
    # The base is always there, and first.
    args.methods = [METHODS[0], *(method for method in chosen if method is not METHODS[0])]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY * CORES:
        say(f"warning: busy machine (load {load:.1f}): its threads wait for cores, the times mean little")
    try:
        device = Cuda(args.gpu) if args.device == "cuda" else Cpu(args.threads or CORES)
        return measure_all(args, cells, device)
    except NoDevice as error:
        say(f"error: {error}")
        return 3
    except KeyboardInterrupt:
        say("stopped; the cells that were finished are kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())

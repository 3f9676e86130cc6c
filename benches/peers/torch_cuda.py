"""PyTorch on a GPU over the grid: eager and compiled, HF PEFT's LoRA linear, vLLM's kernels. One CSV of records.

    python benches/peers/torch_cuda.py                       # 16 cells of linear-1024x1024
    python benches/peers/torch_cuda.py --cells full --budget 1800 --workload gpt2-medium-linears

The environment variables of the Criterion benches set the defaults of the options: FUSED_LORA_WORKLOAD,
FUSED_LORA_GRID (--cells), FUSED_LORA_SHARD, FUSED_LORA_BUDGET_S, FUSED_LORA_CACHE, FUSED_LORA_DEVICE.

Methods, all in fp16; each eager, and as `<method>-graph` in a CUDA graph where it can be captured:

    torch-fp16/base       torch.nn.functional.linear(x, W)
    torch-fp16/unfused    three calls: linear; torch.addmm with alpha = s; y.addmm_
    torch-fp16/compiled   torch.compile of linear(x, W) + linear(linear(x, A) * s, B), for these shapes alone
    torch-fp16/peft       PEFT's lora.Linear, A and B in fp16
    torch-fp16/peft-f32   the same with PEFT's default: A and B in f32, x converted at each call
    torch-fp16/vllm       linear, then vLLM's Triton kernels lora_shrink and lora_expand into its result

Timing (the project's rules):

- Cold-ish: x, W, A, B and y rotate over at least 3 x the L2; `--cache warm` keeps W, A, B.
- A sample is at least 20 forward passes, and as many as take a millisecond, between two CUDA events; its time is
  divided by their number. Eager calls that the host launches too slowly take as long as the host does.
- A round takes one sample of every method, in an order that is drawn anew. A time is the median over rounds, with
  its 95 % interval (percentile bootstrap), in nanoseconds per forward pass of the whole workload.
- A slow-down is the median over rounds of 100·(t/t(base) − 1), paired with PyTorch's own base in the same round:
  that of the graphs for graphs, the eager one for the others.
- PyTorch allocates its outputs itself, as it does for its users (in a graph, when it is captured).

Each output is checked on sampled rows against the f64 reference, computed on the GPU, before it is timed. A method
outside the tolerance is named on stderr, and timed all the same. What is not installed is skipped by name.

Exit codes: 2 bad arguments or missing packages, 3 no GPU for PyTorch, 1 failure. Records go to the file, all else to
stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import records
from records import WORKLOADS, WORKSPACE_ROOT, Cell, Record, RecordFile, Workload
from torch_cpu import (
    Result,
    missing,
    parse_cache,
    parse_cells,
    parse_seconds,
    parse_shard,
    parse_workload,
    say,
    to_record,
)

if TYPE_CHECKING:
    import numpy as np

    from cuda_methods import Case
    from timing import Budget

METHODS = ("base", "unfused", "compiled", "peft", "peft-f32", "vllm")
PREFIX = "torch-fp16/"


def parse_methods(text: str) -> list[str]:
    """Names joined by commas; the base, which the others are compared with, comes first and is always there."""
    names = text.split(",")
    if not set(names) <= set(METHODS) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"'{text}': expected some of {','.join(METHODS)}, each once")
    return ["base", *(name for name in names if name != "base")]


def parse_device(text: str) -> int:
    """The number of a GPU."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not the number of a GPU, counted from 0")
    return int(text)


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[Cell]]:
    """The options and the cells that they select. Exits with 2 on a bad one, from the environment too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def option(
        name: str, parse: Callable[[str], object], default: str, told: str, variable: str = ""
    ) -> None:
        # argparse parses a default that is text like an argument.
        chosen = os.environ.get(variable) or default
        parser.add_argument(name, type=parse, default=chosen, help=f"{told} (default: {default})")

    option("--workload", parse_workload, "linear-1024x1024", ", ".join(WORKLOADS), "FUSED_LORA_WORKLOAD")
    option(
        "--cells", parse_cells, "sizes", "sizes, full, or patterns like 'seq*/batch4/r10'", "FUSED_LORA_GRID"
    )
    option("--shard", parse_shard, "1/1", "I/N: every N-th cell from the I-th on", "FUSED_LORA_SHARD")
    option("--budget", parse_seconds, "180", "seconds for all cells", "FUSED_LORA_BUDGET_S")
    option("--cache", parse_cache, "cold", "cold, or warm: always the same W, A, B", "FUSED_LORA_CACHE")
    option("--device", parse_device, "0", "the GPU's number", "FUSED_LORA_DEVICE")
    option("--methods", parse_methods, ",".join(METHODS), "which of these")
    parser.add_argument("--output", type=Path, help="a new file (default: measurements/<run>.csv)")
    args = parser.parse_args(argv)
    try:
        cells = records.select(args.cells, args.shard)
    except ValueError as error:
        parser.error(str(error))
    if not cells:
        parser.error("shard {}/{} holds no cell".format(*args.shard))
    return args, cells


class LeftOut:
    """Says once of each method that it is left out, and why."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def __call__(self, method: str, why: str) -> None:
        if method not in self.said:
            self.said[method] = why
            say(f"skipped: {PREFIX}{method}: {why}")


def build_cases(
    workload: Workload, cell: Cell, args: argparse.Namespace, gpu: Any, left_out: LeftOut
) -> list[Case]:
    """The cell's methods, their outputs checked; those outside the tolerance are named on stderr."""
    from cuda_device import passes
    from cuda_methods import Skipped, calls, captured, eager
    from torch_layers import DTYPES, Layer, expect, make_inputs, make_slots

    dtype = DTYPES["fp16"]
    xs, layers = make_inputs(workload, cell, seed=cell.m * 1000 + cell.rank)
    xs = [x.to(gpu.device) for x in xs]
    layers = [Layer(*(t.to(gpu.device) for t in (layer.w, layer.a, layer.b))) for layer in layers]
    slots = make_slots(xs, layers, dtype, args.cache == "warm-w", gpu.cache_bytes)
    count = passes(workload.flops(cell.m, 0), len(slots), gpu.multiprocessors)
    expected = {adapter: expect(slots[0], dtype, adapter) for adapter in (False, cell.rank > 0)}
    cases = []
    for method, call in calls(slots, cell.rank, args.methods, left_out).items():
        adapter = method != "base" and cell.rank > 0
        made = [eager(PREFIX + method, adapter, call, slots, count)]
        try:
            made.append(captured(PREFIX + method, adapter, call, slots, count, gpu))
        except Skipped as skipped:
            left_out(f"{method}-graph", str(skipped))
        for case in made:
            for i, excess in enumerate(case.excess(expected[adapter], dtype)):
                if not excess <= 1.0:  # NaN is outside too
                    say(
                        f"warning: {case.name} at {cell}, projection {i}: "
                        f"error is {excess:.2f} x the tolerance; timed all the same"
                    )
        cases += made
    return cases


def time_rounds(cases: list[Case], rounds: int, sample: Callable[[Case], float]) -> np.ndarray:
    """Samples [case, round]; in each round every case once, in random order (fixed seed)."""
    import numpy as np

    rng = np.random.default_rng(0)
    times = np.empty((len(cases), rounds))
    for i in range(rounds):
        for case in rng.permutation(len(cases)):
            times[case, i] = sample(cases[case])
    return times


def measure(
    workload: Workload, cell: Cell, args: argparse.Namespace, gpu: Any, budget: Budget, left_out: LeftOut
) -> dict[str, Result]:
    """Sets up, checks and times the cell's methods, by their names."""
    from timing import estimate

    start = time.monotonic()
    cases = build_cases(workload, cell, args, gpu, left_out)
    warm_up = [gpu.sample_ns(case.run) for case in cases]
    rounds = budget.rounds(cell, time.monotonic() - start, sum(warm_up) * 1e-9)
    times = time_rounds(cases, rounds, lambda case: gpu.sample_ns(case.run))
    row_of = {case.name: i for i, case in enumerate(cases)}
    results = {}
    for case, row in zip(cases, times):
        is_base = case.name == case.base
        # Where the base cannot be captured, its eager one is all that there is to compare a graph with.
        base = times[row_of.get(case.base, 0)]
        slowdown = None if is_base else estimate(100.0 * (row / base - 1.0))
        results[case.name] = Result(estimate(row), slowdown, rounds)
    return results


def run(args: argparse.Namespace, cells: list[Cell], gpu: Any) -> int:
    """Measures the cells, each written as soon as it is done; the exit code."""
    import torch

    from timing import Budget

    workload = args.workload
    shard = "" if args.shard == (1, 1) else "-shard{}of{}".format(*args.shard)
    name = f"torch-cuda-{workload.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{shard}"
    output = args.output or WORKSPACE_ROOT / "measurements" / f"{name}.csv"
    try:
        file = RecordFile(output)
    except OSError as error:
        say(f"error: {output}: cannot be made: {error.strerror}")
        return 1
    commit, dirty = records.git_state()
    columns = dict(
        run=name,
        backend="cuda",
        device=gpu.name,
        threads=None,
        simd="",
        driver=gpu.driver,
        cache=args.cache,
        commit=commit,
        dirty=dirty,
    )
    budget = Budget(args.budget, cells, workload)
    left_out = LeftOut()
    has_base: set[tuple[int, int]] = set()
    dropped: list[Cell] = []
    for i, cell in enumerate(cells, 1):
        if not budget.fits(cell):
            dropped.append(cell)
            continue
        if sys.stderr.isatty():
            say(f"{i}/{len(cells)} {cell}, at most {max(budget.left(), 0):.0f} s left")
        with torch.inference_mode():
            results = measure(workload, cell, args, gpu, budget, left_out)
        if (cell.seq_len, cell.batch) in has_base:
            results = {method: result for method, result in results.items() if result.slowdown}
        has_base.add((cell.seq_len, cell.batch))
        file.append(
            record_of(columns, workload, cell, method, result, gpu) for method, result in results.items()
        )
    for cell in dropped:
        say(f"dropped, over the budget of {args.budget} s: {cell}")
    say(f"records are in {output}")
    return 0


def record_of(columns: dict, workload: Workload, cell: Cell, method: str, result: Result, gpu: Any) -> Record:
    """As on the CPU, with the GPU's clock."""
    return replace(to_record(columns, workload, cell, method, result), clock_mhz=gpu.clock_mhz)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: that of the process)."""
    args, cells = parse_args(argv)
    if packages := missing("torch", "numpy"):
        say(
            f"error: missing Python packages: {', '.join(packages)} (benches/peers/README.md says how to install them)"
        )
        return 2
    import torch

    if not torch.cuda.is_available():
        say(
            f"error: PyTorch {torch.__version__} finds no GPU: this needs one, and a build of PyTorch for CUDA"
        )
        return 3
    if args.device >= torch.cuda.device_count():
        say(f"error: there is no GPU number {args.device}: PyTorch finds {torch.cuda.device_count()}")
        return 3
    from cuda_device import Gpu

    try:
        return run(args, cells, Gpu(args.device))
    except KeyboardInterrupt:
        say("stopped; the cells that were finished are kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())

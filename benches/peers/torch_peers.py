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
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import records
from common import INSTALL, missing, say

if TYPE_CHECKING:
    from cases import Setting
    from devices import Device
    from rounds import Budget

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
# Share of the free memory that the rings of a cell may take; the rest is for the check and the library.
MEMORY = 0.8


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


def open_device(args: argparse.Namespace) -> Device:
    """The device that is asked for. Raises NoDevice."""
    from devices import CORES, Cpu, Cuda

    return Cuda(args.gpu) if args.device == "cuda" else Cpu(args.threads or CORES)


def fits_memory(setting: Setting, args: argparse.Namespace) -> bool:
    """Whether the rings of the cell's element types fit. Each graph has outputs of its own beside them."""
    from cases import ring_size

    device, workload, cell, _ = setting
    needed, y_elements = 0, cell.m * sum(n for _, n in workload.projections)
    for dtype in args.dtypes:
        places, place_bytes = ring_size(setting, dtype)
        graphs = len(args.methods) if device.graphs else 0
        needed += places * (place_bytes + graphs * y_elements * dtype.element.itemsize)
    return needed <= MEMORY * device.free_bytes()


def measure(
    setting: Setting, args: argparse.Namespace, budget: Budget, skip: Callable[[str, str], None]
) -> Iterator[dict[str, Any]]:
    """Sets up, checks and times the cell's methods: the columns of each that depend on it."""
    import numpy as np

    from cases import build, groups, make_inputs
    from rounds import Round, estimate, one_round, undisturbed

    device, workload, cell, _ = setting
    start = time.monotonic()
    inputs, cases = make_inputs(workload, cell), []
    for dtype in args.dtypes:
        methods = [method for method in args.methods if dtype.name in method.dtypes]
        cases += build(setting, inputs, dtype, methods, skip)
    compared, rng = groups(cases), np.random.default_rng(0)

    def run() -> Round:
        return one_round(compared, lambda i: device.time_ns(cases[i].work) / cases[i].passes, rng)

    warm_up = time.monotonic()
    run()
    ready = time.monotonic()
    wanted = budget.rounds(cell, setup_s=warm_up - start, round_s=ready - warm_up)
    found, repeated = undisturbed(run, wanted, go_on=lambda: budget.left() > 0)
    bases = {group[0] for group in compared}
    for i, case in enumerate(cases):
        # The base is one for all ranks.
        rank = 0 if i in bases else cell.rank
        row = dict(method=case.name, dtype=case.dtype.record, rank=rank, adapters=1, samples=wanted, repeated=repeated)
        row |= dict(seq_len=cell.seq_len, batch=cell.batch, ratio_by="wall", clock_mhz=device.clock_mhz)
        row["time_ns"], row["time_lo_ns"], row["time_hi_ns"] = estimate(found.times[:, i])
        row["gflops"] = workload.flops(cell.m, rank) / row["time_ns"]
        if i not in bases:
            slowdown = estimate(100.0 * (found.ratios[:, i] - 1.0))
            row["slowdown_pct"], row["slowdown_lo_pct"], row["slowdown_hi_pct"] = slowdown
            row["floor_pct"] = workload.floor_pct(rank)
        yield row | dict(measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def measure_all(args: argparse.Namespace, cells: list[records.Cell], device: Device) -> int:
    """Measures the cells, each written as soon as it is done; the exit code."""
    import torch

    from cases import Setting
    from rounds import FEWEST, MOST, Budget

    workload = records.WORKLOADS[args.workload]
    part = "" if args.shard == (1, 1) else "-shard{}of{}".format(*args.shard)
    name = f"torch-{device.backend}-{workload.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{part}"
    output = args.output or records.ROOT / "measurements" / f"{name}.csv"
    try:
        file = records.RecordFile(output)
    except OSError as error:
        say(f"error: {output}: cannot be made: {error.strerror}")
        return 1
    columns = dict(run=name, workload=workload.name, backend=device.backend, cache=args.cache, **device.columns)
    columns["commit"], columns["dirty"] = records.git_state()
    columns["d_in"], columns["d_out"] = ("+".join(map(str, sizes)) for sizes in zip(*workload.projections))
    with contextlib.suppress(ImportError):
        importlib.import_module("peft")  # takes seconds, which are not the first cell's
    budget = Budget(args.budget, cells, workload, args.rounds or FEWEST, args.rounds or MOST)
    skipped: set[str] = set()
    has_base: set[tuple[int, int]] = set()
    dropped: list[str] = []

    def skip(method: str, why: str) -> None:
        if method not in skipped:
            say(f"skipped: {method}: {why}")
        skipped.add(method)

    for i, cell in enumerate(cells, 1):
        setting = Setting(device, workload, cell, args.cache == "warm-w")
        in_time = budget.fits(cell)
        if not (in_time and fits_memory(setting, args)):
            budget.drop(cell)
            dropped.append(f"{'not enough memory' if in_time else f'over the budget of {args.budget} s'}: {cell}")
            continue
        if sys.stderr.isatty():
            say(f"{i}/{len(cells)} {cell}, at most {max(budget.left(), 0):.0f} s left")
        with torch.inference_mode():
            rows = list(measure(setting, args, budget, skip))
        # The bases, which have no slow-down, are written once for each seq_len and batch.
        size = (cell.seq_len, cell.batch)
        file.append(columns | row for row in rows if "slowdown_pct" in row or size not in has_base)
        has_base.add(size)
    for why in dropped:
        say(f"dropped, {why}")
    say(f"records are in {output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: that of the process)."""
    parser, args, cells = parse_args(argv)
    if packages := missing("torch", "numpy"):
        say(f"error: missing Python packages: {', '.join(packages)}\ninstall them with: {INSTALL}")
        return 2
    from devices import CORES, NoDevice
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
        return measure_all(args, cells, open_device(args))
    except NoDevice as error:
        say(f"error: {error}")
        return 3
    except KeyboardInterrupt:
        say("stopped; the cells that were finished are kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""PyTorch on the CPU over the grid: fp16, bf16, fp32, and HF PEFT's LoRA linear. One CSV of records.

    python benches/peers/torch_cpu.py                       # 16 cells of linear-1024x1024, about 3 minutes
    python benches/peers/torch_cpu.py --cells full --budget 7200 --workload gpt2-medium-linears

The environment variables of the Criterion benches set the defaults of the options: FUSED_LORA_WORKLOAD,
FUSED_LORA_GRID (--cells), FUSED_LORA_SHARD, FUSED_LORA_BUDGET_S, FUSED_LORA_CACHE.

Methods, each for the dtypes fp16, bf16, fp32:

    torch-<dtype>/base      torch.nn.functional.linear(x, W)
    torch-<dtype>/unfused   three calls: linear; torch.addmm with alpha = s; y.addmm_
    torch-<dtype>/peft      PEFT's lora.Linear, eager, A and B in the dtype of W
    torch-<dtype>/peft-f32  the same with PEFT's default: A and B in f32, x converted at each call

Timing (the project's rules):

- Cold-ish: x, W, A, B and y rotate over at least 3 x the last-level cache; `--cache warm` keeps W, A, B.
- A round times every method of every dtype once; within a dtype the order is drawn anew for each round,
  so that no method always follows the same other. A time is the median over rounds, in nanoseconds per
  forward pass of the whole workload.
- A slow-down is the median over rounds of 100·(t/t(base) − 1), paired with *PyTorch's own base of the
  same dtype in the same round*. It says what the adapter costs a PyTorch user, not how far PyTorch is
  from this project's base: compare times for that.
- Intervals: 95 %, percentile bootstrap of the median.
- PyTorch allocates its outputs itself, as it does for its users; that is in the times.

Each output is checked on sampled rows against the f64 reference before it is timed. A method outside the
tolerance is named on stderr, and timed all the same (PEFT rounds four times where the reference rounds
twice, so fp16 and bf16 may exceed it at small ranks). The base is recorded once for each seq_len and batch,
at rank 0, from the first cell measured there; the other methods take the base path at rank 0.

Exit codes: 2 bad arguments or missing packages, 1 failure. Records go to the file, all else to stderr.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import records
from records import WORKLOADS, WORKSPACE_ROOT, Cell, Record, RecordFile, Workload

if TYPE_CHECKING:
    import numpy as np

    from timing import Budget, Estimate
    from torch_layers import Case

# Named sets of cells, beside patterns.
CELLS = {"full": "*", "sizes": "seq128/batch1/*,seq128/batch4/*,seq128/batch32/*,seq512/batch32/*"}
DTYPE_NAMES = ("fp16", "bf16", "fp32")
# What may be asked for, and the name in the records.
CACHE_NAMES = {"cold": "cold", "warm": "warm-w", "warm-w": "warm-w"}
# Share of the cores that others keep busy above which a warning is due.
BUSY = 0.3
# Calls that are shorter than this are timed several at a time, so that the clock's cost does not show.
MIN_SAMPLE_NS = 1_000_000


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from "i/n", 1 <= i <= n."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a shard: expected i/n with 1 <= i <= n, such as 2/4"
        )
    return int(index), int(count)


def parse_dtypes(text: str) -> list[str]:
    """Names joined by commas, in the order given."""
    names = text.split(",")
    if not set(names) <= set(DTYPE_NAMES) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"'{text}': expected some of {','.join(DTYPE_NAMES)}, each once")
    return names


def parse_cells(text: str) -> list[str]:
    """Patterns for `records.select`."""
    return CELLS.get(text, text).split(",")


def parse_workload(text: str) -> Workload:
    """The workload of that name; the error lists those there are."""
    if text not in WORKLOADS:
        raise argparse.ArgumentTypeError(f"there is no workload '{text}'; there are {', '.join(WORKLOADS)}")
    return WORKLOADS[text]


def parse_cache(text: str) -> str:
    """The records' name of a state of the caches."""
    if text not in CACHE_NAMES:
        raise argparse.ArgumentTypeError(f"'{text}': expected cold or warm")
    return CACHE_NAMES[text]


def parse_seconds(text: str) -> float:
    """Seconds, more than 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return seconds


def parse_count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[Cell]]:
    """The options and the cells that they select. Exits with 2 on a bad one, from the environment too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def option(
        name: str, parse: Callable[[str], object], default: str, told: str, variable: str = ""
    ) -> None:
        # argparse parses a default that is text like an argument.
        told += f" (default: {default})"
        parser.add_argument(name, type=parse, default=os.environ.get(variable) or default, help=told)

    option("--workload", parse_workload, "linear-1024x1024", ", ".join(WORKLOADS), "FUSED_LORA_WORKLOAD")
    option(
        "--cells",
        parse_cells,
        "sizes",
        "sizes, full, or patterns like 'seq*/batch4/r10,…'",
        "FUSED_LORA_GRID",
    )
    option("--shard", parse_shard, "1/1", "I/N: every N-th cell from the I-th on", "FUSED_LORA_SHARD")
    option("--budget", parse_seconds, "180", "seconds for all cells", "FUSED_LORA_BUDGET_S")
    option("--cache", parse_cache, "cold", "cold, or warm: always the same W, A, B", "FUSED_LORA_CACHE")
    option("--dtypes", parse_dtypes, ",".join(DTYPE_NAMES), "which of these")
    option("--threads", parse_count, str(records.cores()), "PyTorch's threads")
    parser.add_argument("--output", type=Path, help="a new file (default: measurements/<run>.csv)")
    args = parser.parse_args(argv)
    try:
        cells = records.select(args.cells, args.shard)
    except ValueError as error:
        parser.error(str(error))
    if not cells:
        parser.error("shard {}/{} holds no cell".format(*args.shard))
    return args, cells


@dataclass(frozen=True)
class Result:
    """What one method took in one cell: nanoseconds, and percent over its base (none for a base)."""

    time_ns: Estimate
    slowdown: Estimate | None
    rounds: int


def sample_ns(case: Case, calls: int) -> float:
    """Nanoseconds of one forward pass, the mean of `calls` in a row."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        case.step()
    return (time.perf_counter_ns() - start) / calls


def time_rounds(cases: list[Case], calls: list[int], rounds: int) -> np.ndarray:
    """Times [case, round] in nanoseconds. Cases of one dtype stay together, in random order (fixed seed)."""
    import numpy as np

    rng = np.random.default_rng(0)
    groups = [list(group) for _, group in itertools.groupby(range(len(cases)), lambda i: cases[i].dtype.name)]
    times = np.empty((len(cases), rounds))
    for i in range(rounds):
        for case in itertools.chain.from_iterable(map(rng.permutation, groups)):
            times[case, i] = sample_ns(cases[case], calls[case])
    return times


def build_cases(workload: Workload, cell: Cell, args: argparse.Namespace, peft: bool) -> list[Case]:
    """The cell's methods, their outputs checked; those outside the tolerance are named on stderr."""
    from torch_layers import DTYPES, expect, make_cases, make_inputs, make_slots

    xs, layers = make_inputs(workload, cell, seed=cell.m * 1000 + cell.rank)
    cache_bytes = records.last_level_cache_bytes()
    cases = []
    for name in args.dtypes:
        dtype = DTYPES[name]
        slots = make_slots(xs, layers, dtype, args.cache == "warm-w", cache_bytes)
        expected = {adapter: expect(slots[0], dtype, adapter) for adapter in (False, cell.rank > 0)}
        for case in make_cases(slots, dtype, cell, peft):
            for i, (want, y) in enumerate(zip(expected[case.adapter], case.step(), strict=True)):
                excess = want.excess(y, dtype.u)
                if not excess <= 1.0:  # NaN is outside too
                    say(
                        f"warning: {case.name} at {cell}, projection {i}: "
                        f"error is {excess:.2f} x the tolerance; timed all the same"
                    )
            cases.append(case)
    return cases


def measure(
    workload: Workload, cell: Cell, args: argparse.Namespace, peft: bool, budget: Budget
) -> dict[str, Result]:
    """Sets up, checks and times the cell's methods, by their names."""
    from timing import estimate

    start = time.monotonic()
    cases = build_cases(workload, cell, args, peft)
    base_of = {case.dtype.name: i for i, case in enumerate(cases) if case.is_base}
    warm_up = [sample_ns(case, 1) for case in cases]
    calls = [max(1, round(MIN_SAMPLE_NS / warm_up[base_of[case.dtype.name]])) for case in cases]
    round_s = sum(ns * n for ns, n in zip(warm_up, calls)) * 1e-9
    rounds = budget.rounds(cell, time.monotonic() - start, round_s)
    times = time_rounds(cases, calls, rounds)
    results = {}
    for case, row in zip(cases, times):
        percent = 100.0 * (row / times[base_of[case.dtype.name]] - 1.0)
        results[case.name] = Result(estimate(row), None if case.is_base else estimate(percent), rounds)
    return results


def to_record(run: dict, workload: Workload, cell: Cell, method: str, result: Result) -> Record:
    """`run` holds the columns that are the same in every record of a run."""
    time_ns, slowdown = result.time_ns, result.slowdown
    rank = cell.rank if slowdown else 0
    return Record(
        **run,
        workload=workload.name,
        d_in=workload.d_in,
        d_out=workload.d_out,
        method=method,
        seq_len=cell.seq_len,
        batch=cell.batch,
        rank=rank,
        clock_mhz=records.cpu_clock_mhz(),
        time_ns=time_ns.mid,
        time_lo_ns=time_ns.lo,
        time_hi_ns=time_ns.hi,
        slowdown_pct=slowdown.mid if slowdown else None,
        slowdown_lo_pct=slowdown.lo if slowdown else None,
        slowdown_hi_pct=slowdown.hi if slowdown else None,
        floor_pct=workload.floor_pct(rank) if slowdown else None,
        floor_pad_pct=None,  # PyTorch's granules are its own
        gflops=workload.flops(cell.m, rank) / time_ns.mid,
        samples=result.rounds,
        measured_at=records.utc_now(),
    )


def say(text: str) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr)


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def run(args: argparse.Namespace, cells: list[Cell]) -> int:
    """Measures the cells, each written as soon as it is done; the exit code."""
    import torch

    from timing import Budget

    torch.set_num_threads(args.threads)
    peft = not missing("peft")
    if peft:
        importlib.import_module("peft")  # takes seconds, which are not the first cell's
    else:
        left_out = ", ".join(f"torch-{dtype}/peft*" for dtype in args.dtypes)
        say(f"warning: the package peft is missing; left out: {left_out}")
    workload = args.workload
    shard = "" if args.shard == (1, 1) else "-shard{}of{}".format(*args.shard)
    name = f"torch-cpu-{workload.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{shard}"
    output = args.output or WORKSPACE_ROOT / "measurements" / f"{name}.csv"
    try:
        file = RecordFile(output)
    except OSError as error:
        say(f"error: {output}: cannot be made: {error.strerror}")
        return 1
    commit, dirty = records.git_state()
    columns = dict(
        run=name,
        backend="cpu",
        device=records.cpu_name(),
        threads=torch.get_num_threads(),
        simd=torch.backends.cpu.get_cpu_capability().lower(),
        driver=f"torch {torch.__version__}",
        cache=args.cache,
        commit=commit,
        dirty=dirty,
    )
    if (load := records.load_average()) > BUSY * records.cores():
        say(f"warning: busy machine (load {load:.1f}): its threads wait for cores, the times mean little")
    budget = Budget(args.budget, cells, workload)
    has_base: set[tuple[int, int]] = set()
    dropped: list[Cell] = []
    for i, cell in enumerate(cells, 1):
        if not budget.fits(cell):
            dropped.append(cell)
            continue
        if sys.stderr.isatty():
            say(f"{i}/{len(cells)} {cell}, at most {max(budget.left(), 0):.0f} s left")
        with torch.inference_mode():
            results = measure(workload, cell, args, peft, budget)
        if (cell.seq_len, cell.batch) in has_base:
            results = {method: result for method, result in results.items() if result.slowdown}
        has_base.add((cell.seq_len, cell.batch))
        file.append(to_record(columns, workload, cell, method, result) for method, result in results.items())
    for cell in dropped:
        say(f"dropped, over the budget of {args.budget} s: {cell}")
    say(f"records are in {output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: that of the process)."""
    args, cells = parse_args(argv)
    if packages := missing("torch", "numpy"):
        say(
            f"error: missing Python packages: {', '.join(packages)}\ninstall them with: "
            "pip install -r benches/peers/requirements-cpu.txt (benches/peers/README.md says more)"
        )
        return 2
    try:
        return run(args, cells)
    except KeyboardInterrupt:
        say("stopped; the cells that were finished are kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())

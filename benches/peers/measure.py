"""Measures cells, one after another, and writes each as soon as it is done."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import records
from cases import Setting, build, groups, make_inputs, ring_size
from common import say
from devices import Device
from rounds import FEWEST, MOST, Budget, Round, estimate, one_round, undisturbed

# Share of the free memory that the rings of a cell may take; the rest is for the check and the library.
MEMORY = 0.8


def fits_memory(setting: Setting, args: argparse.Namespace) -> bool:
    """Whether the rings of the cell's element types fit. Each graph has outputs of its own beside them."""
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
    """The exit code."""
    workload = records.WORKLOADS[args.workload]
    part = "" if args.shard == (1, 1) else "-shard{}of{}".format(*args.shard)
    name = f"torch-{device.backend}-{workload.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{part}"
    output = args.output or records.ROOT / "measurements" / f"{name}.csv"
    try:
        records.create(output)
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
        records.append(output, (columns | row for row in rows if "slowdown_pct" in row or size not in has_base))
        has_base.add(size)
    for why in dropped:
        say(f"dropped, {why}")
    say(f"records are in {output}")
    return 0

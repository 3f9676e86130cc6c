"""This library against its peers: what is asked for beside what was measured, and how many cells miss.

Reads the rows of `summary.py`: those of `gpu_peers` (this library, cuBLASLt, PyTorch, PEFT and vLLM, in the same
rounds) and of the grid. A ratio is the peer's time over this library's: above 1 this library is the faster. Standard
library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Row = dict[str, str]
# (seq_len, batch, rank)
Cell = tuple[int, int, int]

# Up to this M a cell is bound by its launch and the trip of its weights: an allowance in microseconds.
SMALL_M = 1024
# From this M on: an allowance in points of the slow-down.
LARGE_M = 2048


def _m(cell: Cell) -> int:
    return cell[0] * cell[1]


def _name(cell: Cell) -> str:
    return f"M={_m(cell)} (seq{cell[0]}/batch{cell[1]}/r{cell[2]})"


@dataclass(frozen=True)
class Asked:
    """A comparison with a peer: the least ratio of any cell, and of their geometric mean; None is not asked."""

    title: str
    ours: str
    theirs: tuple[str, ...]  # the first of them that was measured
    ranks: Callable[[int], bool]
    least: float | None
    mean: float | None


COMPARISONS = (
    Asked("base to cuBLASLt", "base", ("cublaslt/base",), lambda rank: rank == 0, 0.92, 1.00),
    Asked(
        "fused to three cuBLASLt calls", "fused", ("cublaslt/three-calls",), lambda rank: rank > 0, 1.00, 1.25
    ),
    Asked("fused to PEFT, eager", "fused", ("torch-fp16/peft",), lambda rank: rank > 0, 2.00, None),
    Asked(
        "fused to base + vLLM's kernels",
        "fused",
        ("torch-fp16/vllm-graph", "torch-fp16/vllm"),
        lambda rank: rank > 0,
        1.30,
        None,
    ),
)
# The one cell with a figure of its own: workload, cell, ratio.
LARGEST = ("linear-4096x4096", (512, 32, 0), 0.97)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def _times(rows: Iterable[Row]) -> dict[str, dict[Cell, float]]:
    """Nanoseconds by method and cell. This library's come from rounds with a peer where there are some."""
    times: dict[str, dict[Cell, float]] = {}
    for row in rows:
        cell = (int(row["seq_len"]), int(row["batch"]), int(row["rank"]))
        times.setdefault(row["method"], {})[cell] = float(row["time_ns"])
    for method in ("base", "fused", "unfused"):
        times[method] = times.get(method, {}) | times.pop(f"fused-lora/{method}", {})
    return times


def compare(asked: Asked, times: dict[str, dict[Cell, float]], workload: str) -> list[str]:
    """The lines of one comparison; none without a cell that both have measured."""
    theirs = next((name for name in asked.theirs if name in times), None)
    if theirs is None:
        return []
    ours = times.get(asked.ours, {})
    ratios = {
        cell: time / ours[cell]
        for cell, time in times[theirs].items()
        if cell in ours and asked.ranks(cell[2])
    }
    if not ratios:
        return []
    least = min(ratios, key=ratios.__getitem__)
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    lines = [f"{asked.title} ({theirs}), {len(ratios)} cells:"]
    told = f"  geometric mean {mean:.3f}"
    lines.append(
        told if asked.mean is None else f"{told}, asked {asked.mean:.2f}: {_verdict(mean >= asked.mean)}"
    )
    told = f"  least {ratios[least]:.3f} at {_name(least)}"
    if asked.least is not None:
        misses = sum(ratio < asked.least for ratio in ratios.values())
        told += f", asked {asked.least:.2f}: {misses} of {len(ratios)} cells miss"
    lines.append(told)
    largest_workload, largest, wanted = LARGEST
    if asked.theirs == ("cublaslt/base",) and workload == largest_workload and largest in ratios:
        lines.append(
            f"  {_name(largest)}: {ratios[largest]:.3f}, asked {wanted:.2f}: {_verdict(ratios[largest] >= wanted)}"
        )
    return lines


def _excess(row: Row) -> float:
    """By how much a fused cell is slower than is asked: points above LARGE_M, microseconds up to SMALL_M."""
    m = int(row["seq_len"]) * int(row["batch"])
    slowdown, floor = float(row["slowdown_pct"]), float(row["floor_pad_pct"])
    if m >= LARGE_M:
        return slowdown - (1.05 * floor + 2.0)
    # The base of the same rounds: what the slow-down was taken from.
    time_us = float(row["time_ns"]) / 1e3
    base_us = time_us / (1.0 + slowdown / 100.0)
    return time_us - (base_us * (1.0 + floor / 100.0) + 2.5)


def slow_downs(rows: Iterable[Row]) -> list[str]:
    """The lines on what an adapter costs, beside what is asked."""
    fused: dict[Cell, Row] = {}
    for method in ("fused-lora/fused", "fused"):  # the grid's own, where there are both
        for row in rows:
            if (
                row["method"] == method
                and row["slowdown_pct"]
                and row["floor_pad_pct"]
                and int(row["rank"]) > 0
            ):
                fused[int(row["seq_len"]), int(row["batch"]), int(row["rank"])] = row
    lines = []
    for title, unit, holds in (
        (
            f"fused, M >= {LARGE_M}: slow-down within 1.05 floor_pad + 2 points",
            "points",
            lambda m: m >= LARGE_M,
        ),
        (f"fused, M <= {SMALL_M}: time within base (1 + floor_pad) + 2.5 us", "us", lambda m: m <= SMALL_M),
    ):
        excess = {cell: _excess(row) for cell, row in fused.items() if holds(_m(cell))}
        if excess:
            worst = max(excess, key=excess.__getitem__)
            misses = sum(value > 0 for value in excess.values())
            lines.append(
                f"{title}: {misses} of {len(excess)} cells miss; the nearest or worst by {excess[worst]:+.2f} {unit} "
                f"at {_name(worst)}"
            )
    return lines


def ratios(rows: Sequence[Row]) -> list[str]:
    """The lines for each workload, device and state of the caches."""
    lines: list[str] = []
    keys = ("workload", "device", "cache")
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
        same = [row for row in rows if tuple(row[k] for k in keys) == key]
        times = _times(same)
        found = [line for asked in COMPARISONS for line in compare(asked, times, key[0])] + slow_downs(same)
        if found:
            workload, device, cache = key
            lines += ["", f"{workload}, {cache}, {device}: asked and measured", *found]
    return lines

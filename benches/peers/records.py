"""The grid, the workloads and the CSV of records, as `crates/records` defines them. Standard library only."""

from __future__ import annotations

import csv
import io
import os
import subprocess
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import product, starmap
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
VERSION_LINE = "# fused-lora-records 2"
COLUMNS = (
    "run,workload,backend,device,threads,simd,driver,clock_mhz,cache,dtype,method,d_in,d_out,seq_len,batch,rank,adapters,"
    "time_ns,time_lo_ns,time_hi_ns,slowdown_pct,slowdown_lo_pct,slowdown_hi_pct,floor_pct,floor_pad_pct,limit_ns,gflops,"
    "samples,repeated,ratio_by,commit,dirty,measured_at"
).split(",")


class Cell(NamedTuple):
    """One point of the grid."""

    seq_len: int
    batch: int
    rank: int

    @property
    def m(self) -> int:
        """Tokens: the rows of x."""
        return self.seq_len * self.batch

    def __str__(self) -> str:
        return f"seq{self.seq_len}/batch{self.batch}/r{self.rank}"


# The whole grid in the order of `fused_lora_records::grid`.
GRID = tuple(starmap(Cell, product((128, 256, 512), (1, 2, 4, 8, 16, 32), (0, 10, 100, 250))))


def select(patterns: Sequence[str], shard: tuple[int, int]) -> list[Cell]:
    """The grid's cells whose name matches one of `patterns` (shell wildcards), every n-th of these for shard (i, n),
    i counted from 1. Raises ValueError on a pattern that matches nothing, and on a shard without cells."""
    for pattern in patterns:
        if not any(fnmatchcase(str(cell), pattern) for cell in GRID):
            raise ValueError(f"no cell matches '{pattern}'; cells are named like {GRID[0]}")
    index, count = shard
    chosen = [cell for cell in GRID if any(fnmatchcase(str(cell), p) for p in patterns)][index - 1 :: count]
    if not chosen:
        raise ValueError(f"shard {index}/{count} holds no cell")
    return chosen


class Workload(NamedTuple):
    """Linear layers run one after another, an adapter on each: (d_in, d_out), that is (K, N)."""

    name: str
    projections: tuple[tuple[int, int], ...]

    def flops(self, m: int, rank: int) -> float:
        """Operations of base, shrink and expand: 2·M·Σ (K·N + r·(K + N)); those of the base at rank 0."""
        return 2.0 * m * sum(k * n + rank * (k + n) for k, n in self.projections)

    def floor_pct(self, rank: int) -> float:
        """Slow-down in percent that the adapter's arithmetic alone costs at the base's efficiency."""
        return 100.0 * (self.flops(1, rank) / self.flops(1, 0) - 1.0)


WORKLOADS = {
    name: Workload(name, projections)
    for name, projections in {
        "linear-1024x1024": ((1024, 1024),),
        "linear-4096x4096": ((4096, 4096),),
        "gpt2-medium-linears": ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024)),
    }.items()
}


def create(path: Path) -> None:
    """A new file without records; an existing file is never touched (FileExistsError)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, "x", f"{VERSION_LINE}\n{','.join(COLUMNS)}\n")


def append(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes each record, a dict of COLUMNS, as a line; a column that is None or not there is empty.

    All lines are whole, in one write, and on the disk when this returns: a kill loses only what is under way."""
    lines = io.StringIO()
    writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
    writer.writerows({column: _text(value) for column, value in record.items()} for record in records)
    _write(path, "a", lines.getvalue())


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return round(value, 4) if isinstance(value, float) else value


def _write(path: Path, mode: str, text: str) -> None:
    with path.open(mode + "b") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def git_state(root: Path = ROOT) -> tuple[str, bool]:
    """The commit checked out and whether the work tree differs from it; ("unknown", False) without git.

    FUSED_LORA_REVISION goes before it: where scripts are away from their work tree, another's would be found."""
    if named := os.environ.get("FUSED_LORA_REVISION"):
        return named.removesuffix("-dirty"), named.endswith("-dirty")

    def git(*args: str) -> str:
        return subprocess.check_output(("git", "-C", root, *args), text=True, stderr=subprocess.DEVNULL).strip()

    try:
        return git("rev-parse", "--verify", "HEAD"), git("status", "--porcelain") != ""
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False

"""The grid, the workloads and the CSV of records, as `crates/records` defines them, for peers in Python.

Standard library only. `crates/records` reads what `RecordFile` writes: its format (first line, columns,
one whole line a record) is the only bridge between measuring and drawing.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

WORKSPACE_ROOT = Path(__file__).resolve().parents[2]
VERSION_LINE = "# fused-lora-records 1"

SEQ_LENS = (128, 256, 512)
BATCHES = (1, 2, 4, 8, 16, 32)
RANKS = (0, 10, 100, 250)


@dataclass(frozen=True)
class Cell:
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


def grid() -> Iterator[Cell]:
    """The whole grid in the order of `fused_lora_records::grid`: by seq_len, batch, rank."""
    return (Cell(s, b, r) for s in SEQ_LENS for b in BATCHES for r in RANKS)


def select(patterns: Sequence[str], shard: tuple[int, int]) -> list[Cell]:
    """The grid's cells whose name matches one of `patterns` (shell wildcards), every n-th of these for
    shard (i, n), i counted from 1. Raises ValueError on a pattern that matches nothing."""
    for pattern in patterns:
        if not any(fnmatchcase(str(cell), pattern) for cell in grid()):
            raise ValueError(f"no cell matches '{pattern}'; cells are named like {next(grid())}")
    chosen = [cell for cell in grid() if any(fnmatchcase(str(cell), p) for p in patterns)]
    index, count = shard
    return chosen[index - 1 :: count]


@dataclass(frozen=True)
class Workload:
    """Linear layers run one after another, an adapter on each: (d_in, d_out), that is (K, N)."""

    name: str
    projections: tuple[tuple[int, int], ...]

    @property
    def d_in(self) -> str:
        """K of each projection, joined by `+` as records carry it."""
        return "+".join(str(k) for k, _ in self.projections)

    @property
    def d_out(self) -> str:
        """N of each projection, joined by `+` as records carry it."""
        return "+".join(str(n) for _, n in self.projections)

    def flops(self, m: int, rank: int) -> float:
        """Operations of base, shrink and expand: 2·M·Σ (K·N + r·(K + N)); those of the base at rank 0."""
        return 2.0 * m * sum(k * n + rank * (k + n) for k, n in self.projections)

    def floor_pct(self, rank: int) -> float:
        """Slow-down in percent that the adapter's arithmetic alone costs at the base's efficiency."""
        return 100.0 * (self.flops(1, rank) / self.flops(1, 0) - 1.0)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("linear-1024x1024", ((1024, 1024),)),
        Workload("linear-4096x4096", ((4096, 4096),)),
        Workload("gpt2-medium-linears", ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))),
    )
}


@dataclass(frozen=True)
class Record:
    """One measured cell: the fields are the CSV's columns, in its order. None is written as empty."""

    run: str
    workload: str
    backend: str
    device: str
    threads: int | None
    simd: str
    driver: str
    clock_mhz: float | None
    cache: str
    method: str
    d_in: str
    d_out: str
    seq_len: int
    batch: int
    rank: int
    time_ns: float
    time_lo_ns: float | None
    time_hi_ns: float | None
    slowdown_pct: float | None
    slowdown_lo_pct: float | None
    slowdown_hi_pct: float | None
    floor_pct: float | None
    floor_pad_pct: float | None
    gflops: float | None
    samples: int
    commit: str
    dirty: bool
    measured_at: str


COLUMNS = tuple(field.name for field in fields(Record))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(round(value, 4)) if isinstance(value, float) else str(value)


def _csv_line(values: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


class RecordFile:
    """A new file of records; an existing file is never touched (FileExistsError)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._write(VERSION_LINE + "\n" + _csv_line(COLUMNS), os.O_CREAT | os.O_EXCL)

    def append(self, records: Iterable[Record]) -> None:
        """Whole lines, in one write, on the disk when this returns: a kill loses only what is under way."""
        self._write("".join(_csv_line(map(_text, astuple(record))) for record in records))

    def _write(self, text: str, flags: int = 0) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | flags, 0o644)
        try:
            rest = memoryview(text.encode())
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)


def utc_now() -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_state(root: Path = WORKSPACE_ROOT) -> tuple[str, bool]:
    """The commit checked out and whether the work tree differs from it; ("unknown", False) without git.

    FUSED_LORA_REVISION goes before it: where scripts are away from their work tree, another's would be found."""
    if named := os.environ.get("FUSED_LORA_REVISION"):
        return named.removesuffix("-dirty"), named.endswith("-dirty")

    def git(*args: str) -> str:
        command = ["git", "-C", str(root), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--verify", "HEAD"), git("status", "--porcelain") != ""
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def load_average() -> float:
    """Programs that wanted a core, on average over the last minute; 0 where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def _cpuinfo(key: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key]


def cpu_name() -> str:
    """The processor's name as /proc/cpuinfo gives it."""
    return next(filter(None, _cpuinfo("model name")), "unknown cpu")


def cpu_clock_mhz() -> float | None:
    """The first core's clock at this moment, in MHz, where /proc/cpuinfo tells it."""
    return next(map(float, _cpuinfo("cpu MHz")), None)


def last_level_cache_bytes(default: int = 32 << 20) -> int:
    """Bytes of last-level cache, all its instances added up (/sys); `default` where /sys does not tell."""
    found: dict[tuple[int, str], int] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        try:
            level, size, cpus = (
                (index / name).read_text().strip() for name in ("level", "size", "shared_cpu_list")
            )
            found[int(level), cpus] = int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last) or default

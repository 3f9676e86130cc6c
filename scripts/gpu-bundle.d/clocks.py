"""SM clock and power beside each record, from what `nvidia-smi` said while it was measured.

    TZ=UTC nvidia-smi --query-gpu=timestamp,clocks.sm,power.draw --format=csv,noheader,nounits -lms 200 >nvidia-smi.csv
    python3 clocks.py nvidia-smi.csv clocks.csv grid-a.csv gpu_peers-a.csv

A record says when its size was finished. The rounds that it is of lie before that: what counts are the samples of the
last WINDOW seconds, as far as they lie behind the size before. Standard library only.
"""

from __future__ import annotations

import csv
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median

from ratios import Row
from summary import read

# Longer, and the operands of small sizes would be made in it; shorter, and there would be few samples.
WINDOW = timedelta(seconds=2)
# Records of one size are made within milliseconds, and the rounds of the next take longer than this.
TOGETHER = timedelta(milliseconds=50)

KEY = ("run", "workload", "cache", "method", "seq_len", "batch", "rank", "measured_at")


@dataclass(frozen=True)
class Sample:
    """What the GPU was doing at a time; None is what it does not say."""

    at: datetime
    sm_mhz: float | None
    power_w: float | None


@dataclass(frozen=True)
class Beside:
    """A record, and the medians of the samples that belong to it."""

    row: Row
    sm_mhz: float | None
    power_w: float | None
    samples: int


def _number(text: str) -> float | None:
    """None for `[N/A]` and the like."""
    try:
        return float(text)
    except ValueError:
        return None


def samples(lines: Iterable[str]) -> list[Sample]:
    """Of the lines of `nvidia-smi`, those that are whole, in order."""
    found = []
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 3:
            continue
        try:
            at = datetime.strptime(fields[0], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        found.append(Sample(at, _number(fields[1]), _number(fields[2])))
    return sorted(found, key=lambda sample: sample.at)


def _measured_at(row: Row) -> datetime:
    return datetime.fromisoformat(row["measured_at"].replace("Z", "+00:00"))


def beside(rows: Sequence[Row], seen: Sequence[Sample]) -> list[Beside]:
    """Each record with its samples, in the order of time."""
    rows = sorted(rows, key=_measured_at)
    times = [sample.at for sample in seen]
    joined: list[Beside] = []
    # The end of the size before, and of this one.
    before, end = datetime.min.replace(tzinfo=timezone.utc), None
    for row in rows:
        at = _measured_at(row)
        if end is not None and at - end > TOGETHER:
            before = end
        end = at
        own = seen[bisect_left(times, max(before, at - WINDOW)) : bisect_right(times, at)]
        clocks = [sample.sm_mhz for sample in own if sample.sm_mhz is not None]
        powers = [sample.power_w for sample in own if sample.power_w is not None]
        joined.append(
            Beside(row, median(clocks) if clocks else None, median(powers) if powers else None, len(own))
        )
    return joined


def write(path: Path, joined: Iterable[Beside]) -> None:
    """A line for each record: its key, and the medians."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*KEY, "sm_mhz", "power_w", "samples"])
        for of in joined:
            medians = ["" if value is None else f"{value:g}" for value in (of.sm_mhz, of.power_w)]
            lines.writerow([*(of.row[name] for name in KEY), *medians, of.samples])


def told(joined: Sequence[Beside]) -> str:
    """The line of the summary."""
    parts = []
    for name, unit, values in (
        ("SM clock", "MHz", [of.sm_mhz for of in joined if of.sm_mhz is not None]),
        ("power", "W", [of.power_w for of in joined if of.power_w is not None]),
    ):
        if values:
            parts.append(f"{name} {min(values):.0f} to {max(values):.0f} {unit}")
    without = sum(of.samples == 0 for of in joined)
    if without:
        parts.append(f"{without} without a sample")
    return f"beside {len(joined)} records: {', '.join(parts)}"


def main(argv: Sequence[str]) -> int:
    """The exit code of `clocks.py SAMPLES OUT RECORDS...`."""
    try:
        seen = samples(Path(argv[0]).read_text(encoding="utf-8").splitlines())
        joined = beside([row for name in argv[2:] for row in read(Path(name))], seen)
        if joined:
            write(Path(argv[1]), joined)
            print(told(joined))
    except (OSError, ValueError, KeyError, IndexError) as error:
        print(f"clocks: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

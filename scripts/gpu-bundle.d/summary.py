"""A short table of the records: what an adapter costs at a few sizes, beside the floor; and the ratios to the peers.

    python3 summary.py grid-a.csv gpu_peers-a.csv

Reads the CSV that `crates/records` defines; standard library only. Prints nothing but a line where there are no
records, which is no error: what went wrong before was said then.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ratios import Row, ratios

VERSION_LINES = ("# fused-lora-records 1", "# fused-lora-records 2")
# (seq_len, batch): M = 128, 512, 4096 and 16384.
SIZES = ((128, 1), (128, 4), (128, 32), (512, 32))
RANKS = (0, 10, 100, 250)
# Before the names of this library's strategies, where they ran in the same rounds as peers.
OURS = "fused-lora/"


def read(path: Path) -> list[Row]:
    """The records of a file; ValueError if it is none of records. A torn last line is left out."""
    text = path.read_text(encoding="utf-8")
    version, _, rest = text.partition("\n")
    if version.strip() not in VERSION_LINES:
        raise ValueError(f"{path}: the first line is none of {', '.join(map(repr, VERSION_LINES))}")
    lines = rest[: rest.rfind("\n") + 1].splitlines()
    rows = csv.DictReader(lines)
    return [row for row in rows if None not in row.values() and None not in row]


def percent(row: Row | None) -> str:
    """The slow-down with its interval's half width; a dash without a record."""
    if row is None or not row["slowdown_pct"]:
        return "-"
    middle = float(row["slowdown_pct"])
    if not row["slowdown_lo_pct"]:  # too few rounds for an interval
        return f"{middle:.1f}"
    half = (float(row["slowdown_hi_pct"]) - float(row["slowdown_lo_pct"])) / 2
    return f"{middle:.1f} ± {half:.1f}"


def table(rows: Iterable[Row]) -> list[str]:
    """The lines for one workload, backend, device and state of the caches."""
    # The grid's own where there are both.
    rows = sorted(rows, key=lambda row: not row["method"].startswith(OURS))
    of = {
        (int(r["seq_len"]), int(r["batch"]), int(r["rank"]), r["method"].removeprefix(OURS)): r for r in rows
    }
    lines = [f"{'M':>6} {'rank':>5} {'base us':>9} {'TFLOP/s':>8} {'fused %':>14} {'unfused %':>14} {'floor %':>8}"]
    for seq_len, batch in SIZES:
        base = of.get((seq_len, batch, 0, "base"))
        for rank in RANKS:
            fused, unfused = (of.get((seq_len, batch, rank, method)) for method in ("fused", "unfused"))
            if fused is None and unfused is None:
                continue
            # The base is one for all ranks of a size.
            first = rank == 0 or (seq_len, batch, 0, "fused") not in of
            time = f"{float(base['time_ns']) / 1e3:.2f}" if base and first else ""
            rate = f"{float(base['gflops']) / 1e3:.1f}" if base and first else ""
            floor = (fused or unfused or {}).get("floor_pct", "")
            lines.append(
                f"{seq_len * batch:>6} {rank:>5} {time:>9} {rate:>8} {percent(fused):>14} {percent(unfused):>14} "
                f"{floor and format(float(floor), '.1f'):>8}"
            )
    return lines


def summary(rows: Sequence[Row]) -> list[str]:
    """A table for everything that was measured apart."""
    if not rows:
        return ["nothing was measured"]
    lines: list[str] = []
    keys = ("workload", "backend", "device", "driver", "cache")
    ours = [row for row in rows if row["method"].removeprefix(OURS) in ("base", "fused", "unfused")]
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in ours):
        same = [row for row in ours if tuple(row[k] for k in keys) == key]
        clocks = sorted(float(row["clock_mhz"]) for row in same if row["clock_mhz"])
        clock = f", SM clock {clocks[0]:.0f} to {clocks[-1]:.0f} MHz" if clocks else ""
        workload, backend, device, driver, cache = key
        lines += ["", f"{workload}, {cache}: {device}, {backend} {driver}{clock}, {len(same)} records", *table(same)]
    return lines + ratios(rows)


def main(argv: Sequence[str]) -> int:
    """The exit code of `summary.py FILE...`."""
    try:
        rows = [row for name in argv for row in read(Path(name))]
    except (OSError, ValueError) as error:
        print(f"summary: {error}", file=sys.stderr)
        return 1
    print("\n".join(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

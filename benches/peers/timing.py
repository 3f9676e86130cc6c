"""How long, how sure, how many rounds: medians with intervals, and a time budget shared over cells.

Knows nothing of what is timed. NumPy only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from records import Cell, Workload

MIN_ROUNDS, MAX_ROUNDS = 10, 100
RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A median with its 95 % interval."""

    mid: float
    lo: float
    hi: float


def estimate(samples: np.ndarray) -> Estimate:
    """Median of samples [rounds], and the percentile bootstrap of it (fixed seed)."""
    pick = np.random.default_rng(0).integers(len(samples), size=(RESAMPLES, len(samples)))
    lo, hi = np.percentile(np.median(samples[pick], axis=1), [2.5, 97.5])
    return Estimate(float(np.median(samples)), float(lo), float(hi))


class Budget:
    """Shares the time out over the cells by their arithmetic; what a cell will cost is judged by the speed of
    the cell before it."""

    def __init__(self, seconds: float, cells: list[Cell], workload: Workload) -> None:
        self._end = time.monotonic() + seconds
        self._work = {cell: workload.flops(cell.m, cell.rank) for cell in cells}
        self._work_left = sum(self._work.values())
        self._seconds_per_flop = 0.0

    def left(self) -> float:
        """Seconds left; below 0 when it is overdrawn."""
        return self._end - time.monotonic()

    def fits(self, cell: Cell) -> bool:
        """Whether MIN_ROUNDS of this cell are likely to end in time; if not, its share goes to the rest."""
        fits = self._seconds_per_flop * self._work[cell] <= self.left()
        if not fits:
            self._work_left -= self._work[cell]
        return fits

    def rounds(self, cell: Cell, setup_s: float, round_s: float) -> int:
        """How many rounds of `round_s` seconds this cell may take, now that it is set up and warm."""
        self._seconds_per_flop = (setup_s + MIN_ROUNDS * round_s) / self._work[cell]
        share = self.left() * self._work[cell] / self._work_left
        self._work_left -= self._work[cell]
        return min(max(int(share / round_s), MIN_ROUNDS), MAX_ROUNDS)

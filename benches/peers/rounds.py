"""How many rounds there is time for, what is timed when within a round, and medians with intervals. NumPy only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from records import Cell, Workload

# Rounds of a cell.
FEWEST, MOST = 10, 100
# A round is repeated in which a method took so many times its own median.
DISTURBED = 1.25
# With fewer rounds a bootstrap says little: there is no interval.
FEWEST_FOR_INTERVAL = 6
RESAMPLES = 2_000


class Budget:
    """Shares the time out over the cells by their arithmetic. What a cell will cost is judged by the cell before it:
    the same set-up, and rounds at the same speed."""

    def __init__(
        self, seconds: float, cells: list[Cell], workload: Workload, fewest: int = FEWEST, most: int = MOST
    ) -> None:
        self._end, self._fewest, self._most = time.monotonic() + seconds, fewest, most
        self._work = {cell: workload.flops(cell.m, cell.rank) for cell in cells}
        self._setup_s = self._seconds_per_flop = 0.0

    def left(self) -> float:
        """Seconds left; below 0 when it is overdrawn."""
        return self._end - time.monotonic()

    def fits(self, cell: Cell) -> bool:
        """Whether the fewest rounds of this cell are likely to end in time."""
        return self._setup_s + self._fewest * self._seconds_per_flop * self._work[cell] <= self.left()

    def drop(self, cell: Cell) -> None:
        """The share of a cell that is not measured goes to the rest."""
        del self._work[cell]

    def rounds(self, cell: Cell, setup_s: float, round_s: float) -> int:
        """How many rounds of `round_s` seconds this cell may take, now that it is set up and warm."""
        share = self.left() * self._work[cell] / sum(self._work.values())
        self._setup_s, self._seconds_per_flop = setup_s, round_s / self._work.pop(cell)
        return min(max(int(share / round_s), self._fewest), self._most)


class Round(NamedTuple):
    """One round: an entry a method in each array. (Of many rounds: [round, method].)"""

    times: np.ndarray  # nanoseconds; of a base, the mean of its calls
    slowest: np.ndarray  # nanoseconds of the slowest call, by which a round is judged
    ratios: np.ndarray  # over the mean of the base calls before and after; NaN for a base


def one_round(groups: Sequence[Sequence[int]], sample: Callable[[int], float], rng: np.random.Generator) -> Round:
    """Times every method of each group once, and the group's base, its first entry, around each two of them:
    B m m B m m B. The order of the m is drawn anew. `sample` gives nanoseconds."""
    times, slowest, ratios = np.full((3, sum(map(len, groups))), np.nan)
    for base, *others in groups:
        order = rng.permutation(np.array(others, dtype=int))
        bases = [sample(base)]
        for i in range(0, len(order), 2):
            pair = order[i : i + 2]
            times[pair] = slowest[pair] = [sample(method) for method in pair]
            bases.append(sample(base))
            ratios[pair] = times[pair] / np.mean(bases[-2:])
        times[base], slowest[base] = np.mean(bases), max(bases)
    return Round(times, slowest, ratios)


def undisturbed(run: Callable[[], Round], wanted: int, go_on: Callable[[], bool]) -> tuple[Round, int]:
    """`wanted` rounds, and how many others were thrown away.

    While a round has a method that took more than DISTURBED x its own median, the worst such round is replaced by a
    new one, at most `wanted` times, and only while `go_on` says so. All methods are judged alike: to judge by the base
    alone would keep the rounds with a fast base, and bias the ratios upward."""
    rounds = [run() for _ in range(wanted)]
    for repeated in range(wanted + 1):
        found = Round(*map(np.array, zip(*rounds)))
        excess = (found.slowest / np.median(found.times, axis=0)).max(axis=1)
        if excess.max() <= DISTURBED or repeated == wanted or not go_on():
            break
        rounds[excess.argmax()] = run()
    return found, repeated


def estimate(samples: np.ndarray) -> tuple[float, float | None, float | None]:
    """Median of samples [rounds], and its 95 % interval where there are rounds enough (percentile bootstrap)."""
    if len(samples) < FEWEST_FOR_INTERVAL:
        return float(np.median(samples)), None, None
    pick = np.random.default_rng(0).integers(len(samples), size=(RESAMPLES, len(samples)))
    lo, hi = np.quantile(np.median(samples[pick], axis=1), [0.025, 0.975])
    return float(np.median(samples)), float(lo), float(hi)

"""What `torch_peers.py` and `torch_layer.py` share. Standard library only."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import dataclass
from typing import Any

INSTALL = "pip install -r benches/peers/requirements-cpu.txt (benches/peers/README.md says more)"


@dataclass
class Ring:
    """Places that calls take in turn, so that a call finds its data out of the cache."""

    places: list[Any]
    taken: int = 0

    def next(self) -> Any:
        """The place of the next call."""
        self.taken += 1
        return self.last

    @property
    def last(self) -> Any:
        """The place of the last call."""
        return self.places[(self.taken - 1) % len(self.places)]


def places_needed(place_bytes: int, distance: int) -> int:
    """The fewest places with at least `distance` bytes of others between two uses of one."""
    return 1 + math.ceil(distance / place_bytes)


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def say(text: str) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr, flush=True)

"""What is compiled and how it is launched: the types of `catalog.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Of an element; the names are those of the manifest.
BYTES = {"f16": 2, "bf16": 2, "f32": 4, "i32": 4}
# As Triton names them.
TRITON_TYPES = {"f16": "fp16", "bf16": "bf16", "f32": "fp32", "i32": "i32"}


@dataclass(frozen=True)
class Array:
    """An array in global memory, dense, the last dimension the fastest.

    `fill` is one of {"integers": [low, high]} (each as likely, bounds included), {"uniform": [low, high]},
    {"constant": number or "nan"}, {"values": [...]}.
    """

    shape: tuple[int, ...]
    type: str
    fill: dict[str, Any]


@dataclass(frozen=True)
class Pointer:
    """The address of an array."""

    array: str


@dataclass(frozen=True)
class Int:
    """A scalar of type i32."""

    value: int


@dataclass(frozen=True)
class Float:
    """A scalar of type f32."""

    value: float


@dataclass(frozen=True)
class Tensor:
    """A tensor descriptor of an array, with the block that a load or store moves; `shape` if not the array's own."""

    array: str
    block: tuple[int, ...]
    shape: tuple[int, ...] | None = None


Argument = Pointer | Int | Float | Tensor


@dataclass(frozen=True)
class Kernel:
    """A kernel at one set of constants, and one launch of it."""

    name: str
    """Of the PTX file."""
    function: Callable[..., Any]
    target: int
    """80 or 90."""
    grid: tuple[int, int, int]
    arguments: dict[str, Argument]
    """By parameter, in order."""
    constants: dict[str, Any]
    arrays: dict[str, Array]
    expect: dict[str, Any]
    """`operation`, and which arrays and numbers it is of; see README.md."""
    tolerance: tuple[float, float] = (0.0, 0.0)
    """Absolute, and relative to the exact value; exact if both are zero."""
    warps: int = 4
    stages: int = 3
    ctas: int = 1
    """Of a cluster."""
    negatives: tuple[str, ...] = ()
    """Rules of `negatives.py` besides those that every kernel gets."""
    notes: str = ""
    language: str = "triton"
    extra: dict[str, Any] = field(default_factory=dict)

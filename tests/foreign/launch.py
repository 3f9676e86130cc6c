"""What is compiled and how it is launched: the types of `catalog.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """A tensor descriptor of an array, with the block that a load or store moves; `shape` if not the array's own.

    `split` is Gluon's: which dimension of the block the two CTAs of a cluster share, or none, as its basis vector.
    """

    array: str
    block: tuple[int, ...]
    shape: tuple[int, ...] | None = None
    split: tuple[int, ...] = ()


@dataclass(frozen=True)
class Map:
    """A tensor map as the kernel takes it: the box with the fastest dimension first, and how it is swizzled."""

    array: str
    box: tuple[int, ...]
    swizzle: str


@dataclass(frozen=True)
class Empty:
    """A parameter of a byte that is not read."""


Argument = Pointer | Int | Float | Tensor | Map | Empty


@dataclass(frozen=True)
class Kernel:
    """A kernel at one set of constants, and one launch of it."""

    name: str
    """Of the PTX file."""
    function: Callable[..., Any]
    target: int
    """80 or 90."""
    grid: tuple[int, int, int]
    """Programs: in Triton `ctas` CTAs each."""
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
    language: str = "triton"
    shared: int = 0
    """Bytes of dynamic shared memory, where the compiler does not tell."""


def dense(shape: tuple[int, ...]) -> list[int]:
    """The strides of a dense array, in elements."""
    strides = [1]
    for dim in reversed(shape[1:]):
        strides.insert(0, strides[0] * dim)
    return strides


def tensor_map(name: str, array: Array, shape: tuple[int, ...], box: list[int], swizzle: str) -> dict[str, Any]:
    """As cuTensorMapEncodeTiled takes it: the fastest dimension first, strides in bytes from the second on."""
    size = BYTES[array.type]
    return {
        "kind": "map",
        "array": name,
        "type": array.type,
        "dims": list(reversed(shape)),
        "strides": [stride * size for stride in reversed(dense(shape)[:-1])],
        "box": box,
        "element_strides": [1] * len(shape),
        "swizzle": swizzle,
        "interleave": "none",
        "out_of_bounds": "zero",
    }

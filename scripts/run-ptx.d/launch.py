"""What is launched: a kernel, its dimensions, arrays and parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

import elements

Dims = tuple[int, int, int]


@dataclass(frozen=True)
class Array:
    """An array in global memory, dense, the last dimension contiguous."""

    type: str
    shape: tuple[int, ...]
    is_output: bool
    """Whether it is copied back."""
    fill: str
    """See `elements.fill`."""

    def content(self, seed: str) -> bytes | None:
        """What it holds before the launch; None if nobody wrote it."""
        return elements.fill(self.type, self.shape, self.fill, seed)


@dataclass(frozen=True)
class Pointer:
    """The address of an array, or 0."""

    array: str | None


@dataclass(frozen=True)
class Scalar:
    """A number."""

    type: str
    value: float

    def bytes(self) -> bytes:
        return elements.pack(self.type, [self.value])


@dataclass(frozen=True)
class TensorMap:
    """A tensor map, with the arguments of cuTensorMapEncodeTiled: the contiguous dimension first, strides in bytes from the
    second dimension on."""

    array: str
    type: str
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...]
    swizzle: str


Parameter = Pointer | Scalar | TensorMap


@dataclass
class Launch:
    """A launch of an entry."""

    entry: str | None
    """The only one of the module if None."""
    grid: Dims = (1, 1, 1)
    block: Dims = (32, 1, 1)
    cluster: Dims = (1, 1, 1)
    shared: int = 0
    arrays: dict[str, Array] = field(default_factory=dict)
    parameters: list[Parameter] = field(default_factory=list)

    def check(self) -> None:
        """ValueError if a parameter is of an array that is not there."""
        for parameter in self.parameters:
            name = None if isinstance(parameter, Scalar) else parameter.array
            if name is not None and name not in self.arrays:
                raise ValueError(f"there is no array {name}")


def map_of(name: str, array: Array, box: tuple[int, ...], swizzle: str) -> TensorMap:
    """The map of a whole array."""
    dims = tuple(reversed(array.shape))
    if len(box) != len(dims):
        raise ValueError(f"a box of {len(box)} dimensions for {name} of {len(dims)}")
    strides = []
    pitch = elements.size(array.type)
    for dim in dims[:-1]:
        pitch *= dim
        strides.append(pitch)
    return TensorMap(name, array.type, dims, tuple(strides), box, (1,) * len(dims), swizzle)

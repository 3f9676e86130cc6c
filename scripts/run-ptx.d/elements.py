"""Elements of arrays: their bytes, and arrays that are filled."""

from __future__ import annotations

import array
import math
import random
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import npy

# Of numpy, struct and `array`; bf16 is none of theirs and stands as the upper half of an f32.
DTYPES = {
    "f16": "<f2",
    "bf16": "<u2",
    "f32": "<f4",
    "f64": "<f8",
    "i8": "|i1",
    "u8": "|u1",
    "i16": "<i2",
    "u16": "<u2",
    "i32": "<i4",
    "u32": "<u4",
    "i64": "<i8",
    "u64": "<u8",
}
FORMATS = {"f16": "e", "f32": "f", "f64": "d", "i8": "b", "u8": "B", "i16": "h", "u16": "H"}
FORMATS |= {"i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
assert sys.byteorder == "little", "GPUs are"


def size(type: str) -> int:
    """Bytes of an element."""
    return int(DTYPES[type][2:])


def pack(type: str, values: Iterable[float]) -> bytes:
    """The bytes of values, rounded to the nearest, ties to even."""
    if type == "bf16":
        return array.array("H", map(bf16, values)).tobytes()
    is_float = type[0] == "f"
    converted = [float(value) if is_float else int(value) for value in values]
    return struct.pack(f"<{len(converted)}{FORMATS[type]}", *converted)


def unpack(type: str, data: bytes) -> list[float]:
    """The values of bytes."""
    if type == "bf16":
        halves = array.array("H", data)
        return list(struct.unpack(f"<{len(halves)}f", b"".join(struct.pack("<HH", 0, half) for half in halves)))
    return list(struct.unpack(f"<{len(data) // size(type)}{FORMATS[type]}", data))


def bf16(value: float) -> int:
    """The upper half of an f32. Rounds twice, first to f32."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    if math.isnan(value):
        return 0x7FC0
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def fill(type: str, shape: Sequence[int], how: str, seed: str) -> bytes | None:
    """The bytes of an array; None if it is to stay as nobody wrote it.

    `how` is `random` (uniform in -1 to 1), `random=LOW,HIGH`, `integers` (-2 to 2), `integers=LOW,HIGH`, `zeros`, `ones`,
    `unwritten`, `values=A,B,...`, a number, or `@FILE`: an .npy file, or the bytes themselves.
    """
    count = math.prod(shape)
    name, _, bounds = how.partition("=")
    source = random.Random(seed)
    if how.startswith("@"):
        return from_file(type, shape, Path(how[1:]))
    if name == "unwritten":
        return None
    if name == "random":
        low, high = map(float, bounds.split(",")) if bounds else (-1.0, 1.0)
        return pack(type, (source.uniform(low, high) for _ in range(count)))
    if name == "integers":
        low, high = map(int, bounds.split(",")) if bounds else (-2, 2)
        return pack(type, (source.randint(low, high) for _ in range(count)))
    if name == "values":
        return pack(type, map(float, bounds.split(",")))
    value = {"zeros": 0.0, "ones": 1.0}.get(how)
    return pack(type, [float(how) if value is None else value]) * count


def from_file(type: str, shape: Sequence[int], path: Path) -> bytes:
    """The bytes of a file, which has as many."""
    data = path.read_bytes()
    if data.startswith(npy.MAGIC):
        dtype, stored, data = npy.parse(data)
        if dtype != DTYPES[type] or tuple(stored) != tuple(shape):
            raise ValueError(f"{path} has {dtype} of {stored}, not {DTYPES[type]} of {tuple(shape)}")
    if len(data) != math.prod(shape) * size(type):
        raise ValueError(f"{path} has {len(data)} bytes, not {math.prod(shape) * size(type)}")
    return data

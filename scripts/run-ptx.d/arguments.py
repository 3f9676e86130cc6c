"""The arguments of the command line that describe a launch."""

from __future__ import annotations

import re

from elements import DTYPES
from launch import Array, Dims, Launch, Pointer, Scalar, map_of

HELP = """arguments, in the order of the entry's parameters:
  --arg [NAME=]in:TYPE:SHAPE[:FILL]    the address of an array that the kernel reads
  --arg [NAME=]out:TYPE:SHAPE[:FILL]   likewise of one that is printed or saved afterwards; FILL is `unwritten` if not given
  --arg map:NAME:BOX[:SWIZZLE]         a tensor map of an array by value; BOX begins with the contiguous dimension, as
                                       cuTensorMapEncodeTiled has it; SWIZZLE is none, 32, 64 or 128
  --arg TYPE:VALUE                     a number
  --arg null                           a null pointer
  --array NAME=in:... or NAME=out:...  an array that is no parameter itself, for a map
TYPE is f16, bf16, f32, f64, i8, u8, i16, u16, i32, u32, i64 or u64. SHAPE is 64x64: the last dimension is contiguous. FILL is
random (uniform in -1 to 1), random=LOW,HIGH, integers (-2 to 2), integers=LOW,HIGH, zeros, ones, unwritten, a number, or
@FILE, an .npy file or the bytes themselves. Arrays without a name are called arg0, arg1, ... by their parameter.
"""


def numbers(text: str, separator: str) -> tuple[int, ...]:
    """`64x64`, `2,1,1`."""
    if not re.fullmatch(rf"\d+({separator}\d+)*", text):
        raise ValueError(f"{text!r} is not numbers separated by {separator!r}")
    return tuple(map(int, text.split(separator)))


def dims(text: str) -> Dims:
    """One to three dimensions; those that are not given are 1."""
    given = numbers(text, ",")
    if not 1 <= len(given) <= 3 or 0 in given:
        raise ValueError(f"{text!r} has no one to three dimensions")
    return (given + (1, 1))[:3]


def array(text: str) -> Array:
    """`in:f16:64x64:random`."""
    parts = text.split(":", 3)
    if len(parts) < 3 or parts[0] not in ("in", "out") or parts[1] not in DTYPES:
        raise ValueError(f"{text!r} is no in:TYPE:SHAPE[:FILL] or out:TYPE:SHAPE[:FILL]")
    is_output = parts[0] == "out"
    fill = parts[3] if len(parts) == 4 else "unwritten" if is_output else "random"
    return Array(parts[1], numbers(parts[2], "x"), is_output, fill)


def add_array(launch: Launch, text: str) -> None:
    """`NAME=in:...`, for `--array`."""
    name, is_named, rest = text.partition("=")
    if not is_named or ":" in name:
        raise ValueError(f"{text!r} has no name")
    add(launch, name, array(rest))


def add_parameter(launch: Launch, text: str) -> None:
    """For `--arg`. A map's array must be there."""
    name, is_named, rest = text.partition("=")
    if not is_named or ":" in name:
        name, rest = f"arg{len(launch.parameters)}", text
    kind, _, value = rest.partition(":")
    if kind in ("in", "out"):
        add(launch, name, array(rest))
        launch.parameters.append(Pointer(name))
    elif rest == "null":
        launch.parameters.append(Pointer(None))
    elif kind == "map":
        of, box, swizzle = (value.split(":") + ["none"])[:3]
        if of not in launch.arrays:
            raise ValueError(f"there is no array {of} before {text!r}")
        launch.parameters.append(map_of(of, launch.arrays[of], numbers(box, "x"), swizzle))
    elif kind in DTYPES and value:
        is_float = kind[0] in "fb"
        launch.parameters.append(Scalar(kind, float(value) if is_float else int(value, 0)))
    else:
        raise ValueError(f"{text!r} is no argument")


def add(launch: Launch, name: str, new: Array) -> None:
    if name in launch.arrays:
        raise ValueError(f"two arrays are called {name}")
    launch.arrays[name] = new

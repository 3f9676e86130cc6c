"""Files of numpy arrays (.npy), version 1.0, without numpy."""

from __future__ import annotations

import ast
from collections.abc import Sequence

MAGIC = b"\x93NUMPY"


def render(dtype: str, shape: Sequence[int], data: bytes) -> bytes:
    """A file with an array in C order."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {tuple(shape)!r}, }}"
    # Magic, version and length are 10 bytes; the data begin at a multiple of 64.
    padding = -(10 + len(header) + 1) % 64
    text = (header + " " * padding + "\n").encode("latin-1")
    return MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text + data


def parse(file: bytes) -> tuple[str, tuple[int, ...], bytes]:
    """The type, shape and data of a file."""
    if not file.startswith(MAGIC):
        raise ValueError("no .npy file")
    # From version 2.0 on the length has four bytes.
    wide = 2 if file[6] == 1 else 4
    begin = 8 + wide
    end = begin + int.from_bytes(file[8:begin], "little")
    header = ast.literal_eval(file[begin:end].decode("latin-1"))
    if header["fortran_order"]:
        raise ValueError("an .npy file in Fortran's order")
    return header["descr"], tuple(header["shape"]), file[end:]

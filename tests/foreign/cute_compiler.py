"""CuTe DSL as a compiler without a GPU: PTX, and what a launch of it needs."""

from __future__ import annotations

import os
import re
import tempfile
from importlib.metadata import version
from typing import Any

# Before the import: the architecture, which is that of a GPU otherwise, and to keep the PTX; nothing compiled before.
KEPT = tempfile.TemporaryDirectory(prefix="cute-")
os.environ |= {"CUTE_DSL_ARCH": "sm_90a", "CUTE_DSL_KEEP": "ptx", "CUTE_DSL_NO_CACHE": "1"}
os.environ["CUTE_DSL_DUMP_DIR"] = KEPT.name

import cutlass
import cutlass.cute as cute
from cutlass.cute.runtime import make_fake_compact_tensor

import ptx_text
from launch import Empty, Int, Kernel, Map, Pointer, tensor_map

TYPES = {"f16": cutlass.Float16, "bf16": cutlass.BFloat16}


def compile(kernel: Kernel) -> tuple[str, dict[str, Any]]:
    """The PTX under a short name of the entry, and threads, shared memory and parameters."""
    gemm = kernel.function(**kernel.constants)
    a, b, c = (kernel.arrays[name] for name in "abc")
    is_kn = gemm.is_n_major
    compiled = cute.compile(
        gemm,
        tensor(a.shape, a.type),
        tensor(tuple(reversed(b.shape)), b.type, (0, 1)) if is_kn else tensor(b.shape, b.type),
        tensor(c.shape, c.type),
        cutlass.Int32(0),
    )
    text = compiled.artifacts.PTX
    return re.sub(rf"\b{ptx_text.entry(text)}", "gemm", text), {
        "grid": list(kernel.grid),
        "cluster": [kernel.ctas, 1, 1],
        "threads": gemm.threads,
        "shared": kernel.shared,
        "parameters": [parameter(kernel, argument) for argument in kernel.arguments.values()],
    }


def tensor(shape: tuple[int, ...], type: str, order: tuple[int, ...] = (1, 0)) -> Any:
    """The type of a tensor; there is no memory. `order` has 0 for the dense dimension."""
    return make_fake_compact_tensor(TYPES[type], shape, stride_order=order, assumed_align=16)


def parameter(kernel: Kernel, argument: Any) -> dict[str, Any]:
    match argument:
        case Pointer(array):
            return {"kind": "pointer", "array": array}
        case Int(value):
            return {"kind": "scalar", "type": "i32", "value": value}
        case Empty():
            return {"kind": "scalar", "type": "u8", "value": 0}
        case Map(name, box, swizzle):
            array = kernel.arrays[name]
            return tensor_map(name, array, array.shape, list(box), swizzle)
    raise TypeError(argument)


def name() -> str:
    """The compiler and its version."""
    return f"CuTe DSL (nvidia-cutlass-dsl) {version('nvidia-cutlass-dsl')}"

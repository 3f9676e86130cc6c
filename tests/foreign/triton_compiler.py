"""Triton as a compiler without a GPU: PTX, and what a launch of it needs."""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from typing import Any

os.environ |= {"TRITON_DISABLE_LINE_INFO": "1", "TRITON_DEFAULT_FP_FUSION": "1"}
# Nothing that was compiled before.
CACHE = tempfile.TemporaryDirectory(prefix="triton-")
os.environ["TRITON_CACHE_DIR"] = CACHE.name

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource

from launch import BYTES, TRITON_TYPES, Argument, Float, Int, Kernel, Pointer, Tensor, dense, tensor_map

SWIZZLES = ("none", "32", "64", "128")


def compile(kernel: Kernel) -> tuple[str, dict[str, Any]]:
    """The PTX as Triton writes it, and threads, shared memory and parameters."""
    names = list(kernel.function.arg_names)
    assert list(kernel.arguments) == [name for name in names if name not in kernel.constants], kernel.name
    types, constants, attributes = {}, {}, {}
    for at, name in enumerate(names):
        if name in kernel.constants:
            types[name] = "constexpr"
            constants[(at,)] = kernel.constants[name]
            continue
        argument = kernel.arguments[name]
        types[name] = type_of(kernel, argument)
        if isinstance(argument, Pointer) or isinstance(argument, Int) and argument.value % 16 == 0:
            attributes[(at,)] = [["tt.divisibility", 16]]
    make_source = GluonASTSource if kernel.language == "gluon" else ASTSource
    source = make_source(fn=kernel.function, signature=types, constexprs=constants, attrs=attributes)
    options = {"num_warps": kernel.warps, "num_stages": kernel.stages, "num_ctas": kernel.ctas}
    compiled = triton.compile(source, target=GPUTarget("cuda", kernel.target, 32), options=options)
    x, y, z = kernel.grid
    return compiled.asm["ptx"], {
        "grid": [x * kernel.ctas, y, z],
        "cluster": [kernel.ctas, 1, 1],
        "threads": 32 * compiled.metadata.num_warps,
        "shared": compiled.metadata.shared,
        "parameters": parameters(kernel, compiled.metadata),
    }


def type_of(kernel: Kernel, argument: Argument) -> str:
    match argument:
        case Pointer(array):
            return "*" + TRITON_TYPES[kernel.arrays[array].type]
        case Int():
            return "i32"
        case Float():
            return "fp32"
        case Tensor(array, block):
            element = kernel.arrays[array].type
            layout = f",{shared_layout(kernel, argument)!r}" if kernel.language == "gluon" else ""
            return f"tensordesc<{TRITON_TYPES[element]}[{','.join(map(str, block))}]{layout}>"


def shared_layout(kernel: Kernel, tensor: Tensor) -> gl.NVMMASharedLayout:
    """Gluon's layout of a block in shared memory, with the widest swizzle."""
    element = {"f16": gl.float16, "bf16": gl.bfloat16}[kernel.arrays[tensor.array].type]
    split = [list(tensor.split)] if tensor.split else None
    return gl.NVMMASharedLayout.get_default_for(list(tensor.block), element, cga_layout=split)


def parameters(kernel: Kernel, metadata: Any) -> list[dict[str, Any]]:
    """A descriptor is a map, then its dimensions and strides; two addresses of scratch memory come last."""
    found = []
    boxes = iter(metadata.tensordesc_meta or [])
    for argument in kernel.arguments.values():
        match argument:
            case Pointer(array):
                found.append({"kind": "pointer", "array": array})
            case Int(value):
                found.append({"kind": "scalar", "type": "i32", "value": value})
            case Float(value):
                found.append({"kind": "scalar", "type": "f32", "value": value})
            case Tensor():
                found += descriptor(kernel, argument, next(boxes))
    assert not metadata.global_scratch_size and not metadata.profile_scratch_size
    return found + 2 * [{"kind": "pointer", "array": None}]


def descriptor(kernel: Kernel, tensor: Tensor, box: dict[str, Any]) -> list[dict[str, Any]]:
    array = kernel.arrays[tensor.array]
    shape = tensor.shape or array.shape
    assert box["elem_size"] == BYTES[array.type] and not box["fp4_padded"]
    return [
        tensor_map(tensor.array, array, shape, list(reversed(box["block_size"])), SWIZZLES[box["swizzle"]]),
        *({"kind": "scalar", "type": "i32", "value": dim} for dim in shape),
        *({"kind": "scalar", "type": "i64", "value": stride} for stride in dense(shape)),
    ]


def ptxas(target: int) -> str:
    """The assembler in the package."""
    tools = triton.knobs.nvidia
    return (tools.ptxas_blackwell if target >= 90 else tools.ptxas).path


def name() -> str:
    """The compiler and its version."""
    return f"Triton {version('triton')}"

"""Runs the Triton kernels in Triton's interpreter, on the CPU, and compares with f64: are the kernels themselves right?

bf16 is run as f16: the interpreter multiplies the bits of bf16 as integers.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
from triton.runtime.interpreter import GridExecutor
from triton.tools.tensor_descriptor import TensorDescriptor

import catalog
import reference
from launch import Argument, Array, Float, Int, Kernel, Pointer, Tensor

TYPES = {"f16": np.float16, "bf16": np.float16, "f32": np.float32, "i32": np.int32}


class Memory(np.ndarray):
    """An array that Triton takes for a tensor."""

    def data_ptr(self) -> int:
        return self.ctypes.data


def filled(array: Array, random: np.random.Generator) -> Memory:
    """An array as the manifest says."""
    (kind, what), shape = next(iter(array.fill.items())), array.shape
    match kind:
        case "integers":
            values = random.integers(what[0], what[1] + 1, shape)
        case "uniform":
            values = random.uniform(what[0], what[1], shape)
        case "constant":
            values = np.full(shape, float(what))
        case "values":
            values = np.array(what).reshape(shape)
    # At an address that is a multiple of 16.
    kept = np.empty(values.size * 4 + 16, np.uint8)
    kept = kept[-kept.ctypes.data % 16 :][: values.size * np.dtype(TYPES[array.type]).itemsize]
    memory = kept.view(TYPES[array.type]).reshape(shape).view(Memory)
    memory[...] = values
    return memory


def passed(argument: Argument, arrays: dict[str, Memory]) -> Any:
    match argument:
        case Pointer(array):
            return arrays[array]
        case Int(value) | Float(value):
            return value
        case Tensor(array, block, shape):
            memory = arrays[array] if shape is None else arrays[array].reshape(shape)
            strides = [stride // memory.itemsize for stride in memory.strides]
            return TensorDescriptor(memory, list(memory.shape), strides, list(block))


def run(kernel: Kernel) -> tuple[float, float]:
    """The largest error, and the largest of error over tolerance."""
    random = np.random.default_rng(1)
    arrays = {name: filled(array, random) for name, array in kernel.arrays.items()}
    exact = reference.expected(kernel.expect, arrays)
    arguments = {name: passed(argument, arrays) for name, argument in kernel.arguments.items()}
    kernel.function[kernel.grid](**arguments, **kernel.constants)
    error = np.abs(arrays[kernel.expect["output"]].astype(np.float64) - exact)
    absolute, relative = kernel.tolerance
    allowed = absolute + relative * np.abs(exact) + sys.float_info.min
    return float(error.max()), float((error / allowed).max())


def main() -> int:
    # The interpreter copies arguments as torch tensors; these are in memory as they are.
    GridExecutor._init_args_hst = lambda self, arguments, named: (arguments, named)
    GridExecutor._restore_args_dev = lambda self, *arguments: None
    wrong = 0
    for kernel in catalog.kernels():
        if kernel.language != "triton" or sys.argv[1:] and not any(name in kernel.name for name in sys.argv[1:]):
            continue
        error, over = run(kernel)
        wrong += not over <= 1
        print(f"{'right' if over <= 1 else 'WRONG'} {kernel.name}: error {error:.2e}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())

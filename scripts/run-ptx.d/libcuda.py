"""The functions of libcuda that a launch needs, by ctypes."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence

import elements
from launch import Launch, Pointer, Scalar, TensorMap

# CUtensorMapDataType, CUtensorMapSwizzle.
DATA_TYPES = {"u8": 0, "u16": 1, "u32": 2, "i32": 3, "u64": 4, "i64": 5, "f16": 6, "f32": 7, "f64": 8, "bf16": 9}
SWIZZLES = {"none": 0, "32": 1, "64": 2, "128": 3}
# CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
CLUSTER_DIMENSION = 4
MAX_DYNAMIC_SHARED = 8
TENSOR_MAP_BYTES = 128


class CudaError(Exception):
    """A function that did not return CUDA_SUCCESS."""


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute: the number, and a union of 64 bytes."""

    _fields_ = (("id", ctypes.c_uint), ("pad", ctypes.c_uint), ("value", ctypes.c_uint * 16))


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("count", ctypes.c_uint),
    )


def set_defaults(ptx: str) -> None:
    """Makes a simulated device one that the PTX is for, unless the environment says which."""
    if target := re.search(r"^\s*\.target\s+sm_(\d+)(\d)", ptx, re.M):
        os.environ.setdefault("FUSED_LORA_SIMT_CAPABILITY", f"{target[1]}.{target[2]}")
    if version := re.search(r"^\s*\.version\s+(\d+)\.(\d+)", ptx, re.M):
        # CUDA 13.n knows PTX 9.n, and all before.
        minor = int(version[2]) if int(version[1]) == 9 else 0
        os.environ.setdefault("FUSED_LORA_SIMT_DRIVER_VERSION", f"13.{minor}")


class Module:
    """A module in the primary context of the first device."""

    def __init__(self, library: str, ptx: str) -> None:
        self.cuda = ctypes.CDLL(library)
        self.call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(self.module), ctypes.c_char_p(ptx.encode()))

    def call(self, function: str, *arguments: object) -> None:
        """Calls a function; CudaError unless it succeeds."""
        code = getattr(self.cuda, function)(*arguments)
        if code:
            name = ctypes.c_char_p()
            self.cuda.cuGetErrorName(code, ctypes.byref(name))
            raise CudaError(f"{function}: {(name.value or b'error').decode()} ({code})")

    def allocate(self, content: bytes | None, count: int) -> int:
        """Device memory of `count` bytes, with this in it."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(count))
        if content is not None:
            self.call("cuMemcpyHtoD_v2", address, ctypes.c_char_p(content), ctypes.c_size_t(count))
        return address.value

    def read(self, address: int, count: int) -> bytes:
        """A copy of device memory."""
        buffer = ctypes.create_string_buffer(count)
        self.call("cuMemcpyDtoH_v2", buffer, ctypes.c_uint64(address), ctypes.c_size_t(count))
        return buffer.raw

    def run(self, launch: Launch, contents: dict[str, bytes | None]) -> dict[str, bytes]:
        """Launches a kernel and waits for it; what its outputs hold then."""
        function = ctypes.c_void_p()
        entry = (launch.entry or "").encode()
        self.call("cuModuleGetFunction", ctypes.byref(function), self.module, ctypes.c_char_p(entry))
        if launch.shared > 48 * 1024:
            self.call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED, launch.shared)
        sizes = {name: elements.size(array.type) * _product(array.shape) for name, array in launch.arrays.items()}
        addresses = {name: self.allocate(contents[name], size) for name, size in sizes.items()}
        values = [self.value(parameter, addresses) for parameter in launch.parameters]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, values))
        attribute = LaunchAttribute(id=CLUSTER_DIMENSION)
        attribute.value[:3] = launch.cluster
        config = LaunchConfig(shared=launch.shared)
        config.grid[:], config.block[:] = launch.grid, launch.block
        if launch.cluster != (1, 1, 1):
            config.attributes, config.count = ctypes.pointer(attribute), 1
        self.call("cuLaunchKernelEx", ctypes.byref(config), function, pointers, None)
        self.call("cuCtxSynchronize")
        outputs = {name: self.read(addresses[name], sizes[name]) for name, array in launch.arrays.items() if array.is_output}
        for address in addresses.values():
            self.call("cuMemFree_v2", ctypes.c_uint64(address))
        return outputs

    def value(self, parameter: Pointer | Scalar | TensorMap, addresses: dict[str, int]) -> ctypes.Array:
        """The bytes of a parameter."""
        if isinstance(parameter, Scalar):
            return _buffer(parameter.bytes())
        if isinstance(parameter, Pointer):
            address = 0 if parameter.array is None else addresses[parameter.array]
            return _buffer(address.to_bytes(8, "little"))
        # The driver wants it at a multiple of 64.
        room = ctypes.create_string_buffer(TENSOR_MAP_BYTES + 64)
        offset = -ctypes.addressof(room) % 64
        encoded = (ctypes.c_char * TENSOR_MAP_BYTES).from_buffer(room, offset)
        rank = len(parameter.dims)
        self.call(
            "cuTensorMapEncodeTiled",
            ctypes.byref(encoded),
            DATA_TYPES[parameter.type],
            rank,
            ctypes.c_uint64(addresses[parameter.array]),
            (ctypes.c_uint64 * rank)(*parameter.dims),
            (ctypes.c_uint64 * max(1, rank - 1))(*parameter.strides),
            (ctypes.c_uint32 * rank)(*parameter.box),
            (ctypes.c_uint32 * rank)(*parameter.element_strides),
            0,
            SWIZZLES[parameter.swizzle],
            0,
            0,
        )
        return encoded


def _buffer(data: bytes) -> ctypes.Array:
    return ctypes.create_string_buffer(data, len(data))


def _product(shape: Sequence[int]) -> int:
    product = 1
    for dim in shape:
        product *= dim
    return product

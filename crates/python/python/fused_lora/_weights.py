"""Base weights, packed: one for each tensor, kept outside of the modules."""

import ctypes
import os
import pathlib
import weakref

import torch
from torch import Tensor
from torch.nn import Parameter

from . import _native

DTYPES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
TENSORS = (Parameter, Tensor)

_packed = {}


class Packed:
    """A weight as it was when it was packed."""

    __slots__ = ("native", "pointer", "dtype", "shape", "stride", "version", "transposed", "n", "k", "weight")


def is_plain(tensor):
    """Whether it is an ordinary tensor in the CPU's memory, of a type that there are kernels for."""
    return (
        type(tensor) in TENSORS
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.dtype in DTYPES
        and not tensor.is_neg()
        # Zeros that have no memory.
        and not tensor._is_zerotensor()
    )


def version(tensor):
    """How often torch's operators have changed it in place; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def packed(weight, transposed):
    """The packed weight W: [N, K] of `weight`, which is [K, N] if `transposed`; None if it cannot be packed.

    It is packed anew where another tensor, another memory or a change by one of torch's operators shows; the
    native side compares a sample of its elements besides.
    """
    found = _packed.get(id(weight))
    if (
        found is not None
        and found.pointer == weight.data_ptr()
        and (found.version is None or found.version == weight._version)
        and found.dtype is weight.dtype
        and found.shape == weight.shape
        and found.stride == weight.stride()
        and found.transposed is transposed
        and not weight.is_neg()
    ):
        return found
    return _pack(weight, transposed)


def _pack(weight, transposed):
    if not (is_plain(weight) and weight.dim() == 2 and weight.numel()):
        return None
    rows, columns = weight.shape
    n, k = (columns, rows) if transposed else (rows, columns)
    if weight.is_contiguous():
        by_columns = transposed
    elif weight.t().is_contiguous():
        by_columns = not transposed
    else:
        return None
    entry = Packed()
    entry.version = version(weight)
    entry.pointer, entry.dtype, entry.transposed = weight.data_ptr(), weight.dtype, transposed
    entry.shape, entry.stride = weight.shape, weight.stride()
    entry.n, entry.k = n, k
    entry.native = _native.Layer(entry.pointer, DTYPES[weight.dtype], n, k, by_columns)
    key = id(weight)
    entry.weight = weakref.ref(weight, lambda gone: _forget(key, gone))
    _packed[key] = entry
    return entry


def _forget(key, gone):
    entry = _packed.get(key)
    if entry is not None and entry.weight is gone:
        del _packed[key]


def refresh(weight):
    """Lets `weight` be packed again at its next use."""
    entry = _packed.get(id(weight))
    if entry is not None:
        entry.native.refresh()


def drop(weight):
    """Frees the packed weight."""
    _packed.pop(id(weight), None)


def _use_torch_threads():
    """Hands the native side the OpenMP that torch's own library is linked with, where there is one."""
    library = pathlib.Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        # The library is loaded already, and symbols are looked up in what it is linked with.
        handle = ctypes.CDLL(str(library))
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_max_threads")
        addresses = [ctypes.cast(getattr(handle, name), ctypes.c_void_p).value for name in names]
    except (OSError, AttributeError):
        return
    if "ATen parallel backend: OpenMP" in torch.__config__.parallel_info():
        _native.use_openmp(*addresses)


_use_torch_threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.after_fork)

"""The methods that are compared: each turns a linear layer with an un-merged LoRA adapter into a function of x.

    h = s · x Aᵀ            x: [M, K]   W: [N, K]   A: [r, K]   B: [N, r]
    y = x Wᵀ + h Bᵀ
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

# s = lora_alpha / rank. No power of two, so that a method which forgets or repeats it is caught.
SCALE = 1.5
# Where vLLM keeps its Triton kernels, by version. They take an adapter table, of which one entry is used here.
VLLM_MODULES = ("vllm.lora.ops.triton_ops", "vllm.runtime.modeling.lora.ops.triton_ops")
VLLM_NAMES = ("LoRAKernelMeta", "lora_shrink", "lora_expand")
# vLLM stores an adapter at the next of these ranks, with zeros behind it.
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Layer(NamedTuple):
    """One projection: W [N, K], A [r, K], B [N, r]."""

    w: Tensor
    a: Tensor
    b: Tensor


Module = Callable[[Tensor], Tensor]
Wrap = Callable[[Layer], Module]


class Skipped(Exception):
    """A method that is left out here; its text says why."""


def base(layer: Layer) -> Module:
    """x Wᵀ alone."""
    return lambda x: linear(x, layer.w)


def unfused(layer: Layer) -> Module:
    """Three calls: x Wᵀ; h = s·x Aᵀ, rounded once; y += h Bᵀ."""

    def module(x: Tensor) -> Tensor:
        y = linear(x, layer.w)
        h = x.new_empty(x.shape[0], layer.a.shape[0])
        # beta = 0: h is only written.
        torch.addmm(h, x, layer.a.t(), beta=0, alpha=SCALE, out=h)
        return y.addmm_(h, layer.b.t())

    return module


def compiled(rank: int, _: Tensor, backend: str = "inductor") -> Wrap:
    """The layer as its users write it, compiled for these shapes alone."""

    def forward(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return linear(x, w) + linear(linear(x, a) * SCALE, b)

    if rank == 0:
        raise Skipped("at rank 0 it is the base product")
    # Of the cell before: PyTorch stops to compile a function that it has compiled for many shapes.
    torch.compiler.reset()
    function = torch.compile(forward, dynamic=False, backend=backend)
    return lambda layer: lambda x: function(x, *layer)


def peft(rank: int, _: Tensor, autocast: bool) -> Wrap:
    """PEFT's own lora.Linear, eager, around the layer's weights, shared and not copied.

    `autocast` is PEFT's `autocast_adapter_dtype`: its default, True, keeps A and B in f32. PEFT refuses rank 0;
    there the layer has an adapter of rank 1 that is switched off, which takes PEFT's base path."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise Skipped(f"the package peft is missing ({error})") from None
    r = max(rank, 1)

    def wrap(layer: Layer) -> Module:
        n, k = layer.w.shape
        plain = nn.Linear(k, n, bias=False, device="meta")
        plain.weight = nn.Parameter(layer.w, requires_grad=False)
        config: Any = LoraConfig(
            r=r, lora_alpha=SCALE * r, lora_dropout=0.0, init_lora_weights=False, target_modules=["layer"]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the model has no `config`, as a bare nn.Module has not
            model: Any = get_peft_model(nn.ModuleDict({"layer": plain}), config, autocast_adapter_dtype=autocast)
        module = model.eval().base_model.model["layer"]
        if rank == 0:
            module.enable_adapters(False)
            return module
        for part, value in ((module.lora_A, layer.a), (module.lora_B, layer.b)):
            part["default"].weight = nn.Parameter(value.float() if autocast else value, requires_grad=False)
        return module

    return wrap


def vllm_ops() -> ModuleType:
    """The module with vLLM's kernels."""
    reasons = []
    for path in VLLM_MODULES:
        try:
            module = importlib.import_module(path)
        except Exception as error:  # its import checks the platform, and raises whatever it likes
            reasons.append(f"{path}: {error}")
            continue
        absent = [name for name in VLLM_NAMES if not hasattr(module, name)]
        if not absent:
            return module
        reasons.append(f"{path} has no {', '.join(absent)}")
    if importlib.util.find_spec("vllm") is None:
        raise Skipped("the package vllm is missing")
    raise Skipped(f"vllm's kernels are not where they are known to be: {'; '.join(reasons)}")


def vllm(rank: int, x: Tensor) -> Wrap:
    """`linear`, then lora_shrink and lora_expand into its result: one adapter for all tokens."""
    if rank == 0:
        raise Skipped("at rank 0 it is the base product")
    ops, m = vllm_ops(), x.shape[0]
    meta = ops.LoRAKernelMeta.make(max_loras=1, max_num_tokens=m, device=x.device)
    meta.prepare_tensors(torch.zeros(m, dtype=torch.long, device=x.device))
    # Later versions ask whether to launch for as many adapters as there are: there is one.
    takes = len(inspect.signature(meta.meta_args).parameters)
    arguments = meta.meta_args(m) if takes == 1 else meta.meta_args(m, False)
    wide = next(known for known in VLLM_RANKS if known >= rank)

    def wrap(layer: Layer) -> Module:
        a = [pad(layer.a, (0, 0, 0, wide - rank))[None]]  # [1, wide, K]
        b = [pad(layer.b, (0, wide - rank))[None]]  # [1, N, wide]
        h = torch.ones(1, m, wide, dtype=torch.float32, device=x.device)
        # Older versions add to what is in h, where later ones clear it themselves.
        probe = layer.a.new_ones(m, layer.a.shape[1])
        ops.lora_shrink(probe, a, h, *arguments, SCALE)
        first = h.clone()
        ops.lora_shrink(probe, a, h, *arguments, SCALE)
        adds = not torch.allclose(first, h, rtol=1e-2, atol=1e-2)

        def module(x: Tensor) -> Tensor:
            y = linear(x, layer.w)
            if adds:
                h.zero_()
            ops.lora_shrink(x, a, h, *arguments, SCALE)
            ops.lora_expand(h, b, y, *arguments, offset_start=0, add_inputs=True)
            return y

        return module

    return wrap


@dataclass(frozen=True)
class DType:
    """An element type, and the devices that it is measured on. `h` is what the reference rounds h to, `u` the unit
    roundoff of the tolerance. (fp32 runs on f16 values and is held to f16's rule.)"""

    name: str  # in the names of methods
    record: str  # in the column `dtype`
    element: torch.dtype
    h: torch.dtype
    u: float
    devices: tuple[str, ...] = ("cpu",)


DTYPES = (
    DType("fp16", "f16", torch.float16, torch.float16, 2.0**-11, ("cpu", "cuda")),
    DType("bf16", "bf16", torch.bfloat16, torch.bfloat16, 2.0**-8),
    DType("fp32", "f32", torch.float32, torch.float16, 2.0**-11),
)


@dataclass(frozen=True)
class Method:
    """`make(rank, x)` gives what wraps the layers of a cell, for inputs like x; it raises Skipped if it cannot."""

    name: str
    make: Callable[[int, Tensor], Wrap]
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("fp16", "bf16", "fp32")


# The first is what the others are compared with. At rank 0 they take its path.
METHODS = (
    Method("base", lambda rank, x: base),
    Method("unfused", lambda rank, x: unfused if rank > 0 else base),
    Method("compiled", compiled, devices=("cuda",)),
    Method("peft", partial(peft, autocast=False)),
    Method("peft-f32", partial(peft, autocast=True), dtypes=("fp16", "bf16")),
    Method("vllm", vllm, devices=("cuda",)),
)


def choose(entries: tuple, device: str, names: str) -> list:
    """The entries of DTYPES or METHODS with these names (joined by commas); without names, all of the device.
    Raises ValueError on a name that the device does not have, or that is there twice."""
    known = {entry.name: entry for entry in entries if device in entry.devices}
    chosen = names.split(",") if names else list(known)
    if not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
        raise ValueError(f"'{names}': expected some of {','.join(known)}, each once, for the device {device}")
    return [known[name] for name in chosen]

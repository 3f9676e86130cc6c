"""The methods that `torch_cuda.py` times: what they compute, eager and as graphs. Runs on any device of PyTorch.

One method is a function of a `Slot` (see `torch_layers`) that returns y of each projection.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from torch_layers import SCALE, DType, Expected, Slot, add_peft, base, unfused

Call = Callable[[Slot], list[Tensor]]

# Where vLLM keeps its Triton kernels, by version. They take an adapter table, of which one entry is used here.
VLLM_MODULES = ("vllm.lora.ops.triton_ops", "vllm.runtime.modeling.lora.ops.triton_ops")
VLLM_NAMES = ("LoRAKernelMeta", "lora_shrink", "lora_expand")
# vLLM stores an adapter at the next of these ranks, with zeros behind it.
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Skipped(Exception):
    """A method that is left out here; its text says why."""


def compiled(rank: int, backend: str = "inductor") -> Call:
    """The layer as its users write it, compiled for these shapes alone."""

    def forward(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return linear(x, w) + linear(linear(x, a) * SCALE, b)

    if rank == 0:
        raise Skipped("at rank 0 it is the base product")
    # Of the cell before: PyTorch stops to compile a function that it has compiled for many shapes.
    torch.compiler.reset()
    function = torch.compile(forward, dynamic=False, backend=backend)
    return lambda slot: [function(x, layer.w, layer.a, layer.b) for x, layer in zip(slot.xs, slot.layers)]


def peft(slots: list[Slot], name: str, rank: int, autocast: bool) -> Call:
    """PEFT's lora.Linear, eager; layers that share their weights share the module."""
    try:
        importlib.import_module("peft")
    except ImportError as error:
        raise Skipped(f"the package peft is missing ({error})") from None
    for slot in slots:
        if slot is not slots[0] and slot.layers is slots[0].layers:
            slot.modules[name] = slots[0].modules[name]
        else:
            call = add_peft(slot, name, rank, autocast)
    return call


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


@dataclass
class _Vllm:
    """One projection's adapter as vLLM has it, and the intermediate result."""

    a: list[Tensor]  # [[1, rank, K]]
    b: list[Tensor]  # [[1, N, rank]]
    h: Tensor  # [1, M, rank], f32
    zeroes: bool  # whether h has to be cleared before each shrink


def vllm(slots: list[Slot], rank: int, ops: ModuleType | None = None) -> Call:
    """`linear`, then lora_shrink and lora_expand into its result: one adapter for all tokens."""
    if rank == 0:
        raise Skipped("at rank 0 it is the base product")
    ops = ops or vllm_ops()
    m, device = slots[0].xs[0].shape[0], slots[0].xs[0].device
    meta = ops.LoRAKernelMeta.make(max_loras=1, max_num_tokens=m, device=device)
    meta.prepare_tensors(torch.zeros(m, dtype=torch.long, device=device))
    # Later versions ask whether to launch for as many adapters as there are: there is one.
    takes = len(inspect.signature(meta.meta_args).parameters)
    arguments = meta.meta_args(m) if takes == 1 else meta.meta_args(m, False)
    wide = next(known for known in VLLM_RANKS if known >= rank)

    def shrink(x: Tensor, adapter: _Vllm) -> None:
        if adapter.zeroes:
            adapter.h.zero_()
        ops.lora_shrink(x, adapter.a, adapter.h, *arguments, SCALE)

    def adapt(slot: Slot) -> list[_Vllm]:
        adapters = []
        for x, layer in zip(slot.xs, slot.layers):
            a = layer.a.new_zeros(1, wide, layer.a.shape[1])
            a[0, :rank] = layer.a
            b = layer.b.new_zeros(1, layer.b.shape[0], wide)
            b[0, :, :rank] = layer.b
            h = torch.ones(1, m, wide, dtype=torch.float32, device=device)
            adapter = _Vllm([a], [b], h, zeroes=False)
            # Older versions add to what is in h, where later ones clear it themselves.
            shrink(x, adapter)
            first = h.clone()
            shrink(x, adapter)
            adapter.zeroes = not torch.allclose(first, h, rtol=1e-2, atol=1e-2)
            adapters.append(adapter)
        return adapters

    of_slot: dict[int, list[_Vllm]] = {}
    for slot in slots:
        shared = slot is not slots[0] and slot.layers is slots[0].layers
        of_slot[id(slot)] = of_slot[id(slots[0])] if shared else adapt(slot)

    def call(slot: Slot) -> list[Tensor]:
        ys = []
        for x, layer, adapter in zip(slot.xs, slot.layers, of_slot[id(slot)]):
            y = linear(x, layer.w)
            shrink(x, adapter)
            ops.lora_expand(adapter.h, adapter.b, y, *arguments, offset_start=0, add_inputs=True)
            ys.append(y)
        return ys

    return call


def calls(
    slots: list[Slot], rank: int, methods: list[str], left_out: Callable[[str, str], None]
) -> dict[str, Call]:
    """The methods of those names; `left_out(method, why)` hears of those that cannot be had here."""
    makers: dict[str, Callable[[], Call]] = {
        "base": lambda: base,
        "unfused": lambda: unfused,
        "compiled": lambda: compiled(rank),
        "peft": lambda: peft(slots, "peft", rank, autocast=False),
        "peft-f32": lambda: peft(slots, "peft-f32", rank, autocast=True),
        "vllm": lambda: vllm(slots, rank),
    }
    found = {}
    for method in methods:
        try:
            found[method] = makers[method]()
        except Skipped as skipped:
            left_out(method, str(skipped))
    return found


@dataclass
class Case:
    """One method, eager or as a graph: what a sample runs, and y of the first slot after it."""

    name: str
    adapter: bool
    run: Callable[[], None]
    ys: Callable[[], list[Tensor]]
    graph: bool = False

    @property
    def base(self) -> str:
        """What it is compared with: the base that is launched as it is."""
        return self.name.rpartition("/")[0] + ("/base-graph" if self.graph else "/base")

    def excess(self, expected: list[Expected], dtype: DType) -> list[float]:
        """Error over tolerance of each projection, of outputs that did not exist, or were NaN, before."""
        for y in self.ys():
            y.fill_(torch.nan)
        self.run()
        return [want.excess(y, dtype.u) for want, y in zip(expected, self.ys(), strict=True)]


@dataclass
class _Rounds:
    """Passes over all slots, from the first on; keeps the outputs, so that each slot has memory of its own."""

    call: Call
    slots: list[Slot]
    passes: int
    ys: list[list[Tensor]] = field(default_factory=list)

    def __call__(self) -> None:
        if not self.ys:
            self.ys = [[] for _ in self.slots]
        for i in range(self.passes):
            slot = i % len(self.slots)
            self.ys[slot] = self.call(self.slots[slot])


def eager(name: str, adapter: bool, call: Call, slots: list[Slot], passes: int) -> Case:
    """Every call launched by the host, as PyTorch does."""
    rounds = _Rounds(call, slots, passes)
    return Case(name, adapter, rounds, lambda: rounds.ys[0] if rounds.ys else [])


def captured(name: str, adapter: bool, call: Call, slots: list[Slot], passes: int, gpu: Any) -> Case:
    """All passes in one graph. Raises Skipped if they cannot be captured."""
    rounds = _Rounds(call, slots, passes)
    try:
        replay = gpu.capture(rounds)
    except RuntimeError as error:
        raise Skipped(f"it cannot be captured: {str(error).splitlines()[0]}") from None
    return Case(name + "-graph", adapter, replay, lambda: rounds.ys[0], graph=True)

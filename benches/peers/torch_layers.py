"""The layers that `torch_cpu.py` times: inputs, rotation over buffers, methods, and the f64 check.

One linear layer with an un-merged LoRA adapter, in the project's names:

    h = s · x Aᵀ            x: [M, K]   W: [N, K]   A: [r, K]   B: [N, r]
    y = x Wᵀ + h Bᵀ
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from records import Cell, Workload

# s = lora_alpha / rank. No power of two, so that a method which forgets or repeats it is caught.
SCALE = 1.5
CHECKED_ROWS = 16


@dataclass(frozen=True)
class DType:
    """An element type: its name in records, PyTorch's, the type that h is rounded to by the reference,
    and the unit roundoff `u` of the tolerance. (fp32 runs on f16 values and is held to f16's rule.)"""

    name: str
    element: torch.dtype
    h: torch.dtype
    u: float


DTYPES = {
    dtype.name: dtype
    for dtype in (
        DType("fp16", torch.float16, torch.float16, 2.0**-11),
        DType("bf16", torch.bfloat16, torch.bfloat16, 2.0**-8),
        DType("fp32", torch.float32, torch.float16, 2.0**-11),
    )
}


@dataclass(frozen=True)
class Layer:
    """One projection: W [N, K], A [r, K], B [N, r]."""

    w: Tensor
    a: Tensor
    b: Tensor


@dataclass
class Slot:
    """One place of the rotation: x and layer of each projection. `y` holds its last outputs, so that
    the next place's outputs get other memory."""

    xs: list[Tensor]
    layers: list[Layer]
    modules: dict[str, list[Callable[[Tensor], Tensor]]] = field(default_factory=dict)
    y: list[Tensor] = field(default_factory=list)


def make_inputs(workload: Workload, cell: Cell, seed: int) -> tuple[list[Tensor], list[Layer]]:
    """f16 values in f32 tensors: x ~ N(0, 1), W and A ~ N(0, 1/√K), B ~ N(0, 1/√r) (mean, deviation)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, deviation: float) -> Tensor:
        return torch.randn(rows, columns, generator=generator).mul_(deviation).half().float()

    rank = cell.rank
    xs = [normal(cell.m, k, 1.0) for k, _ in workload.projections]
    layers = [
        Layer(normal(n, k, k**-0.5), normal(rank, k, k**-0.5), normal(n, rank, max(rank, 1) ** -0.5))
        for k, n in workload.projections
    ]
    return xs, layers


def make_slots(
    xs: list[Tensor], layers: list[Layer], dtype: DType, warm_w: bool, cache_bytes: int
) -> list[Slot]:
    """Copies of the inputs in `dtype`, as many as fill three times `cache_bytes`, at least two.

    Cold-ish: x, W, A, B (and y, see `Slot`) rotate. Warm W: only x and y do.
    """

    def copy(layer: Layer) -> Layer:
        return Layer(*(t.to(dtype.element, copy=True) for t in (layer.w, layer.a, layer.b)))

    elements = sum(x.numel() + x.shape[0] * layer.w.shape[0] for x, layer in zip(xs, layers))
    if not warm_w:
        elements += sum(t.numel() for layer in layers for t in (layer.w, layer.a, layer.b))
    count = max(2, math.ceil(3 * cache_bytes / (elements * dtype.element.itemsize)))
    shared = [copy(layer) for layer in layers]
    return [
        Slot(
            [x.to(dtype.element, copy=True) for x in xs],
            shared if warm_w else [copy(layer) for layer in layers],
        )
        for _ in range(count)
    ]


def base(slot: Slot) -> list[Tensor]:
    """x Wᵀ alone."""
    return [linear(x, layer.w) for x, layer in zip(slot.xs, slot.layers)]


def unfused(slot: Slot) -> list[Tensor]:
    """Three calls: x Wᵀ; h = s·x Aᵀ, rounded once; y += h Bᵀ. The base path at rank 0."""
    ys = []
    for x, layer in zip(slot.xs, slot.layers):
        y = linear(x, layer.w)
        if layer.a.shape[0] > 0:
            h = x.new_empty(x.shape[0], layer.a.shape[0])
            # beta = 0: h is only written.
            torch.addmm(h, x, layer.a.t(), beta=0, alpha=SCALE, out=h)
            y.addmm_(h, layer.b.t())
        ys.append(y)
    return ys


def add_peft(slot: Slot, name: str, rank: int, autocast: bool) -> Callable[[Slot], list[Tensor]]:
    """Wraps the slot's weights, shared and not copied, in PEFT's own LoRA layers under `name`.

    `autocast` is PEFT's `autocast_adapter_dtype`: its default, True, keeps A and B in f32. PEFT refuses
    rank 0; there the layers have an adapter of rank 1 that is switched off, which takes PEFT's base path.
    """
    from peft import LoraConfig, get_peft_model

    names = [f"proj{i}" for i in range(len(slot.layers))]
    model = nn.Module()
    for proj, layer in zip(names, slot.layers):
        n, k = layer.w.shape
        plain = nn.Linear(k, n, bias=False, device="meta")
        plain.weight = nn.Parameter(layer.w, requires_grad=False)
        setattr(model, proj, plain)
    config = LoraConfig(
        r=max(rank, 1),
        lora_alpha=SCALE * max(rank, 1),  # type: ignore[arg-type]  # any number will do
        lora_dropout=0.0,
        init_lora_weights=False,
        target_modules=names,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the model has no `config`, as a bare nn.Module has not
        wrapped: Any = get_peft_model(model, config, autocast_adapter_dtype=autocast).eval()
    modules = [wrapped.base_model.model.get_submodule(proj) for proj in names]
    for module, layer in zip(modules, slot.layers):
        if rank == 0:
            module.enable_adapters(False)
            continue
        for part, value in ((module.lora_A, layer.a), (module.lora_B, layer.b)):
            kept = value.float() if autocast else value
            part["default"].weight = nn.Parameter(kept, requires_grad=False)
    slot.modules[name] = modules
    return lambda slot: [module(x) for module, x in zip(slot.modules[name], slot.xs)]


@dataclass
class Case:
    """One method in one element type, with the places that its calls go round."""

    name: str
    dtype: DType
    adapter: bool
    call: Callable[[Slot], list[Tensor]]
    rotation: Iterator[Slot]

    @property
    def is_base(self) -> bool:
        """Whether this is what the other methods of its dtype are compared with."""
        return self.name.endswith("/base")

    def step(self) -> list[Tensor]:
        """One forward pass of the workload, at the next place."""
        slot = next(self.rotation)
        slot.y = self.call(slot)
        return slot.y


def make_cases(slots: list[Slot], dtype: DType, cell: Cell, peft: bool) -> list[Case]:
    """The methods of one element type; they share one rotation. The base comes first."""
    calls: dict[str, Callable[[Slot], list[Tensor]]] = {"base": base, "unfused": unfused}
    if peft:
        kinds = {"peft": False}
        if dtype.element != torch.float32:
            kinds["peft-f32"] = True
        for name, autocast in kinds.items():
            for slot in slots:
                calls[name] = add_peft(slot, name, cell.rank, autocast)
    rotation = itertools.cycle(slots)
    return [
        Case(f"torch-{dtype.name}/{name}", dtype, name != "base" and cell.rank > 0, call, rotation)
        for name, call in calls.items()
    ]


@dataclass(frozen=True)
class Expected:
    """The reference's rows of one projection in f64, and what each element may be off by."""

    rows: Tensor
    y: Tensor
    tolerance: Tensor

    def excess(self, y: Tensor, u: float) -> float:
        """The larger of: worst error over its tolerance; ‖y − ref‖_F over 2u·‖ref‖_F. NaN if y has one."""
        error = (y[self.rows].double() - self.y).abs()
        element = (error / self.tolerance).max().item()
        frobenius = error.norm().item() / (2 * u * self.y.norm().item())
        return math.nan if math.isnan(element) else max(element, frobenius)


def expect(slot: Slot, dtype: DType, adapter: bool) -> list[Expected]:
    """The project's reference (f64 sums, h rounded once) and tolerance, on up to CHECKED_ROWS rows of x."""
    expected = []
    for x, layer in zip(slot.xs, slot.layers):
        m, k = x.shape
        rows = torch.linspace(0, m - 1, min(m, CHECKED_ROWS), dtype=torch.float64).round().long()
        x64, w64 = x[rows].double(), layer.w.double()
        y = x64 @ w64.t()
        slack = (k / 16 + 32) * 2.0**-23 * (x64.abs() @ w64.abs().t())
        if adapter:
            h = (SCALE * (x64 @ layer.a.double().t())).to(dtype.h).double()
            b64 = layer.b.double()
            y += h @ b64.t()
            slack += 2 * dtype.u * (h.abs() @ b64.abs().t()) + 2.0**-24 * (1 + b64.abs().sum(1))
        else:
            slack += 2.0**-24
        expected.append(Expected(rows, y, 2 * dtype.u * y.abs() + slack))
    return expected

"""Linear layers in PyTorch, one after another, each with an un-merged LoRA adapter.

    h = s · x Aᵀ            x: [M, K]   W: [N, K]   A: [r, K]   B: [N, r]
    y = x Wᵀ + h Bᵀ

The bench's tensors are `x.<i>`, `w.<i>`, `a.<rank>.<i>`, `b.<rank>.<i>` of the i-th layer, and `scale`. Where the rows of
a batch have several adapters, those after the first are `a.<rank>.<i>.<j>`, `b.<rank>.<i>.<j>`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

if TYPE_CHECKING:
    from torch_worker import Forward, Ring, Worker

# Where vLLM keeps its Triton kernels, by version. They take an adapter table, of which one entry is used here.
VLLM_MODULES = ("vllm.lora.ops.triton_ops", "vllm.runtime.modeling.lora.ops.triton_ops")
VLLM_NAMES = ("LoRAKernelMeta", "lora_shrink", "lora_expand")
# vLLM stores an adapter at the next of these ranks, with zeros behind it.
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Layer(NamedTuple):
    """One projection: W [N, K], A [r, K], B [N, r], s; A and B of the batch's other adapters."""

    w: Tensor
    a: Tensor
    b: Tensor
    scale: float
    others: tuple[tuple[Tensor, Tensor], ...] = ()


Module = Callable[[Tensor], Tensor]
Wrap = Callable[[Layer], Module]


def base(layer: Layer) -> Module:
    """x Wᵀ alone."""
    return lambda x: linear(x, layer.w)


def unfused(layer: Layer) -> Module:
    """Three calls: x Wᵀ; h = s·x Aᵀ, rounded once; y += h Bᵀ."""

    def module(x: Tensor) -> Tensor:
        y = linear(x, layer.w)
        h = x.new_empty(x.shape[0], layer.a.shape[0])
        # beta = 0: h is only written.
        torch.addmm(h, x, layer.a.t(), beta=0, alpha=layer.scale, out=h)
        return y.addmm_(h, layer.b.t())

    return module


def compiled(rank: int, _: Tensor, backend: str = "inductor") -> Wrap:
    """The layer as its users write it, compiled for these shapes alone."""

    def forward(x: Tensor, w: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        return linear(x, w) + linear(linear(x, a) * scale, b)

    # A size has a shape for each rank and projection; PyTorch stops to compile a function after eight.
    torch._dynamo.config.recompile_limit = 64
    function = torch.compile(forward, dynamic=False, backend=backend)
    return lambda layer: lambda x: function(x, layer.w, layer.a, layer.b, layer.scale)


def peft(rank: int, x: Tensor, autocast: bool) -> Wrap:
    """PEFT's own lora.Linear, eager, around the layer's weights, shared and not copied.

    `autocast` is PEFT's `autocast_adapter_dtype`: its default, True, keeps A and B in f32. PEFT refuses rank 0;
    there the layer has an adapter of rank 1 that is switched off, which takes PEFT's base path. Several adapters are
    PEFT's mixed batch: `adapter_names` says for each row of x which it has, as many rows each."""
    from peft import LoraConfig, get_peft_model

    r = max(rank, 1)

    def wrap(layer: Layer) -> Module:
        n, k = layer.w.shape
        plain = nn.Linear(k, n, bias=False, device="meta")
        plain.weight = nn.Parameter(layer.w, requires_grad=False)
        config: Any = LoraConfig(
            r=r, lora_alpha=layer.scale * r, lora_dropout=0.0, init_lora_weights=False, target_modules=["layer"]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the model has no `config`, as a bare nn.Module has not
            model: Any = get_peft_model(nn.ModuleDict({"layer": plain}), config, "0", autocast_adapter_dtype=autocast)
            for number in range(1, 1 + len(layer.others)):
                model.add_adapter(str(number), config, autocast_adapter_dtype=autocast)
        module = model.eval().base_model.model["layer"]
        if rank == 0:
            module.enable_adapters(False)
            return module
        loras = ((layer.a, layer.b), *layer.others)
        for number, lora in enumerate(loras):
            for part, value in zip((module.lora_A, module.lora_B), lora, strict=True):
                value = value.float() if autocast else value
                part[str(number)].weight = nn.Parameter(value, requires_grad=False)
        if len(loras) == 1:
            return module
        ends = [number * x.shape[0] // len(loras) for number in range(1 + len(loras))]
        names = [str(i) for i, (first, end) in enumerate(pairwise(ends)) for _ in range(first, end)]
        return partial(module, adapter_names=names)

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
    raise ImportError(f"vllm's kernels are not where they are known to be: {'; '.join(reasons)}")


def vllm(rank: int, x: Tensor) -> Wrap:
    """`linear`, then lora_shrink and lora_expand into its result: one adapter for all tokens."""
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
        ops.lora_shrink(probe, a, h, *arguments, layer.scale)
        first = h.clone()
        ops.lora_shrink(probe, a, h, *arguments, layer.scale)
        adds = not torch.allclose(first, h, rtol=1e-2, atol=1e-2)

        def module(x: Tensor) -> Tensor:
            y = linear(x, layer.w)
            if adds:
                h.zero_()
            ops.lora_shrink(x, a, h, *arguments, layer.scale)
            ops.lora_expand(h, b, y, *arguments, offset_start=0, add_inputs=True)
            return y

        return module

    return wrap


# By the name in those of methods: the element type, and the devices that it is measured on.
DTYPES = {
    "fp16": (torch.float16, ("cpu", "cuda")),
    "bf16": (torch.bfloat16, ("cpu",)),
    "fp32": (torch.float32, ("cpu",)),
}


@dataclass(frozen=True)
class Method:
    """`make(rank, x)` gives what wraps the layers, for inputs like x. `mixes`: whose rows may have several adapters."""

    make: Callable[[int, Tensor], Wrap]
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = tuple(DTYPES)
    needs_adapter: bool = False
    mixes: bool = False
    package: str = "torch"


# The first is what the others are compared with. At rank 0 they take its path, or are left out.
METHODS = {
    "base": Method(lambda rank, x: base, mixes=True),
    "unfused": Method(lambda rank, x: unfused if rank > 0 else base),
    "compiled": Method(compiled, devices=("cuda",), needs_adapter=True),
    "peft": Method(partial(peft, autocast=False), mixes=True, package="peft"),
    "peft-f32": Method(partial(peft, autocast=True), dtypes=("fp16", "bf16"), mixes=True, package="peft"),
    "vllm": Method(vllm, devices=("cuda",), needs_adapter=True, package="vllm"),
}


def methods(device: str, adapters: int = 1) -> list[tuple[str, bool]]:
    """The names that there are on the device for batches of so many adapters, and whether there is none at rank 0. What is not installed is named on
    stderr."""
    found = []
    for dtype, (_, devices) in DTYPES.items():
        for name, method in METHODS.items():
            if device not in devices or device not in method.devices or dtype not in method.dtypes:
                continue
            if adapters > 1 and not method.mixes:
                continue
            if importlib.util.find_spec(method.package) is None:
                print(f"skipped: torch-{dtype}/{name}: the package {method.package} is missing", file=sys.stderr)
            else:
                found.append((f"torch-{dtype}/{name}", method.needs_adapter))
    return found


def forward(worker: Worker, name: str, rank: int) -> tuple[Forward, Ring]:
    """The layers' functions of x, one after another."""
    dtype, _, method = name.removeprefix("torch-").partition("/")
    element, slots = DTYPES[dtype][0], worker.slots
    ring = slots.ring(element)
    products = range(sum(name.startswith("w.") for name in slots.tensors))
    scale = slots.tensors["scale"].item()

    def copies(part: str, adapter: int = 0) -> list[list[Tensor]]:
        """By product and slot."""
        return [slots.copies(f"{part}.{i}" + f".{adapter}" * (adapter > 0), element) for i in products]

    xs, ws = copies("x"), copies("w")
    if rank > 0:
        loras = [(copies(f"a.{rank}", j), copies(f"b.{rank}", j)) for j in range(worker.adapters)]
    else:
        a = [[w.new_empty(0, w.shape[1]) for w in product] for product in ws]
        loras = [(a, [[w.new_empty(w.shape[0], 0) for w in product] for product in ws])]
    wrap = METHODS[method].make(rank, xs[0][0])
    # Slots that share their weights share the functions, too: some make copies of their own.
    own = 1 if slots.warm else ring.count

    def layer(i: int, slot: int) -> Layer:
        first, *others = ((a[i][slot], b[i][slot]) for a, b in loras)
        return Layer(ws[i][slot], *first, scale, tuple(others))

    modules = [[wrap(layer(i, slot)) for i in products] for slot in range(own)]

    def run(slot: int) -> list[Tensor]:
        return [module(xs[i][slot]) for i, module in enumerate(modules[slot % own])]

    return run, ring

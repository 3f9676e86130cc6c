"""PEFT's LoRA linear with a fused forward, which falls back to PEFT's own whenever something is in the way."""

import weakref

import torch
from peft.tuners.lora.layer import Conv1D, Linear
from peft.tuners.lora.model import _adapter_names_pre_forward_hook
from torch import nn
from torch._C import _functorch, _len_torch_dispatch_stack, _len_torch_function_stack
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

from . import _weights
from ._call import call
from ._operator import linear
from ._plan import HOOKS, plan
from ._report import Record
from ._weights import DTYPES

_records = {}


def record_of(layer):
    """The calls of a layer, which are kept outside of it: it can be copied and pickled as it is."""
    found = _records.get(id(layer))
    if found is None:
        key = id(layer)
        found = _records[key] = Record(weakref.ref(layer, lambda _: _records.pop(key, None)))
    return found


def forget(layer):
    """Ends the record of a layer."""
    _records.pop(id(layer), None)


def _mode():
    """The mode of torch that wants to see every operator, or None."""
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    if _len_torch_dispatch_stack():
        return "a dispatch mode"
    if _functorch.peek_interpreter_stack() is not None:
        return "a functorch transform"
    if _len_torch_function_stack() and not all(
        type(torch._C._get_function_stack_at(i)) is DeviceContext for i in range(_len_torch_function_stack())
    ):
        return "a function mode"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if torch._C._get_tracing_state() is not None:
        return "tracing"
    if any(HOOKS):
        return "a hook on all modules"
    return None


def _is_exactly(module, kind):
    """Whether a call of `module` is the forward of its class, `kind`, and nothing else."""
    state = module.__dict__
    return type(module) is kind and not (
        state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
        or "forward" in state
    )


def _parts(layer, args, kwargs):
    """What a fused call of `layer` computes with, as (base layer, adapters, the sequences' adapter names or None).

    An adapter is (name, A's weight, B's weight, scale). A string instead is the reason why no call can be fused.
    """
    state = layer.__dict__
    if args:
        return "arguments that are not LoRA's"
    names = None
    for key, value in kwargs.items():
        if key == "adapter_names":
            names = value
        elif value is not None:
            return f"the argument {key}"
    if state["_disable_adapters"]:
        return "adapters are disabled"
    if state["merged_adapters"]:
        return "merged adapters"
    pre_hooks = state["_forward_pre_hooks"]
    if names is not None:
        # This is how PEFT hands the names down.
        pre_hooks = [h for h in pre_hooks.values() if getattr(h, "func", None) is not _adapter_names_pre_forward_hook]
    if pre_hooks or state["_forward_hooks"] or state["_backward_hooks"] or state["_backward_pre_hooks"]:
        return "a hook on the layer"
    if "forward" in state:
        return "another forward set on the layer"
    modules = state["_modules"]
    base = modules["base_layer"]
    if not (_is_exactly(base, nn.Linear) or _is_exactly(base, Conv1D)):
        return "the base layer is no plain nn.Linear or Conv1D, or has a hook"
    of_a, of_b = modules["lora_A"]._modules, modules["lora_B"]._modules
    of_dropout = modules["lora_dropout"]._modules
    if names is None:
        active = state["_active_adapter"]
        active = (active,) if type(active) is str else active
    else:
        active = dict.fromkeys(name for name in names if name != "__base__")
    adapters = []
    for name in active:
        if name not in of_a:
            continue
        # Before peft 0.16 there were no variants but DoRA.
        if name in state.get("lora_variant", ()) or state["use_dora"].get(name, False):
            return "a variant of LoRA"
        a, b, dropout = of_a[name], of_b[name], of_dropout[name]
        if not (_is_exactly(a, nn.Linear) and _is_exactly(b, nn.Linear)):
            return "A or B is no plain nn.Linear, or has a hook"
        if a._parameters["bias"] is not None or b._parameters["bias"] is not None:
            return "a bias of the adapter"
        if not _is_exactly(dropout, nn.Identity) and not (
            _is_exactly(dropout, nn.Dropout) and (dropout.p == 0 or not dropout.training)
        ):
            return "dropout"
        adapters.append((name, a._parameters["weight"], b._parameters["weight"], state["scaling"][name]))
    if names is None and not adapters:
        return "no active adapter"
    return base, adapters, names


def _fused(layer, x, parts):
    """y of a fused call; a string instead is the reason why there is none."""
    if type(parts) is str:
        return parts
    mode = _mode()
    if mode is not None:
        return mode
    base, adapters, names = parts
    state = layer.__dict__
    sequences = None
    if names is not None:
        index = {name: i for i, (name, *_) in enumerate(adapters)}
        sequences = [index.get(name, -1) for name in names]
    return call(
        x,
        base._parameters["weight"],
        base._parameters["bias"],
        [adapter[1:] for adapter in adapters],
        sequences,
        type(base) is Conv1D,
        # Batches of several adapters are always cast.
        state.get("cast_input_dtype_enabled", True) or names is not None,
        torch.is_grad_enabled(),
    )


def _compiled(layer, x, args, kwargs):
    """As `_fused`, for torch.compile to trace: one call of the operator."""
    parts = _parts(layer, args, kwargs)
    if type(parts) is str:
        return parts
    base, adapters, names = parts
    weight, bias = base._parameters["weight"], base._parameters["bias"]
    of_a, of_b = [a for _, a, _, _ in adapters], [b for _, _, b, _ in adapters]
    tensors = [x, weight, *of_a, *of_b] if bias is None else [x, weight, bias, *of_a, *of_b]
    if names is not None or torch.is_autocast_enabled("cpu"):
        return "several adapters or autocast"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "something requires a gradient"
    narrow = weight.dtype
    if any(not tensor.is_cpu for tensor in tensors) or x.dtype is not narrow or narrow not in DTYPES:
        return "x or the weight"
    types = (narrow, torch.float32) if getattr(layer, "cast_input_dtype_enabled", True) else (narrow,)
    if any(a.dtype is not b.dtype or a.dtype not in types for a, b in zip(of_a, of_b, strict=True)):
        return "the types of W, A and B"
    scales = [scale for *_, scale in adapters]
    if all(isinstance(scale, torch.Tensor) for scale in scales):
        floats, tensors = [1.0] * len(scales), scales
    else:
        floats, tensors = [float(scale) for scale in scales], []
    return linear(x, weight, bias, of_a, of_b, floats, tensors, type(base) is Conv1D)


class FusedLinear(Linear):
    """A PEFT layer whose forward is fused. It has no state of its own: `patch` only changes the class."""

    def forward(self, x, *args, **kwargs):
        if torch.compiler.is_dynamo_compiling():
            # Nothing is counted: a counter would be part of what the graph depends on.
            y = _compiled(self, x, args, kwargs)
            return super().forward(x, *args, **kwargs) if isinstance(y, str) else y
        record = record_of(self)
        if record.plan and not (args or kwargs):
            y = record.plan.run(self, x)
            if y is not None:
                return y
        parts = _parts(self, args, kwargs)
        y = _fused(self, x, parts)
        if type(y) is str:
            record.peft[y] += 1
            return super().forward(x, *args, **kwargs)
        record.checked += 1
        if record.plan is not False and parts[2] is None and not (record.plan and record.plan.holds(self)):
            record.replace(plan(self, *parts[:2]))
        return y

    # PEFT changes the weight in ways that neither `_version` nor `data_ptr` shows.

    def merge(self, *args, **kwargs):
        try:
            super().merge(*args, **kwargs)
        finally:
            self._refresh()

    def unmerge(self):
        try:
            super().unmerge()
        finally:
            self._refresh()

    def delete_adapter(self, adapter_name):
        super().delete_adapter(adapter_name)
        self._refresh()

    def _refresh(self):
        _weights.refresh(self.get_base_layer().weight)

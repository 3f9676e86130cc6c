"""Lets the next calls of a layer skip the checks of `_layer`, as long as nothing that these look at has changed."""

from functools import partial

import torch
from torch import nn
from torch._C import _functorch, _len_torch_dispatch_stack, _len_torch_function_stack
from torch.autograd import forward_ad
from torch.nn.modules import module as _module

from . import _native
from ._weights import TENSORS, is_plain, packed

HOOKS = [
    _module._global_forward_hooks,
    _module._global_forward_pre_hooks,
    _module._global_backward_hooks,
    _module._global_backward_pre_hooks,
]
LEAVES = [type(None), bool, int, float, str, set, torch.device, torch.dtype, *TENSORS]


def _watch():
    """Whether this torch describes tensors by DLPack's functions in C, without which plans gain nothing."""
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return False
    # What says of each of torch's modes that there is none.
    modes = [
        (torch._C._is_any_autocast_enabled, False),
        (_len_torch_dispatch_stack, 0),
        (_len_torch_function_stack, 0),
        (_functorch.peek_interpreter_stack, None),
        (torch._C._get_tracing_state, None),
        (partial(forward_ad.__dict__.__getitem__, "_current_level"), -1),
    ]
    _native.watch(
        capsule=capsule,
        modes=modes,
        hooks=HOOKS,
        is_grad_enabled=torch.is_grad_enabled,
        module=nn.Module,
        tensors=TENSORS,
        leaves=LEAVES,
    )
    return True


_CAN_PLAN = _watch()


def plan(layer, base, adapters):
    """A `_native.Plan` of a layer whose call was fused, with the parts that were found; None if there is none."""
    # The value of a scale that is a tensor can change in place.
    if not _CAN_PLAN or any(type(scale) not in (float, int) for *_, scale in adapters):
        return None
    weight, bias = base._parameters["weight"], base._parameters["bias"]
    modules = layer._modules
    inside = [base, *(modules[name] for name in ("lora_A", "lora_B", "lora_dropout"))]
    for name, *_ in adapters:
        inside += [modules[kind]._modules[name] for kind in ("lora_A", "lora_B", "lora_dropout")]
    entry = packed(weight, type(base) is not nn.Linear)
    if entry is None or not all(is_plain(tensor) for _, a, b, _ in adapters for tensor in (a, b)):
        return None
    operands = [(a, b, float(scale)) for _, a, b, scale in adapters]
    return _native.Plan.of(layer, inside, entry.native, weight, entry.version, bias, operands)

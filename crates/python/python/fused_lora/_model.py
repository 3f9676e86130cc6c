"""Patching the layers of a model."""

import torch
from peft.tuners.lora.layer import Linear, LoraLayer

from . import _layer, _weights
from ._layer import FusedLinear
from ._report import Report


def patch(model):
    """As `fused_lora.patch`."""
    records, skipped = {}, {}
    for name, layer in _modules(model):
        if not isinstance(layer, LoraLayer):
            continue
        if type(layer) is Linear:
            base = layer.base_layer
            if type(base) not in (torch.nn.Linear, _layer.Conv1D):
                skipped[name] = f"its base layer is {_name(base)}, not nn.Linear or Conv1D"
                continue
            layer.__class__ = FusedLinear
        if type(layer) is FusedLinear:
            records[name] = _layer.record_of(layer)
        else:
            skipped[name] = f"it is {_name(layer)}, not PEFT's Linear"
    if not records and not skipped:
        raise ValueError(f"{_name(model)} has no LoRA layers of PEFT's: load an adapter before patching")
    return Report(records, skipped)


def unpatch(model):
    """As `fused_lora.unpatch`."""
    for layer in _fused(model):
        layer.__class__ = Linear
        _weights.drop(layer.get_base_layer().weight)
        _layer.forget(layer)


def refresh(model):
    """As `fused_lora.refresh`."""
    for layer in _fused(model):
        _weights.refresh(layer.get_base_layer().weight)


def _fused(model):
    return [layer for _, layer in _modules(model) if type(layer) is FusedLinear]


def _modules(model):
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"fused_lora works on a torch.nn.Module, not on {_name(model)}")
    return model.named_modules()


def _name(thing):
    return f"{type(thing).__module__}.{type(thing).__qualname__}"

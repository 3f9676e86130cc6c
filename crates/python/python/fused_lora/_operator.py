"""`torch.ops.fused_lora.linear`: a fused call as an operator of torch, for torch.compile.

Everything that it computes with is an argument. The packed weight is looked up by the tensor `weight`.
"""

import torch

from ._call import call

# The scale of each adapter is its float, times its tensor where there are tensors: after PEFT's
# `prepare_model_for_compiled_hotswap` scales are tensors, so that another one needs no compilation.
_LIBRARY = torch.library.Library("fused_lora", "DEF")
_LIBRARY.define(
    "linear(Tensor x, Tensor weight, Tensor? bias, Tensor[] a, Tensor[] b, float[] scale, Tensor[] scale_tensors, "
    "bool transposed) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _linear(x, weight, bias, a, b, scale, scale_tensors, transposed):
    if scale_tensors:
        scale = [one * float(tensor) for one, tensor in zip(scale, scale_tensors, strict=True)]
    y = call(x, weight, bias, list(zip(a, b, scale, strict=True)), None, transposed)
    if type(y) is str:
        raise RuntimeError(f"fused_lora.linear: {y}")
    return y


def _fake(x, weight, bias, a, b, scale, scale_tensors, transposed):
    return x.new_empty((*x.shape[:-1], weight.shape[1 if transposed else 0]))


_LIBRARY.impl("linear", _linear, "CPU")
torch.library.register_fake("fused_lora::linear", _fake, lib=_LIBRARY)
linear = torch.ops.fused_lora.linear.default

"""A fused call on tensors: the checks that each of them needs, and the way to the native side."""

import torch

from ._weights import DTYPES, TENSORS, is_plain, packed


def call(x, weight, bias, adapters, sequences, transposed, casting=True, grad=False):
    """y: [..., N] of x: [..., K]; a string instead is the reason why it cannot be fused.

    `weight` is [N, K], or [K, N] if `transposed`; `adapters` are (A: [r, K], B: [N, r], scale). All rows use all of
    them, unless `sequences` has the index of one, or -1, for each x[i]. With `grad`, tensors that require a gradient
    are a reason; without `casting`, adapters of another type than x are.
    """
    plain = type(x) in TENSORS and x.is_cpu and x.layout is torch.strided
    if not plain or x.is_neg() or x._is_zerotensor():
        return "x is no plain tensor on the CPU"
    if type(weight) not in TENSORS or not weight.is_cpu or weight.layout is not torch.strided:
        return "the weight is no plain tensor on the CPU"
    dtype = weight.dtype
    if x.dtype is not dtype:
        return "x is of another type than the weight"
    needs_grad = x.requires_grad or weight.requires_grad
    bias_address = 0
    if bias is not None:
        if not is_plain(bias) or bias.dtype is not dtype or not bias.is_contiguous():
            return "the bias is no plain tensor of the weight's type"
        needs_grad = needs_grad or bias.requires_grad
        bias_address = bias.data_ptr()
    entry = packed(weight, transposed)
    if entry is None:
        return "the weight is not dense, or of a type without kernels"
    n, k, shape = entry.n, entry.k, x.shape
    if not shape or shape[-1] != k or (bias is not None and bias.shape != (n,)):
        return "shapes that do not fit"
    # Copies have to stay until the call returns.
    held, loras = [], []
    for a, b, scale in adapters:
        if not (is_plain(a) and is_plain(b)):
            return "A or B is no plain tensor on the CPU"
        needs_grad = needs_grad or a.requires_grad or b.requires_grad
        if a.dtype is not b.dtype or (a.dtype is not dtype and (a.dtype is not torch.float32 or not casting)):
            return "the types of W, A and B"
        rank = a.shape[0]
        if a.shape != (rank, k) or b.shape != (n, rank):
            return "shapes that do not fit"
        if not (a.is_contiguous() and b.is_contiguous()):
            a, b = a.detach().contiguous(), b.detach().contiguous()
            held.append((a, b))
        number = DTYPES[a.dtype]
        loras.append((a.data_ptr(), b.data_ptr(), number, number, rank, float(scale)))
    if grad and needs_grad:
        return "something requires a gradient"
    if sequences is not None and (len(shape) < 2 or len(sequences) != shape[0]):
        return "adapter names that do not fit the batch"
    if x.is_contiguous():
        rows, stride = x.numel() // k, k
    else:
        x = x.detach().reshape(-1, k)
        if x.stride(1) != 1:
            x = x.contiguous()
        rows, stride = x.shape[0], x.stride(0)
    y = torch.empty((*shape[:-1], n), dtype=dtype, device="cpu")
    if rows:
        try:
            entry.native.forward(x.data_ptr(), rows, stride, y.data_ptr(), bias_address, loras, sequences)
        except ValueError as error:
            return str(error)
    return y

"""A layer of GPT-2 in PyTorch, fp32 and eager. Its weights are f32, whatever the bench gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch_worker import Forward, Ring, Worker

EPSILON = 1e-5
METHODS = ("none", "adapter-h", "adapter-l", "lora", "lora-qv")
PREFIX = "torch-fp32/"


def methods(device: str, adapters: int) -> list[tuple[str, bool]]:
    """The names, and whether there is none at rank 0."""
    return [(PREFIX + method, method != "none") for method in METHODS]


def forward(worker: Worker, name: str, rank: int) -> tuple[Forward, Ring]:
    """All layers of the model, one after another: x [M, d] → [M, d]."""
    method, slots, ring = name.removeprefix(PREFIX), worker.slots, worker.slots.ring(torch.float32)
    if method not in METHODS:
        raise ValueError(f"there is no method {name}; there are {', '.join(METHODS)}")
    own = (".base.", f".{method}.{rank}.")
    copies = {name: slots.copies(name, torch.float32) for name in slots.tensors if any(part in name for part in own)}
    weights = [{name: copy[slot] for name, copy in copies.items()} for slot in range(ring.count)]
    layers = len({name.split(".")[1] for name in copies})
    xs, seq_len, heads = slots.copies("x", torch.float32), worker.seq_len, worker.heads

    def run(slot: int) -> list[Tensor]:
        y = xs[slot]
        for i in range(layers):
            y = layer(y, weights[slot], f"layers.{i}", method, rank, seq_len, heads)
        return [y]

    return run, ring


def layer(
    x: Tensor, weights: dict[str, Tensor], at: str, method: str, rank: int, seq_len: int, heads: int
) -> Tensor:
    """One layer: x [M, d] → [M, d]. `at` begins the names of its weights."""
    base, adapter = f"{at}.base", f"{at}.{method}.{rank}"
    (m, d), qv = x.shape, method == "lora-qv"

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (d,), weights[f"{name}.gamma"], weights[f"{name}.beta"], EPSILON)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def bottleneck(x: Tensor, name: str) -> Tensor:
        return linear(F.gelu(linear(x, f"{name}.down"), approximate="tanh"), f"{name}.up")

    def lora(x: Tensor, part: str) -> Tensor:
        name = f"{adapter}.{part}"
        return F.linear(F.linear(x, weights[f"{name}.a"]), weights[f"{name}.b"]) * weights[f"{name}.scale"]

    def product(x: Tensor, part: str) -> Tensor:
        y = linear(x, f"{base}.{part}")
        return y + lora(x, part) if method == "lora" else y

    def adapted(z: Tensor, part: str) -> Tensor:
        return z + bottleneck(z, f"{adapter}.{part}") if method == "adapter-h" else z

    normed = norm(x, f"{base}.norm1")
    qkv = product(normed, "qkv")
    if qv:
        qkv[:, :d] += lora(normed, "query")
        qkv[:, 2 * d :] += lora(normed, "value")
    # [M, 3 d] → q, k, v: [sequences, heads, seq_len, d / heads]
    q, k, v = qkv.view(m // seq_len, seq_len, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    attention = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(m, d)
    middle = x + adapted(product(attention, "proj"), "attention")
    hidden = F.gelu(product(norm(middle, f"{base}.norm2"), "up"), approximate="tanh")
    y = middle + adapted(product(hidden, "down"), "mlp")
    if method == "adapter-l":
        y = y + bottleneck(norm(y, f"{adapter}.norm"), f"{adapter}.bottleneck")
    return y

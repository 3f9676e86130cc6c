"""What each operation of the manifest computes, in f64."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def expected(expect: dict[str, Any], arrays: Arrays) -> np.ndarray:
    """The exact output; `arrays` are as they were filled."""
    given = {key: arrays[name].astype(np.float64) for key, name in expect.items() if str(name) in arrays}
    operation = expect["operation"]
    if operation.startswith("matmul"):
        return matmul(operation, given)
    return OPERATIONS[operation](expect, given)


def matmul(operation: str, given: Arrays) -> np.ndarray:
    """`matmul`, with `_at` and `_bt` for operands that are stored transposed; `scale_k` multiplies A's columns."""
    a, b = given["a"], given["b"]
    a = a.swapaxes(-1, -2) if "_at" in operation else a
    b = b.swapaxes(-1, -2) if "_bt" in operation else b
    return (a * given["scale_k"] if "scale_k" in given else a) @ b


def segments(given: Arrays) -> list[tuple[slice, int]]:
    """Tokens and adapter of each segment that has one."""
    starts, adapters = given["starts"].astype(int), given["adapters"].astype(int)
    return [(slice(*starts[at : at + 2]), adapter) for at, adapter in enumerate(adapters) if adapter >= 0]


def shrink(expect: dict[str, Any], given: Arrays) -> np.ndarray:
    h = given["output"].copy()
    for tokens, adapter in segments(given):
        h[tokens] += expect["scale"] * (given["x"][tokens] @ given["w"][adapter].T)
    return h


def expand(expect: dict[str, Any], given: Arrays) -> np.ndarray:
    y = given["output"].copy()
    for tokens, adapter in segments(given):
        y[tokens] += given["h"][tokens] @ given["w"][adapter].T
    return y


def attention(expect: dict[str, Any], given: Arrays) -> np.ndarray:
    scores = expect["scale"] * (given["q"] @ given["k"].swapaxes(-1, -2))
    if expect["causal"]:
        scores = np.where(np.tri(expect["t"], dtype=bool), scores, -np.inf)
    return softmax_of(scores) @ given["v"]


def softmax_of(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def layer_norm(expect: dict[str, Any], given: Arrays) -> np.ndarray:
    x = given["x"]
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + expect["epsilon"])
    return centred * scale * given["weight"] + given["bias"]


OPERATIONS = {
    "shrink": shrink,
    "expand": expand,
    "attention": attention,
    "layer_norm": layer_norm,
    "softmax": lambda expect, given: softmax_of(given["x"]),
    "prefix_sum": lambda expect, given: given["x"].cumsum(-1),
}

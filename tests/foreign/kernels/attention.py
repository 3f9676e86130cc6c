"""Attention in one pass over the keys, with a running maximum and sum per query."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _add_block(scores, top, total, sum):
    """Rescales what was summed under an older maximum; returns the weights of a block of keys and the new state."""
    new_top = tl.maximum(top, tl.max(scores, 1))
    old = tl.exp2(top - new_top)
    weights = tl.exp2(scores - new_top[:, None])
    return weights, new_top, total * old + tl.sum(weights, 1), sum * old[:, None]


@triton.jit
def attention(
    q, k, v, out, T, scale,
    CAUSAL: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """out = softmax(scale q k^T) v for [batch, heads, T, DIM], dense; T need not be a multiple of a block."""
    head = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    queries = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    keys, dims = tl.arange(0, BLOCK_KV), tl.arange(0, DIM)
    start = head.to(tl.int64) * T * DIM
    at = start + queries[:, None] * DIM + dims[None, :]
    query = tl.load(q + at, mask=queries[:, None] < T, other=0.0)
    top = tl.full((BLOCK_Q,), -1e30, tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    sum = tl.zeros((BLOCK_Q, DIM), tl.float32)
    end = tl.minimum((tl.program_id(0) + 1) * BLOCK_Q, T) if CAUSAL else T
    # Without this, code for no keys would be compiled, and not run.
    tl.assume(end > 0)
    for first in range(0, end, BLOCK_KV):
        here = first + keys
        key = tl.load(k + start + here[None, :] * DIM + dims[:, None], mask=here[None, :] < T, other=0.0)
        scores = tl.dot(query, key) * (scale * LOG2_E)
        is_seen = here[None, :] < T
        if CAUSAL:
            is_seen = is_seen & (here[None, :] <= queries[:, None])
        weights, top, total, sum = _add_block(tl.where(is_seen, scores, -1e30), top, total, sum)
        value = tl.load(v + start + here[:, None] * DIM + dims[None, :], mask=here[:, None] < T, other=0.0)
        sum = tl.dot(weights.to(v.dtype.element_ty), value, sum)
    tl.store(out + at, (sum / total[:, None]).to(out.dtype.element_ty), mask=queries[:, None] < T)


@triton.jit
def attention_tma(
    q, k, v, out, T, scale,
    CAUSAL: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr, DIM: tl.constexpr,
    SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """The same through descriptors of [heads T, DIM]: `wgmma` with weights in registers. The blocks divide T."""
    block, start = tl.program_id(0) * BLOCK_Q, tl.program_id(1) * T
    queries = block + tl.arange(0, BLOCK_Q)
    query = q.load([start + block, 0])
    top = tl.full((BLOCK_Q,), -1e30, tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    sum = tl.zeros((BLOCK_Q, DIM), tl.float32)
    end = block + BLOCK_Q if CAUSAL else T
    for first in tl.range(0, end, BLOCK_KV, warp_specialize=SPECIALIZE):
        scores = tl.dot(query, k.load([start + first, 0]).T) * (scale * LOG2_E)
        if CAUSAL:
            here = first + tl.arange(0, BLOCK_KV)
            scores = tl.where(here[None, :] <= queries[:, None], scores, -1e30)
        weights, top, total, sum = _add_block(scores, top, total, sum)
        sum = tl.dot(weights.to(v.dtype), v.load([start + first, 0]), sum)
    out.store([start + block, 0], (sum / total[:, None]).to(out.dtype))

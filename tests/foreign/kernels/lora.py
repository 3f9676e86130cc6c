"""LoRA for tokens that are sorted by adapter: shrink to the rank, and expand from it.

Segment s has the tokens `starts[s]` to `starts[s + 1]` and the adapter `adapters[s]`, or none below zero.
"""

import triton
import triton.language as tl


@triton.jit
def shrink(
    x, w, h, starts, adapters, scale, K, RANK,
    BLOCK_M: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """h[token, RANK] += scale x[token, K] w[adapter, RANK, K]^T in f32; SPLITS CTAs share K and add by atomics."""
    split, block, segment = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    adapter = tl.load(adapters + segment)
    end = tl.load(starts + segment + 1)
    first = tl.load(starts + segment) + block * BLOCK_M
    if (adapter >= 0) & (first < end):
        tokens = first + tl.arange(0, BLOCK_M)[:, None]
        ranks = tl.arange(0, BLOCK_R)[None, :]
        depth = split * BLOCK_K + tl.arange(0, BLOCK_K)
        sum = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
        for k in range(0, K, BLOCK_K * SPLITS):
            across, down = (k + depth)[None, :], (k + depth)[:, None]
            left = tl.load(x + tokens * K + across, mask=(tokens < end) & (across < K), other=0.0)
            right = tl.load(w + (adapter * RANK + ranks) * K + down, mask=(ranks < RANK) & (down < K), other=0.0)
            sum = tl.dot(left, right, sum)
        to, is_there = h + tokens * RANK + ranks, (tokens < end) & (ranks < RANK)
        if SPLITS == 1:
            tl.store(to, sum * scale, mask=is_there)
        else:
            tl.atomic_add(to, sum * scale, mask=is_there, sem="relaxed")


@triton.jit
def expand(
    h, w, y, starts, adapters, N, RANK,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[token, N] += h[token, RANK] w[adapter, N, RANK]^T; h is f32 and is rounded to w's type."""
    column, block, segment = tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    adapter = tl.load(adapters + segment)
    end = tl.load(starts + segment + 1)
    first = tl.load(starts + segment) + block * BLOCK_M
    if (adapter >= 0) & (first < end):
        tokens = first + tl.arange(0, BLOCK_M)[:, None]
        columns = column + tl.arange(0, BLOCK_N)[None, :]
        across, down = tl.arange(0, BLOCK_R)[None, :], tl.arange(0, BLOCK_R)[:, None]
        left = tl.load(h + tokens * RANK + across, mask=(tokens < end) & (across < RANK), other=0.0)
        right = tl.load(w + (adapter * N + columns) * RANK + down, mask=(columns < N) & (down < RANK), other=0.0)
        to, is_there = y + tokens * N + columns, (tokens < end) & (columns < N)
        before = tl.load(to, mask=is_there, other=0.0).to(tl.float32)
        sum = tl.dot(left.to(w.dtype.element_ty), right, before)
        tl.store(to, sum.to(y.dtype.element_ty), mask=is_there)

"""Products of two matrices through tensor descriptors: TMA and `wgmma`."""

import triton
import triton.language as tl


@triton.jit
def product(
    a, b, c, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    A_IS_T: tl.constexpr, B_IS_T: tl.constexpr,
):  # fmt: skip
    """c = a b, a tile a CTA. a is [M, K], or [K, M] if A_IS_T; b is [K, N], or [N, K] if B_IS_T."""
    row = tl.program_id(0) * BLOCK_M
    column = tl.program_id(1) * BLOCK_N
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        left = a.load([k, row]).T if A_IS_T else a.load([row, k])
        right = b.load([column, k]).T if B_IS_T else b.load([k, column])
        sum = tl.dot(left, right, sum)
    c.store([row, column], sum.to(c.dtype))


@triton.jit
def product_persistent(
    a, b, c, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    CTAS: tl.constexpr, FLATTEN: tl.constexpr, SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """c[M, N] = a[M, K] b[N, K]^T; each CTA computes every CTAS-th tile."""
    if FLATTEN:
        # Without this, a flattened loop comes with another for K = 0. With it, Triton 3.9.0 cannot specialise.
        tl.assume(K > 0)
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles = tl.cdiv(M, BLOCK_M) * tiles_n
    for tile in tl.range(tl.program_id(0), tiles, CTAS, flatten=FLATTEN, warp_specialize=SPECIALIZE):
        row, column = tile // tiles_n * BLOCK_M, tile % tiles_n * BLOCK_N
        sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for k in range(0, K, BLOCK_K):
            sum = tl.dot(a.load([row, k]), b.load([column, k]).T, sum)
        c.store([row, column], sum.to(c.dtype))


@triton.jit
def product_specialized(
    a, b, c, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """c = a[M, K] b[N, K]^T, a tile a CTA; the loop over K is split between warps that load and warps that multiply."""
    row = tl.program_id(0) * BLOCK_M
    column = tl.program_id(1) * BLOCK_N
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in tl.range(0, K, BLOCK_K, warp_specialize=True):
        sum = tl.dot(a.load([row, k]), b.load([column, k]).T, sum)
    c.store([row, column], sum.to(c.dtype))


@triton.jit
def product_scaled(
    a, scale, b, c, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """c = (a[M, K] scale[K]) b[N, K]^T: the scaled `a` is an operand of `wgmma` in registers."""
    # Without this, code for K = 0 would be compiled, and not run.
    tl.assume(K > 0)
    row = tl.program_id(0) * BLOCK_M
    column = tl.program_id(1) * BLOCK_N
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        factor = tl.load(scale + k + tl.arange(0, BLOCK_K))
        left = a.load([row, k]) * factor[None, :]
        sum = tl.dot(left, b.load([column, k]).T, sum)
    c.store([row, column], sum.to(c.dtype))


@triton.jit
def product_cast(
    a, b, c, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """c = a[M, K] b[K, N], with a in f32: rounded to b's type it is an operand of `wgmma` in registers."""
    # Without this, code for K = 0 would be compiled, and not run.
    tl.assume(K > 0)
    row = tl.program_id(0) * BLOCK_M
    column = tl.program_id(1) * BLOCK_N
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        sum = tl.dot(a.load([row, k]).to(b.dtype), b.load([k, column]), sum)
    c.store([row, column], sum.to(c.dtype))


@triton.jit
def product_batched(
    a, b, c, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """c[z, M, N] = a[z, M, K] b[z, N, K]^T through descriptors of three dimensions."""
    row, column, z = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N, tl.program_id(2)
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        left = a.load([z, row, k]).reshape(BLOCK_M, BLOCK_K)
        right = b.load([z, column, k]).reshape(BLOCK_N, BLOCK_K)
        sum = tl.dot(left, right.T, sum)
    c.store([z, row, column], sum.to(c.dtype).reshape(1, BLOCK_M, BLOCK_N))

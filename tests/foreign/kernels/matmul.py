"""Products of two matrices through pointers: `mma` with operands from shared memory."""

import triton
import triton.language as tl


@triton.jit
def product(
    a, b, c, M, N, K, a_row, b_k, b_n, c_row,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """c[M, N] = a[M, K] b, with b[K, N] in any order: `b_k` and `b_n` are its strides. Masks for all tails."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    depth = tl.arange(0, BLOCK_K)
    # Without this, code for K = 0 would be compiled, and not run.
    tl.assume(K > 0)
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        across, down = (k + depth)[None, :], (k + depth)[:, None]
        left = tl.load(a + rows * a_row + across, mask=(rows < M) & (across < K), other=0.0)
        right = tl.load(b + down * b_k + columns * b_n, mask=(down < K) & (columns < N), other=0.0)
        sum = tl.dot(left, right, sum)
    tl.store(c + rows * c_row + columns, sum.to(c.dtype.element_ty), mask=(rows < M) & (columns < N))


@triton.jit
def product_persistent(
    a, b, c, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, CTAS: tl.constexpr,
):  # fmt: skip
    """c[M, N] = a[M, K] b[N, K]^T, dense; each CTA computes every CTAS-th tile, the last first."""
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles = tl.cdiv(M, BLOCK_M) * tiles_n
    depth = tl.arange(0, BLOCK_K)
    for turn in range(tl.program_id(0), tiles, CTAS):
        tile = tiles - 1 - turn
        rows = tile // tiles_n * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
        columns = tile % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
        sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for k in range(0, K, BLOCK_K):
            left = tl.load(a + rows * K + (k + depth)[None, :], mask=rows < M, other=0.0)
            right = tl.load(b + (k + depth)[:, None] + columns * K, mask=columns < N, other=0.0)
            sum = tl.dot(left, right, sum)
        tl.store(c + rows * N + columns, sum.to(c.dtype.element_ty), mask=(rows < M) & (columns < N))


@triton.jit
def product_batched(
    a, b, c, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """c[z, M, N] = a[z, M, K] b[z, K, N], dense, in a grid of three dimensions; M and N are multiples of the tile."""
    z = tl.program_id(2)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    depth = tl.arange(0, BLOCK_K)
    left_at = a + z * M * K + rows * K + depth[None, :]
    right_at = b + z * K * N + depth[:, None] * N + columns
    sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for _ in range(0, K, BLOCK_K):
        sum = tl.dot(tl.load(left_at), tl.load(right_at), sum)
        left_at += BLOCK_K
        right_at += BLOCK_K * N
    tl.store(c + z * M * N + rows * N + columns, sum.to(c.dtype.element_ty))

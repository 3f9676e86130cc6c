"""A product in Gluon, Triton's lower level: a warp that loads, a warpgroup that multiplies, and a ring of mbarriers.

With two CTAs of a cluster, both work on one tile of twice the rows, and the first sends B to both by multicast: it
waits for both, at mbarriers of its own where the two arrive.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)


@gluon.jit
def _multiply(
    c, K, tiles_a, tiles_b, full, free, free_in_both,
    layout: gl.constexpr, BLOCK_K: gl.constexpr, STAGES: gl.constexpr, CTAS: gl.constexpr,
):  # fmt: skip
    """The default partition: products, then the tile of c through shared memory."""
    shape: gl.constexpr = c.block_type.shape
    sums = gl.zeros(shape, gl.float32, layout)
    step = 0
    for _ in range(0, K, BLOCK_K):
        stage = step % STAGES
        mbarrier.wait(full.index(stage), (step // STAGES) & 1)
        sums = warpgroup_mma(tiles_a.index(stage), tiles_b.index(stage).permute((1, 0)), sums, is_async=True)
        sums = warpgroup_mma_wait(0, deps=[sums])
        mbarrier.arrive(free.index(stage), count=1)
        if CTAS > 1:
            mbarrier.arrive(free_in_both.index(stage), count=1)
        step += 1
    tile = gl.allocate_shared_memory(c.dtype, shape, c.layout)
    tile.store(sums.to(c.dtype))
    fence_async_shared()
    tma.async_store(c, [gl.program_id(0) * shape[0], gl.program_id(1) * shape[1]], tile)
    tma.store_wait(0)


@gluon.jit
def _load(
    a, b, K, tiles_a, tiles_b, full, free, free_in_both,
    BLOCK_K: gl.constexpr, STAGES: gl.constexpr, CTAS: gl.constexpr,
):  # fmt: skip
    """The other partition, a warp."""
    row = gl.program_id(0) * a.block_type.shape[0]
    column = gl.program_id(1) * b.block_type.shape[0]
    step = 0
    for k in range(0, K, BLOCK_K):
        stage = step % STAGES
        # The first turn finds the stages free: the phase before the first counts as complete.
        parity = (step // STAGES + 1) & 1
        mbarrier.wait(free.index(stage), parity)
        mbarrier.expect(full.index(stage), a.nbytes_per_cta + b.nbytes_per_cta)
        tma.async_load(a, [row, k], full.index(stage), tiles_a.index(stage))
        if CTAS > 1:
            mbarrier.wait(free_in_both.index(stage), parity)
        tma.async_load(b, [column, k], full.index(stage), tiles_b.index(stage), multicast=CTAS > 1)
        step += 1


@gluon.jit
def product(a, b, c, K, layout: gl.constexpr, BLOCK_K: gl.constexpr, STAGES: gl.constexpr, CTAS: gl.constexpr):
    """c = a[M, K] b[N, K]^T, a tile a program."""
    tiles_a = gl.allocate_shared_memory(a.dtype, [STAGES] + a.block_type.shape, a.layout)
    tiles_b = gl.allocate_shared_memory(b.dtype, [STAGES] + b.block_type.shape, b.layout)
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    free = mbarrier.allocate_mbarrier(batch=STAGES)
    free_in_both = mbarrier.allocate_mbarrier(batch=STAGES, two_ctas=CTAS > 1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(free.index(stage), count=1)
        mbarrier.init(free_in_both.index(stage), count=1)
    gl.warp_specialize(
        [
            (_multiply, (c, K, tiles_a, tiles_b, full, free, free_in_both, layout, BLOCK_K, STAGES, CTAS)),
            (_load, (a, b, K, tiles_a, tiles_b, full, free, free_in_both, BLOCK_K, STAGES, CTAS)),
        ],
        [1],
        [24],
    )
    # The last arrivals of the other CTA, for which nobody waits, are over then.
    gl.barrier(cluster=True)
    for stage in gl.static_range(STAGES):
        mbarrier.invalidate(full.index(stage))
        mbarrier.invalidate(free.index(stage))
        mbarrier.invalidate(free_in_both.index(stage))

"""Products in CuTe DSL: clusters of two CTAs that share B by multicast, a producer warp, and warpgroups for `wgmma`.

The ring has two mbarriers a stage. `full` gets the bytes of A and of both halves of B; `empty` gets an arrival from
each CTA, since each writes half of both CTAs' B.
"""

from __future__ import annotations

import cutlass
import cutlass.cute as cute
import cutlass.utils as utils
from cutlass.cute.nvgpu import OperandMajorMode, cpasync, warpgroup
from cutlass.utils import LayoutEnum
from cutlass.utils import hopper_helpers as sm90

# CTAs of a cluster, along M.
CLUSTER = 2
WARPGROUP = 128


class Gemm:
    """c[M, N] = a[M, K] b, a tile a CTA, with b[N, K], or b[K, N] if `is_n_major`. The tile divides M, N and K.

    With one warpgroup of consumers, lanes store their own elements of c. With two, the tile goes through shared memory
    and TMA, and registers move from the producer's warpgroup to theirs. If `is_apart`, bytes are expected apart from
    the arrival, waits only test, and a CTA arrives twice at once at `empty`.
    """

    def __init__(
        self, tile: tuple[int, int, int], stages: int, warpgroups: int, is_n_major: bool, is_apart: bool
    ) -> None:
        self.tile = tile
        self.stages = stages
        self.consumers = warpgroups * WARPGROUP
        self.has_store = warpgroups > 1
        self.threads = self.consumers + (WARPGROUP if self.has_store else 32)
        self.is_n_major = is_n_major
        self.is_apart = is_apart

    @cute.jit
    def __call__(self, a: cute.Tensor, b: cute.Tensor, c: cute.Tensor, steps: cutlass.Int32) -> None:
        """Makes tensor maps and launches. b is [N, K] here, whichever of them is dense."""
        m, n, k = self.tile
        element = c.element_type
        major_b = OperandMajorMode.MN if self.is_n_major else OperandMajorMode.K
        mma = sm90.make_trivial_tiled_mma(
            element,
            element,
            OperandMajorMode.K,
            major_b,
            cutlass.Float32,
            (self.consumers // WARPGROUP, 1, 1),
            (64, n),
        )
        order_b = LayoutEnum.COL_MAJOR if self.is_n_major else LayoutEnum.ROW_MAJOR
        layout_a = sm90.make_smem_layout_a(LayoutEnum.ROW_MAJOR, self.tile, element, self.stages)
        layout_b = sm90.make_smem_layout_b(order_b, self.tile, element, self.stages)
        layout_c = sm90.make_smem_layout_epi(element, LayoutEnum.ROW_MAJOR, (m, n), 1)
        load_a, map_a = cpasync.make_tiled_tma_atom(
            cpasync.CopyBulkTensorTileG2SOp(), a, cute.slice_(layout_a, (None, None, 0)), (m, k)
        )
        load_b, map_b = cpasync.make_tiled_tma_atom(
            cpasync.CopyBulkTensorTileG2SMulticastOp(), b, cute.slice_(layout_b, (None, None, 0)), (n, k), CLUSTER
        )
        store, map_c = cpasync.make_tiled_tma_atom(
            cpasync.CopyBulkTensorTileS2GOp(), c, cute.slice_(layout_c, (None, None, 0)), (m, n)
        )
        to_c = map_c if cutlass.const_expr(self.has_store) else c
        grid = (cute.size(c, mode=[0]) // m, cute.size(c, mode=[1]) // n, 1)
        self.kernel(mma, load_a, map_a, load_b, map_b, store, to_c, layout_a, layout_b, layout_c, steps).launch(
            grid=grid, block=(self.threads, 1, 1), cluster=(CLUSTER, 1, 1)
        )

    @cute.kernel
    def kernel(
        self,
        mma: cute.TiledMma,
        load_a: cute.CopyAtom,
        map_a: cute.Tensor,
        load_b: cute.CopyAtom,
        map_b: cute.Tensor,
        store: cute.CopyAtom,
        c: cute.Tensor,
        layout_a: cute.ComposedLayout,
        layout_b: cute.ComposedLayout,
        layout_c: cute.ComposedLayout,
        steps: cutlass.Int32,
    ) -> None:
        m, n, k = self.tile
        element = mma.op.a_dtype
        thread = cute.arch.thread_idx()[0]
        warp = cute.arch.make_warp_uniform(cute.arch.warp_idx())
        row, column, _ = cute.arch.block_idx()
        rank = cute.arch.make_warp_uniform(cute.arch.block_idx_in_cluster())

        memory = utils.SmemAllocator()
        full = memory.allocate_array(cutlass.Int64, self.stages)
        empty = memory.allocate_array(cutlass.Int64, self.stages)
        shared_a = memory.allocate_tensor(element, layout_a.outer, 1024, layout_a.inner)
        shared_b = memory.allocate_tensor(element, layout_b.outer, 1024, layout_b.inner)
        shared_c = shared_a
        if cutlass.const_expr(self.has_store):
            shared_c = memory.allocate_tensor(element, layout_c.outer, 1024, layout_c.inner)
        bytes = (m + n) * k * element.width // 8

        if warp == 0:
            with cute.arch.elect_one():
                for stage in cutlass.range_constexpr(self.stages):
                    cute.arch.mbarrier_init(full + stage, 1)
                    cute.arch.mbarrier_init(empty + stage, CLUSTER * (2 if self.is_apart else 1))
            cute.arch.mbarrier_init_fence()
        cute.arch.cluster_arrive_relaxed()
        cute.arch.cluster_wait()

        tiles_a = cute.local_tile(map_a, (m, k), (row, None))
        tiles_b = cute.local_tile(map_b, (n, k), (column, None))
        to_a, from_a = cpasync.tma_partition(
            load_a,
            0,
            cute.make_layout(1),
            cute.group_modes(shared_a, 0, 2),
            cute.group_modes(tiles_a, 0, 2),
        )
        to_b, from_b = cpasync.tma_partition(
            load_b,
            rank,
            cute.make_layout(CLUSTER),
            cute.group_modes(shared_b, 0, 2),
            cute.group_modes(tiles_b, 0, 2),
        )

        if warp >= self.consumers // 32:
            if cutlass.const_expr(self.has_store):
                cute.arch.setmaxregister_decrease(40)
            if warp == self.consumers // 32:
                for step in range(steps):
                    stage, turn = step % self.stages, step // self.stages
                    # The first turn finds the stages free: the phase before the first counts as complete.
                    cute.arch.mbarrier_wait(empty + stage, (turn + 1) % 2)
                    with cute.arch.elect_one():
                        if cutlass.const_expr(self.is_apart):
                            cute.arch.mbarrier_expect_tx(full + stage, bytes)
                            cute.arch.mbarrier_arrive(full + stage)
                        else:
                            cute.arch.mbarrier_arrive_and_expect_tx(full + stage, bytes)
                    cute.copy(load_a, from_a[None, step], to_a[None, stage], tma_bar_ptr=full + stage)
                    cute.copy(
                        load_b,
                        from_b[None, step],
                        to_b[None, stage],
                        tma_bar_ptr=full + stage,
                        mcast_mask=cutlass.Int16((1 << CLUSTER) - 1),
                    )
        else:
            if cutlass.const_expr(self.has_store):
                cute.arch.setmaxregister_increase(232)
            part = mma.get_slice(thread)
            left = mma.make_fragment_A(part.partition_A(shared_a))
            right = mma.make_fragment_B(part.partition_B(shared_b))
            tile_c = cute.local_tile(c, (m, n), (row, column))
            out = part.partition_C(tile_c)
            sums = cute.make_rmem_tensor(out.shape, cutlass.Float32)
            mma.set(warpgroup.Field.ACCUMULATE, False)
            for step in range(steps):
                stage, turn = step % self.stages, step // self.stages
                if cutlass.const_expr(self.is_apart):
                    is_full = cute.arch.mbarrier_test_wait(full + stage, turn % 2)
                    while not is_full:
                        is_full = cute.arch.mbarrier_test_wait(full + stage, turn % 2)
                else:
                    cute.arch.mbarrier_wait(full + stage, turn % 2)
                warpgroup.fence()
                for slice in cutlass.range_constexpr(cute.size(left, mode=[2])):
                    cute.gemm(mma, sums, left[None, None, slice, stage], right[None, None, slice, stage], sums)
                    mma.set(warpgroup.Field.ACCUMULATE, True)
                warpgroup.commit_group()
                warpgroup.wait_group(0)
                # All warps are done with the stage; then a lane tells each CTA of the cluster.
                cute.arch.barrier(barrier_id=1, number_of_threads=self.consumers)
                if thread < CLUSTER:
                    if cutlass.const_expr(self.is_apart):
                        cute.arch.mbarrier_arrive(empty + stage, thread, arrive_count=2)
                    else:
                        cute.arch.mbarrier_arrive(empty + stage, thread)
            rounded = cute.make_rmem_tensor(out.shape, element)
            rounded.store(sums.load().to(element))
            if cutlass.const_expr(self.has_store):
                matrices = sm90.get_smem_store_op(LayoutEnum.ROW_MAJOR, element, cutlass.Float32)
                copy = cute.make_tiled_copy_C(matrices, mma)
                mine = copy.get_slice(thread)
                cute.copy(copy, mine.retile(rounded), mine.partition_D(shared_c)[None, None, None, 0])
                cute.arch.fence_proxy("async.shared", space="cta")
                cute.arch.barrier(barrier_id=1, number_of_threads=self.consumers)
                from_c, to_c = cpasync.tma_partition(
                    store,
                    0,
                    cute.make_layout(1),
                    cute.group_modes(shared_c, 0, 2),
                    cute.group_modes(tile_c, 0, 2),
                )
                if warp == 0:
                    cute.copy(store, from_c[None, 0], to_c)
                    cute.arch.cp_async_bulk_commit_group()
                    cute.arch.cp_async_bulk_wait_group(0)
            else:
                cute.autovec_copy(rounded, out)
        # No CTA may leave while another still arrives at its mbarriers.
        cute.arch.cluster_arrive()
        cute.arch.cluster_wait()

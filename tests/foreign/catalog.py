"""All kernels of this folder, with their constants and launches. K is at least three rings of stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernels import attention, gluon_matmul, lora, matmul, matmul_tma, rows
from launch import Array, Empty, Float, Int, Kernel, Map, Pointer, Tensor

# Small integers: all sums of products are exact in f32, and in the output's type.
SMALL = {"integers": [-2, 2]}
SIGNS = {"integers": [-1, 1]}
# What a kernel must overwrite.
NAN = {"constant": "nan"}
# Absolute and relative. Attention rounds its weights, of at most 1, and its output; the others their output alone.
ATTENTION = {"f16": (6e-4, 1e-3), "bf16": (4e-3, 8e-3)}
LAYER_NORM = {"f16": (1e-3, 1e-3), "bf16": (2e-3, 8e-3)}
SOFTMAX = {"f32": (1e-7, 1e-5), "f16": (1e-6, 1e-3), "bf16": (1e-6, 8e-3)}


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


def mma() -> Iterator[Kernel]:
    """Through pointers: (target, type, is b [N, K], M, N, K, tile, warps, stages)."""
    table = [
        (80, "f16", False, 100, 72, 288, (64, 64, 32), 4, 3),
        (80, "f16", True, 64, 96, 288, (32, 32, 32), 2, 3),
        (80, "bf16", True, 150, 80, 192, (128, 64, 32), 4, 2),
        (80, "f16", False, 128, 256, 192, (128, 128, 32), 8, 2),
        (80, "bf16", False, 64, 144, 192, (64, 128, 16), 4, 4),
        (80, "f16", True, 40, 40, 100, (32, 32, 16), 4, 2),
        (90, "f16", False, 100, 72, 384, (64, 64, 64), 4, 2),
        (90, "bf16", True, 130, 130, 192, (128, 128, 32), 8, 2),
        # By `tf32`, which has all of these integers.
        (80, "f32", False, 40, 40, 96, (32, 32, 16), 4, 2),
        (90, "f32", True, 72, 64, 192, (64, 64, 32), 4, 2),
    ]
    for target, type, is_t, m, n, k, (bm, bn, bk), warps, stages in table:
        yield Kernel(
            name=f"matmul{'_tf32' if type == 'f32' else ''}{'_bt' if is_t else ''}_{bm}x{bn}x{bk}_{type}_sm{target}",
            function=matmul.product,
            target=target,
            grid=(cdiv(m, bm), cdiv(n, bn), 1),
            arguments={
                **{name: Pointer(name) for name in "abc"},
                **{"M": Int(m), "N": Int(n), "K": Int(k), "a_row": Int(k)},
                **{"b_k": Int(1 if is_t else n), "b_n": Int(k if is_t else 1), "c_row": Int(n)},
            },
            constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk},
            arrays=operands(type, m, n, k, is_t),
            expect=expected_product(m, n, k, is_t),
            warps=warps,
            stages=stages,
        )
    for target, type in ((80, "f16"), (90, "bf16")):
        m, n, k = 150, 130, 192
        yield Kernel(
            name=f"matmul_persistent_64x64x32_{type}_sm{target}",
            function=matmul.product_persistent,
            target=target,
            grid=(2, 1, 1),
            arguments={**{name: Pointer(name) for name in "abc"}, "M": Int(m), "N": Int(n), "K": Int(k)},
            constants={"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "CTAS": 2},
            arrays=operands(type, m, n, k, True),
            expect=expected_product(m, n, k, True),
            stages=2,
        )
    m, n, k, batch = 64, 64, 192, 2
    yield Kernel(
        name="matmul_batched_32x64x32_f16_sm80",
        function=matmul.product_batched,
        target=80,
        grid=(m // 32, n // 64, batch),
        arguments={**{name: Pointer(name) for name in "abc"}, "M": Int(m), "N": Int(n), "K": Int(k)},
        constants={"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32},
        arrays=operands("f16", m, n, k, False, (batch,)),
        expect=expected_product(m, n, k, False, batch),
        stages=2,
    )


def operands(
    type: str, m: int, n: int, k: int, is_bt: bool, batch: tuple[int, ...] = (), is_at: bool = False
) -> dict[str, Array]:
    """The arrays of a product. bf16 holds integers up to 256."""
    fill = SMALL if type == "f16" else SIGNS
    return {
        "a": Array((*batch, k, m) if is_at else (*batch, m, k), type, fill),
        "b": Array((*batch, n, k) if is_bt else (*batch, k, n), type, fill),
        "c": Array((*batch, m, n), type, NAN),
    }


def expected_product(m: int, n: int, k: int, is_bt: bool, batch: int = 1, is_at: bool = False) -> dict[str, Any]:
    name = "matmul" + ("_at" if is_at else "") + ("_bt" if is_bt else "")
    return {"operation": name, "output": "c", "a": "a", "b": "b", "m": m, "n": n, "k": k, "batch": batch}


def tma() -> Iterator[Kernel]:
    """Through descriptors: (type, a transposed, b [N, K], M, N, K, tile, warps, stages)."""
    table = [
        ("f16", False, True, 100, 64, 576, (64, 64, 64), 4, 3),
        ("bf16", False, True, 64, 160, 288, (64, 128, 32), 4, 3),
        ("f16", False, True, 128, 40, 96, (64, 32, 16), 4, 2),
        ("f16", False, True, 200, 128, 384, (128, 128, 64), 4, 2),
        ("f16", False, True, 136, 256, 192, (128, 256, 32), 8, 2),
        ("bf16", False, True, 72, 256, 288, (64, 256, 32), 4, 3),
        ("f16", False, True, 192, 64, 384, (128, 64, 64), 8, 2),
        ("f16", False, False, 100, 72, 288, (64, 64, 32), 4, 3),
        ("bf16", False, False, 64, 256, 384, (64, 128, 64), 4, 2),
        ("f16", False, False, 64, 56, 96, (64, 32, 16), 4, 2),
        ("f16", True, True, 128, 64, 288, (64, 64, 32), 4, 3),
        ("bf16", True, False, 128, 64, 384, (64, 64, 64), 4, 2),
        ("f16", True, False, 136, 256, 192, (128, 128, 32), 8, 2),
    ]
    for type, is_at, is_bt, m, n, k, (bm, bn, bk), warps, stages in table:
        kind = ("_at" if is_at else "") + ("_bt" if is_bt else "")
        yield Kernel(
            name=f"tma_matmul{kind}_{bm}x{bn}x{bk}_{type}_sm90",
            function=matmul_tma.product,
            target=90,
            grid=(cdiv(m, bm), cdiv(n, bn), 1),
            arguments={
                "a": Tensor("a", (bk, bm) if is_at else (bm, bk)),
                "b": Tensor("b", (bn, bk) if is_bt else (bk, bn)),
                "c": Tensor("c", (bm, bn)),
                "K": Int(k),
            },
            constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk, "A_IS_T": is_at, "B_IS_T": is_bt},
            arrays=operands(type, m, n, k, is_bt, is_at=is_at),
            expect=expected_product(m, n, k, is_bt, is_at=is_at),
            warps=warps,
            stages=stages,
        )
    yield from tma_clusters()
    yield from tma_persistent()
    yield from tma_registers()
    bm, bn, bk, m, n, k, batch = 64, 32, 32, 72, 32, 192, 2
    yield Kernel(
        name="tma_matmul_batched_64x32x32_f16_sm90",
        function=matmul_tma.product_batched,
        target=90,
        grid=(cdiv(m, bm), n // bn, batch),
        arguments={
            "a": Tensor("a", (1, bm, bk)),
            "b": Tensor("b", (1, bn, bk)),
            "c": Tensor("c", (1, bm, bn)),
            "K": Int(k),
        },
        constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk},
        arrays=operands("f16", m, n, k, True, (batch,)),
        expect=expected_product(m, n, k, True, batch),
        stages=2,
    )


def tma_clusters() -> Iterator[Kernel]:
    """Two CTAs share a tile: (type, tile); they split it along M, or along N."""
    for type, (bm, bn, bk) in (("f16", (128, 64, 64)), ("bf16", (64, 128, 32))):
        m, n, k = 2 * bm, bn, 6 * bk
        yield Kernel(
            name=f"tma_matmul_bt_cluster_{bm}x{bn}x{bk}_{type}_sm90",
            function=matmul_tma.product,
            target=90,
            grid=(m // bm, n // bn, 1),
            arguments={**tensors_bt(bm, bn, bk), "K": Int(k)},
            constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk, "A_IS_T": False, "B_IS_T": True},
            arrays=operands(type, m, n, k, True),
            expect=expected_product(m, n, k, True),
            stages=2,
            ctas=2,
        )


def tma_persistent() -> Iterator[Kernel]:
    """Persistent and warp-specialised kernels: (name, tile, stages, warps, flatten, specialise)."""
    m, n = 150, 136
    table = [
        ("persistent", (64, 64, 32), 2, 4, False, False),
        ("persistent_flat", (64, 64, 32), 2, 4, True, False),
        ("persistent_specialized", (64, 64, 32), 2, 4, False, True),
    ]
    for name, (bm, bn, bk), stages, warps, is_flat, is_specialized in table:
        k = 3 * stages * bk
        yield Kernel(
            name=f"tma_matmul_{name}_{bm}x{bn}x{bk}_f16_sm90",
            function=matmul_tma.product_persistent,
            target=90,
            grid=(2, 1, 1),
            arguments={
                **tensors_bt(bm, bn, bk),
                **{"M": Int(m), "N": Int(n), "K": Int(k)},
            },
            constants={
                **{"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk},
                **{"CTAS": 2, "FLATTEN": is_flat, "SPECIALIZE": is_specialized},
            },
            arrays=operands("f16", m, n, k, True),
            expect=expected_product(m, n, k, True),
            warps=warps,
            stages=stages,
        )
    for type, (bm, bn, bk) in (("f16", (64, 64, 64)), ("bf16", (64, 128, 32))):
        m, n, k = 2 * bm, bn, 6 * bk
        yield Kernel(
            name=f"tma_matmul_specialized_{bm}x{bn}x{bk}_{type}_sm90",
            function=matmul_tma.product_specialized,
            target=90,
            grid=(m // bm, n // bn, 1),
            arguments={**tensors_bt(bm, bn, bk), "K": Int(k)},
            constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk},
            arrays=operands(type, m, n, k, True),
            expect=expected_product(m, n, k, True),
            stages=2,
        )


def gluon_kernels() -> Iterator[Kernel]:
    """Warp-specialised by hand: (type, CTAs of a cluster, tile, stages)."""
    from triton.experimental.gluon import language as gl

    for type, ctas, (bm, bn, bk), stages in (
        ("bf16", 1, (64, 64, 64), 2),
        ("f16", 2, (128, 64, 32), 3),
    ):
        m, n, k = 2 * bm, 2 * bn, 3 * stages * bk
        rows = (1, 0) if ctas > 1 else ()
        yield Kernel(
            name=f"gluon_matmul_bt{'_multicast' if ctas > 1 else ''}_{bm}x{bn}x{bk}_{type}_sm90",
            function=gluon_matmul.product,
            target=90,
            grid=(m // bm, n // bn, 1),
            arguments={
                "a": Tensor("a", (bm, bk), split=rows),
                "b": Tensor("b", (bn, bk), split=(0, 0) if ctas > 1 else ()),
                "c": Tensor("c", (bm, bn), split=rows),
                "K": Int(k),
            },
            constants={
                "layout": gl.NVMMADistributedLayout([3, 0], [4, 1], [16, bn, 16], [list(rows)] if rows else []),
                **{"BLOCK_K": bk, "STAGES": stages, "CTAS": ctas},
            },
            arrays=operands(type, m, n, k, True),
            expect=expected_product(m, n, k, True),
            stages=stages,
            ctas=ctas,
            language="gluon",
        )


def tensors_bt(bm: int, bn: int, bk: int) -> dict[str, Tensor]:
    return {"a": Tensor("a", (bm, bk)), "b": Tensor("b", (bn, bk)), "c": Tensor("c", (bm, bn))}


def tma_registers() -> Iterator[Kernel]:
    """A from registers."""
    for type, (bm, bn, bk), stages, warps in (("f16", (64, 64, 64), 2, 4), ("bf16", (128, 32, 32), 2, 8)):
        m, n, k = 2 * bm, bn, 3 * stages * bk
        arrays = operands(type, m, n, k, True) | {"scale": Array((k,), type, SIGNS)}
        yield Kernel(
            name=f"tma_matmul_scaled_{bm}x{bn}x{bk}_{type}_sm90",
            function=matmul_tma.product_scaled,
            target=90,
            grid=(m // bm, n // bn, 1),
            arguments={
                "a": Tensor("a", (bm, bk)),
                "scale": Pointer("scale"),
                "b": Tensor("b", (bn, bk)),
                "c": Tensor("c", (bm, bn)),
                "K": Int(k),
            },
            constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk},
            arrays=arrays,
            expect=expected_product(m, n, k, True) | {"scale_k": "scale"},
            warps=warps,
            stages=stages,
        )
    bm, bn, bk, m, n, k = 64, 64, 32, 100, 64, 192
    yield Kernel(
        name="tma_matmul_cast_64x64x32_f16_sm90",
        function=matmul_tma.product_cast,
        target=90,
        grid=(cdiv(m, bm), n // bn, 1),
        arguments={
            "a": Tensor("a", (bm, bk)),
            "b": Tensor("b", (bk, bn)),
            "c": Tensor("c", (bm, bn)),
            "K": Int(k),
        },
        constants={"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk},
        arrays=operands("f16", m, n, k, False) | {"a": Array((m, k), "f32", SMALL)},
        expect=expected_product(m, n, k, False),
        stages=2,
    )


# Three segments: one of more than a block, one without an adapter, one short; the last token has no segment.
STARTS = [0, 37, 42, 61]
ADAPTERS = [1, -1, 0]
TOKENS = 62


def lora_kernels() -> Iterator[Kernel]:
    """(target, type, splits)."""
    k, n, rank, block = 384, 160, 12, 16
    segments = {
        "starts": Array((len(STARTS),), "i32", {"values": STARTS}),
        "adapters": Array((len(ADAPTERS),), "i32", {"values": ADAPTERS}),
    }
    tables = {name: Pointer(name) for name in segments}
    for target, type, splits in ((80, "f16", 1), (80, "f16", 2), (90, "bf16", 2)):
        yield Kernel(
            name=f"lora_shrink_{splits}_{type}_sm{target}",
            function=lora.shrink,
            target=target,
            grid=(splits, cdiv(37, 32), len(ADAPTERS)),
            arguments={
                **{name: Pointer(name) for name in "xwh"},
                **tables,
                **{"scale": Float(0.5), "K": Int(k), "RANK": Int(rank)},
            },
            constants={"BLOCK_M": 32, "BLOCK_R": block, "BLOCK_K": 32, "SPLITS": splits},
            arrays={
                "x": Array((TOKENS, k), type, SMALL),
                "w": Array((2, rank, k), type, SMALL),
                "h": Array((TOKENS, rank), "f32", {"constant": 0}),
                **segments,
            },
            expect={
                **{"operation": "shrink", "output": "h", "x": "x", "w": "w"},
                **{"starts": "starts", "adapters": "adapters", "scale": 0.5, "k": k, "rank": rank},
            },
            stages=2,
        )
    for target, type, bn in ((80, "f16", 64), (90, "bf16", 128)):
        yield Kernel(
            name=f"lora_expand_{bn}_{type}_sm{target}",
            function=lora.expand,
            target=target,
            grid=(cdiv(n, bn), cdiv(37, 32), len(ADAPTERS)),
            arguments={**{name: Pointer(name) for name in "hwy"}, **tables, "N": Int(n), "RANK": Int(rank)},
            constants={"BLOCK_M": 32, "BLOCK_N": bn, "BLOCK_R": block},
            arrays={
                "h": Array((TOKENS, rank), "f32", SMALL),
                "w": Array((2, n, rank), type, SMALL),
                "y": Array((TOKENS, n), type, SMALL),
                **segments,
            },
            expect={
                **{"operation": "expand", "output": "y", "h": "h", "w": "w"},
                **{"starts": "starts", "adapters": "adapters", "n": n, "rank": rank},
            },
            stages=2,
        )


def attention_kernels() -> Iterator[Kernel]:
    """Through pointers: (target, type, causal, T, dim, warps); then through descriptors."""
    batch, scale = 1, 0.125
    unit = {"uniform": [-1.0, 1.0]}

    def arrays(type: str, heads: int, t: int, dim: int) -> dict[str, Array]:
        shape = (batch, heads, t, dim)
        return {name: Array(shape, type, unit) for name in "qkv"} | {"out": Array(shape, type, NAN)}

    def expect(heads: int, t: int, dim: int, is_causal: bool) -> dict[str, Any]:
        return {
            **{"operation": "attention", "output": "out", "q": "q", "k": "k", "v": "v", "scale": scale},
            **{"causal": is_causal, "batch": batch, "heads": heads, "t": t, "dim": dim},
        }

    for target, type, is_causal, t, dim in (
        (80, "f16", False, 200, 64),
        (80, "bf16", True, 192, 64),
        (80, "f16", True, 200, 32),
        (90, "f16", True, 200, 64),
    ):
        heads = 2
        yield Kernel(
            name=f"attention{'_causal' if is_causal else ''}_{dim}_{type}_sm{target}",
            function=attention.attention,
            target=target,
            grid=(cdiv(t, 64), heads, batch),
            arguments={**{name: Pointer(name) for name in ("q", "k", "v", "out")}, "T": Int(t), "scale": Float(scale)},
            constants={"CAUSAL": is_causal, "BLOCK_Q": 64, "BLOCK_KV": 32, "DIM": dim},
            arrays=arrays(type, heads, t, dim),
            expect=expect(heads, t, dim, is_causal),
            tolerance=ATTENTION[type],
            stages=2,
        )
    for type, is_causal, heads, t, dim, bq, bkv, warps, is_specialized in (
        ("f16", False, 2, 192, 64, 64, 32, 4, False),
        ("bf16", True, 2, 192, 64, 64, 32, 4, False),
        ("f16", True, 1, 256, 128, 128, 32, 8, False),
        ("f16", False, 2, 192, 64, 64, 32, 4, True),
        ("bf16", True, 1, 192, 128, 64, 32, 4, True),
    ):
        block, blocks = Tensor("q", (bq, dim), (batch * heads * t, dim)), {}
        for name in ("q", "k", "v", "out"):
            blocks[name] = Tensor(name, (bkv if name in "kv" else bq, dim), block.shape)
        kind = ("_causal" if is_causal else "") + ("_specialized" if is_specialized else "")
        yield Kernel(
            name=f"tma_attention{kind}_{dim}_{type}_sm90",
            function=attention.attention_tma,
            target=90,
            grid=(t // bq, heads * batch, 1),
            # Specialised, T is a constant: for T = 0 there would be much code that is not run.
            arguments={**blocks, **({} if is_specialized else {"T": Int(t)}), "scale": Float(scale)},
            constants={
                **{"CAUSAL": is_causal, "BLOCK_Q": bq, "BLOCK_KV": bkv, "DIM": dim},
                **({"T": t} if is_specialized else {}),
                "SPECIALIZE": is_specialized,
            },
            arrays=arrays(type, heads, t, dim),
            expect=expect(heads, t, dim, is_causal),
            tolerance=ATTENTION[type],
            warps=warps,
            stages=2,
        )


def row_kernels() -> Iterator[Kernel]:
    for target, type, n, block, warps in ((80, "f16", 500, 512, 4), (90, "bf16", 1000, 1024, 8)):
        yield Kernel(
            name=f"layer_norm_{block}_{type}_sm{target}",
            function=rows.layer_norm,
            target=target,
            grid=(3, 1, 1),
            arguments={
                **{name: Pointer(name) for name in ("x", "weight", "bias", "y")},
                **{"N": Int(n), "epsilon": Float(1e-5)},
            },
            constants={"BLOCK": block},
            arrays={
                "x": Array((3, n), type, {"uniform": [-1.0, 3.0]}),
                "weight": Array((n,), type, {"uniform": [-1.0, 1.0]}),
                "bias": Array((n,), type, {"uniform": [-1.0, 1.0]}),
                "y": Array((3, n), type, NAN),
            },
            expect={
                **{"operation": "layer_norm", "output": "y", "x": "x", "weight": "weight", "bias": "bias"},
                **{"epsilon": 1e-5, "rows": 3, "n": n},
            },
            tolerance=LAYER_NORM[type],
            warps=warps,
        )
    table = [
        (80, "f16", 700, 256, 1),
        (80, "f32", 304, 128, 1),
        (90, "bf16", 512, 256, 1),
        # A row in a cluster, whose CTAs read each other's maxima and sums.
        (90, "f16", 700, 256, 2),
    ]
    for target, type, n, block, ctas in table:
        yield Kernel(
            name=f"softmax_{'cluster_' if ctas > 1 else ''}{block}_{type}_sm{target}",
            function=rows.softmax,
            target=target,
            grid=(2, 1, 1),
            arguments={"x": Pointer("x"), "y": Pointer("y"), "rows": Int(5), "N": Int(n)},
            constants={"BLOCK": block, "CTAS": 2},
            arrays={"x": Array((5, n), type, {"uniform": [-4.0, 4.0]}), "y": Array((5, n), type, NAN)},
            expect={"operation": "softmax", "output": "y", "x": "x", "rows": 5, "n": n},
            tolerance=SOFTMAX[type],
            stages=2,
            ctas=ctas,
        )

    for target, rows_a_cta, n, block, warps in ((80, 2, 500, 512, 4), (90, 4, 120, 128, 2)):
        yield Kernel(
            name=f"prefix_sum_{block}_f32_sm{target}",
            function=rows.prefix_sum,
            target=target,
            grid=(2, 1, 1),
            arguments={"x": Pointer("x"), "y": Pointer("y"), "rows": Int(2 * rows_a_cta - 1), "N": Int(n)},
            constants={"ROWS": rows_a_cta, "BLOCK": block},
            arrays={
                "x": Array((2 * rows_a_cta - 1, n), "f32", SMALL),
                "y": Array((2 * rows_a_cta - 1, n), "f32", NAN),
            },
            expect={"operation": "prefix_sum", "output": "y", "x": "x", "rows": 2 * rows_a_cta - 1, "n": n},
            warps=warps,
        )


def cute_kernels() -> Iterator[Kernel]:
    """Clusters of two: (type, b [K, N], tile, stages, warpgroups, swizzle of A, box of B)."""
    from kernels.cute_gemm import Gemm

    for type, is_kn, (bm, bn, bk), stages, warpgroups, swizzle, box_b, is_apart in (
        ("f16", False, (64, 64, 64), 3, 1, "128", (64, 32), False),
        ("bf16", True, (128, 64, 32), 2, 2, "64", (64, 16), False),
        ("f16", False, (64, 128, 32), 4, 1, "64", (32, 64), True),
    ):
        m, n = 2 * bm, 2 * bn
        # The compiler unrolls the producer's loop by four; what is left over runs, too.
        k = (3 * stages + is_apart) * bk
        has_store = warpgroups > 1
        # The barriers have the first 1024 bytes.
        ring = 2 * stages * (bm + bn) * bk
        yield Kernel(
            name=f"cute_matmul{'' if is_kn else '_bt'}_{bm}x{bn}x{bk}_{type}_sm90",
            function=Gemm,
            target=90,
            grid=(m // bm, n // bn, 1),
            arguments={
                "mma": Empty(),
                "a": Map("a", (bk, bm), swizzle),
                "b": Map("b", box_b, "128" if is_kn else swizzle),
                "c_map": Map("c", (64, bm), "128"),
                **({} if has_store else {"c": Pointer("c")}),
                "steps": Int(k // bk),
            },
            constants={
                **{"tile": (bm, bn, bk), "stages": stages},
                **{"warpgroups": warpgroups, "is_n_major": is_kn, "is_apart": is_apart},
            },
            arrays=operands(type, m, n, k, not is_kn),
            expect=expected_product(m, n, k, not is_kn),
            ctas=2,
            language="cute",
            shared=1024 + ring + (2 * bm * bn if has_store else 0),
        )


def kernels() -> list[Kernel]:
    """All of them, by name."""
    families = (mma, tma, gluon_kernels, lora_kernels, attention_kernels, row_kernels, cute_kernels)
    return [kernel for family in families for kernel in family()]

"""Tests of the PyTorch peers on a GPU, without one: python -m unittest discover benches/peers

A double takes the GPU's place: it runs on the CPU what would be captured. Tests that need PyTorch, NumPy or PEFT
are skipped where these are not installed.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from pathlib import Path
from types import ModuleType
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

import records
import torch_cuda
from records import WORKLOADS, Cell, Workload

HAS_TORCH = not torch_cuda.missing("torch", "numpy")
HAS_PEFT = HAS_TORCH and not torch_cuda.missing("peft")
if HAS_TORCH:
    import cuda_device
    import cuda_methods
    import timing
    import torch
    import torch_layers

SCRIPT = Path(torch_cuda.__file__)


def setUpModule() -> None:
    """One thread: several wait for each other, and for a core of a busy machine."""
    if HAS_TORCH:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        unittest.addModuleCleanup(torch.set_num_threads, before)


def command(*args: str, site: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the script; `site=False` hides every installed package."""
    python = [sys.executable] if site else [sys.executable, "-S"]
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and "FUSED_LORA_" not in name
    }
    # PyTorch finds no GPU, whatever this machine has.
    clean["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.run([*python, str(SCRIPT), *args], capture_output=True, text=True, env=clean | env)


class CommandLine(unittest.TestCase):
    def test_bad_arguments_exit_with_2_and_say_what(self) -> None:
        for args, said in (
            (["--workload", "linear-7x7"], "gpt2-medium-linears"),
            (["--cells", "seq128/batch3/*"], "seq128/batch3/*"),
            (["--shard", "3/2"], "3/2"),
            (["--methods", "base,lorax"], "base,lorax"),
            (["--methods", "peft,peft"], "peft,peft"),
            (["--device", "cuda:0"], "cuda:0"),
            (["--budget", "0"], "0"),
            (["--cache", "hot"], "hot"),
            (["--dtypes", "fp16"], "--dtypes"),
        ):
            result = command(*args, site=False)
            self.assertEqual((result.returncode, result.stdout), (2, ""), args)
            self.assertIn(said, result.stderr)
        for variable in ("WORKLOAD", "GRID", "SHARD", "BUDGET_S", "CACHE", "DEVICE"):
            result = command(site=False, **{f"FUSED_LORA_{variable}": "nonsense"})
            self.assertEqual(result.returncode, 2)
            self.assertIn("nonsense", result.stderr, variable)

    def test_missing_packages_exit_with_2(self) -> None:
        result = command(site=False)
        self.assertEqual(result.returncode, 2)
        self.assertIn("torch, numpy", result.stderr)

    def test_the_base_is_always_there_and_first(self) -> None:
        self.assertEqual(torch_cuda.parse_methods("vllm,base,peft"), ["base", "vllm", "peft"])
        self.assertEqual(torch_cuda.parse_methods("vllm"), ["base", "vllm"])

    def test_the_default_cells_are_those_of_the_rust_peers(self) -> None:
        args, cells = torch_cuda.parse_args([])
        self.assertEqual([cell.m for cell in cells], [m for m in (128, 512, 4096, 16384) for _ in range(4)])
        self.assertEqual((args.device, args.methods, args.cache), (0, list(torch_cuda.METHODS), "cold"))

    @unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
    def test_without_a_gpu_it_says_so_and_exits_with_3(self) -> None:
        result = command("--cells", "seq128/batch1/*")
        self.assertEqual((result.returncode, result.stdout), (3, ""), result.stderr)
        self.assertIn("finds no GPU", result.stderr)


class DoubleOfGpu:
    """Runs at once what would be captured; its clock counts the samples."""

    name, driver, clock_mhz = "Some GPU", "torch 2, CUDA 13", 1980.0
    # So slow that the fewest passes take long enough.
    multiprocessors, cache_bytes = 0, 100_000

    def __init__(self, captures: bool = True) -> None:
        self.device = torch.device("cpu")
        self.captures = captures
        self.samples = 0

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        if not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        work()
        return work

    def sample_ns(self, work: Callable[[], None]) -> float:
        work()
        self.samples += 1
        return 1e6 + self.samples


def vllm_double(clears: bool, arguments: int) -> ModuleType:
    """vLLM's three names as its versions have them: h is cleared by the shrink or not, meta_args takes one argument
    or two. Computes with one adapter for all tokens."""
    module = ModuleType("vllm.lora.ops.triton_ops")

    class LoRAKernelMeta:
        @staticmethod
        def make(max_loras: int, max_num_tokens: int, device: object) -> LoRAKernelMeta:
            assert max_loras == 1
            made = LoRAKernelMeta()
            made.tokens = max_num_tokens
            if arguments == 1:
                made.meta_args = lambda token_nums: made.given(token_nums)
            else:
                made.meta_args = lambda token_nums, specialize: made.given(token_nums)
            return made

        def prepare_tensors(self, mapping: torch.Tensor) -> None:
            assert mapping.shape == (self.tokens,) and not mapping.any()

        def given(self, tokens: int) -> tuple[str, int]:
            assert tokens == self.tokens
            return ("meta", tokens)

    def lora_shrink(x, a, h, meta, tokens, scaling) -> None:
        assert meta == "meta" and a[0].dim() == 3 and h.dtype == torch.float32 and h.shape[1] == tokens
        if clears:
            h.zero_()
        h[0] += scaling * (x.float() @ a[0][0].float().t())

    def lora_expand(h, b, y, meta, tokens, offset_start=0, add_inputs=False) -> None:
        assert meta == "meta" and offset_start == 0 and b[0].dim() == 3
        added = h[0].to(y.dtype).float() @ b[0][0].float().t()
        y.copy_(y.float() + added if add_inputs else added)

    module.LoRAKernelMeta, module.lora_shrink, module.lora_expand = LoRAKernelMeta, lora_shrink, lora_expand
    return module


@contextmanager
def modules(**found: ModuleType | None) -> Iterator[None]:
    """Those modules in place of what is installed; None is not installed. (`mock.patch.dict` would also forget what
    is imported meanwhile, and some of it cannot be imported twice.)"""
    absent = object()
    before = {name: sys.modules.get(name, absent) for name in found}
    sys.modules.update(found)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is absent:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def with_vllm(
    module: ModuleType | None, path: str = "vllm.lora.ops.triton_ops"
) -> AbstractContextManager[None]:
    """With that module at that path; with None there is no vLLM at all."""
    every = {known: None for known in cuda_methods.VLLM_MODULES} | {"vllm": None}
    return modules(**every | ({path: module} if module else {}))


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Methods(unittest.TestCase):
    WORKLOAD = Workload("two", ((96, 80), (64, 112)))

    def slots(self, rank: int, warm_w: bool = False) -> list[torch_layers.Slot]:
        xs, layers = torch_layers.make_inputs(self.WORKLOAD, Cell(24, 1, rank), seed=1)
        return torch_layers.make_slots(xs, layers, torch_layers.DTYPES["fp16"], warm_w, cache_bytes=100_000)

    def assert_right(
        self, call: cuda_methods.Call, slots: list[torch_layers.Slot], rank: int, limit: float
    ) -> None:
        """At every place, eager and as a graph."""
        dtype = torch_layers.DTYPES["fp16"]
        want = torch_layers.expect(slots[0], dtype, rank > 0)
        for slot in slots:
            for expected, y in zip(want, call(slot), strict=True):
                self.assertEqual(y.dtype, torch.float16)
                self.assertLessEqual(expected.excess(y, dtype.u), limit)
        graph = cuda_methods.captured("torch-fp16/x", True, call, slots, 2 * len(slots), DoubleOfGpu())
        self.assertLessEqual(max(graph.excess(want, dtype)), limit)

    def test_every_method_computes_the_layer(self) -> None:
        with torch.inference_mode(), with_vllm(vllm_double(clears=True, arguments=2)):
            for rank in (0, 10, 33):
                for warm_w in (False, True):
                    slots, left_out = self.slots(rank, warm_w), {}
                    methods = [m for m in torch_cuda.METHODS if m != "compiled"]
                    calls = cuda_methods.calls(slots, rank, methods, left_out.__setitem__)
                    without = {"peft", "peft-f32"} if not HAS_PEFT else set()
                    without |= {"vllm"} if rank == 0 else set()
                    self.assertEqual(set(left_out), without)
                    self.assertEqual(list(calls), [m for m in methods if m not in without])
                    for name, call in calls.items():
                        # PEFT rounds four times where the reference rounds twice, and so does vLLM's double.
                        exact = name in ("base", "unfused")
                        with self.subTest(name, rank=rank):
                            self.assert_right(call, slots, rank * (name != "base"), 1.0 if exact else 1.5)

    def test_the_compiled_layer_is_the_layer(self) -> None:
        # Not with inductor, which needs a C++ compiler and minutes: what is compiled, not how.
        for rank in (10, 33):
            slots = self.slots(rank)
            with torch.inference_mode():
                self.assert_right(cuda_methods.compiled(rank, backend="eager"), slots, rank, 1.5)
        with self.assertRaises(cuda_methods.Skipped):
            cuda_methods.compiled(0)

    def test_versions_of_vllm_are_told_apart(self) -> None:
        for path in cuda_methods.VLLM_MODULES:
            for clears in (False, True):
                for arguments in (1, 2):
                    with self.subTest(path, clears=clears, arguments=arguments):
                        with torch.inference_mode(), with_vllm(vllm_double(clears, arguments), path):
                            slots = self.slots(10)
                            self.assert_right(cuda_methods.vllm(slots, 10), slots, 10, 1.5)

    def test_vllm_stores_a_rank_at_its_next_own(self) -> None:
        seen = []
        module = vllm_double(clears=True, arguments=1)
        shrink = module.lora_shrink
        module.lora_shrink = lambda x, a, h, *rest: (
            seen.append((a[0].shape, h.shape)),
            shrink(x, a, h, *rest),
        )
        with torch.inference_mode():
            cuda_methods.vllm(self.slots(33), 33, module)
        self.assertEqual({tuple(a) for a, _ in seen}, {(1, 64, 96), (1, 64, 64)})
        self.assertEqual({tuple(h) for _, h in seen}, {(1, 24, 64)})

    def test_what_is_not_installed_is_skipped_by_name(self) -> None:
        with with_vllm(None), modules(peft=None):
            said = {}
            calls = cuda_methods.calls(self.slots(10), 10, ["base", "peft", "vllm"], said.__setitem__)
        self.assertEqual(list(calls), ["base"])
        self.assertIn("peft is missing", said["peft"])
        self.assertIn("vllm", said["vllm"])
        incomplete = ModuleType("vllm.lora.ops.triton_ops")
        incomplete.lora_shrink = incomplete.LoRAKernelMeta = None
        with with_vllm(incomplete), mock.patch.object(importlib.util, "find_spec", return_value=True):
            with self.assertRaisesRegex(cuda_methods.Skipped, "has no lora_expand"):
                cuda_methods.vllm_ops()

    def test_wrong_outputs_and_none_at_all_are_seen(self) -> None:
        slots, dtype = self.slots(10), torch_layers.DTYPES["fp16"]
        want = torch_layers.expect(slots[0], dtype, True)
        base = cuda_methods.eager("torch-fp16/x", True, torch_layers.base, slots, len(slots))
        self.assertGreater(max(base.excess(want, dtype)), 2.0)
        graph = cuda_methods.captured(
            "torch-fp16/x", True, torch_layers.unfused, slots, len(slots), DoubleOfGpu()
        )
        graph.run = lambda: None
        self.assertTrue(all(excess != excess for excess in graph.excess(want, dtype)), "y stays NaN")

    def test_a_method_that_cannot_be_captured_is_skipped(self) -> None:
        with self.assertRaisesRegex(
            cuda_methods.Skipped, "cannot be captured: operation not permitted.*capturing$"
        ):
            cuda_methods.captured(
                "x", True, torch_layers.base, self.slots(0), 20, DoubleOfGpu(captures=False)
            )

    def test_graphs_are_compared_with_graphs(self) -> None:
        slots = self.slots(10)
        eager = cuda_methods.eager("torch-fp16/peft", True, torch_layers.base, slots, 20)
        graph = cuda_methods.captured("torch-fp16/peft", True, torch_layers.base, slots, 20, DoubleOfGpu())
        self.assertEqual((graph.name, graph.base), ("torch-fp16/peft-graph", "torch-fp16/base-graph"))
        self.assertEqual((eager.name, eager.base), ("torch-fp16/peft", "torch-fp16/base"))

    def test_a_sample_is_long_enough_and_ends_where_it_began(self) -> None:
        linear = WORKLOADS["linear-1024x1024"]
        for m, slots in ((128, 61), (128, 301), (4096, 10), (16384, 4)):
            count = cuda_device.passes(linear.flops(m, 0), slots, 132)
            self.assertEqual(count % slots, 0)
            self.assertGreaterEqual(count, 20)
        self.assertEqual(cuda_device.passes(linear.flops(16384, 0), 4, 132), 20)
        self.assertEqual(cuda_device.passes(linear.flops(128, 0), 61, 132), 305)


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Rounds(unittest.TestCase):
    def test_each_round_times_every_case_once_in_an_order_of_its_own(self) -> None:
        order: list[str] = []
        cases = [mock.Mock(name=str(i)) for i in range(5)]
        names = {id(case): i for i, case in enumerate(cases)}

        def sample(case: object) -> float:
            order.append(names[id(case)])
            return 100.0 * names[id(case)] + (len(order) - 1) // 5

        times = torch_cuda.time_rounds(cases, 8, sample)
        rounds = [order[i : i + 5] for i in range(0, 40, 5)]
        self.assertTrue(all(sorted(r) == list(range(5)) for r in rounds))
        self.assertGreater(len({tuple(r) for r in rounds}), 4, "no case always follows the same other")
        self.assertEqual(times.tolist(), [[100.0 * case + i for i in range(8)] for case in range(5)])


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Run(unittest.TestCase):
    def rows(self, gpu: DoubleOfGpu, *args: str) -> tuple[list[dict[str, str]], str]:
        """The records of a run on a small workload, and what it said."""
        small = Workload("linear-64x64", ((64, 64),))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.csv")
            parsed, cells = torch_cuda.parse_args([*args, "--budget", "30", "--output", str(path)])
            parsed.workload = small
            said = io.StringIO()
            few = mock.patch.object(timing, "MAX_ROUNDS", timing.MIN_ROUNDS)
            with redirect_stderr(said), with_vllm(vllm_double(clears=True, arguments=2)), few:
                self.assertEqual(torch_cuda.run(parsed, cells, gpu), 0)
                self.assertEqual(torch_cuda.run(parsed, cells, gpu), 1, "the file is there already")
            lines = path.read_text().splitlines()
        self.assertEqual(lines[:2], [records.VERSION_LINE, ",".join(records.COLUMNS)])
        return list(csv.DictReader(lines[1:])), said.getvalue()

    def test_records_hold_each_method_eager_and_as_a_graph(self) -> None:
        rows, said = self.rows(
            DoubleOfGpu(), "--cells", "seq128/batch1/r10,seq128/batch1/r100", "--methods", "unfused,vllm"
        )
        names = [(row["method"].removeprefix("torch-fp16/"), row["rank"]) for row in rows]
        adapted = ["unfused", "unfused-graph", "vllm", "vllm-graph"]
        # The graph of the base has no slow-down either, and both are written once a size, at rank 0.
        expected = [("base", "0"), ("base-graph", "0")] + [(m, r) for r in ("10", "100") for m in adapted]
        self.assertEqual(names, expected, said)
        for row in rows:
            self.assertEqual((row["backend"], row["device"], row["threads"]), ("cuda", "Some GPU", ""))
            self.assertEqual((row["driver"], row["clock_mhz"]), ("torch 2, CUDA 13", "1980.0"))
            self.assertEqual((row["cache"], row["floor_pad_pct"]), ("cold", ""))
            self.assertEqual(row["slowdown_pct"] == "", row["rank"] == "0")
            lo, mid, hi = (float(row[name]) for name in ("time_lo_ns", "time_ns", "time_hi_ns"))
            self.assertTrue(1e6 < lo <= mid <= hi)

    def test_what_cannot_be_captured_is_said_once_and_timed_eager(self) -> None:
        rows, said = self.rows(
            DoubleOfGpu(captures=False),
            "--cells",
            "seq128/batch1/r0,seq128/batch1/r10",
            "--methods",
            "unfused",
        )
        self.assertEqual(
            [(row["method"], row["rank"]) for row in rows],
            [("torch-fp16/base", "0"), ("torch-fp16/unfused", "0"), ("torch-fp16/unfused", "10")],
        )
        self.assertEqual(said.count("skipped: torch-fp16/base-graph: it cannot be captured"), 1, said)
        self.assertEqual(said.count("skipped: torch-fp16/unfused-graph"), 1, said)


if __name__ == "__main__":
    unittest.main()

"""Tests of the PyTorch peers: python -m unittest discover benches/peers

A double takes the GPU's place: it runs on the CPU what would be captured. Tests that need PyTorch, NumPy or PEFT are
skipped where these are not installed.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import itertools
import os
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

import records
import torch_peers
from common import missing
from records import WORKLOADS, Cell, Workload

HAS_TORCH = not missing("torch", "numpy")
HAS_PEFT = HAS_TORCH and not missing("peft")
if HAS_TORCH:
    import cases
    import devices
    import methods
    import numpy as np
    import rounds
    import torch

    class DoubleOfGpu(devices.Device):
        """Runs at once what would be captured; its clock counts the samples."""

        backend, cache_bytes, clock_mhz = "cuda", 20_000, 1980.0
        columns = dict(device="Some GPU", threads=None, simd="", driver="torch 2, CUDA 13")

        def __init__(self, graphs: bool = True, captures: bool = True, free: int = 1 << 40) -> None:
            self.torch_device, self.graphs, self.captures, self.free = torch.device("cpu"), graphs, captures, free
            self.samples = itertools.count(1)

        def capture(self, work: devices.Work) -> devices.Work:
            if not self.captures:
                raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
            work()
            return work

        def time_ns(self, work: devices.Work) -> float:
            work()
            return 1e6 + next(self.samples)

        def free_bytes(self) -> int:
            return self.free


def command(*args: str, site: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the program where PyTorch finds no GPU; `site=False` hides every installed package."""
    python = [sys.executable] if site else [sys.executable, "-S"]
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "FUSED_LORA_" not in k}
    clean |= {"CUDA_VISIBLE_DEVICES": ""} | env
    return subprocess.run([*python, torch_peers.__file__, *args], capture_output=True, text=True, env=clean)


def vllm_double(clears: bool = True, arguments: int = 2) -> SimpleNamespace:
    """vLLM's three names as its versions have them: h is cleared by the shrink or not, meta_args takes one argument
    or two. Computes with one adapter for all tokens."""

    def make(max_loras: int, max_num_tokens: int, device: object) -> SimpleNamespace:
        def prepare(mapping: torch.Tensor) -> None:
            assert mapping.shape == (max_num_tokens,) and not mapping.any() and max_loras == 1

        given = ("meta", max_num_tokens)
        meta_args = (lambda m: given) if arguments == 1 else (lambda m, specialize: given)
        return SimpleNamespace(prepare_tensors=prepare, meta_args=meta_args)

    def lora_shrink(x, a, h, meta, tokens, scaling) -> None:
        assert meta == "meta" and h.dtype == torch.float32 and h.shape == (1, tokens, a[0].shape[1])
        assert a[0].shape[1] in methods.VLLM_RANKS
        if clears:
            h.zero_()
        h[0] += scaling * (x.float() @ a[0][0].float().t())

    def lora_expand(h, b, y, meta, tokens, offset_start, add_inputs) -> None:
        assert meta == "meta" and offset_start == 0 and add_inputs and b[0].dim() == 3
        y.copy_(y.float() + h[0].to(y.dtype).float() @ b[0][0].float().t())

    return SimpleNamespace(
        LoRAKernelMeta=SimpleNamespace(make=make), lora_shrink=lora_shrink, lora_expand=lora_expand
    )


@contextlib.contextmanager
def with_vllm(module: object, path: str = "vllm.lora.ops.triton_ops", **others: object) -> Iterator[None]:
    """With that module at that path, no other vLLM, and `others` in place of what is installed; None is not installed.
    (`mock.patch.dict` would also forget what is imported meanwhile, and some of it cannot be imported twice.)"""
    found = dict.fromkeys(("vllm", *methods.VLLM_MODULES)) | {path: module} | others
    before = {name: sys.modules[name] for name in found if name in sys.modules}
    sys.modules.update(found)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in found:
            del sys.modules[name]
        sys.modules.update(before)


class Records(unittest.TestCase):
    def test_columns_are_those_of_the_crate(self) -> None:
        fixture = records.ROOT / "crates" / "heatmap" / "tests" / "fixtures" / "made-up-linear-1024x1024.csv"
        self.assertEqual([records.VERSION_LINE, ",".join(records.COLUMNS)], fixture.read_text().splitlines()[:2])

    def test_the_grid_is_whole_and_shards_part_it(self) -> None:
        cells = records.select(["*"], (1, 1))
        self.assertEqual((len(cells), str(cells[0]), cells[-1].m), (72, "seq128/batch1/r0", 16384))
        parts = [cell for i in (1, 2, 3) for cell in records.select(["*/r10", "seq256/*"], (i, 3))]
        self.assertEqual(len(parts), 24 + 12)
        self.assertEqual(set(parts), {c for c in cells if c.rank == 10 or c.seq_len == 256})

    def test_floors_are_the_documented_ones(self) -> None:
        floors = [[round(w.floor_pct(r), 1) for r in (0, 10, 100, 250)] for w in WORKLOADS.values()]
        self.assertEqual(floors, [[0, 2.0, 19.5, 48.8], [0, 0.5, 4.9, 12.2], [0, 1.3, 13.0, 32.6]])

    def test_records_are_whole_lines_in_a_new_file(self) -> None:
        record = dict(run="r1", device="Make, model 7", dirty=True, time_ns=1234.56789, clock_mhz=None, rank=10)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "new", "run.csv")
            records.create(path)
            with self.assertRaises(ValueError):
                records.append(path, [record, dict(no_column=1)])
            records.append(path, [record, record])
            lines = path.read_text().splitlines(keepends=True)
            self.assertEqual(lines[:2], [records.VERSION_LINE + "\n", ",".join(records.COLUMNS) + "\n"])
            row = next(csv.DictReader(lines[1:]))
            self.assertEqual({k: v for k, v in row.items() if v}, dict(
                run="r1", device="Make, model 7", dirty="true", time_ns="1234.5679", rank="10"))  # fmt: skip
            self.assertEqual((len(lines), lines[2], lines[2][-1]), (4, lines[3], "\n"))
            with self.assertRaises(FileExistsError):
                records.create(path)

    def test_the_commit_is_the_one_named_or_unknown_without_git(self) -> None:
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, FUSED_LORA_REVISION=""):
            self.assertEqual(records.git_state(Path(folder)), ("unknown", False))
            for name, state in (("0123abc", ("0123abc", False)), ("0123abc-dirty", ("0123abc", True))):
                os.environ["FUSED_LORA_REVISION"] = name
                self.assertEqual(records.git_state(), state)


class CommandLine(unittest.TestCase):
    def test_bad_arguments_exit_with_2_and_say_what(self) -> None:
        for args, said in (
            (["--workload", "linear-7x7"], "gpt2-medium-linears"),
            (["--cells", "seq128/batch3/*"], "seq128/batch3/*"),
            (["--shard", "3/2"], "3/2"),
            (["--cells", "*/batch1/r10", "--shard", "4/4"], "holds no cell"),
            (["--budget", "0"], "0"),
            (["--threads", "0"], "0"),
            (["--cache", "hot"], "hot"),
            (["--device", "cuda:0"], "cuda:0"),
            (["--gpu", "-1"], "-1"),
            (["--adapter", "x"], "--adapter"),
        ):
            result = command(*args, site=False)
            self.assertEqual((result.returncode, result.stdout), (2, ""), args)
            self.assertIn(said, result.stderr)
        for variable in torch_peers.ENVIRONMENT.values():
            result = command(site=False, **{variable: "nonsense"})
            self.assertEqual(result.returncode, 2)
            self.assertIn("nonsense", result.stderr, variable)

    def test_missing_packages_exit_with_2_and_the_install_command(self) -> None:
        result = command(site=False)
        self.assertEqual(result.returncode, 2)
        self.assertIn("torch, numpy", result.stderr)
        self.assertIn("pip install -r benches/peers/requirements-cpu.txt", result.stderr)

    def test_an_option_goes_before_the_environment_and_that_before_the_default(self) -> None:
        names = "BACKEND DEVICE WORKLOAD GRID SHARD BUDGET_S CACHE".split()
        with mock.patch.dict(os.environ, {f"FUSED_LORA_{name}": "" for name in names}):
            _, args, chosen = torch_peers.parse_args([])
            self.assertEqual([cell.m for cell in chosen], [m for m in (128, 512, 4096, 16384) for _ in range(4)])
            self.assertEqual((args.device, args.gpu, args.cache, args.budget), ("cpu", 0, "cold", 180))
            for name, value in zip(names, ("cuda", "1", "linear-4096x4096", "full", "2/72", "7", "warm")):
                os.environ[f"FUSED_LORA_{name}"] = value
            _, args, chosen = torch_peers.parse_args(["--gpu", "2"])
        self.assertEqual((args.device, args.gpu, args.cache, args.budget), ("cuda", 2, "warm-w", 7))
        self.assertEqual((args.workload, chosen), ("linear-4096x4096", [Cell(128, 1, 10)]))

    @unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
    def test_a_device_without_the_method_or_dtype_exits_with_2_and_no_gpu_with_3(self) -> None:
        for args, code, said in (
            (["--dtypes", "fp16,fp8"], 2, "fp16,fp8"),
            (["--methods", "peft,peft"], 2, "peft,peft"),
            (["--methods", "compiled"], 2, "base,unfused,peft,peft-f32"),
            (["--device", "cuda", "--dtypes", "bf16"], 2, "bf16"),
            (["--device", "cuda", "--cells", "seq128/batch1/*"], 3, "finds no GPU"),
        ):
            result = command(*args)
            self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
            self.assertIn(said, result.stderr)


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Rounds(unittest.TestCase):
    def test_a_base_stands_around_each_two_methods_in_an_order_of_their_own(self) -> None:
        rng, orders, count = np.random.default_rng(0), set(), itertools.count(1)
        for _ in range(20):
            calls: list[tuple[int, float]] = []

            def sample(case: int) -> float:
                calls.append((case, float(next(count) ** 2)))
                return calls[-1][1]

            found = rounds.one_round([[2, 0, 1, 3], [4]], sample, rng)
            order, took = zip(*calls)
            self.assertEqual([order[i] for i in (0, 3, 5, 6)], [2, 2, 2, 4])
            self.assertEqual(Counter(order), {0: 1, 1: 1, 3: 1, 2: 3, 4: 1})
            for place, (before, after) in {1: (0, 3), 2: (0, 3), 4: (3, 5)}.items():
                self.assertEqual(found.times[order[place]], took[place])
                self.assertAlmostEqual(found.ratios[order[place]], 2 * took[place] / (took[before] + took[after]))
            self.assertAlmostEqual(found.times[2], (took[0] + took[3] + took[5]) / 3)
            self.assertEqual((found.slowest[2], found.times[4]), (took[5], took[6]))
            self.assertTrue(np.isnan(found.ratios[[2, 4]]).all())
            orders.add(order)
        self.assertEqual(len(orders), 6, "every order of three methods")

    def undisturbed(self, slowest: list[list[float]], wanted: int, go_on: bool = True) -> tuple[list, int]:
        """The rounds that are kept of those given, by their number, and how many were thrown away."""
        given = iter(enumerate(slowest))

        def run() -> rounds.Round:
            i, took = next(given)
            return rounds.Round(np.minimum(took, 1.2), np.array(took), np.array([float(i)] * 2))

        found, repeated = rounds.undisturbed(run, wanted, lambda: go_on)
        return found.ratios[:, 0].astype(int).tolist(), repeated

    def test_a_round_with_any_disturbed_method_is_repeated_as_often_as_rounds_are_wanted(self) -> None:
        quiet, base, other = [1.0, 1.0], [1.3, 1.0], [1.0, 1.4]
        self.assertEqual(self.undisturbed([quiet, [1.2, 1.2], quiet], 3), ([0, 1, 2], 0))
        # A new round may be disturbed too; what is left when there were enough stays.
        self.assertEqual(self.undisturbed([quiet, other, quiet, base, quiet], 3), ([0, 4, 2], 2))
        self.assertEqual(self.undisturbed([quiet, quiet, other, other, other, base], 3), ([0, 1, 5], 3))
        self.assertEqual(self.undisturbed([quiet, quiet, other], 3, go_on=False), ([0, 1, 2], 0))

    def test_an_estimate_is_the_median_within_its_interval(self) -> None:
        samples = np.random.default_rng(1).normal(5.0, 1.0, 101)
        samples[0] = 1e9
        mid, lo, hi = rounds.estimate(samples)
        self.assertEqual(mid, np.median(samples))
        self.assertTrue(4.5 < lo < mid < hi < 5.5)
        # The interval of nine: the resampled median's distribution is a binomial tail, P(<= 2nd) = 0.0287.
        self.assertEqual(rounds.estimate(np.arange(1.0, 10.0)), (5.0, 2.0, 8.0))
        self.assertEqual(rounds.estimate(np.full(6, 3.0)), (3.0, 3.0, 3.0))
        self.assertEqual(rounds.estimate(np.arange(5.0)), (2.0, None, None))

    def test_a_cell_over_budget_does_not_fit_and_a_smaller_one_still_does(self) -> None:
        small, large = Cell(128, 1, 0), Cell(512, 32, 0)
        budget = rounds.Budget(100, [small, large], WORKLOADS["linear-1024x1024"])
        self.assertTrue(budget.fits(large), "nothing is known yet")
        # The large one has 128 times the work: 10 rounds of it would take 128 s.
        self.assertEqual(budget.rounds(small, setup_s=0.0, round_s=0.1), rounds.FEWEST)
        self.assertFalse(budget.fits(large))
        budget = rounds.Budget(100, [small, small._replace(batch=2)], WORKLOADS["linear-1024x1024"])
        budget.rounds(small, setup_s=99.5, round_s=0.1)
        self.assertFalse(budget.fits(small._replace(batch=2)), "its set-up takes time too")

    def test_spare_time_makes_more_rounds(self) -> None:
        cells = [Cell(128, 1, 0), Cell(128, 2, 0), Cell(128, 3, 0)]
        budget = rounds.Budget(90, cells, WORKLOADS["linear-1024x1024"])
        budget.drop(cells[2])
        self.assertIn(budget.rounds(cells[0], 0.0, 1.0), (29, 30))
        self.assertEqual(budget.rounds(cells[1], 0.0, 0.01), rounds.MOST)


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Methods(unittest.TestCase):
    def setting(self, rank: int, warm: bool = False) -> cases.Setting:
        return cases.Setting(DoubleOfGpu(), Workload("two", ((96, 80), (64, 112))), Cell(24, 1, rank), warm)

    def build(self, setting: cases.Setting, dtype: methods.DType, chosen: list) -> tuple[list, dict[str, str], str]:
        """The cases, what was skipped and why, and what was said."""
        skipped: dict[str, str] = {}
        inputs, chosen = cases.make_inputs(setting.workload, setting.cell), [methods.METHODS[0], *chosen]
        with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()) as said:
            return cases.build(setting, inputs, dtype, chosen, skipped.__setitem__), skipped, said.getvalue()

    def assert_right(self, setting: cases.Setting, dtype: methods.DType, chosen: list, skips: set[str]) -> None:
        """Every method, eager and as a graph, at every place of the ring: y, its type, and its own memory."""
        built, skipped, _ = self.build(setting, dtype, chosen)
        self.assertEqual({name.partition("/")[2] for name in skipped}, skips)
        self.assertEqual(len(built), 2 + 2 * (len(chosen) - len(skips)))
        for case in built:
            # PEFT and vLLM's double round more often than the reference.
            limit = 1.0 if "/base" in case.name or "/unfused" in case.name else 1.5
            adapter = "/base" not in case.name and setting.cell.rank > 0
            with torch.inference_mode(), self.subTest(case.name, cell=str(setting.cell), warm=setting.warm):
                case.work()
                for place in case.ring.places[: case.passes]:
                    for want, y in zip(cases.expect(place, dtype, adapter), place.ys, strict=True):
                        self.assertEqual(y.dtype, dtype.element)
                        self.assertLessEqual(want.excess(y), limit)
                outputs = [y.data_ptr() for place in case.ring.places for y in place.ys]
                self.assertEqual(len(set(outputs)), 2 * len(case.ring.places))

    def test_every_method_computes_the_layer(self) -> None:
        fp16, vllm = methods.DTYPES[0], methods.METHODS[-1]
        for dtype, rank, warm in itertools.product(methods.DTYPES, (0, 10, 33), (False, True)):
            chosen = [m for m in methods.METHODS[1:] if m.name != "compiled" and dtype.name in m.dtypes]
            skips = {m.name for m in chosen if not HAS_PEFT and "peft" in m.name or rank == 0 and m is vllm}
            with with_vllm(vllm_double()):
                self.assert_right(self.setting(rank, warm), dtype, chosen, skips)
        for path, clears, arguments in itertools.product(methods.VLLM_MODULES, (False, True), (1, 2)):
            with with_vllm(vllm_double(clears, arguments), path):
                self.assert_right(self.setting(10), fp16, [vllm], set())
        # Not with inductor, which needs a C++ compiler and minutes: what is compiled, not how.
        method = methods.Method("compiled", lambda rank, x: methods.compiled(rank, x, backend="eager"))
        for rank, skips in ((10, set()), (33, set()), (0, {"compiled"})):
            self.assert_right(self.setting(rank), fp16, [method], skips)

    def test_what_is_not_installed_or_cannot_be_captured_is_skipped_by_name(self) -> None:
        setting = self.setting(10)
        chosen = methods.choose(methods.METHODS, "cuda", "peft,vllm")
        with with_vllm(None, peft=None):
            built, skipped, _ = self.build(setting._replace(device=DoubleOfGpu(captures=False)), methods.DTYPES[0], chosen)
        self.assertEqual([case.name for case in built], ["torch-fp16/base"])
        self.assertIn("peft is missing", skipped["torch-fp16/peft"])
        self.assertEqual(skipped["torch-fp16/vllm"], "the package vllm is missing")
        why = "it cannot be captured: operation not permitted when stream is capturing"
        self.assertEqual(skipped["torch-fp16/base-graph"], why)
        incomplete = vllm_double()
        del incomplete.lora_expand
        with with_vllm(incomplete), mock.patch.object(importlib.util, "find_spec", return_value=True):
            with self.assertRaisesRegex(methods.Skipped, "has no lora_expand"):
                methods.vllm_ops()

    def test_wrong_outputs_and_none_at_all_are_named(self) -> None:
        def spoilt(layer: methods.Layer, wrong: str) -> methods.Module:
            right, unscaled = methods.unfused(layer), methods.unfused(layer._replace(b=layer.b / methods.SCALE))
            return {
                "right": right,
                "no adapter": methods.base(layer),
                "unscaled": unscaled,
                "NaN": lambda x: right(x).index_fill_(1, torch.tensor([0]), torch.nan),
                "one element": lambda x: right(x).index_put_((torch.tensor(-1), torch.tensor(-1)), torch.tensor(9.0).to(x)),
            }[wrong]

        for dtype in methods.DTYPES:
            for wrong in ("right", "no adapter", "unscaled", "NaN", "one element"):
                method = methods.Method("x", lambda rank, x: lambda layer: spoilt(layer, wrong))
                built, _, said = self.build(self.setting(10), dtype, [method])
                self.assertEqual(said.count("warning: "), 0 if wrong == "right" else 2, (said, dtype.name, wrong))
                self.assertEqual(len(built), 4, "timed all the same")
        built[3].work = lambda: None
        with torch.inference_mode():
            excess = built[3].excess(cases.expect(built[3].ring.places[0], dtype, True))
        self.assertNotEqual(excess, excess, "y stays NaN")

    def test_places_fill_three_times_the_cache_with_memory_of_their_own(self) -> None:
        for warm in (False, True):
            setting = self.setting(10, warm)
            inputs = cases.make_inputs(setting.workload, setting.cell)
            places = cases.make_ring(setting, inputs, methods.DTYPES[0]).places
            xs = [x for place in places for x in place.xs]
            weights = [t for place in places for layer in place.layers for t in layer]
            ys = sum(2 * 24 * n for _, n in setting.workload.projections)
            others = places[1:]
            used = sum(t.nbytes for p in others for t in (*p.xs, *(t for l in p.layers for t in l if not warm)))
            self.assertGreaterEqual(used + ys * len(others), 3 * DoubleOfGpu.cache_bytes)
            self.assertEqual(len({t.data_ptr() for t in xs}), len(xs))
            self.assertEqual(len({t.data_ptr() for t in weights}), 6 if warm else len(weights))

    def test_graphs_are_compared_with_graphs_if_the_base_is_one(self) -> None:
        unfused = methods.choose(methods.METHODS, "cuda", "unfused")
        built, _, _ = self.build(self.setting(10), methods.DTYPES[0], unfused)
        self.assertEqual([[built[i].name for i in group] for group in cases.groups(built)], [
            ["torch-fp16/base", "torch-fp16/unfused"], ["torch-fp16/base-graph", "torch-fp16/unfused-graph"]
        ])  # fmt: skip
        self.assertEqual(cases.groups([built[0], built[2], built[3]]), [[0, 1, 2]])


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Devices(unittest.TestCase):
    def test_a_sample_is_long_enough_and_a_graph_ends_where_it_began(self) -> None:
        gpu, cpu = mock.Mock(devices.Cuda, graphs=True), mock.Mock(devices.Cpu, graphs=False)
        for device, fewest, wanted_ns, pass_ns, places, passes in (
            (cpu, 1, 1e6, 3e5, 7, 4), (cpu, 1, 1e6, 5e6, 7, 1), (cpu, 1, 1e6, 10.0, 7, 256),
            (gpu, 20, 4e6, 1e5, 7, 42), (gpu, 20, 4e6, 5e6, 4, 20), (gpu, 20, 4e6, 1e3, 61, 305),
        ):  # fmt: skip
            device.fewest_passes, device.sample_ns, ran = fewest, wanted_ns, mock.Mock()
            device.time_ns = lambda work: (work(), fewest * pass_ns)[1]
            self.assertEqual(devices.Device.passes(device, ran, places), passes)
            self.assertEqual(ran.mock_calls, [mock.call(fewest)] * 2, "the first one is warm-up")

    def test_a_gpu_is_timed_between_its_events(self) -> None:
        seen = mock.Mock()
        seen.get_device_properties.return_value = SimpleNamespace(name="Some GPU", L2_cache_size=5)
        seen.device_count.return_value, seen.clock_rate.return_value = 1, 1980
        seen.Event.return_value.elapsed_time.return_value = 2.5
        with mock.patch.object(torch, "cuda", seen):
            gpu = devices.Cuda(0)
            self.assertEqual(gpu.time_ns(seen.work), 2.5e6)
            names = [name.replace("Event().", "") for name, *_ in seen.mock_calls if name[:4] in ("Even", "work", "cloc")]
            self.assertEqual(names[2:], ["record", "work", "record", "clock_rate", "synchronize", "elapsed_time"])
            seen.clock_rate.side_effect = ModuleNotFoundError
            clock, _ = gpu.clock_mhz, gpu.time_ns(seen.work)
            self.assertEqual((clock, gpu.clock_mhz, gpu.cache_bytes), (1980.0, None, 5))
            with self.assertRaisesRegex(devices.NoDevice, "no GPU number 1: PyTorch finds 1"):
                devices.Cuda(1)


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Run(unittest.TestCase):
    def rows(self, device: devices.Device, *args: str) -> tuple[list[dict[str, str]], str]:
        """The records of a run on a small workload, and what it said."""
        small = {"linear-1024x1024": Workload("small", ((64, 64), (64, 32)))}
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            for patch in (
                contextlib.redirect_stderr(said := io.StringIO()),
                mock.patch.object(records, "WORKLOADS", small),
                mock.patch.object(devices, "Cuda", return_value=device),
                with_vllm(vllm_double()),
            ):
                stack.enter_context(patch)
            path = Path(folder, "run.csv")
            argv = ["--device", "cuda", "--output", str(path), *args]
            self.assertEqual(torch_peers.main(argv), 0, said.getvalue())
            lines = path.read_text().splitlines()
            self.assertEqual(torch_peers.main(argv), 1, "the file is there already")
            self.assertEqual(path.read_text().splitlines(), lines)
        return list(csv.DictReader(lines[1:])), said.getvalue()

    def test_records_hold_each_method_eager_and_as_a_graph(self) -> None:
        cells = "seq128/batch1/r10,seq128/batch1/r100"
        rows, said = self.rows(DoubleOfGpu(), "--cells", cells, "--methods", "unfused,vllm", "--rounds", "6")
        found = [(row["method"].removeprefix("torch-fp16/"), row["rank"]) for row in rows]
        adapted = ["unfused", "unfused-graph", "vllm", "vllm-graph"]
        # The graph of the base has no slow-down either, and both are written once a size, at rank 0.
        expected = [("base", "0"), ("base-graph", "0")] + [(m, r) for r in ("10", "100") for m in adapted]
        self.assertEqual(found, expected, said)
        same = dict(workload="small", backend="cuda", device="Some GPU", threads="", simd="", driver="torch 2, CUDA 13",
                    clock_mhz="1980.0", cache="cold", dtype="f16", d_in="64+64", d_out="64+32", seq_len="128", batch="1",
                    adapters="1", floor_pad_pct="", limit_ns="", samples="6", repeated="0", ratio_by="wall")  # fmt: skip
        flops = {rank: 2 * 128 * (64 * 64 + 64 * 32 + int(rank) * (128 + 96)) for rank in ("0", "10", "100")}
        for row in rows:
            self.assertEqual({k: row[k] for k in same}, same)
            self.assertEqual((row["slowdown_pct"] == "", row["floor_pct"] == ""), (row["rank"] == "0",) * 2)
            lo, mid, hi = (float(row[name]) for name in ("time_lo_ns", "time_ns", "time_hi_ns"))
            self.assertTrue(0 < lo <= mid <= hi)
            self.assertAlmostEqual(float(row["gflops"]), flops[row["rank"]] / mid, 2)
            if row["rank"] != "0":
                # The double's clock gains a nanosecond a sample.
                self.assertAlmostEqual(float(row["slowdown_pct"]), 0.0, 3)
                self.assertAlmostEqual(float(row["floor_pct"]), 100 * (flops[row["rank"]] / flops["0"] - 1), 3)

    def test_few_rounds_have_no_interval_and_the_base_may_be_slower(self) -> None:
        device = DoubleOfGpu(graphs=False)
        device.time_ns = lambda work: (work(), 2e6 if "unfused" in getattr(work, "args", ()) else 3e6)[1]
        rows, _ = self.rows(device, "--cells", "seq128/batch1/r10", "--methods", "unfused", "--rounds", "5")
        self.assertEqual([row["slowdown_pct"] for row in rows], ["", "-33.3333"])
        ends = ("time_lo_ns", "time_hi_ns", "slowdown_lo_pct", "slowdown_hi_pct")
        self.assertEqual({row[end] for row in rows for end in ends}, {""})

    def test_disturbed_rounds_are_counted(self) -> None:
        device, calls = DoubleOfGpu(graphs=False), itertools.count()
        # Two calls before the rounds: one to choose the passes; the warm-up round has three.
        device.time_ns = lambda work: (work(), 5e6 if next(calls) == 7 else 2e6)[1]
        rows, _ = self.rows(device, "--cells", "seq128/batch1/r10", "--methods", "unfused", "--rounds", "6")
        self.assertEqual([(row["samples"], row["repeated"]) for row in rows], [("6", "1")] * 2)

    def test_what_does_not_fit_is_dropped_by_name_and_skips_are_said_once(self) -> None:
        device, cells = DoubleOfGpu(captures=False), "seq128/batch1/r0,seq128/batch1/r10"
        rows, said = self.rows(device, "--cells", cells, "--methods", "unfused", "--rounds", "1")
        self.assertEqual([(row["method"], row["rank"]) for row in rows],
                         [("torch-fp16/base", "0"), ("torch-fp16/unfused", "0"), ("torch-fp16/unfused", "10")])  # fmt: skip
        for method in ("base-graph", "unfused-graph"):
            self.assertEqual(said.count(f"skipped: torch-fp16/{method}: it cannot be captured"), 1, said)
        rows, said = self.rows(DoubleOfGpu(free=1 << 10), "--cells", cells, "--rounds", "1")
        self.assertEqual((rows, said.count("dropped, not enough memory: seq128/batch1/r")), ([], 2))
        with mock.patch.object(rounds.Budget, "fits", lambda self, cell: cell.rank == 0):
            rows, said = self.rows(DoubleOfGpu(), "--cells", cells, "--rounds", "1", "--methods", "unfused")
        self.assertIn("dropped, over the budget of 180.0 s: seq128/batch1/r10\n", said)

    def test_the_program_measures_the_cpu(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.csv")
            args = ("--cells", "seq128/batch1/r10", "--dtypes", "fp32,bf16", "--cache", "warm", "--rounds", "2")
            result = command(*args, "--threads", "1", "--output", str(path), FUSED_LORA_REVISION="0123abc-dirty")
            self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)
            rows = list(csv.DictReader(path.read_text().splitlines()[1:]))
        peft = (["peft"], ["peft", "peft-f32"]) if HAS_PEFT else ([], [])
        names = [f"torch-fp32/{m}" for m in ["base", "unfused", *peft[0]]]
        names += [f"torch-bf16/{m}" for m in ["base", "unfused", *peft[1]]]
        self.assertEqual([row["method"] for row in rows], names)
        for row in rows:
            self.assertEqual([row[k] for k in ("backend", "cache", "threads", "commit", "dirty", "samples", "dtype")],
                             ["cpu", "warm-w", "1", "0123abc", "true", "2", {"fp32": "f32", "bf16": "bf16"}[row["method"][6:10]]])  # fmt: skip


if __name__ == "__main__":
    unittest.main()

"""Tests of PyTorch's child process: python -m unittest discover benches/peers

A double takes the GPU's place: it runs on the CPU what would be captured. What needs PyTorch or PEFT is skipped where
these are not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

import torch_child

HAS_TORCH = all(importlib.util.find_spec(package) for package in ("torch", "safetensors", "numpy"))
HAS_PEFT = HAS_TORCH and importlib.util.find_spec("peft") is not None
if HAS_TORCH:
    import torch
    import torch_layer
    import torch_linears
    from safetensors.torch import load_file, save_file
    from torch_worker import Cpu, Cuda, NoDevice, Worker, device

    class DoubleOfGpu:
        """Runs at once what would be captured."""

        name, graphs, simd, versions, torch_device = "cuda", True, "-", "torch 2, CUDA 13", torch.device("cpu")
        captures = True

        def capture(self, work):
            if not self.captures:
                raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
            work()
            return work

        def time(self, work) -> list[float]:
            work()
            return [1e6]

        def reserve(self, needed: int) -> None:
            pass

        def forget(self) -> None:
            pass


SCRIPT = Path(torch_child.__file__)
# The case that crates/transformer is compared with: d 64, 4 heads, 2 sequences of 24 tokens, rank 6, scale 0.5.
CASE = SCRIPT.resolve().parents[2] / "tests" / "transformer" / "case.safetensors"
HEADS, SEQUENCES, SEQ_LEN, RANK, SCALE = 4, 2, 24, 6, 0.5


class CommandLine(unittest.TestCase):
    def run_child(self, *args: str, python: tuple[str, ...] = (), requests: str = "") -> subprocess.CompletedProcess:
        command = [sys.executable, *python, str(SCRIPT), *args]
        env = {"CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(command, input=requests, capture_output=True, text=True, env=env)

    def test_bad_arguments_exit_with_2(self) -> None:
        for args in (["layer"], ["layer", "--threads", "x"], ["layer", "--threads", "1", "--cache", "hot"], ["grid"]):
            result = self.run_child(*args)
            self.assertEqual((result.returncode, result.stdout), (2, ""), args)

    def test_missing_packages_are_named_on_stdout_where_the_bench_listens(self) -> None:
        result = self.run_child("layer", "--threads", "1", python=("-S",))
        self.assertEqual((result.returncode, result.stdout.count("\n")), (2, 1))
        self.assertTrue(result.stdout.startswith("error "), result.stdout)
        self.assertIn("torch, safetensors, numpy: pip install -r benches/peers/requirements-cpu.txt", result.stdout)

    @unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
    def test_what_a_library_prints_is_no_answer(self) -> None:
        code = """if True:
            import os, torch_child, torch_worker
            torch_worker.Worker.greeting = lambda self: os.system("echo log") or print("log") or "ok"
            torch_child.main(["layer", "--threads", "1"])"""
        env = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(SCRIPT.parent)}
        command = [sys.executable, "-B", "-c", code]
        result = subprocess.run(command, input="", capture_output=True, text=True, env=env)
        self.assertEqual((result.stdout, result.stderr), ("ok\n", "log\nlog\n"))

    @unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
    def test_a_gpu_that_is_not_there_is_named(self) -> None:
        result = self.run_child("linears", "--threads", "1", "--device", "cuda:0")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertRegex(result.stdout, "^error PyTorch .* finds no GPU")

    @unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
    def test_the_process_answers_line_by_line_until_its_input_ends(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "with a space.safetensors")
            save_file(case_weights(), path)
            requests = f"load {path}\nprepare 2 1 {SEQ_LEN}\nready torch-fp32/none 0\ncall torch-fp32/none 0\n"
            result = self.run_child("layer", "--threads", "1", "--heads", str(HEADS), requests=requests)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        lines = result.stdout.splitlines()
        self.assertRegex(lines[0], "^ok [a-z0-9_]+ torch-fp32/none,torch-fp32/adapter-h[+],.* torch ")
        self.assertTrue(lines[0].endswith(f"torch {torch.__version__}"), lines[0])
        self.assertEqual(lines[1:4], ["ok"] * 3)
        self.assertRegex(lines[4], r"^ok [1-9]\d*\.\d \d+\.\d$")
        self.assertEqual(len(lines), 5)


def case_weights() -> dict:
    """The case's tensors under the names that the bench gives them."""
    case = load_file(CASE)
    weights = {"x": case["x"]}
    for name, tensor in case.items():
        part, _, rest = name.partition(".")
        if "/" in name or name == "x":
            continue
        if part == "base":
            weights[f"layers.0.{name}"] = tensor
        elif part == "adapter-l" and not rest.startswith("norm"):
            weights[f"layers.0.adapter-l.{RANK}.bottleneck.{rest}"] = tensor
        else:
            weights[f"layers.0.{part}.{RANK}.{rest}"] = tensor
        if part.startswith("lora") and rest.endswith(".a"):
            scale = f"layers.0.{part}.{RANK}.{rest.removesuffix('.a')}.scale"
            weights[scale] = torch.tensor([SCALE])
    # Tensors of a file share no memory.
    return {name: tensor.clone().contiguous() for name, tensor in weights.items()}


class OnTensors(unittest.TestCase):
    """A worker that has been given tensors."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "with a space.safetensors"
        inference = torch.inference_mode()
        inference.__enter__()
        self.addCleanup(inference.__exit__, None, None, None)

    def given(
        self,
        workload: ModuleType,
        tensors: dict,
        prepare: str,
        cache: str = "cold",
        on: object = None,
        adapters: int = 1,
    ) -> Worker:
        worker = Worker(workload, on or Cpu(1), cache, HEADS, adapters)
        save_file(tensors, self.path)
        self.assertEqual(worker.answer(f"load {self.path}"), "ok")
        self.assertEqual(worker.answer(f"prepare {prepare}"), "ok")
        return worker

    def ys(self, worker: Worker, method: str) -> list[torch.Tensor]:
        """What a call of a method that was made ready leaves."""
        answer = worker.answer(f"call {method}")
        self.assertRegex(answer, r"^ok [1-9]\d*\.\d( \d+\.\d)?$")
        path = self.folder / "y of it.safetensors"
        self.assertEqual(worker.answer(f"output {path}"), "ok")
        ys = load_file(path)
        return [ys[str(i)] for i in range(len(ys))]


@unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
class OfLayer(OnTensors):
    def y(self, worker: Worker, method: str) -> torch.Tensor:
        named = f"torch-fp32/{method} {0 if method == 'none' else RANK}"
        self.assertEqual(worker.answer(f"ready {named}"), "ok")
        return self.ys(worker, named)[0]

    def test_every_method_is_the_cases(self) -> None:
        worker = self.given(torch_layer, case_weights(), f"1 1 {SEQ_LEN}")
        case, seen = load_file(CASE), []
        for method in torch_layer.METHODS:
            y = self.y(worker, method)
            torch.testing.assert_close(y, case[f"{method}/output"], rtol=1e-4, atol=1e-4)
            self.assertFalse(any(torch.allclose(y, other, atol=1e-3) for other in seen), method)
            seen.append(y)

    def test_sequences_do_not_see_each_other_nor_what_follows(self) -> None:
        weights = case_weights()
        whole = self.y(self.given(torch_layer, weights, f"1 1 {SEQ_LEN}"), "lora")
        weights["x"] = weights["x"].view(SEQUENCES, SEQ_LEN, -1)[:, :7].reshape(2 * 7, -1).contiguous()
        first = self.y(self.given(torch_layer, weights, "1 1 7"), "lora")
        expected = whole.view(SEQUENCES, SEQ_LEN, -1)[:, :7].reshape(2 * 7, -1)
        torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-4)

    def test_layers_follow_each_other(self) -> None:
        weights = case_weights()
        one = self.y(self.given(torch_layer, weights, f"1 1 {SEQ_LEN}"), "adapter-l")
        twice = self.y(self.given(torch_layer, weights | {"x": one}, f"1 1 {SEQ_LEN}"), "adapter-l")
        for name in [name for name in weights if name.startswith("layers.0")]:
            weights[name.replace("layers.0", "layers.1")] = weights[name].clone()
        two = self.y(self.given(torch_layer, weights, f"1 1 {SEQ_LEN}"), "adapter-l")
        torch.testing.assert_close(two, twice, rtol=1e-4, atol=1e-4)

    def test_slots_have_memory_of_their_own_and_the_same_numbers(self) -> None:
        for cache, same_weights in (("cold", False), ("warm-w", True)):
            # f32 fills five slots of f16 with three.
            worker = self.given(torch_layer, case_weights(), f"5 1 {SEQ_LEN}", cache)
            first = self.y(worker, "adapter-h")
            for _ in range(4):
                torch.testing.assert_close(self.ys(worker, f"torch-fp32/adapter-h {RANK}")[0], first)
            for name, count in (("x", 3), ("layers.0.base.up.weight", 1 if same_weights else 3)):
                copies = worker.slots.copies(name, torch.float32)
                self.assertEqual(len({tensor.data_ptr() for tensor in copies}), count, name)
            self.assertEqual(len({ys[0].data_ptr() for ys in worker.slots.ring(torch.float32).ys}), 3)

    def test_what_cannot_be_done_is_said_and_no_end(self) -> None:
        requests = (
            ("ready torch-fp32/none 0", "nothing was prepared"),
            ("call torch-fp32/none 0", "it was not made ready"),
            ("call torch-fp32/none", "lacks an argument"),
            ("load", "lacks an argument"),
            ("load /no/such/file", "/no/such/file"),
            ("prepare 1 x 128", "invalid literal"),
            ("output y", "nothing was called"),
            ("stop", "no request 'stop'"),
        )
        lines: list[str] = []
        worker = Worker(torch_layer, Cpu(1), "cold", HEADS)
        worker.serve([f"{request}\n" for request, _ in requests], lines.append)
        for line, (request, said) in zip(lines, requests, strict=True):
            self.assertTrue(line.startswith(f"error {request}: ") and said in line, line)
        worker = self.given(torch_layer, case_weights(), f"1 1 {SEQ_LEN}")
        self.assertIn("no method torch-fp32/lora-fused", worker.answer("ready torch-fp32/lora-fused 10"))
        self.assertEqual(worker.answer("ready torch-fp32/lora 7"), "ok")
        self.assertIn("no tensor 'layers.0.lora.7.qkv.a'", worker.answer("call torch-fp32/lora 7"))


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
        assert a[0].shape[1] in torch_linears.VLLM_RANKS
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
def with_vllm(module: object, path: str = "vllm.lora.ops.triton_ops") -> Iterator[None]:
    """With that module at that path and no other vLLM; PEFT and all else as they are installed.
    (`mock.patch.dict` would also forget what is imported meanwhile, and some of it cannot be imported twice.)"""
    found = dict.fromkeys(("vllm", *torch_linears.VLLM_MODULES)) | {path: module}
    before = {name: sys.modules[name] for name in found if name in sys.modules}
    sys.modules.update(found)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in found:
            del sys.modules[name]
        sys.modules.update(before)


@unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
class OfLinears(OnTensors):
    M, WIDTHS, RANKS, SLOTS = 24, ((96, 80), (64, 112)), (10, 33), 3

    def tensors(self) -> dict:
        generator = torch.Generator().manual_seed(1)

        def normal(rows: int, columns: int, variance: float = 1.0) -> torch.Tensor:
            return torch.randn(rows, columns, generator=generator).mul_(variance**0.5).half()

        tensors = {"scale": torch.tensor([1.5])}
        for i, (k, n) in enumerate(self.WIDTHS):
            tensors |= {f"x.{i}": normal(self.M, k), f"w.{i}": normal(n, k, 1 / k)}
            for r in self.RANKS:
                tensors |= {f"a.{r}.{i}": normal(r, k, 1 / k), f"b.{r}.{i}": normal(n, r, 1 / r)}
        return tensors

    def worker(self, cache: str = "cold", passes: int = 1, on: object = None) -> Worker:
        return self.given(torch_linears, self.tensors(), f"{self.SLOTS} {passes} 24", cache, on)

    def test_a_type_has_all_slots_of_operands_in_it(self) -> None:
        for dtype, wider in ((torch.float16, 2), (torch.bfloat16, 2), (torch.float32, self.SLOTS)):
            tensors = {name: tensor.to(dtype) for name, tensor in self.tensors().items()}
            worker = self.given(torch_linears, tensors, f"{self.SLOTS} 1 24")
            self.assertEqual(worker.slots.ring(dtype).count, self.SLOTS)
            self.assertEqual(worker.slots.ring(torch.float32).count, wider)

    def assert_right(self, worker: Worker, method: str, rank: int) -> None:
        """A method: y, its type, and its memory, in every slot."""
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[method[6:10]]
        u = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
        self.assertEqual(worker.answer(f"ready {method} {rank}"), "ok")
        _, ring = worker.calls[method, str(rank)]
        self.assertEqual(ring.count, 2 if dtype == torch.float32 else self.SLOTS)
        for _ in range(ring.count if worker.passes == 1 else 1):
            written = self.ys(worker, f"{method} {rank}")
        self.assertEqual(len({y.data_ptr() for ys in ring.ys for y in ys}), 2 * ring.count)
        for i in range(len(self.WIDTHS)):
            x, w = (worker.tensors[f"{name}.{i}"].to(dtype).double() for name in "xw")
            y = x @ w.t()
            if rank and "/base" not in method:
                a, b = (worker.tensors[f"{name}.{rank}.{i}"].to(dtype).double() for name in "ab")
                y += 1.5 * (x @ a.t()) @ b.t()
            torch.testing.assert_close(written[i], ring.ys[ring.last][i].float())
            for ys in ring.ys:
                self.assertEqual(ys[i].dtype, dtype)
                # PEFT and vLLM's double round more often than the others; without its adapter a y is off by 0.5.
                self.assertLess((ys[i].double() - y).norm() / y.norm(), 3 * u, (method, rank))

    def test_every_method_computes_the_layers(self) -> None:
        for cache, rank in itertools.product(("cold", "warm-w"), (0, *self.RANKS)):
            worker = self.worker(cache)
            for name, needs_adapter in torch_linears.methods("cpu"):
                with self.subTest(name, rank=rank, cache=cache):
                    self.assertFalse(needs_adapter)
                    if rank == 0 or not name.endswith("/base"):
                        self.assert_right(worker, name, rank)

    def test_a_gpus_methods_are_right_as_graphs_too(self) -> None:
        # Not with inductor, which needs a C++ compiler and minutes: what is compiled, not how.
        compiled = torch_linears.Method(lambda rank, x: torch_linears.compiled(rank, x, backend="eager"))
        with mock.patch.dict(torch_linears.METHODS, compiled=compiled), with_vllm(vllm_double()):
            worker = self.worker(passes=6, on=DoubleOfGpu())
            for method, graph in itertools.product(("base", "unfused", "compiled", "vllm"), ("", "-graph")):
                for rank in (0,) if method == "base" else self.RANKS:
                    self.assert_right(worker, f"torch-fp16/{method}{graph}", rank)
        for path, clears, arguments in itertools.product(torch_linears.VLLM_MODULES, (False, True), (1, 2)):
            with with_vllm(vllm_double(clears, arguments), path):
                self.assert_right(self.worker(), "torch-fp16/vllm", 10)

    @unittest.skipUnless(HAS_PEFT, "needs peft")
    def test_peft_mixes_adapters_row_by_row(self) -> None:
        for adapters in (3, 30):
            tensors = self.tensors()
            for name in [name for name in tensors if name[0] in "ab"]:
                for j in range(1, adapters):
                    tensors[f"{name}.{j}"] = tensors[name].roll(j, 1).contiguous()
            worker = self.given(torch_linears, tensors, f"{self.SLOTS} 1 24", adapters=adapters)
            names = [name for name, _ in torch_linears.methods("cpu", adapters)]
            self.assertEqual({name.partition("/")[2] for name in names}, {"base", "peft", "peft-f32"})
            for name in names:
                if name.endswith("/base"):
                    continue
                dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[name[6:10]]
                self.assertEqual(worker.answer(f"ready {name} 10"), "ok")
                for i, y in enumerate(self.ys(worker, f"{name} 10")):
                    x, w = (worker.tensors[f"{part}.{i}"].to(dtype).double() for part in "xw")
                    expected = x @ w.t()
                    for j in range(adapters):
                        rows = slice(j * self.M // adapters, (j + 1) * self.M // adapters)
                        a, b = (tensors[f"{part}.10.{i}" + f".{j}" * (j > 0)].to(dtype).double() for part in "ab")
                        expected[rows] += 1.5 * (x[rows] @ a.t()) @ b.t()
                    u = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
                    self.assertLess((y.double() - expected).norm() / expected.norm(), 3 * u, (name, adapters))

    def test_weights_stay_where_they_are_to_stay_warm(self) -> None:
        for cache, places in (("cold", 3), ("warm-w", 1)):
            worker = self.worker(cache)
            for name, count in (("x.1", 3), ("w.1", places), ("a.10.1", places)):
                copies = worker.slots.copies(name, torch.float16)
                self.assertEqual((len(copies), len({t.data_ptr() for t in copies})), (3, count), name)

    def test_the_first_line_says_what_there_is_and_stderr_what_not(self) -> None:
        installed = mock.patch.object(importlib.util, "find_spec", return_value=True)
        with installed:
            cpu, gpu = (Worker(torch_linears, on, "cold", 1).greeting().split() for on in (Cpu(1), DoubleOfGpu()))
        of_fp16 = "torch-fp16/base,torch-fp16/unfused,torch-fp16/peft,torch-fp16/peft-f32"
        of_fp32 = "torch-fp32/base,torch-fp32/unfused,torch-fp32/peft"
        self.assertEqual(cpu[2], f"{of_fp16},{of_fp16.replace('fp16', 'bf16')},{of_fp32}")
        names = [name + graph for name in torch_linears.METHODS for graph in ("", "-graph")]
        needs_adapter = ("compiled", "vllm")
        expected = [f"torch-fp16/{name}{'+' * name.startswith(needs_adapter)}" for name in names]
        self.assertEqual(gpu, ["ok", "-", ",".join(expected), "torch", "2,", "CUDA", "13"])
        absent = mock.patch.object(importlib.util, "find_spec", lambda package: package == "torch" or None)
        with absent, contextlib.redirect_stderr(said := io.StringIO()):
            names = [name for name, _ in torch_linears.methods("cuda")]
        self.assertEqual(names, ["torch-fp16/base", "torch-fp16/unfused", "torch-fp16/compiled"])
        self.assertIn("skipped: torch-fp16/vllm: the package vllm is missing\n", said.getvalue())
        self.assertEqual(said.getvalue().count("\n"), 3)

    def test_what_turns_out_not_to_work_is_said_and_no_end(self) -> None:
        gpu = DoubleOfGpu()
        gpu.captures = False
        worker = self.worker(on=gpu)
        why = worker.answer("ready torch-fp16/unfused-graph 10")
        self.assertEqual(why, "ok RuntimeError: operation not permitted when stream is capturing more of it")
        incomplete = vllm_double()
        del incomplete.lora_expand
        with with_vllm(incomplete):
            self.assertIn("has no lora_expand", worker.answer("ready torch-fp16/vllm 10"))
        self.assertIn("it was not made ready", worker.answer("call torch-fp16/vllm 10"))
        self.assert_right(worker, "torch-fp16/unfused", 10)

    def test_a_graph_that_computes_nothing_is_seen(self) -> None:
        gpu = DoubleOfGpu()
        gpu.capture = lambda work: (work(), lambda: None)[1]
        worker = self.worker(passes=3, on=gpu)
        worker.answer("ready torch-fp16/base-graph 0")
        self.assertTrue(all(y.isnan().all() for y in self.ys(worker, "torch-fp16/base-graph 0")))

    def test_passes_go_round_the_slots_and_share_the_time(self) -> None:
        for passes, expected in ((1, [0, 1]), (6, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])):
            order: list[int] = []
            run = lambda slot: (order.append(slot), [torch.ones(1, 1)])[1]
            worker = self.worker(passes=passes, on=DoubleOfGpu())
            # All methods of an element type share its ring.
            forward = lambda worker, name, rank: (run, worker.slots.ring(torch.float16))
            worker.workload = SimpleNamespace(forward=forward)
            for rank in (0, 10):
                self.assertEqual(worker.answer(f"ready any {rank}"), "ok")
            self.assertEqual(order, [0, 0], "on a GPU each is tried")
            order.clear()
            for rank in (0, 10):
                self.assertEqual(worker.answer(f"call any {rank}"), f"ok {round(1e6 / passes, 1)}")
            self.assertEqual(order, expected)

    def test_copies_that_do_not_fit_are_not_made(self) -> None:
        with mock.patch.object(Path, "read_text", return_value="MemTotal: 9 kB\nMemAvailable: 8 kB\n"):
            said = self.worker().answer("ready torch-fp16/base 0")
        self.assertEqual(said, "ok MemoryError: not enough memory: 0 MiB, of which 0 are free")


@unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
class Devices(unittest.TestCase):
    def test_a_gpu_is_timed_between_its_events(self) -> None:
        seen = mock.Mock()
        seen.device_count.return_value = 1
        seen.Event.return_value.elapsed_time.return_value = 2.5
        with mock.patch.object(torch, "cuda", seen), mock.patch.object(torch, "compiler") as compiler:
            gpu = device("cuda:0", 1)
            self.assertEqual(gpu.time(seen.work), [2.5e6])
            names = [name.replace("Event().", "") for name, *_ in seen.mock_calls if name[:4] in ("Even", "work")]
            self.assertEqual(names[2:], ["record", "work", "record", "synchronize", "elapsed_time"])
            gpu.forget()
            self.assertTrue(seen.empty_cache.called and compiler.reset.called)
            with self.assertRaisesRegex(NoDevice, "no GPU number 1: PyTorch finds 1"):
                Cuda(1)

    def test_a_cpu_is_timed_by_both_clocks(self) -> None:
        wall, cpu = device("cpu", 1).time(lambda: sum(range(100_000)))
        self.assertTrue(wall > 0 and cpu > 0)


if __name__ == "__main__":
    unittest.main()

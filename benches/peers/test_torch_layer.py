"""Tests of PyTorch's layer: python -m unittest discover benches/peers

Those that need PyTorch are skipped where it is not installed.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch_layer
from common import missing, places_needed

HAS_TORCH = not missing("torch", "safetensors", "numpy")
if HAS_TORCH:
    import torch
    from safetensors.torch import load_file, save_file

SCRIPT = Path(torch_layer.__file__)
# The case that crates/transformer is compared with: d 64, 4 heads, 2 sequences of 24 tokens, rank 6, scale 0.5.
CASE = Path(__file__).resolve().parents[2] / "tests" / "transformer" / "case.safetensors"
HEADS, SEQUENCES, SEQ_LEN, RANK, SCALE = 4, 2, 24, 6, 0.5


class CommandLine(unittest.TestCase):
    def test_bad_arguments_exit_with_2(self) -> None:
        for args in ([], ["--threads", "x"], ["--threads", "1", "--cache", "hot"]):
            result = subprocess.run([sys.executable, str(SCRIPT), *args], capture_output=True, text=True)
            self.assertEqual((result.returncode, result.stdout), (2, ""), args)

    def test_missing_packages_are_named_on_stdout_where_the_bench_listens(self) -> None:
        command = [sys.executable, "-S", str(SCRIPT), "--threads", "1"]
        result = subprocess.run(command, capture_output=True, text=True, env={})
        self.assertEqual(result.returncode, 2)
        self.assertTrue(result.stdout.startswith("error "), result.stdout)
        self.assertIn("torch, safetensors, numpy", result.stdout)
        self.assertEqual(result.stdout.count("\n"), 1)

    def test_enough_of_other_places_lies_between_two_uses(self) -> None:
        for place_bytes, distance, places in ((50, 96, 3), (48, 96, 3), (47, 96, 4), (200, 96, 2), (50, 0, 1)):
            self.assertEqual(places_needed(place_bytes, distance), places)


def case_weights() -> dict:
    """The case's tensors under the names that the bench gives them."""
    case = load_file(CASE)
    weights = {"x": case["x"].view(SEQUENCES, SEQ_LEN, -1)}
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


@unittest.skipUnless(HAS_TORCH, "needs torch, safetensors and numpy")
class Layer(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "with a space.safetensors"
        save_file(case_weights(), self.path)

    def worker(self, *args: str) -> torch_layer.Worker:
        args = ("--threads", "1", "--heads", str(HEADS), *args)
        worker = torch_layer.Worker(torch_layer.parse_args(args))
        self.assertEqual(worker.answer(f"load {self.path}"), "ok")
        return worker

    def y(self, worker: torch_layer.Worker, method: str) -> torch.Tensor:
        with torch.inference_mode():
            answer = worker.answer(f"call {method} {0 if method == 'none' else RANK}")
        verb, wall, cpu = answer.split()
        self.assertTrue(verb == "ok" and int(wall) > 0 and int(cpu) > 0, answer)
        path = self.folder / "y of it.safetensors"
        self.assertEqual(worker.answer(f"output {path}"), "ok")
        return load_file(path)["y"]

    def test_every_method_is_the_cases(self) -> None:
        worker = self.worker()
        case = load_file(CASE)
        self.assertEqual(worker.answer(f"prepare {SEQ_LEN} {SEQUENCES}"), "ok")
        seen = []
        for method in torch_layer.METHODS:
            y = self.y(worker, method)
            torch.testing.assert_close(y, case[f"{method}/output"], rtol=1e-4, atol=1e-4)
            self.assertFalse(any(torch.allclose(y, other, atol=1e-3) for other in seen), method)
            seen.append(y)

    def test_a_batch_is_the_sequences_in_turn(self) -> None:
        worker = self.worker()
        worker.answer(f"prepare {SEQ_LEN} 3")
        three = self.y(worker, "lora").view(3, SEQ_LEN, -1)
        torch.testing.assert_close(three[0], three[2])
        self.assertFalse(torch.allclose(three[0], three[1], atol=1e-2))
        # Causal: the first tokens of a longer sequence do not see what follows.
        worker.answer("prepare 7 1")
        torch.testing.assert_close(self.y(worker, "lora"), three[0, :7], rtol=1e-4, atol=1e-4)

    def test_buffers_rotate_and_hold_the_same_numbers(self) -> None:
        for cache, same_weights in (("cold", False), ("warm-w", True)):
            worker = self.worker("--cache", cache, "--distance", "1000000")
            worker.answer(f"prepare {SEQ_LEN} {SEQUENCES}")
            count = len(worker.ring.places)
            self.assertGreater(count, 2, cache)
            name = "layers.0.base.up.weight"
            places = {place.weights[name].data_ptr() for place in worker.ring.places}
            self.assertEqual(len(places), 1 if same_weights else count)
            self.assertEqual(len({place.x.data_ptr() for place in worker.ring.places}), count)
            first = self.y(worker, "adapter-h")
            for _ in range(count):
                torch.testing.assert_close(self.y(worker, "adapter-h"), first)
            self.assertEqual(len({place.y.data_ptr() for place in worker.ring.places}), count)

    def test_layers_follow_each_other(self) -> None:
        weights = case_weights()
        weights |= {
            name.replace("layers.0", "layers.1"): tensor.clone()
            for name, tensor in weights.items()
            if name.startswith("layers.0")
        }
        save_file(weights, self.path)
        one, two = self.worker(), self.worker("--layers", "2")
        for worker in (one, two):
            worker.answer(f"prepare {SEQ_LEN} {SEQUENCES}")
        y = self.y(one, "adapter-l")
        for place in one.ring.places:
            place.x = y
        torch.testing.assert_close(self.y(two, "adapter-l"), self.y(one, "adapter-l"), rtol=1e-4, atol=1e-4)

    def test_what_cannot_be_done_is_said_and_no_end(self) -> None:
        worker = torch_layer.Worker(torch_layer.parse_args(["--threads", "1"]))
        requests = (
            ("call none 0", "nothing was prepared"),
            ("call lora-fused 10", "no method lora-fused"),
            ("call none", "lacks an argument"),
            ("load", "lacks an argument"),
            ("load /no/such/file", "/no/such/file"),
            ("prepare 128 1", "no tensor 'x'"),
            ("output y", "nothing was called"),
            ("stop", "no request 'stop'"),
        )
        answers = io.StringIO()
        torch_layer.serve(worker, io.StringIO("".join(f"{request}\n" for request, _ in requests)), answers)
        lines = answers.getvalue().splitlines()
        self.assertEqual(len(lines), len(requests))
        for line, (request, said) in zip(lines, requests, strict=True):
            self.assertTrue(line.startswith(f"error {request}") and said in line, line)
        worker = self.worker()
        self.assertIn("sequences of 24 tokens", worker.answer("prepare 25 1"))
        worker.answer("prepare 24 1")
        self.assertIn("no tensor 'layers.0.lora.7.qkv.a'", worker.answer("call lora 7"))

    def test_the_process_answers_line_by_line_until_its_input_ends(self) -> None:
        command = [sys.executable, str(SCRIPT), "--threads", "1", "--heads", str(HEADS)]
        requests = f"load {self.path}\nprepare {SEQ_LEN} 1\ncall none 0\n"
        result = subprocess.run(command, input=requests, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0].split()[:2], ["ok", torch.__version__])
        self.assertEqual(lines[1:3], ["ok", "ok"])
        self.assertRegex(lines[3], r"^ok [1-9]\d* [1-9]\d*$")
        self.assertEqual(len(lines), 4)


if __name__ == "__main__":
    unittest.main()

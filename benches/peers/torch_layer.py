"""A layer of GPT-2 in PyTorch, fp32 and eager, that computes when it is told to: a child of the Criterion bench `layer`.

`FUSED_LORA_TORCH=<this interpreter> cargo bench --bench layer` starts it. It reads a request a line from stdin and
answers each with a line on stdout, `ok …` or `error …`; when stdin ends, so does it.

    (start)                       ok <version of PyTorch> <its CPU capability>
    load <path>                   the weights and sequences of that safetensors file      ok
    prepare <seq_len> <batch>     buffers for that size                                   ok
    call <method> <rank>          one forward pass on the next buffers                    ok <wall ns> <cpu ns>
    output <path>                 y [M, d] of the last call into that safetensors file    ok

The methods have the names of the records; README.md beside this file says what each computes.

Timing: the weights, x and y of a call rotate over as many places as leave `--distance` bytes of others between two
uses of one (with `--cache warm-w` the weights are always the same). Wall time is from the call of the first operation
to the return of the last, by the monotonic clock; CPU time is that of the whole process meanwhile, all its threads.
PyTorch allocates what it computes, as it does for its users. Threads that wait for work sleep (the bench sets
OMP_WAIT_POLICY and the like before PyTorch is loaded): one that spins would slow down the calls of others, which come
next.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from common import INSTALL, Ring, missing, places_needed

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-5
METHODS = ("none", "adapter-h", "adapter-l", "lora", "lora-qv")
Weights = dict[str, "Tensor"]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options. Exits with 2 on a bad one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, required=True, help="PyTorch's threads")
    parser.add_argument("--layers", type=int, default=1, help="layers of the model")
    parser.add_argument("--heads", type=int, default=16, help="heads of attention")
    parser.add_argument("--cache", choices=("cold", "warm-w"), default="cold", help="whether the weights rotate")
    parser.add_argument("--distance", type=int, default=0, help="bytes between two uses of a buffer")
    return parser.parse_args(argv)


def layer(x: Tensor, weights: Weights, at: str, method: str, rank: int, seq_len: int, heads: int) -> Tensor:
    """One layer: x [M, d] → [M, d]. `at` begins the names of its weights."""
    from torch.nn import functional as F

    base, adapter = f"{at}.base", f"{at}.{method}.{rank}"
    (m, d), qv = x.shape, method == "lora-qv"

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (d,), weights[f"{name}.gamma"], weights[f"{name}.beta"], EPSILON)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def bottleneck(x: Tensor, name: str) -> Tensor:
        return linear(F.gelu(linear(x, f"{name}.down"), approximate="tanh"), f"{name}.up")

    def lora(x: Tensor, part: str) -> Tensor:
        name = f"{adapter}.{part}"
        return F.linear(F.linear(x, weights[f"{name}.a"]), weights[f"{name}.b"]) * weights[f"{name}.scale"]

    def product(x: Tensor, part: str) -> Tensor:
        y = linear(x, f"{base}.{part}")
        return y + lora(x, part) if method == "lora" else y

    def adapted(z: Tensor, part: str) -> Tensor:
        return z + bottleneck(z, f"{adapter}.{part}") if method == "adapter-h" else z

    normed = norm(x, f"{base}.norm1")
    qkv = product(normed, "qkv")
    if qv:
        qkv[:, :d] += lora(normed, "query")
        qkv[:, 2 * d :] += lora(normed, "value")
    # [M, 3 d] → q, k, v: [sequences, heads, seq_len, d / heads]
    q, k, v = qkv.view(m // seq_len, seq_len, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    attention = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(m, d)
    middle = x + adapted(product(attention, "proj"), "attention")
    hidden = F.gelu(product(norm(middle, f"{base}.norm2"), "up"), approximate="tanh")
    y = middle + adapted(product(hidden, "down"), "mlp")
    if method == "adapter-l":
        y = y + bottleneck(norm(y, f"{adapter}.norm"), f"{adapter}.bottleneck")
    return y


@dataclass
class Place:
    """One place of the ring. `y` is its last output, kept so that the next place's gets other memory."""

    x: Tensor
    weights: Weights
    y: Tensor | None = None


@dataclass
class Worker:
    """What requests are about: the weights, the buffers of a size, the last call."""

    args: argparse.Namespace
    weights: Weights = field(default_factory=dict)
    ring: Ring = field(default_factory=lambda: Ring([]))
    seq_len: int = 0

    def load(self, path: str) -> str:
        """Weights as f32; buffers that there were are gone."""
        from safetensors.torch import load_file

        self.weights = {name: tensor.float() for name, tensor in load_file(path).items()}
        self.ring = Ring([])
        return ""

    def prepare(self, seq_len: str, batch: str) -> str:
        """x of `batch` sequences, the file's in turn, and copies of the weights, as many as the distance demands."""
        self.seq_len = int(seq_len)
        sequences = self.weights["x"]
        if not 0 < self.seq_len <= sequences.shape[1]:
            raise ValueError(f"there are sequences of {sequences.shape[1]} tokens, not of {seq_len}")
        which = [i % sequences.shape[0] for i in range(int(batch))]
        x = sequences[which, : self.seq_len].reshape(-1, sequences.shape[2])
        weights = {name: tensor for name, tensor in self.weights.items() if name != "x"}
        cold = self.args.cache == "cold"
        # x and y, and what every method reads of the weights.
        read = sum(tensor.nbytes for name, tensor in weights.items() if ".base." in name) if cold else 0
        count = places_needed(2 * x.nbytes + read, self.args.distance)
        copies = [weights, *(place.weights for place in self.ring.places[1:])] if cold else [weights] * count
        self.ring = Ring([])
        while len(copies) < count:
            copies.append({name: tensor.clone() for name, tensor in weights.items()})
        self.ring = Ring([Place(x.clone(), copy) for copy in copies[:count]])
        return ""

    def call(self, method: str, rank: str) -> str:
        """Nanoseconds of one forward pass: by the wall's clock, and of the process's CPU time."""
        if method not in METHODS:
            raise ValueError(f"there is no method {method}; there are {', '.join(METHODS)}")
        if not self.ring.places:
            raise ValueError("nothing was prepared")
        place = self.ring.next()
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        y = place.x
        for i in range(self.args.layers):
            y = layer(y, place.weights, f"layers.{i}", method, int(rank), self.seq_len, self.args.heads)
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        place.y = y
        return f"{wall} {cpu}"

    def output(self, path: str) -> str:
        """Writes y of the last call."""
        from safetensors.torch import save_file

        y = self.ring.last.y if self.ring.taken else None
        if y is None:
            raise ValueError("nothing was called")
        save_file({"y": y.contiguous()}, path)
        return ""

    def answer(self, request: str) -> str:
        """One line for one line. What goes wrong is said, and no end."""
        verb, _, rest = request.strip().partition(" ")
        verbs: dict[str, Callable[..., str]] = {name: getattr(self, name) for name in ("load", "prepare", "call", "output")}
        try:
            if verb not in verbs:
                raise ValueError(f"there is no request '{verb}'; there are {', '.join(verbs)}")
            count = len(inspect.signature(verbs[verb]).parameters)
            # A path may have spaces in it, and is the last.
            words = rest.split(" ", count - 1)
            if len(words) < count or not words[-1]:
                raise ValueError(f"'{request.strip()}' lacks an argument")
            return f"ok {verbs[verb](*words)}".rstrip()
        except Exception as error:  # whatever it is, the bench is to hear of it
            said = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
            return f"error {request.strip()}: {type(error).__name__}: {said}".replace("\n", " ")


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answers requests until there are no more."""
    for request in requests:
        print(worker.answer(request), file=answers, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: that of the process)."""
    args = parse_args(argv)
    if packages := missing("torch", "safetensors", "numpy"):
        print(f"error {sys.executable} lacks {', '.join(packages)}: {INSTALL}", flush=True)
        return 2
    import torch

    torch.set_num_threads(args.threads)
    print(f"ok {torch.__version__} {torch.backends.cpu.get_cpu_capability()}", flush=True)
    with torch.inference_mode():
        serve(Worker(args), sys.stdin, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

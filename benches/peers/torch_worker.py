"""The answers of `torch_child.py`: buffers, calls, and where PyTorch computes: on a CPU or a GPU."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Work = Callable[[], None]
# One forward pass on a slot: y of each product.
Forward = Callable[[int], list[Tensor]]
# Share of the free memory that one tensor's copies may take; the rest is for outputs and the library.
MEMORY = 0.8
VERBS = ("load", "prepare", "ready", "call", "output")


class NoDevice(Exception):
    """There is no such device; its text says why."""


class Cpu:
    """The cores of this machine."""

    name, graphs = "cpu", False

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.torch_device = torch.device("cpu")
        self.simd = torch.backends.cpu.get_cpu_capability().lower()
        self.versions = f"torch {torch.__version__}"

    def time(self, work: Work) -> list[float]:
        """Nanoseconds by the wall's clock, and of the process's CPU time, all its threads."""
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        work()
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        return [wall, cpu]

    def reserve(self, needed: int) -> None:
        """Raises MemoryError where there are not so many bytes: the system would end the process."""
        with contextlib.suppress(OSError):
            lines = Path("/proc/meminfo").read_text().splitlines()
            free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
            if needed > MEMORY * free:
                raise MemoryError(f"not enough memory: {needed >> 20} MiB, of which {free >> 20} are free")

    def forget(self) -> None:
        """Nothing is kept beside what this process holds."""


class Cuda:
    """The GPU of that number. All work of this process is on its current stream."""

    name, graphs, simd = "cuda", True, "-"

    def __init__(self, number: int) -> None:
        if not torch.cuda.is_available():
            raise NoDevice(f"PyTorch {torch.__version__} finds no GPU: this needs one, and PyTorch's build for CUDA")
        if number >= torch.cuda.device_count():
            raise NoDevice(f"there is no GPU number {number}: PyTorch finds {torch.cuda.device_count()}")
        torch.cuda.set_device(number)
        self.torch_device = torch.device("cuda", number)
        self.versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"

    def time(self, work: Work) -> list[float]:
        """Nanoseconds between two events."""
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        stop.synchronize()
        return [start.elapsed_time(stop) * 1e6]

    def capture(self, work: Work) -> Work:
        """What launches the work as one graph. Raises RuntimeError if it cannot be captured."""
        # On another stream first, as PyTorch asks: libraries start up and kernels are compiled when they first run.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def reserve(self, needed: int) -> None:
        """PyTorch says itself what does not fit."""

    def forget(self) -> None:
        """Gives back the memory of what is gone, and what was compiled for it."""
        torch.compiler.reset()
        torch.cuda.empty_cache()


def device(name: str, threads: int) -> Cpu | Cuda:
    """The device `cpu` or `cuda:<number>`. Raises NoDevice."""
    kind, _, number = name.partition(":")
    if kind == "cuda":
        return Cuda(int(number or 0))
    return Cpu(threads)


class Ring:
    """The slots of an element type, which calls take in turn. `ys` are the last outputs of each: kept, so that the next
    slot's get other memory."""

    def __init__(self, count: int) -> None:
        self.count, self.last = count, count - 1
        self.ys: list[list[Tensor]] = [[] for _ in range(count)]

    def next(self) -> int:
        self.last = (self.last + 1) % self.count
        return self.last


class Slots:
    """The tensors that the bench has given, as often as its ring has slots."""

    def __init__(self, tensors: dict[str, Tensor], count: int, cache: str, device: Any) -> None:
        self.tensors, self.count, self.warm, self._device = tensors, count, cache == "warm-w", device
        self._copies: dict[tuple[str, torch.dtype], list[Tensor]] = {}
        self._rings: dict[torch.dtype, Ring] = {}

    def ring(self, dtype: torch.dtype) -> Ring:
        """With the bytes of so many slots of the bench's own type between two uses of one."""
        own = next(tensor.dtype for name, tensor in self.tensors.items() if name.startswith("x"))
        count = 1 + math.ceil((self.count - 1) * own.itemsize / dtype.itemsize)
        return self._rings.setdefault(dtype, Ring(count))

    def copies(self, name: str, dtype: torch.dtype) -> list[Tensor]:
        """A tensor in each slot, in memory of its own; weights that stay warm are the same in all."""
        if (name, dtype) not in self._copies:
            count, tensor = self.ring(dtype).count, self.tensors[name]
            own = 1 if self.warm and not name.startswith("x") else count
            self._device.reserve(own * tensor.numel() * dtype.itemsize)
            made = [tensor.to(self._device.torch_device, dtype, copy=True) for _ in range(own)]
            self._copies[name, dtype] = (made * count)[:count]
        return self._copies[name, dtype]


class Worker:
    """What requests are about: the tensors, the slots, and the methods on them."""

    def __init__(self, workload: ModuleType, device: Any, cache: str, heads: int, adapters: int = 1) -> None:
        self.workload, self.device, self.cache = workload, device, cache
        self.heads, self.adapters = heads, adapters
        self.tensors: dict[str, Tensor] = {}
        self._reset(0, 0, 0)

    def _reset(self, slots: int, passes: int, seq_len: int) -> None:
        self.passes, self.seq_len = passes, seq_len
        # By method and rank: what runs it, and where its outputs are.
        self.calls: dict[tuple[str, str], tuple[Work, Ring]] = {}
        self.slots = Slots(self.tensors, slots, self.cache, self.device)
        self.last = Ring(1)

    def greeting(self) -> str:
        """The first line: what there is."""
        names = []
        for name, needs_adapter in self.workload.methods(self.device.name, self.adapters):
            names += [name + graph + "+" * needs_adapter for graph in ("", "-graph")[: 1 + self.device.graphs]]
        return f"ok {self.device.simd} {','.join(names)} {self.device.versions}"

    def load(self, path: str) -> str:
        """What was made ready is gone: it may have been of tensors that are replaced."""
        self._reset(0, 0, 0)
        self.tensors |= load_file(path)
        return ""

    def prepare(self, slots: str, passes: str, seq_len: str) -> str:
        self._reset(0, 0, 0)
        self.device.forget()
        self._reset(int(slots), int(passes), int(seq_len))
        return ""

    def ready(self, method: str, rank: str) -> str:
        if not self.slots.count:
            raise ValueError("nothing was prepared")
        try:
            self.calls[method, rank] = self._made(method, int(rank))
        except Exception as error:  # whatever a library raises: the method is left out, and the bench goes on
            return said(error)
        return ""

    def _made(self, method: str, rank: int) -> tuple[Work, Ring]:
        forward, ring = self.workload.forward(self, method.removesuffix("-graph"), rank)
        # A graph has outputs of its own.
        ring = Ring(ring.count) if method.endswith("-graph") else ring

        def run() -> None:
            # Where there are many passes, they are whole rounds of the ring.
            for _ in range(self.passes):
                slot = ring.next()
                ring.ys[slot] = forward(slot)

        if method.endswith("-graph"):
            launch = self.device.capture(run)
            # A graph that computes nothing is seen.
            for y in (y for slot in ring.ys for y in slot):
                y.fill_(torch.nan)
            return launch, ring
        if self.device.graphs:
            # What a library cannot do here shows now. On a CPU it has shown, and a pass may take seconds.
            forward(0)
        return run, ring

    def call(self, method: str, rank: str) -> str:
        if (method, rank) not in self.calls:
            raise ValueError("it was not made ready")
        work, self.last = self.calls[method, rank]
        return " ".join(str(round(nanos / self.passes, 1)) for nanos in self.device.time(work))

    def output(self, path: str) -> str:
        if not (ys := self.last.ys[self.last.last]):
            raise ValueError("nothing was called")
        save_file({str(i): y.float().cpu().contiguous() for i, y in enumerate(ys)}, path)
        return ""

    def answer(self, request: str) -> str:
        """One line for one line. What goes wrong is said, and no end."""
        verb, _, rest = request.strip().partition(" ")
        try:
            if verb not in VERBS:
                raise ValueError(f"there is no request '{verb}'; there are {', '.join(VERBS)}")
            function = getattr(self, verb)
            count = len(inspect.signature(function).parameters)
            # A path may have spaces in it, and is the only argument.
            words = rest.split(" ", count - 1)
            if len(words) < count or not words[-1]:
                raise ValueError(f"'{request.strip()}' lacks an argument")
            return f"ok {function(*words)}".rstrip()
        except Exception as error:  # whatever it is, the bench is to hear of it
            return f"error {request.strip()}: {said(error)}"

    def serve(self, requests: Iterable[str], answer: Callable[[str], None]) -> None:
        """Answers requests until there are no more."""
        with torch.inference_mode():
            for request in requests:
                answer(self.answer(request))


def said(error: Exception) -> str:
    """What an exception says, in one line."""
    text = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
    return f"{type(error).__name__}: {text}".replace("\n", " ")

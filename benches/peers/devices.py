"""Where PyTorch computes: a CPU or a GPU, with its clock, caches and memory, and how work on it is timed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], None]
# The cores that this process may use. (The system tells on Linux.)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# A small pass takes microseconds.
MOST_PASSES = 256


class NoDevice(Exception):
    """There is no such device; its text says why."""


class Device:
    """What PyTorch computes on. `time_ns(work)` gives the nanoseconds that `work` takes, and notes the clock;
    `free_bytes()` the memory that is free. Where there are `graphs`, `capture(work)` gives what launches the work as
    one, and raises RuntimeError if it cannot be captured. `columns` is what the records say of the device."""

    backend: str
    graphs = False
    fewest_passes, sample_ns = 1, 1e6  # of a sample: so many forward passes at least, and so many nanoseconds
    torch_device: torch.device
    cache_bytes: int
    columns: dict[str, Any]
    clock_mhz: float | None = None

    def passes(self, run: Callable[[int], None], places: int) -> int:
        """Forward passes of one sample, given `run(passes)` of the eager base on a ring of `places`."""
        run(self.fewest_passes)
        pass_ns = self.time_ns(lambda: run(self.fewest_passes)) / self.fewest_passes
        passes = min(max(math.ceil(self.sample_ns / pass_ns), self.fewest_passes), MOST_PASSES)
        # A graph always starts at the first place, which an unfinished turn would leave in the cache.
        return math.ceil(passes / places) * places if self.graphs else passes


class Cpu(Device):
    """The cores of this machine."""

    backend = "cpu"

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.torch_device = torch.device("cpu")
        self.cache_bytes = last_level_cache_bytes()
        name, simd = proc("cpuinfo", "model name") or "unknown cpu", torch.backends.cpu.get_cpu_capability().lower()
        self.columns = dict(device=name, threads=threads, simd=simd, driver=f"torch {torch.__version__}")

    def time_ns(self, work: Work) -> float:
        start = time.perf_counter_ns()
        work()
        return time.perf_counter_ns() - start

    def free_bytes(self) -> int:
        # "12345 kB"; where the system does not tell, nothing is too large.
        available = proc("meminfo", "MemAvailable")
        return int(available.split()[0]) << 10 if available else 1 << 62

    @property
    def clock_mhz(self) -> float | None:  # type: ignore[override]
        """The first core's clock at this moment, where the system tells it."""
        clock = proc("cpuinfo", "cpu MHz")
        return float(clock) if clock else None


class Cuda(Device):
    """The GPU of that number. All work of this process is on its current stream."""

    backend, graphs = "cuda", True
    # A launch of a graph costs what a few kernels cost: with so many passes in it that does not show. The host may
    # launch an eager pass several times more slowly than a graph computes it: hence four milliseconds.
    fewest_passes, sample_ns = 20, 4e6

    def __init__(self, number: int) -> None:
        if not torch.cuda.is_available():
            raise NoDevice(f"PyTorch {torch.__version__} finds no GPU: this needs one, and PyTorch's build for CUDA")
        if number >= torch.cuda.device_count():
            raise NoDevice(f"there is no GPU number {number}: PyTorch finds {torch.cuda.device_count()}")
        torch.cuda.set_device(number)
        self.torch_device = torch.device("cuda", number)
        properties = torch.cuda.get_device_properties(number)
        self.cache_bytes = properties.L2_cache_size
        driver = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
        self.columns = dict(device=properties.name, threads=None, simd="", driver=driver)

    def time_ns(self, work: Work) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        # While the GPU works: an idle one slows down. PyTorch needs the package nvidia-ml-py for this.
        try:
            self.clock_mhz = float(torch.cuda.clock_rate(self.torch_device))
        except Exception:  # whatever NVML's binding raises: a clock that cannot be read is left empty
            self.clock_mhz = None
        stop.synchronize()
        return start.elapsed_time(stop) * 1e6

    def free_bytes(self) -> int:
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.torch_device)[0]

    def capture(self, work: Work) -> Work:
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


def proc(file: str, key: str) -> str:
    """The first value of that key in a file of /proc; empty where there is none."""
    try:
        pairs = (line.partition(":") for line in Path("/proc", file).read_text().splitlines())
    except OSError:
        return ""
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


def last_level_cache_bytes(default: int = 32 << 20) -> int:
    """Bytes of last-level cache, all its instances added up (/sys); `default` where /sys does not tell."""
    found: dict[int, dict[str, int]] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        try:
            level, size, cpus = ((index / name).read_text().strip() for name in ("level", "size", "shared_cpu_list"))
            found.setdefault(int(level), {})[cpus] = int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return sum(found[max(found)].values()) if found else default

"""A GPU as `torch_cuda.py` needs it: graphs, the device's own clock, and what records say of it. Needs CUDA."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

# A launch of a graph costs what a few kernels cost: with so many passes in it that does not show.
FEWEST_PASSES = 20
# A small pass takes microseconds, whatever the arithmetic says.
MOST_PASSES = 256
# Seconds that a sample is to take, or more.
SAMPLE_S = 1e-3
# Operations a second of one multiprocessor, f16 with f32 sums: an Ampere's at 1.8 GHz, or half a Hopper's.
FLOPS_OF_MULTIPROCESSOR = 2048 * 1.8e9


def passes(flops: float, slots: int, multiprocessors: int) -> int:
    """Forward passes of one sample: a millisecond's or more, and whole rounds over all slots, since a round that is
    not finished would leave its first slots in the cache."""
    wanted = math.ceil(SAMPLE_S * multiprocessors * FLOPS_OF_MULTIPROCESSOR / flops)
    wanted = min(max(wanted, FEWEST_PASSES), MOST_PASSES)
    return math.ceil(wanted / slots) * slots


class Gpu:
    """The GPU of that number; all work of this process is on its current stream."""

    def __init__(self, ordinal: int) -> None:
        torch.cuda.set_device(ordinal)
        self.device = torch.device("cuda", ordinal)
        properties = torch.cuda.get_device_properties(ordinal)
        self.name: str = properties.name
        self.multiprocessors: int = properties.multi_processor_count
        self.cache_bytes: int = properties.L2_cache_size
        self.clock_mhz: float | None = None

    @property
    def driver(self) -> str:
        """What the records' column `driver` says: the versions that are measured."""
        return f"torch {torch.__version__}, CUDA {torch.version.cuda}"

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work` as a graph: the returned function launches it. Raises RuntimeError if it cannot be captured."""
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

    def sample_ns(self, work: Callable[[], None]) -> float:
        """Nanoseconds that `work` takes on the device, between two events."""
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        self._see_clock()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e6

    def _see_clock(self) -> None:
        # While the device works: an idle one slows down. PyTorch wants the package nvidia-ml-py for this.
        try:
            self.clock_mhz = float(torch.cuda.clock_rate(self.device))
        except Exception:  # whatever NVML's binding raises: a clock that cannot be read is left empty
            self._see_clock = lambda: None  # type: ignore[method-assign]

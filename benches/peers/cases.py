"""A cell's methods as they are timed: inputs, the ring of places, graphs, and the check against the f64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from common import Ring, places_needed, say
from devices import Device
from methods import SCALE, DType, Layer, Method, Module, Skipped
from records import Cell, Workload

CHECKED_ROWS = 16
# Between two uses of a place, other places of so many times the last-level cache are used.
COLD = 3


class Setting(NamedTuple):
    """What is measured, and where. `warm`: the same W, A and B in every call."""

    device: Device
    workload: Workload
    cell: Cell
    warm: bool


@dataclass
class Place:
    """One place of the ring: its copy of the inputs, the methods' functions by name, and its last outputs, which
    it keeps so that the next place's get other memory."""

    xs: list[Tensor]
    layers: list[Layer]
    modules: dict[str, list[Module]] = field(default_factory=dict)
    ys: list[Tensor] = field(default_factory=list)


def make_inputs(workload: Workload, cell: Cell) -> Place:
    """f16 values in f32 tensors: x ~ N(0, 1), W and A ~ N(0, 1/√K), B ~ N(0, 1/√r) (mean, deviation)."""
    generator, r = torch.Generator().manual_seed(cell.m * 1000 + cell.rank), cell.rank

    def normal(rows: int, columns: int, variance: float = 1.0) -> Tensor:
        return torch.randn(rows, columns, generator=generator).mul_(variance**0.5).half().float()

    xs = [normal(cell.m, k) for k, _ in workload.projections]
    layers = [(normal(n, k, 1 / k), normal(r, k, 1 / k), normal(n, r, 1 / max(r, 1))) for k, n in workload.projections]
    return Place(xs, [Layer(*layer) for layer in layers])


def ring_size(setting: Setting, dtype: DType) -> tuple[int, int]:
    """The places of a ring, and the bytes of one: x and y, and unless they stay warm W, A and B."""
    device, workload, cell, warm = setting
    elements = sum(cell.m * (k + n) + (not warm) * (k * n + cell.rank * (k + n)) for k, n in workload.projections)
    place_bytes = elements * dtype.element.itemsize
    return places_needed(place_bytes, COLD * device.cache_bytes), place_bytes


def make_ring(setting: Setting, inputs: Place, dtype: DType) -> Ring:
    """Copies of the inputs. Cold: x, W, A and B (and y, see `Place`) rotate. Warm: only x and y do."""

    def copy(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.to(setting.device.torch_device, dtype.element, copy=True) for tensor in tensors]

    places: list[Place] = []
    for _ in range(ring_size(setting, dtype)[0]):
        if setting.warm and places:
            places.append(replace(places[0], xs=copy(inputs.xs), ys=[]))
        else:
            places.append(Place(copy(inputs.xs), [Layer(*copy(layer)) for layer in inputs.layers]))
    return Ring(places)


def run(ring: Ring, method: str, passes: int) -> None:
    """So many forward passes of the workload, each at the next place."""
    for _ in range(passes):
        place = ring.next()
        place.ys = [module(x) for module, x in zip(place.modules[method], place.xs)]


class Expected(NamedTuple):
    """The reference's rows of one projection in f64, and what each element may be off by."""

    rows: Tensor
    y: Tensor
    tolerance: Tensor
    u: float

    def excess(self, y: Tensor) -> float:
        """The larger of: worst error over its tolerance; ‖y − ref‖_F over 2u·‖ref‖_F. NaN if y has one."""
        error = (y[self.rows].double() - self.y).abs()
        frobenius = error.norm() / (2 * self.u * self.y.norm())
        return torch.maximum((error / self.tolerance).max(), frobenius).item()


def expect(place: Place, dtype: DType, adapter: bool) -> list[Expected]:
    """The project's reference (f64 sums, h rounded once) and tolerance, on up to CHECKED_ROWS rows of x."""
    expected = []
    for x, layer in zip(place.xs, place.layers):
        m, k = x.shape
        rows = torch.linspace(0, m - 1, min(m, CHECKED_ROWS), dtype=torch.float64).round().long().to(x.device)
        x64, w64, a64, b64 = (t.double() for t in (x[rows], *layer))
        y = x64 @ w64.t()
        slack = (k / 16 + 32) * 2.0**-23 * (x64.abs() @ w64.abs().t()) + 2.0**-24
        if adapter:
            h = (SCALE * (x64 @ a64.t())).to(dtype.h).double()
            y += h @ b64.t()
            slack += 2 * dtype.u * (h.abs() @ b64.abs().t()) + 2.0**-24 * b64.abs().sum(1)
        expected.append(Expected(rows, y, 2 * dtype.u * y.abs() + slack, dtype.u))
    return expected


@dataclass
class Case:
    """One method in one element type, eager or as a graph. `work` is `passes` forward passes on the ring."""

    name: str  # in the records
    dtype: DType
    passes: int
    work: Callable[[], None]
    ring: Ring

    def excess(self, expected: Sequence[Expected]) -> float:
        """The worst of the projections' errors over their tolerances, NaN if an output has one. Outputs that are
        there before are NaN: a call that computes nothing is seen."""
        for y in self.ring.last.ys:
            y.fill_(torch.nan)
        self.work()
        return torch.tensor([want.excess(y) for want, y in zip(expected, self.ring.last.ys, strict=True)]).max().item()


def build(
    setting: Setting, inputs: Place, dtype: DType, methods: Sequence[Method], skip: Callable[[str, str], None]
) -> list[Case]:
    """The cell's methods in one element type, the base first, each eager and as a graph where the device has graphs.
    `skip(name, why)` hears of what cannot be had. Each is checked; one outside the tolerance is named on stderr."""
    device, _, cell, _ = setting
    ring = make_ring(setting, inputs, dtype)
    expected = {adapter: expect(ring.places[0], dtype, adapter) for adapter in (False, cell.rank > 0)}
    cases: list[Case] = []
    for method in methods:
        name = f"torch-{dtype.name}/{method.name}"
        try:
            wrap = method.make(cell.rank, ring.places[0].xs[0])
        except Skipped as skipped:
            skip(name, str(skipped))
            continue
        for place in ring.places:
            # Places that share their layers share the functions too.
            if method.name not in place.modules:
                place.modules[method.name] = [wrap(layer) for layer in place.layers]
        if not cases:
            passes = device.passes(partial(run, ring, method.name), len(ring.places))
        made = [Case(name, dtype, passes, partial(run, ring, method.name, passes), ring)]
        if device.graphs:
            # With outputs of its own.
            own = Ring([replace(place, ys=[]) for place in ring.places])
            try:
                work = device.capture(partial(run, own, method.name, passes))
                made.append(Case(f"{name}-graph", dtype, passes, work, own))
            except RuntimeError as error:
                skip(f"{name}-graph", f"it cannot be captured: {str(error).splitlines()[0]}")
        for case in made:
            excess = case.excess(expected[method.name != "base" and cell.rank > 0])
            if not excess <= 1.0:  # NaN is outside too
                say(f"warning: {case.name} at {cell}: error is {excess:.2f} x the tolerance; timed all the same")
        cases += made
    return cases


def groups(cases: Sequence[Case]) -> list[list[int]]:
    """The cases, by index, that are compared with each other, their base first: those of one element type, eager or
    graphs. Where the base cannot be captured, its eager one is all that there is to compare a graph with."""
    index = {case.name: i for i, case in enumerate(cases)}
    found: dict[int, list[int]] = {}
    for i, case in enumerate(cases):
        base = f"torch-{case.dtype.name}/base"
        own = f"{base}-graph" if case.name.endswith("-graph") else base
        found.setdefault(index.get(own, index[base]), []).append(i)
    return list(found.values())

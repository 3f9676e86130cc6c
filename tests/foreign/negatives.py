"""Negative controls: what is changed in a kernel or in its launch so that a run must fail.

A run fails if a result is wrong or if the machine reports anything: a race, a deadlock, a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Negative = dict[str, Any]
# The fields of a `wgmma` descriptor: stride byte offset / 16, and how the operand is swizzled.
STRIDE = 0x3FFF << 32
SWIZZLE = 3 << 62


def negatives(text: str, parameters: list[dict[str, Any]]) -> list[Negative]:
    """All that apply to a kernel."""
    return [*maps(text, parameters), *(one for rule in RULES for one in rule(text))]


def maps(text: str, parameters: list[dict[str, Any]]) -> Iterator[Negative]:
    """A tensor map with another swizzle than the kernel counts on."""
    for at, parameter in enumerate(parameters):
        # Declared and used.
        is_used = len(re.findall(rf"_param_{at}\b", text)) > 1
        if is_used and parameter["kind"] == "map" and parameter["swizzle"] != "none":
            yield {
                "name": f"swizzle of {parameter['array']}",
                "parameter": at,
                "set": {"swizzle": "none"},
            }


def replaced(name: str, text: str, pattern: str, by: str) -> Iterator[Negative]:
    """One that replaces a text wherever it occurs."""
    assert pattern != by and pattern in text, (name, pattern)
    yield {"name": name, "replace": [{"pattern": pattern, "with": by, "count": text.count(pattern)}]}


def first(text: str, pattern: str) -> re.Match[str] | None:
    return re.search(pattern, text)


def last(text: str, pattern: str) -> re.Match[str] | None:
    return ([*re.finditer(pattern, text)] or [None])[-1]


def expected_bytes(text: str) -> Iterator[Negative]:
    """More bytes than come: a deadlock. Fewer: a phase ends before its last bytes are there."""
    if found := last(text, r"(mbarrier\.(?:arrive\.)?expect_tx[^;]*, )(\d+);"):
        before, bytes = found[1], int(found[2])
    elif found := last(text, r"(?:expect_tx[^;]*, )(%\w+);"):
        # In a register; of that register the value is set once.
        found = first(text, rf"(mov\.b32 {found[1]}, )(\d+);")
        before, bytes = found[1], int(found[2])
    if found:
        for name, other in (("more", bytes + 16), ("fewer", bytes - 16)):
            yield from replaced(f"expect_tx of {name} bytes", text, found[0], f"{before}{other};")


def is_one(register: str, text: str) -> bool:
    """Whether a parity is 1 in every phase: a constant; or a counter modulo 2 which begins at 1 and grows by 2, as in the
    loop that CuTe DSL unrolls four times over two stages."""
    if f"mov.b32 {register}, 1;" in text:
        return True
    counter = first(text, rf"sub\.s32 {register}, (%\w+), %\w+;")
    return counter is not None and all(
        line in text for line in (f"mov.b32 {counter[1]}, 1;", f"add.s32 {counter[1]}, {counter[1]}, 2;")
    )


def parity(text: str) -> Iterator[Negative]:
    """A wait for parity 1 whatever the phase: true before anything has arrived. Not where it is 1 anyway."""
    pattern = r"(mbarrier\.try_wait\.parity[^;]*, )(%\w+)((?:, %?\w+)?;)"
    waits = [match for match in re.finditer(pattern, text) if not is_one(match[2], text)]
    found = {match[0]: match for match in waits[:1] + waits[-1:]}
    for at, match in enumerate(found.values()):
        name = f"parity of the {'last' if at else 'first'} wait"
        yield from replaced(name, text, match[0], f"{match[1]}1{match[3]}")
    if found := first(text, r"mbarrier\.test_wait\.parity\S+ %\w+(, \[[^]]*\], )(%\w+);"):
        # The test and its repetitions.
        yield from replaced("parity of a test", text, f"{found[1]}{found[2]};", f"{found[1]}1;")


def arrivals(text: str) -> Iterator[Negative]:
    """An mbarrier that waits for one arrival more than comes."""
    if found := first(text, r"(mbarrier\.init[^;]*, )(\d+);"):
        yield from replaced("an arrival more", text, found[0], f"{found[1]}{int(found[2]) + 1};")


def descriptor(text: str) -> Iterator[Negative]:
    """A `wgmma` descriptor with half the stride, and one with another swizzle."""
    if "wgmma.mma_async" not in text:
        return
    numbers = {int(number) for number in re.findall(r"or\.b64 [^;]*, (-?\d+);", text)}
    numbers = {number for number in numbers if number & STRIDE and number & SWIZZLE}
    for at, number in enumerate(sorted(numbers)):
        stride = number & STRIDE
        changed = {
            "stride": number - stride + (stride // 2 & STRIDE),
            "swizzle": number ^ (SWIZZLE if number >= 0 else 1 << 62),
        }
        for name, other in changed.items():
            yield from replaced(f"descriptor {at}: {name}", text, f", {number};", f", {signed(other)};")


def signed(number: int) -> int:
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def shared_addresses(text: str) -> Iterator[Negative]:
    """16 bytes beside what `ldmatrix` should load."""
    if found := first(text, r"(ldmatrix[^;]*\[%\w+)(?:\+(\d+))?\];"):
        other = f"{found[1]}+{int(found[2] or 0) + 16}];"
        yield from replaced("address of an ldmatrix", text, found[0], other)


def waits(text: str) -> Iterator[Negative]:
    """A wait that leaves one group more in flight."""
    if found := first(text, r"cp\.async\.wait_group (\d+);"):
        by = f"cp.async.wait_group {int(found[1]) + 1};"
        yield from replaced("cp.async groups in flight", text, found[0], by)
    if found := last(text, r"wgmma\.wait_group\.sync\.aligned (\d+);"):
        by = f"wgmma.wait_group.sync.aligned {int(found[1]) + 1};"
        yield from replaced("wgmma groups in flight", text, found[0], by)


def left_out(text: str) -> Iterator[Negative]:
    """Without what orders accesses."""
    for instruction in ("bar.sync 0;", "fence.proxy.async.shared::cta;", "wgmma.fence.sync.aligned;"):
        if re.search(rf"(?m)^\s*{re.escape(instruction)}$", text):
            yield from replaced(f"without {instruction[:-1]}", text, f" {instruction}\n", " \n")


def operands(text: str) -> Iterator[Negative]:
    """Two registers of A in each other's place."""
    if found := first(text, r"(mma\.sync[^{]*\{[^}]*\}, \{ ?)(%\w+), (%\w+),"):
        yield from replaced("fragment of an mma", text, found[0], f"{found[1]}{found[3]}, {found[2]},")


def clusters(text: str) -> Iterator[Negative]:
    """A copy that reaches one CTA, arrivals at one CTA, and CTAs that do not wait for each other."""
    if found := last(text, r"multicast::cluster[^;]*\], (%rs\d+)"):
        mask = first(text, rf"(mov\.b16 {found[1]}, )3;")
        yield from replaced("mask of a multicast", text, mask[0], f"{mask[1]}1;")
    if found := first(text, r"(mapa\.shared::cluster\.u32 %r\d+, %r\d+, )%r\d+;"):
        yield from replaced("rank of a CTA", text, found[0], f"{found[1]}0;")
    for name, arrive in (("first", "barrier.cluster.arrive.relaxed;"), ("last", "barrier.cluster.arrive;")):
        if found := first(text, rf"{re.escape(arrive)}\s+barrier\.cluster\.wait;"):
            yield from replaced(f"without the {name} cluster barrier", text, found[0], "")


def atomics(text: str) -> Iterator[Negative]:
    """Stores instead of atomic additions: CTAs overwrite each other's sums."""
    if "red.global.gpu.relaxed.add.f32" in text:
        yield from replaced("a store for an atomic add", text, "red.global.gpu.relaxed.add.f32", "st.global.b32")


def shuffles(text: str) -> Iterator[Negative]:
    """A reduction that meets half of the lanes twice."""
    if found := first(text, r"(shfl\.sync\.up\.b32 [^;]*, )1, 0, -1;"):
        yield from replaced("lane of a shuffle up", text, found[0], f"{found[1]}2, 0, -1;")
    for lanes, others in ((16, 8), (2, 1)):
        if f", {lanes}, 31, -1;" in text:
            yield from replaced("lanes of a shuffle", text, f", {lanes}, 31, -1;", f", {others}, 31, -1;")
            return


RULES: tuple[Callable[[str], Iterator[Negative]], ...] = (
    expected_bytes,
    parity,
    arrivals,
    descriptor,
    shared_addresses,
    waits,
    left_out,
    operands,
    clusters,
    atomics,
    shuffles,
)

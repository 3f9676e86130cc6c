"""Tests of the PyTorch peers: python -m unittest discover benches/peers

Those that need PyTorch, NumPy or PEFT are skipped where these are not installed.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

import records
import torch_cpu
from records import WORKLOADS, Cell, Record, RecordFile, Workload

HAS_TORCH = not torch_cpu.missing("torch", "numpy")
HAS_PEFT = HAS_TORCH and not torch_cpu.missing("peft")
if HAS_TORCH:
    import numpy as np
    import timing
    import torch
    import torch_layers

SCRIPT = Path(torch_cpu.__file__)
RECORD = Record(
    run="r1", workload="linear-1024x1024", backend="cpu", device="Make, model 7", threads=2, simd="avx512",
    driver="torch 2", clock_mhz=None, cache="cold", method="torch-fp16/base", d_in="1024", d_out="1024",
    seq_len=128, batch=1, rank=0, time_ns=1234.56789, time_lo_ns=1e6, time_hi_ns=2e6, slowdown_pct=None,
    slowdown_lo_pct=None, slowdown_hi_pct=None, floor_pct=0.0, floor_pad_pct=None, gflops=12.5, samples=10,
    commit="unknown", dirty=True, measured_at="2025-01-01T00:00:00Z",
)  # fmt: skip


def command(*args: str, site: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the script; `site=False` hides every installed package."""
    python = [sys.executable] if site else [sys.executable, "-S"]
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and "FUSED_LORA_" not in name
    }
    return subprocess.run([*python, str(SCRIPT), *args], capture_output=True, text=True, env=clean | env)


class Grid(unittest.TestCase):
    def test_columns_are_the_documented_ones(self) -> None:
        documented = (
            "run,workload,backend,device,threads,simd,driver,clock_mhz,cache,method,d_in,d_out,seq_len,batch,rank,"
            "time_ns,time_lo_ns,time_hi_ns,slowdown_pct,slowdown_lo_pct,slowdown_hi_pct,floor_pct,floor_pad_pct,"
            "gflops,samples,commit,dirty,measured_at"
        )
        self.assertEqual(",".join(records.COLUMNS), documented)

    def test_the_grid_is_whole_and_shards_part_it(self) -> None:
        cells = records.select(["*"], (1, 1))
        self.assertEqual((len(cells), str(cells[0]), cells[-1].m), (72, "seq128/batch1/r0", 16384))
        parts = [cell for i in (1, 2, 3) for cell in records.select(["*/r10", "seq256/*"], (i, 3))]
        self.assertEqual(len(parts), 24 + 12)
        self.assertEqual(set(parts), {c for c in cells if c.rank == 10 or c.seq_len == 256})

    def test_the_default_cells_are_those_of_the_rust_peers(self) -> None:
        _, cells = torch_cpu.parse_args([])
        self.assertEqual([cell.m for cell in cells], [m for m in (128, 512, 4096, 16384) for _ in range(4)])

    def test_floors_are_the_documented_ones(self) -> None:
        for name, floors in (
            ("linear-1024x1024", [0, 2.0, 19.5, 48.8]),
            ("linear-4096x4096", [0, 0.5, 4.9, 12.2]),
            ("gpt2-medium-linears", [0, 1.3, 13.0, 32.6]),
        ):
            found = [WORKLOADS[name].floor_pct(rank) for rank in records.RANKS]
            self.assertEqual([round(floor, 1) for floor in found], floors, name)


class Csv(unittest.TestCase):
    def test_records_are_whole_lines_in_a_new_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "run.csv"
            RecordFile(path).append([RECORD, replace(RECORD, rank=10, slowdown_pct=-0.5)])
            lines = path.read_text().splitlines(keepends=True)
            self.assertEqual((lines[0], len(lines)), ("# fused-lora-records 1\n", 4))
            first, second = csv.DictReader(lines[1:])
            self.assertEqual((first["device"], first["dirty"]), ("Make, model 7", "true"))
            self.assertEqual(
                (first["time_ns"], first["clock_mhz"], first["slowdown_pct"]), ("1234.5679", "", "")
            )
            self.assertEqual((second["rank"], second["slowdown_pct"]), ("10", "-0.5"))
            self.assertTrue(lines[-1].endswith("Z\n"))
            with self.assertRaises(FileExistsError):
                RecordFile(path)
            self.assertEqual(path.read_text(), "".join(lines))

    def test_without_git_the_commit_is_unknown(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(records.git_state(Path(folder)), ("unknown", False))

    def test_away_from_its_work_tree_the_commit_is_the_one_named(self) -> None:
        for name, state in (("0123abc", ("0123abc", False)), ("0123abc-dirty", ("0123abc", True))):
            with mock.patch.dict(os.environ, FUSED_LORA_REVISION=name):
                self.assertEqual(records.git_state(), state)


class CommandLine(unittest.TestCase):
    def test_bad_arguments_exit_with_2_and_say_what(self) -> None:
        for args, said in (
            (["--workload", "linear-7x7"], "gpt2-medium-linears"),
            (["--cells", "seq128/batch3/*"], "seq128/batch3/*"),
            (["--shard", "3/2"], "3/2"),
            (["--cells", "*/batch1/r10", "--shard", "4/4"], "holds no cell"),
            (["--dtypes", "fp16,fp8"], "fp16,fp8"),
            (["--budget", "0"], "0"),
            (["--cache", "hot"], "hot"),
            (["--adapter", "x"], "--adapter"),
        ):
            result = command(*args, site=False)
            self.assertEqual((result.returncode, result.stdout), (2, ""), args)
            self.assertIn(said, result.stderr)
        for variable in ("WORKLOAD", "GRID", "SHARD", "BUDGET_S", "CACHE"):
            result = command(site=False, **{f"FUSED_LORA_{variable}": "nonsense"})
            self.assertEqual(result.returncode, 2)
            self.assertIn("nonsense", result.stderr, variable)

    def test_missing_packages_exit_with_2_and_the_install_command(self) -> None:
        result = command(site=False)
        self.assertEqual(result.returncode, 2)
        self.assertIn("torch, numpy", result.stderr)
        self.assertIn("pip install -r benches/peers/requirements-cpu.txt", result.stderr)


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Budgets(unittest.TestCase):
    def test_a_cell_over_budget_is_dropped_and_a_smaller_one_still_fits(self) -> None:
        small, large = Cell(128, 1, 0), Cell(512, 32, 0)
        budget = timing.Budget(100, [small, large], WORKLOADS["linear-1024x1024"])
        self.assertTrue(budget.fits(small))
        # The large one has 128 times the work: 10 rounds of it would take 128 s.
        self.assertEqual(budget.rounds(small, setup_s=0.0, round_s=0.1), timing.MIN_ROUNDS)
        self.assertFalse(budget.fits(large))
        self.assertTrue(budget.fits(small))

    def test_spare_time_makes_more_rounds(self) -> None:
        cells = [Cell(128, 1, 0), Cell(128, 2, 0)]
        budget = timing.Budget(90, cells, WORKLOADS["linear-1024x1024"])
        self.assertIn(budget.rounds(cells[0], 0.0, 1.0), (29, 30))
        self.assertEqual(budget.rounds(cells[1], 0.0, 0.01), timing.MAX_ROUNDS)


@unittest.skipUnless(HAS_TORCH, "needs torch and numpy")
class Layers(unittest.TestCase):
    WORKLOAD = Workload("two", ((96, 80), (64, 112)))

    def slots(self, dtype: str, rank: int, warm_w: bool = False) -> list[torch_layers.Slot]:
        xs, layers = torch_layers.make_inputs(self.WORKLOAD, Cell(24, 1, rank), seed=1)
        return torch_layers.make_slots(xs, layers, torch_layers.DTYPES[dtype], warm_w, cache_bytes=200_000)

    def test_every_method_is_within_the_tolerance_at_every_place(self) -> None:
        for name, dtype in torch_layers.DTYPES.items():
            for rank in (0, 10, 33):
                slots = self.slots(name, rank)
                cases = torch_layers.make_cases(slots, dtype, Cell(24, 1, rank), HAS_PEFT)
                self.assertEqual(len(cases), 2 + HAS_PEFT * (1 if name == "fp32" else 2))
                for case in cases:
                    want = torch_layers.expect(slots[0], dtype, case.adapter)
                    for _ in slots:
                        for expected, y in zip(want, case.step(), strict=True):
                            self.assertEqual(y.dtype, dtype.element)
                            # PEFT rounds four times where the reference rounds twice.
                            limit = 1.5 if "/peft" in case.name else 1.0
                            self.assertLessEqual(expected.excess(y, dtype.u), limit, f"{case.name} r{rank}")

    def test_wrong_outputs_are_outside_the_tolerance(self) -> None:
        for name, dtype in torch_layers.DTYPES.items():
            slot = self.slots(name, 10)[0]
            expected = torch_layers.expect(slot, dtype, True)[0]
            right = torch_layers.unfused(slot)[0]
            x, layer = slot.xs[0], slot.layers[0]
            unscaled = x @ layer.w.t() + x @ layer.a.t() @ layer.b.t()
            nan = right.clone()
            nan[0, 0] = torch.nan
            off = right.clone()
            off[-1, -1] += 1
            for wrong in (torch_layers.base(slot)[0], unscaled, nan, off):
                self.assertFalse(expected.excess(wrong, dtype.u) <= 1.0, name)

    def test_places_fill_three_times_the_cache_with_memory_of_their_own(self) -> None:
        slots = self.slots("fp16", 10)
        ys = [torch_layers.unfused(slot) for slot in slots]
        used = [t for slot in slots for layer in slot.layers for t in (layer.w, layer.a, layer.b)]
        used += [t for tensors in [slot.xs for slot in slots] + ys for t in tensors]
        self.assertGreaterEqual(sum(t.nbytes for t in used), 600_000)
        self.assertEqual(len({t.data_ptr() for t in used}), len(used))
        warm = self.slots("fp16", 10, warm_w=True)
        self.assertGreater(len(warm), len(slots))
        self.assertEqual(len({slot.layers[0].w.data_ptr() for slot in warm}), 1)
        self.assertEqual(len({slot.xs[0].data_ptr() for slot in warm}), len(warm))

    def test_an_estimate_is_the_median_within_its_interval(self) -> None:
        samples = np.random.default_rng(1).normal(5.0, 1.0, 101)
        samples[0] = 1e9
        found = timing.estimate(samples)
        self.assertEqual(found.mid, np.median(samples))
        self.assertTrue(4.5 < found.lo < found.mid < found.hi < 5.5)
        self.assertEqual(timing.estimate(np.full(10, 3.0)), timing.Estimate(3.0, 3.0, 3.0))

    def test_a_run_writes_each_method_once_and_the_base_at_rank_0(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.csv"
            args = ["--cells", "seq128/batch1/r10,seq128/batch1/r100", "--dtypes", "fp32", "--budget", "20"]
            result = command(*args, "--output", str(path))
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = path.read_text().splitlines()
            rows = list(csv.DictReader(lines[1:]))
            methods = ["unfused", "peft"] if HAS_PEFT else ["unfused"]
            expected = [("base", "0")] + [(m, rank) for rank in ("10", "100") for m in methods]
            found = [(row["method"].removeprefix("torch-fp32/"), row["rank"]) for row in rows]
            self.assertEqual(found, expected)
            self.assertEqual(
                [row["slowdown_pct"] == "" for row in rows], [row["rank"] == "0" for row in rows]
            )
            for row in rows:
                lo, mid, hi = (float(row[name]) for name in ("time_lo_ns", "time_ns", "time_hi_ns"))
                self.assertTrue(0 < lo <= mid <= hi)
                self.assertGreaterEqual(int(row["samples"]), timing.MIN_ROUNDS)
            again = command(*args, "--output", str(path))
            self.assertEqual(again.returncode, 1)
            self.assertIn(str(path), again.stderr)
            self.assertEqual(path.read_text().splitlines(), lines)


if __name__ == "__main__":
    unittest.main()

"""Tests of the bundle's table, ratios and clocks, on made-up numbers: python3 -m unittest discover scripts/gpu-bundle.d"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import clocks
import ratios
import summary

HEADER = (
    "workload,backend,device,driver,clock_mhz,cache,method,seq_len,batch,rank,time_ns,"
    "slowdown_pct,slowdown_lo_pct,slowdown_hi_pct,floor_pct,gflops,floor_pad_pct"
)
BASE = "linear,cuda,Some GPU,12.4,1980,cold,base,128,4,0,5000,,,,,200000,"
FUSED = "linear,cuda,Some GPU,12.4,1755,cold,fused,128,4,10,5100,2.5,2,3,1.953,200100,3.125"


class Table(unittest.TestCase):
    def rows(self, *lines: str, version: int = 2) -> list[summary.Row]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "grid.csv")
            path.write_text("\n".join([summary.VERSION_LINES[version - 1], HEADER, *lines]))
            return summary.read(path)

    def test_a_slow_down_stands_beside_its_floor_and_its_base(self) -> None:
        _, title, _, line, *_ = summary.summary(self.rows(BASE, FUSED, ""))
        self.assertEqual(title, "linear, cold: Some GPU, cuda 12.4, SM clock 1755 to 1980 MHz, 2 records")
        self.assertEqual(line.split(), ["512", "10", "5.00", "200.0", "2.5", "±", "0.5", "-", "2.0"])

    def test_a_line_that_was_cut_off_is_left_out(self) -> None:
        self.assertEqual(len(self.rows(BASE, FUSED)), 1, "the last one has no end")
        self.assertEqual(len(self.rows(BASE, "linear,cuda", "")), 1)

    def test_both_versions_are_read_and_a_record_without_an_interval_too(self) -> None:
        self.assertEqual(self.rows(BASE, FUSED, "", version=1), self.rows(BASE, FUSED, "", version=2))
        _, _, _, line, *_ = summary.summary(self.rows(BASE, FUSED.replace("2.5,2,3", "2.5,,"), ""))
        self.assertIn(" 2.5 ", line)
        self.assertNotIn("±", line)

    def test_states_of_the_caches_are_not_mixed(self) -> None:
        lines = summary.summary(self.rows(BASE, FUSED, FUSED.replace("cold", "warm-w"), ""))
        self.assertEqual(sum("records" in line for line in lines), 2)

    def test_without_records_it_says_so(self) -> None:
        self.assertEqual(summary.summary([]), ["nothing was measured"])
        with self.assertRaises(ValueError), tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "other.csv")
            path.write_text("a,b\n1,2\n")
            summary.read(path)

    def test_rounds_with_peers_make_the_table_where_there_is_no_grid(self) -> None:
        peers = [line.replace(",cold,", ",cold,fused-lora/") for line in (BASE, FUSED)]
        self.assertEqual(summary.table(self.rows(*peers, "")), summary.table(self.rows(BASE, FUSED, "")))
        slower = FUSED.replace("cold,fused", "cold,fused-lora/fused").replace("2.5,2,3", "9.5,9,10")
        for lines in ((FUSED, slower), (slower, FUSED)):
            self.assertIn("2.5 ± 0.5", summary.table(self.rows(*lines, ""))[1], "the grid's own")


def made_up(method: str, m: int, rank: int, us: float, slowdown: float | None = None, floor: float = 0.0, **other: str):
    """A record of no measurement."""
    row = {
        "workload": "linear-4096x4096", "backend": "cuda", "device": "Made-up GPU", "driver": "1.0", "clock_mhz": "",
        "cache": "cold", "method": method, "seq_len": "128" if m < 16384 else "512", "rank": str(rank),
        "batch": str(m // 128 if m < 16384 else 32), "time_ns": str(us * 1e3), "floor_pct": "", "gflops": "",
    }  # fmt: skip
    adapted = slowdown is not None
    for name, value in (("slowdown", slowdown), ("slowdown_lo", slowdown), ("slowdown_hi", slowdown)):
        row[f"{name}_pct"] = str(value) if adapted else ""
    return row | {"floor_pad_pct": str(floor) if adapted else ""} | other


class Ratios(unittest.TestCase):
    """All numbers here are made up."""

    def assert_line(self, lines: list[str], *parts: str) -> None:
        self.assertTrue(any(all(part in line for part in parts) for line in lines), f"{parts} in {lines}")

    def test_base_to_cublaslt_with_a_miss(self) -> None:
        rows = [made_up("fused-lora/base", m, 0, us) for m, us in ((128, 10), (4096, 100), (16384, 400))]
        rows += [made_up("cublaslt/base", m, 0, us) for m, us in ((128, 9), (4096, 125), (16384, 384))]
        lines = ratios.ratios(rows)
        self.assertEqual(lines[1], "linear-4096x4096, cold, Made-up GPU: asked and measured")
        # (0.9 · 1.25 · 0.96)^(1/3)
        self.assert_line(lines, "geometric mean 1.026, asked 1.00: met")
        self.assert_line(lines, "least 0.900 at M=128 (seq128/batch1/r0), asked 0.92: 1 of 3 cells miss")
        self.assert_line(lines, "M=16384 (seq512/batch32/r0): 0.960, asked 0.97: MISSED")
        other = [row | {"workload": "linear-1024x1024"} for row in rows]
        self.assertFalse(any("0.97" in line for line in ratios.ratios(other)), "asked of one workload alone")

    def test_fused_to_peers_above_rank_0(self) -> None:
        rows = [made_up("fused-lora/fused", 128, rank, 10.0) for rank in (0, 10, 100)]
        for method, times in (
            ("cublaslt/three-calls", (1.0, 9.9, 15.0)),
            ("torch-fp16/peft", (1.0, 40.0, 19.0)),
            ("torch-fp16/peft-graph", (1.0, 1.0, 1.0)),
            ("torch-fp16/vllm", (1.0, 1.0, 1.0)),
            ("torch-fp16/vllm-graph", (1.0, 14.0, 13.5)),
        ):
            rows += [made_up(method, 128, rank, us) for rank, us in zip((0, 10, 100), times)]
        lines = ratios.ratios(rows)
        self.assert_line(lines, "geometric mean 1.219, asked 1.25: MISSED")
        self.assert_line(lines, "least 0.990 at M=128 (seq128/batch1/r10), asked 1.00: 1 of 2 cells miss")
        self.assert_line(lines, "fused to PEFT, eager (torch-fp16/peft), 2 cells")
        self.assert_line(lines, "least 1.900", "asked 2.00: 1 of 2 cells miss")
        self.assert_line(lines, "vLLM", "torch-fp16/vllm-graph")
        self.assert_line(lines, "least 1.350", "asked 1.30: 0 of 2 cells miss")

    def test_slow_downs_have_an_allowance_for_their_size(self) -> None:
        # 1.05 · 10 + 2 = 12.5 points.
        large = [made_up("fused", 4096, rank, 100, slowdown, 10.0) for rank, slowdown in ((10, 12.4), (100, 13.0))]
        # A base of 10 us and a floor of 10 %: 13.5 us.
        small = [made_up("fused", 128, rank, us, 100 * (us / 10 - 1), 10.0) for rank, us in ((10, 13.4), (100, 14.0))]
        lines = ratios.ratios(large + small)
        self.assert_line(lines, "M >= 2048", "1 of 2 cells miss", "+0.50 points at M=4096 (seq128/batch32/r100)")
        self.assert_line(lines, "M <= 1024", "1 of 2 cells miss", "+0.50 us at M=128 (seq128/batch1/r100)")
        self.assert_line(ratios.ratios(large[:1] + small[:1]), "M >= 2048", "0 of 1 cells miss", "-0.10 points")

    def test_only_the_same_device_and_caches_are_compared(self) -> None:
        ours = made_up("fused-lora/base", 128, 0, 10)
        for difference in ({"device": "Other GPU"}, {"cache": "warm-w"}, {"workload": "gpt2-medium-linears"}):
            self.assertEqual(ratios.ratios([ours, made_up("cublaslt/base", 128, 0, 9, **difference)]), [])
        # PyTorch's records name another driver: its own version.
        torch = made_up("torch-fp16/peft", 128, 10, 30, driver="torch 2")
        self.assertIn("least 3.000", ratios.ratios([made_up("fused-lora/fused", 128, 10, 10), torch])[4])


class Clocks(unittest.TestCase):
    """All numbers here are made up."""

    def row(self, second: str, method: str = "fused") -> summary.Row:
        key = {"run": "grid-x", "workload": "linear", "cache": "cold", "method": method}
        return key | {"seq_len": "128", "batch": "4", "rank": "10", "measured_at": f"2026-01-31T12:00:{second}Z"}

    def line(self, second: float, clock: object, power: object) -> str:
        return f"2026/01/31 12:00:{second:06.3f}, {clock}, {power}"

    def test_a_record_has_the_samples_of_its_last_seconds(self) -> None:
        lines = [self.line(second, 1000 + 10 * second, 300 + second) for second in range(1, 11)]
        [of] = clocks.beside([self.row("10.000")], clocks.samples(lines))
        self.assertEqual((of.sm_mhz, of.power_w, of.samples), (1090, 309, 3), "seconds 8, 9 and 10")
        [none] = clocks.beside([self.row("30.000")], clocks.samples(lines))
        self.assertEqual((none.sm_mhz, none.power_w, none.samples), (None, None, 0))

    def test_the_samples_of_the_size_before_are_not_its_own(self) -> None:
        lines = [self.line(9.5, 1000, 300), self.line(10.5, 1980, 700)]
        # Two records of one size, and one of the next, in any order.
        rows = [self.row("11.000", "base"), self.row("10.003"), self.row("10.000", "base")]
        found = [(of.row["method"], of.sm_mhz) for of in clocks.beside(rows, clocks.samples(lines))]
        self.assertEqual(found, [("base", 1000), ("fused", 1000), ("base", 1980)])

    def test_what_the_gpu_does_not_say_is_left_empty(self) -> None:
        lines = [self.line(9, "[N/A]", 300), self.line(9.5, 1500, "[N/A]"), "2026/01/31 12:00:09.7, 15", "", "No devices"]
        seen = clocks.samples(lines)
        self.assertEqual(len(seen), 2, "the third was cut off")
        [of] = clocks.beside([self.row("10.000")], seen)
        self.assertEqual((of.sm_mhz, of.power_w, of.samples), (1500, 300, 2))
        [of] = clocks.beside([self.row("10.000")], seen[:1])
        self.assertEqual((of.sm_mhz, of.power_w, of.samples), (None, 300, 1))

    def test_the_program_writes_a_line_for_each_record(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = [str(Path(folder, name)) for name in ("nvidia-smi.csv", "clocks.csv", "grid.csv")]
            rows = [self.row("10.000", "base"), self.row("40.000")]
            Path(names[0]).write_text(f"{self.line(9, 1755, 688.12)}\n{self.line(9.2, 1740, 690)}\n")
            header, *records = [",".join(line) for line in (rows[0], *(row.values() for row in rows))]
            Path(names[2]).write_text("\n".join([summary.VERSION_LINES[1], header, *records, ""]))
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                self.assertEqual(clocks.main(names), 0)
            self.assertEqual(
                said.getvalue(),
                "beside 2 records: SM clock 1748 to 1748 MHz, power 689 to 689 W, 1 without a sample\n",
            )
            lines = Path(names[1]).read_text().splitlines()
            self.assertEqual(lines[0], "run,workload,cache,method,seq_len,batch,rank,measured_at,sm_mhz,power_w,samples")
            self.assertEqual(lines[1:], [f"{records[0]},1747.5,689.06,2", f"{records[1]},,,0"])
            with contextlib.redirect_stderr(said):
                self.assertEqual(clocks.main([str(Path(folder, "none")), *names[1:]]), 1)


if __name__ == "__main__":
    unittest.main()

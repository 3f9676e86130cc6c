"""Tests of the bundle's table: python3 -m unittest discover scripts/gpu-bundle.d"""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import summary

HEADER = (
    "workload,backend,device,driver,clock_mhz,cache,method,seq_len,batch,rank,time_ns,"
    "slowdown_pct,slowdown_lo_pct,slowdown_hi_pct,floor_pct,gflops"
)
BASE = "linear,cuda,Some GPU,12.4,1980,cold,base,128,4,0,5000,,,,,200000"
FUSED = "linear,cuda,Some GPU,12.4,1755,cold,fused,128,4,10,5100,2.5,2,3,1.953,200100"


class Table(unittest.TestCase):
    def rows(self, *lines: str) -> list[summary.Row]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "grid.csv")
            path.write_text("\n".join([summary.VERSION_LINE, HEADER, *lines]))
            return summary.read(path)

    def test_a_slow_down_stands_beside_its_floor_and_its_base(self) -> None:
        _, title, _, line = summary.summary(self.rows(BASE, FUSED, ""))
        self.assertEqual(title, "linear, cold: Some GPU, cuda 12.4, SM clock 1755 to 1980 MHz, 2 records")
        self.assertEqual(line.split(), ["512", "10", "5.00", "200.0", "2.5", "±", "0.5", "-", "2.0"])

    def test_a_line_that_was_cut_off_is_left_out(self) -> None:
        self.assertEqual(len(self.rows(BASE, FUSED)), 1, "the last one has no end")
        self.assertEqual(len(self.rows(BASE, "linear,cuda", "")), 1)

    def test_states_of_the_caches_are_not_mixed(self) -> None:
        lines = summary.summary(self.rows(BASE, FUSED, FUSED.replace("cold", "warm-w"), ""))
        self.assertEqual(sum("records" in line for line in lines), 2)

    def test_without_records_it_says_so(self) -> None:
        self.assertEqual(summary.summary([]), ["no grid was measured"])
        with self.assertRaises(ValueError), tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "other.csv")
            path.write_text("a,b\n1,2\n")
            summary.read(path)


if __name__ == "__main__":
    unittest.main()

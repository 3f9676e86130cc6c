"""Tests of what run-ptx reads and fills: python3 -m unittest discover scripts/run-ptx.d"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import arguments
import command
import elements
import manifest
import npy
import reports
from launch import Array, Launch, Pointer, Scalar, TensorMap

MANIFEST = Path(__file__).parents[2] / "tests/foreign/manifest.json"


def launch(*parameters: str, arrays: tuple[str, ...] = ()) -> Launch:
    made = Launch("entry")
    for text in arrays:
        arguments.add_array(made, text)
    for text in parameters:
        arguments.add_parameter(made, text)
    made.check()
    return made


class Arguments(unittest.TestCase):
    def test_parameters_are_in_order_and_arrays_have_names(self) -> None:
        made = launch("in:f16:64x32:integers=-1,1", "y=out:f32:8", "i32:-5", "i64:0x10", "f32:0.5", "null")
        pointers = [Pointer("arg0"), Pointer("y")]
        numbers = [Scalar("i32", -5), Scalar("i64", 16), Scalar("f32", 0.5), Pointer(None)]
        self.assertEqual(made.parameters, pointers + numbers)
        self.assertEqual(made.arrays["arg0"], Array("f16", (64, 32), False, "integers=-1,1"))
        self.assertEqual(made.arrays["y"], Array("f32", (8,), True, "unwritten"))
        self.assertEqual(made.parameters[2].bytes(), b"\xfb\xff\xff\xff")

    def test_a_map_is_of_the_whole_array(self) -> None:
        made = launch("map:x:64x32:128", "map:x:8x8", arrays=("x=in:bf16:100x200",))
        strides, ones = (400,), (1, 1)
        expected = TensorMap("x", "bf16", (200, 100), strides, (64, 32), ones, "128")
        self.assertEqual(made.parameters[0], expected)
        self.assertEqual(made.parameters[1].swizzle, "none")
        deep = launch("map:x:8x4x2", arrays=("x=in:f32:2x3x16",)).parameters[0]
        self.assertEqual((deep.dims, deep.strides), ((16, 3, 2), (64, 192)))

    def test_what_is_no_argument_is_refused(self) -> None:
        for text in ("f16", "in:f16", "in:f99:3", "in:f16:3y", "f32:", "map:nobody:8", "x=out:f16:", "i32:a"):
            with self.subTest(text), self.assertRaises(ValueError):
                launch(text)
        with self.assertRaises(ValueError):
            launch("x=in:f16:8", "x=in:f16:8")
        with self.assertRaises(ValueError):
            launch("map:x:8", arrays=("x=in:f16:8x8",))

    def test_dimensions(self) -> None:
        self.assertEqual(arguments.dims("2"), (2, 1, 1))
        self.assertEqual(arguments.dims("2,3,4"), (2, 3, 4))
        for text in ("", "0", "1,2,3,4", "2x2"):
            with self.subTest(text), self.assertRaises(ValueError):
                arguments.dims(text)

    def test_the_only_entry_need_not_be_named(self) -> None:
        one = ".visible .entry a(\n)\n// .entry no\n"
        self.assertEqual(command.only_entry(one), "a")
        for text in ("", one + ".entry b()"):
            with self.assertRaises(ValueError):
                command.only_entry(text)


class Elements(unittest.TestCase):
    def test_values_are_rounded_to_the_nearest(self) -> None:
        for type, value, rounded in (
            ("f16", 0.1, 0.0999755859375),
            ("bf16", 0.1, 0.10009765625),
            ("bf16", 1 + 2**-8, 1.0),
            ("bf16", 1 + 3 * 2**-8, 1 + 2**-6),
            ("f32", 0.1, 0.10000000149011612),
            ("i32", -7.0, -7),
        ):
            with self.subTest(type):
                self.assertEqual(elements.unpack(type, elements.pack(type, [value])), [rounded])
        self.assertTrue(math.isnan(elements.unpack("bf16", elements.pack("bf16", [math.nan]))[0]))

    def test_arrays_are_filled(self) -> None:
        def values(how: str) -> list[float]:
            data = elements.fill("f32", (4, 50), how, "seed")
            assert data is not None
            return elements.unpack("f32", data)

        self.assertEqual(set(values("integers")), {-2, -1, 0, 1, 2})
        self.assertTrue(all(2 <= value < 3 for value in values("random=2,3")))
        self.assertEqual(values("random"), values("random"))
        self.assertEqual((set(values("zeros")), set(values("ones")), set(values("2.5"))), ({0}, {1}, {2.5}))
        self.assertIsNone(elements.fill("f32", (4, 50), "unwritten", ""))
        self.assertEqual(elements.fill("i32", (2,), "values=1,-1", ""), elements.pack("i32", [1, -1]))
        with self.assertRaises(ValueError):
            values("many")

    def test_arrays_are_read_from_files(self) -> None:
        data = elements.pack("f16", [1, 2, 3, 4, 5, 6])
        with tempfile.TemporaryDirectory() as folder:
            for content in (data, npy.render("<f2", (2, 3), data)):
                path = Path(folder, "x")
                path.write_bytes(content)
                self.assertEqual(elements.fill("f16", (2, 3), f"@{path}", ""), data)
                with self.assertRaises(ValueError):
                    elements.fill("f16", (2, 4), f"@{path}", "")
        self.assertEqual(npy.parse(npy.render("<f4", (3,), b"x" * 12)), ("<f4", (3,), b"x" * 12))
        self.assertEqual(len(npy.render("<f4", (3,), b"")) % 64, 0)

    def test_an_output_is_summed_up(self) -> None:
        data = elements.pack("f32", [1, -2, math.nan])
        line = command.summary("y", Array("f32", (1, 3), True, ""), data)
        self.assertEqual(line, "y: f32 1x3, -2 to 1, 1 not finite: 1, -2, nan")


class Manifest(unittest.TestCase):
    def test_every_kernel_is_read(self) -> None:
        for kernel in json.loads(MANIFEST.read_text())["kernels"]:
            path, made = manifest.read(MANIFEST, kernel["name"])
            made.check()
            self.assertTrue(path.exists())
            self.assertEqual(len(made.parameters), len(kernel["parameters"]))
            self.assertEqual([array.is_output for array in made.arrays.values()].count(True), 1)
        with self.assertRaises(ValueError):
            manifest.read(MANIFEST, "none")


class Reports(unittest.TestCase):
    def test_lines_are_named_and_quoted(self) -> None:
        report = "twice, lane 3, PTX 0:2: race with PTX 0:1:0, PTX 1:3\n"
        explained = reports.explain(report, Path("a/k.ptx"), "first;\n  second;\n")
        self.assertEqual(
            explained,
            "twice, lane 3, k.ptx:2: race with k.ptx:1, PTX 1:3\n  k.ptx:1: first;\n  k.ptx:2: second;\n",
        )


if __name__ == "__main__":
    unittest.main()

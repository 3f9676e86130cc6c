"""run-ptx on the driver that FUSED_LORA_LIBCUDA names, the simulated one; skipped without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import elements
import npy

HERE = Path(__file__).parent
EXAMPLE = HERE / "example.ptx"
MANIFEST = HERE.parents[1] / "tests/foreign/manifest.json"
LAUNCH = ("--block", "128", "--shared", "512", "--arg", "x=in:f32:128:integers")
OUTPUT = ("--array", "y=out:f32:128", "--arg", "map:y:128")


@unittest.skipUnless(os.environ.get("FUSED_LORA_LIBCUDA"), "FUSED_LORA_LIBCUDA names no driver")
class Run(unittest.TestCase):
    def run_ptx(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        script = HERE.parent / "run-ptx"
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)

    def changed(self, folder: str, old: str, new: str) -> Path:
        text = EXAMPLE.read_text()
        self.assertIn(old, text)
        path = Path(folder, "changed.ptx")
        path.write_text(text.replace(old, new))
        return path

    def test_a_kernel_is_right(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = self.run_ptx(EXAMPLE, *LAUNCH, *OUTPUT, "--runs", "20", "--save", folder)
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            self.assertTrue(run.stdout.startswith("y: f32 128, -4 to 4: "), run.stdout)
            x, y = ([*npy.parse(Path(folder, f"{name}.npy").read_bytes())] for name in "xy")
            self.assertEqual(y[:2], ["<f4", (128,)])
            self.assertEqual(elements.unpack("f32", y[2]), [2 * value for value in elements.unpack("f32", x[2])])
            self.run_ptx(EXAMPLE, *LAUNCH, *OUTPUT, "--save", folder, "--raw")
            self.assertEqual(Path(folder, "y.bin").read_bytes(), y[2])

    def test_without_a_fence_it_is_reported(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = self.run_ptx(self.changed(folder, "fence.proxy.async.shared::cta;", ""), *LAUNCH, *OUTPUT)
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        self.assertIn("race across proxies", run.stderr)
        self.assertIn("changed.ptx:20: st.shared.f32 [%to], %v;", run.stderr)
        self.assertIn("CUDA_ERROR_LAUNCH_FAILED (719)", run.stderr)

    def test_what_is_not_known_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = self.run_ptx(self.changed(folder, "bar.sync 0", "wat.u32 %i"), *LAUNCH, *OUTPUT)
        self.assertEqual(run.returncode, 1)
        self.assertIn("`wat.u32`", run.stderr)

    def test_what_nobody_wrote_is_reported(self) -> None:
        run = self.run_ptx(EXAMPLE, *LAUNCH, "--array", "y=out:f32:256", "--arg", "map:y:128")
        self.assertEqual(run.returncode, 1)
        self.assertIn("which nobody wrote", run.stderr)

    def test_a_kernel_of_the_manifest_runs_in_clusters(self) -> None:
        run = self.run_ptx("--manifest", MANIFEST, "cute_matmul_bt_64x64x64_f16_sm90")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertTrue(run.stdout.startswith("c: f16 128x128, "), run.stdout)

    def test_what_triton_does_is_reported_unless_it_is_allowed(self) -> None:
        kernel = ("--manifest", MANIFEST, "tma_matmul_64x32x16_f16_sm90")
        run = self.run_ptx(*kernel)
        self.assertEqual(run.returncode, 1)
        self.assertIn("without a fence.mbarrier_init.release.cluster", run.stderr)
        run = self.run_ptx(*kernel, "--allow", "unfenced-init")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("allowed: unfenced-init at cp.async.bulk.tensor", run.stderr)
        run = self.run_ptx(*kernel, "--allow", "everything")
        self.assertEqual(run.returncode, 1)
        self.assertIn("FUSED_LORA_SIMT_ALLOW", run.stderr)

    def test_mistakes_are_no_errors_of_the_driver(self) -> None:
        for arguments in ((), (EXAMPLE, "--arg", "wat"), (HERE / "nothing.ptx",), (EXAMPLE, "--arg", "in:f32:128:wat")):
            run = self.run_ptx(*arguments)
            self.assertEqual(run.returncode, 2, arguments)
            self.assertTrue(run.stderr.startswith("run-ptx: "), run.stderr)


if __name__ == "__main__":
    unittest.main()

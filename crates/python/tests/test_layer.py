"""One layer: its error, what keeps a call on PEFT's forward, inputs of all kinds, threads."""

import copy
import gc
import itertools
import os
import subprocess
import sys
import threading
import unittest
import weakref

import torch
from models import DTYPES, peft_model
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from peft.utils.hotswap import hotswap_adapter_from_state_dict
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import fused_lora

# How often a layer is patched, given another adapter, called and unpatched, while memory must not grow.
CYCLES = int(os.environ.get("FUSED_LORA_CYCLES", "1000"))


class One(nn.Module):
    def __init__(self, n, k, bias, layer=nn.Linear):
        super().__init__()
        self.linear = layer(k, n, bias=bias)

    def forward(self, x, **kwargs):
        return self.linear(x, **kwargs)


def one(n=96, k=64, rank=8, dtype=torch.float32, bias=True, share=None, layer=nn.Linear, **config):
    """A model of one LoRA layer; with `share` the adapter's part of y has that many times the norm of the base's."""
    torch.manual_seed(5)
    model = One(n, k, bias, layer).to(dtype)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules=["linear"], **config)).eval()
    lora = model.base_model.model.linear
    with torch.no_grad():
        torch.nn.init.normal_(lora.lora_B["default"].weight)
        if share is not None:
            delta = lora.get_delta_weight("default").double()
            lora.lora_B["default"].weight *= share * lora.base_layer.weight.double().norm() / delta.norm()
    return model.requires_grad_(False), lora


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hook(*_):
    return None


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def set_forward(module):
    forward = module.forward
    module.forward = lambda *args, **kwargs: 3 * forward(*args, **kwargs)


def requires_grad(tensor):
    tensor.requires_grad_(True)


# What is done to a layer, and the reason that its calls then give.
IN_THE_WAY = {
    "hook on the layer": (lambda l: l.register_forward_hook(hook), "hook"),
    "pre-hook on the layer": (lambda l: l.register_forward_pre_hook(hook), "hook"),
    "hook on the base": (lambda l: l.base_layer.register_forward_hook(lambda m, x, y: y + 1), "hook"),
    "pre-hook on the base": (lambda l: l.base_layer.register_forward_pre_hook(lambda m, x: (x[0] + 1,)), "hook"),
    "hook on A": (lambda l: l.lora_A["default"].register_forward_hook(lambda m, x, y: y + 1), "hook"),
    "hook on B": (lambda l: l.lora_B["default"].register_forward_hook(lambda m, x, y: y + 1), "hook"),
    "hook on dropout": (lambda l: l.lora_dropout["default"].register_forward_hook(lambda m, x, y: y + 1), "dropout"),
    "forward of the layer": (set_forward, "forward"),
    "forward of the base": (lambda l: set_forward(l.base_layer), "base layer"),
    "forward of A": (lambda l: set_forward(l.lora_A["default"]), "A or B"),
    "forward of dropout": (lambda l: set_forward(l.lora_dropout["default"]), "dropout"),
    "parametrisation": (
        lambda l: nn.utils.parametrizations.weight_norm(l.base_layer),
        "base layer",
    ),
    "parametrised A": (lambda l: nn.utils.parametrizations.orthogonal(l.lora_A["default"]), "A or B"),
    "another base": (lambda l: setattr(l, "base_layer", Doubled(64, 96)), "base layer"),
    "gradient of W": (lambda l: requires_grad(l.base_layer.weight), "gradient"),
    "gradient of the bias": (lambda l: requires_grad(l.base_layer.bias), "gradient"),
    "gradient of A": (lambda l: requires_grad(l.lora_A["default"].weight), "gradient"),
    "f64": (lambda l: l.double(), "type"),
    "f64 adapter": (lambda l: l.lora_A.double() and l.lora_B.double(), "A or B"),
    "bf16 adapter": (lambda l: l.lora_A.bfloat16() and l.lora_B.bfloat16(), "types"),
}


class Layers(unittest.TestCase):
    def compare(self, model, x, reason=None, error=None, tolerance=1e-5, **kwargs):
        """Calls a patched model and PEFT's on x; with `reason` PEFT's forward has to be the one that was called."""
        theirs = copy.deepcopy(model)
        report = fused_lora.patch(model)
        before, before_peft = report.fused_calls, report.peft_calls
        outcomes = []
        for each in (model, theirs):
            try:
                outcomes.append(each(x, **kwargs))
            except error or () as raised:
                outcomes.append(str(raised))
        ours, expected = outcomes
        if error:
            self.assertIs(type(expected), str, "PEFT did not raise")
            self.assertEqual(ours, expected)
        else:
            self.assertEqual((ours.shape, ours.dtype), (expected.shape, expected.dtype))
            if reason is None:
                torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
            else:
                self.assertTrue(torch.equal(ours, expected))
        if reason is None and not error:
            self.assertEqual((report.fused_calls, report.peft_calls), (before + 1, before_peft), str(report))
        else:
            self.assertEqual(report.fused_calls, before, str(report))
            self.assertIn(reason or "", str(report.reasons))
        return ours

    def test_error_against_f64(self):
        for dtype, share, casting in itertools.product(DTYPES, (0.1, 1, 4), (True, False)):
            n, k = 640, 512
            model, lora = one(n, k, 16, dtype, share=share)
            if not casting:
                lora.lora_A.to(dtype), lora.lora_B.to(dtype)
            theirs, exact = copy.deepcopy(model), copy.deepcopy(model).double()
            report = fused_lora.patch(model)
            for m in (1, 3, 64, 200):
                torch.manual_seed(m)
                x = torch.randn(m, k).to(dtype)
                y = exact(x.double())
                errors = [((each(x).double() - y).norm() / y.norm()).item() for each in (model, theirs)]
                with self.subTest(dtype=dtype, share=share, f32_adapter=casting, m=m):
                    self.assertLessEqual(errors[0], 1.1 * errors[1], errors)
            self.assertEqual(report.peft_calls, 0, str(report))

    def test_what_is_in_the_way(self):
        x = torch.randn(5, 64)
        for name, (change, reason) in IN_THE_WAY.items():
            with self.subTest(name):
                torch.manual_seed(1)
                model, lora = one(lora_dropout=0.5)
                theirs = copy.deepcopy(model)
                report = fused_lora.patch(model)
                for _ in range(2):
                    self.assertTrue(torch.allclose(model(x), theirs(x), atol=1e-5))
                self.assertEqual(report.fused_calls, 2, str(report))
                torch.manual_seed(2)
                change(lora)
                torch.manual_seed(2)
                change(theirs.base_model.model.linear)
                x_of_type = x.to(lora.base_layer.weight.dtype)
                self.assertTrue(torch.equal(model(x_of_type), theirs(x_of_type)))
                self.assertEqual(report.fused_calls, 2, str(report))
                self.assertIn(reason, str(report.reasons))

    def test_modes(self):
        x = torch.randn(5, 64)
        modes = {
            "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
            "dispatch mode": Mode,
            "dispatch mode again": lambda: FlopCounterMode(display=False),
            "function mode": lambda: torch.overrides.BaseTorchFunctionMode(),
        }
        for name, mode in modes.items():
            with self.subTest(name), mode():
                self.compare(one()[0], x, "mode" if "mode" in name else name)
        for mode in (torch.no_grad, torch.inference_mode, lambda: torch.device("cpu")):
            with mode():
                self.compare(one()[0], x)
        with torch.no_grad():
            model, lora = one()
            requires_grad(lora.lora_A["default"].weight)
            self.compare(model, x)
        handle = nn.modules.module.register_module_forward_hook(hook)
        self.compare(one()[0], x, "all modules")
        handle.remove()
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            self.compare(one()[0], dual, "forward-mode")
        model = one()[0]
        report = fused_lora.patch(model)
        mapped = torch.vmap(model)(x)
        self.assertIn("functorch", str(report.reasons))
        torch.testing.assert_close(mapped, model(x), rtol=1e-5, atol=1e-5)
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(2 * x), model(2 * x), rtol=1e-5, atol=1e-5)

    def test_configurations(self):
        x = torch.randn(5, 64)
        self.compare(one(bias=False)[0], x)
        self.compare(one(use_rslora=True)[0], x)
        self.compare(one(use_dora=True)[0], x, "variant")
        self.compare(one(lora_bias=True)[0], x, "bias")
        self.compare(one(init_lora_weights="pissa", rank=8)[0], x)
        model, _ = one(lora_dropout=0.25)
        self.compare(model, x)
        torch.manual_seed(1)
        model.train()
        report = fused_lora.patch(model)
        model(x)
        self.assertIn("dropout", str(report.reasons))
        model, lora = one(dtype=torch.bfloat16)
        with disable_input_dtype_casting(model):
            self.compare(model, x.bfloat16(), "", error=RuntimeError)

    def test_base_layers_that_are_no_plain_linear(self):
        model, _ = one(layer=Doubled)
        theirs = copy.deepcopy(model)
        report = fused_lora.patch(model)
        self.assertEqual(report.fused, [])
        self.assertIn("Doubled", str(report.skipped))
        x = torch.randn(5, 64)
        self.assertTrue(torch.equal(model(x), theirs(x)))

    def test_inputs(self):
        wide = torch.randn(6, 7, 128)
        inputs = {
            "a vector": wide[0, 0, :64],
            "four dimensions": wide[..., :64].reshape(2, 3, 7, 64),
            "columns of a wider one": wide[0, :, 32:96],
            "columns of a wider batch": wide[..., 32:96],
            "every second row": wide[:, ::2, :64],
            "every second column": wide[0, :, ::2],
            "transposed": torch.randn(64, 9).t(),
            "a permuted batch": wide[..., :64].transpose(0, 1),
            "expanded": wide[:1, :1, :64].expand(3, 5, 64),
            "no rows": wide[:0, :, :64],
            "no sequence": wide[:, :0, :64],
            "a parameter": nn.Parameter(wide[0, :, :64].clone(), requires_grad=False),
            "one row": wide[0, :1, :64],
            "many rows": torch.randn(300, 64),
        }
        for name, x in inputs.items():
            with self.subTest(name):
                self.compare(one()[0], x)
        others = {
            "a gradient": (wide[0, :, :64].clone().requires_grad_(), "gradient"),
            "negative bit": (torch.randn(3, 64, dtype=torch.complex64).conj().imag, "plain"),
            "zeros without memory": (torch._efficientzerotensor(3, 64), "plain"),
        }
        for name, (x, reason) in others.items():
            with self.subTest(name):
                self.compare(one()[0], x, reason)
        for x in (torch.randn(3, 63), torch.randn(3, 64).double(), torch.randn(3, 64).bfloat16(), torch.randn(())):
            self.compare(one()[0], x, "", error=(RuntimeError, IndexError))

    def test_infinite_scale_and_values(self):
        x = torch.randn(5, 64)
        model, lora = one()
        lora.scaling["default"] = float("inf")
        theirs = copy.deepcopy(model)
        report = fused_lora.patch(model)
        torch.testing.assert_close(model(x), theirs(x), equal_nan=True)
        self.assertIn("scale", str(report.reasons))
        model, _ = one()
        x[2, 3] = float("nan")
        ours = fused_lora.patch(model) and model(x)
        self.assertTrue(ours[2].isnan().all() and ours[[0, 1, 3, 4]].isfinite().all())

    def test_weights_that_are_not_contiguous(self):
        x = torch.randn(5, 64)
        model, lora = one()
        lora.base_layer.weight.data = lora.base_layer.weight.data.t().contiguous().t()
        self.compare(model, x)
        model, lora = one()
        lora.base_layer.weight.data = torch.randn(96, 128)[:, ::2]
        # PEFT's own result differs from that of its copy: a copy is dense.
        report = fused_lora.patch(model)
        model(x)
        self.assertIn("dense", str(report.reasons))

    def test_inference_tensors(self):
        with torch.inference_mode():
            model, lora = one()
            x = torch.randn(5, 64)
            self.compare(model, x)
            lora.base_layer.weight *= 2
            self.compare(model, x)

    def test_sparse_change_by_an_operator(self):
        x = torch.randn(5, 512)
        model, lora = one(512, 512)
        fused_lora.patch(model)
        model(x)
        with torch.no_grad():
            lora.base_layer.weight[7, 9] += 1
        self.compare(model, x)

    def test_refresh_for_what_samples_miss(self):
        x = torch.randn(5, 512)
        model, lora = one(512, 512)
        fused_lora.patch(model)
        model(x)
        lora.base_layer.weight.data[7, 9] += 1
        fused_lora.refresh(model)
        self.compare(model, x)

    def test_memory_is_freed(self):
        model, lora = one()
        fused_lora.patch(model)
        model(torch.randn(5, 64))
        from fused_lora import _layer, _weights

        gc.collect()  # What other tests left.
        weight, layer = weakref.ref(lora.base_layer.weight), weakref.ref(lora)
        kept = len(_weights._packed), len(_layer._records)
        del model, lora
        gc.collect()
        self.assertIsNone(weight())
        self.assertIsNone(layer())
        self.assertEqual((len(_weights._packed), len(_layer._records)), (kept[0] - 1, kept[1] - 1))

    def test_cycles_keep_memory_flat(self):
        model, lora = one(256, 256)
        x = torch.randn(2, 256)

        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        config = model.peft_config["default"]
        keys = [key for key in model.state_dict() if "lora_" in key]
        adapters = [{key: torch.randn_like(model.state_dict()[key]) for key in keys} for _ in range(2)]

        def cycle(count):
            for i in range(count):
                report = fused_lora.patch(model)
                hotswap_adapter_from_state_dict(model, adapters[i % 2], "default", config)
                y = model(x)
                self.assertEqual(report.peft_calls, 0)
                if i % 4:
                    fused_lora.unpatch(model)
            return y

        cycle(300)
        before = resident()
        y = cycle(CYCLES)
        self.assertLess(resident() - before, 8 << 20)
        torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-3)

    def test_two_threads_with_two_models(self):
        x = torch.randn(40, 64)
        models = [one(bias=bias)[0] for bias in (True, False)]
        expected = [model(x) for model in models]
        wrong = []

        def work(model, y):
            report = fused_lora.patch(model)
            for _ in range(200):
                if not torch.allclose(model(x), y, atol=1e-5):
                    wrong.append(str(report))

        threads = [threading.Thread(target=work, args=pair) for pair in zip(models, expected, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    @unittest.skipUnless(sys.platform == "linux", "looks libgomp up in torch's library")
    def test_torch_threads(self):
        model, _ = one(512, 512)
        report = fused_lora.patch(model)
        self.assertIn("OpenMP", report.threads)
        model(torch.randn(64, 512))

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_a_forked_process_computes_alone(self):
        model, _ = one(512, 512)
        x = torch.randn(64, 512)
        theirs = copy.deepcopy(model)
        report = fused_lora.patch(model)
        model(x)
        y = theirs(x)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # A weight is packed and computed with; torch's own threads are gone as well.
                torch.set_num_threads(1)
                again = copy.deepcopy(model)
                fine = torch.allclose(model(x), y, atol=1e-4) and torch.allclose(again(x), y, atol=1e-4)
                status = 0 if fine and "forked" in report.threads else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


class Package(unittest.TestCase):
    def test_errors_name_what_is_wrong(self):
        with self.assertRaisesRegex(TypeError, "builtins.int"):
            fused_lora.patch(3)
        with self.assertRaisesRegex(ValueError, "Linear has no LoRA layers"):
            fused_lora.patch(nn.Linear(3, 4))

    def test_the_report_says_what_runs(self):
        model = peft_model("llama", torch.bfloat16)
        report = fused_lora.patch(model)
        with torch.no_grad():
            model(torch.zeros(1, 3, dtype=torch.long))
        text = str(report)
        self.assertIn("8 of 8 LoRA layers", text)
        self.assertIn("8 fused, 0 of PEFT's", text)
        self.assertIn("q_proj: 1 fused", text)

    def test_import_is_quick_and_silent(self):
        code = "import sys, time; t = time.perf_counter(); import fused_lora; s = time.perf_counter() - t; " \
            "assert 'torch' not in sys.modules; print(s)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(run.stderr, "")
        self.assertLess(float(run.stdout), 0.05 if not os.environ.get("CI") else 1)


if __name__ == "__main__":
    unittest.main()

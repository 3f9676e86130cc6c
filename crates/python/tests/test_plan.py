"""Calls that skip the checks: only while nothing has changed that these look at."""

import copy
import gc
import unittest
import weakref

import torch
from test_layer import Mode, hook, one, requires_grad
from torch import nn

import fused_lora
from fused_lora import _layer, _plan


def planned(**config):
    """A patched layer whose next call needs no checks, its model, PEFT's own copy of that, and the report."""
    model, lora = one(**config)
    theirs = copy.deepcopy(model)
    report = fused_lora.patch(model)
    model(torch.ones(1, 64, dtype=lora.base_layer.weight.dtype))
    assert report.fused_calls == 1, str(report)
    return lora, model, theirs, report


def plan_of(lora):
    return _layer._records[id(lora)].plan


def slots(module, seen):
    """All places in the state of a module, with (container, key), of those modules that a call goes through."""
    stack = [module.__dict__]
    while stack:
        container = stack.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(items):
            yield container, key
            if isinstance(value, dict | list):
                stack.append(value)
            elif isinstance(value, nn.Module) and value in seen:
                stack.append(value.__dict__)


@unittest.skipUnless(_plan._CAN_PLAN, "this torch has no DLPackExchangeAPI")
class Plans(unittest.TestCase):
    def test_the_second_call_is_the_plans(self):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            lora, model, theirs, report = planned(dtype=dtype)
            for i, shape in enumerate(((64,), (1, 64), (2, 3, 64), (40, 64))):
                x = torch.randn(shape).to(dtype)
                y, expected = model(x), theirs(x)
                self.assertEqual((y.shape, y.dtype), (expected.shape, expected.dtype))
                torch.testing.assert_close(y, expected, rtol=0.02 if dtype.itemsize == 2 else 1e-5, atol=0.02)
                self.assertEqual((plan_of(lora).calls, report.fused_calls), (i + 1, i + 2))

    def test_any_change_of_state_brings_the_checks_back(self):
        lora, *_ = planned(lora_dropout=0.5)
        modules = [lora, lora.base_layer]
        for adapters in (lora.lora_A, lora.lora_B, lora.lora_dropout):
            modules += [adapters, adapters["default"]]
        plan, seen = plan_of(lora), 0
        for container, key in slots(lora, modules):
            was = container[key]
            changes = [lambda: container.__setitem__(key, copy.copy(was) if isinstance(was, nn.Module) else object())]
            if isinstance(container, dict):
                changes += [lambda: container.__delitem__(key), lambda: container.update({"new": None})]
            for change in changes:
                before = container.copy()
                change()
                self.assertFalse(plan.holds(lora), key)
                container.clear()
                (container.update if isinstance(container, dict) else container.extend)(before)
                self.assertTrue(plan.holds(lora), key)
            seen += 1
        self.assertGreater(seen, 100)

    def test_a_class_set_on_a_module(self):
        for part in ("base_layer", "lora_A", "lora_B"):
            lora, *_ = planned()
            module = getattr(lora, part)
            module = module["default"] if part != "base_layer" else module
            module.__class__ = type("Other", (nn.Linear,), {})
            self.assertFalse(plan_of(lora).holds(lora), part)

    def test_no_plan_keeps_a_parent(self):
        model, lora = one()
        lora.__dict__["parent"] = model
        lora.lora_A["default"].__dict__["parents"] = [model]
        report = fused_lora.patch(model)
        for _ in range(2):
            model(torch.ones(1, 64))
        self.assertEqual((report.fused_calls, plan_of(lora)), (2, False))
        layer = weakref.ref(lora)
        del model, lora
        gc.collect()
        self.assertIsNone(layer())

    def test_tensors(self):
        changes = {
            "another memory": lambda t: setattr(t, "data", t.data.clone()),
            "another type": lambda t: setattr(t, "data", t.data.double()),
            "other strides": lambda t: setattr(t, "data", t.data.t().contiguous().t()),
            "negative bit": lambda t: setattr(t, "data", torch._neg_view(t.data)),
            "another class": lambda t: setattr(t, "__class__", type("Other", (nn.Parameter,), {})),
            "resized": lambda t: t.resize_(1, 1),
        }
        for name, change in changes.items():
            for part in ("base_layer", "lora_A", "lora_B"):
                with self.subTest(name, part=part):
                    lora, *_ = planned()
                    module = getattr(lora, part)
                    module = module["default"] if part != "base_layer" else module
                    change(module.weight)
                    self.assertFalse(plan_of(lora).holds(lora))
        lora, *_ = planned()
        with torch.no_grad():
            lora.base_layer.weight[0, 0] += 1
        self.assertFalse(plan_of(lora).holds(lora))

    def test_other_inputs(self):
        lora, model, theirs, report = planned()
        inputs = [
            torch.randn(3, 128)[:, ::2],
            torch.randn(64, 3).t(),
            torch.randn(2, 5, 64)[:, 1],
            torch.randn(0, 64),
            torch.randn(3, 64).requires_grad_(),
            torch._neg_view(torch.randn(3, 64)),
            torch._efficientzerotensor(3, 64),
            torch.randn([1] * 9 + [64]),
        ]
        for x in inputs:
            torch.testing.assert_close(model(x), theirs(x), rtol=1e-5, atol=1e-5)
        for x in (torch.randn(3, 63), torch.randn(3, 64).double(), torch.randn(3, 64).bfloat16(), torch.randn(())):
            with self.assertRaises((RuntimeError, IndexError)):
                model(x)
        with self.assertRaises((RuntimeError, NotImplementedError)):
            model(torch.empty(3, 64, device="meta"))
        sparse = torch.eye(64).to_sparse()
        torch.testing.assert_close(model(sparse), theirs(sparse), rtol=1e-5, atol=1e-5)

    def test_modes_that_begin_later(self):
        x = torch.randn(5, 64)
        modes = {
            "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
            "dispatch mode": Mode,
            "function mode": lambda: torch.overrides.BaseTorchFunctionMode(),
            "forward-mode": torch.autograd.forward_ad.dual_level,
        }
        for name, mode in modes.items():
            lora, model, theirs, report = planned()
            with self.subTest(name), mode():
                self.assertTrue(torch.equal(model(x), theirs(x)))
                self.assertIn(name, str(report.reasons))
        for register in (
            nn.modules.module.register_module_forward_hook,
            nn.modules.module.register_module_forward_pre_hook,
        ):
            lora, model, theirs, report = planned()
            handle = register(hook)
            self.assertTrue(torch.equal(model(x), theirs(x)))
            self.assertIn("all modules", str(report.reasons))
            handle.remove()
        lora, model, theirs, report = planned()
        torch.testing.assert_close(torch.vmap(model)(x), theirs(x), rtol=1e-5, atol=1e-5)
        self.assertIn("functorch", str(report.reasons))
        lora, model, theirs, report = planned()
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(2 * x), theirs(2 * x), rtol=1e-5, atol=1e-5)
        lora, model, theirs, report = planned()
        requires_grad(lora.lora_A["default"].weight)
        with torch.no_grad():
            torch.testing.assert_close(model(x), theirs(x), rtol=1e-5, atol=1e-5)
        self.assertEqual(report.peft_calls, 0)
        self.assertTrue(model(x).requires_grad)
        self.assertIn("gradient", str(report.reasons))


if __name__ == "__main__":
    unittest.main()

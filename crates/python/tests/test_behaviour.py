"""Whatever PEFT does gives PEFT's numbers, on three models in three types."""

import copy
import itertools
import pickle
import tempfile
import unittest

import torch
from models import DTYPES, KINDS, Models, saved
from peft.utils.hotswap import hotswap_adapter
from safetensors.torch import load_file

import fused_lora


def parameters(model, part, adapter=""):
    return [p for name, p in model.named_parameters() if part in name and adapter in name]


def add_to_data(part):
    def change(model):
        for p in parameters(model, part):
            p.data += 0.05

    return change


def numpy(model):
    for p in parameters(model, "lora_B"):
        values = p.detach().numpy()
        values *= 2


def copy_into_data(model):
    for p in parameters(model, "lora_A"):
        p.data.copy_(p.data.flip(0))


def storage(model):
    for p in parameters(model, "lora_A"):
        p.untyped_storage().copy_(p.data.neg().contiguous().untyped_storage())


def fused_adamw(model):
    weights = parameters(model, "lora_", ".a.")
    for p in weights:
        p.requires_grad_(True)
        p.grad = torch.ones_like(p)
    torch.optim.AdamW(weights, lr=0.02, fused=True).step()
    for p in weights:
        p.requires_grad_(False)
        p.grad = None


def one_element(model):
    for p in parameters(model, "lora_B"):
        p.data[-1, -1] += 3


def swap_rows(model):
    for p in parameters(model, "lora_B"):
        p.data[[0, 1]] = p.data[[1, 0]].clone()


def in_place(part):
    def change(model):
        with torch.no_grad():
            for p in parameters(model, part):
                p[3] += 0.5

    return change


def with_base_data(model):
    for p in parameters(model, "base_layer.weight"):
        p.data = p.data * 1.25


def merge_unmerge(model):
    model.merge_adapter()
    model.unmerge_adapter()


def merged_and_safely(model):
    model.merge_adapter(safe_merge=True)
    model.unmerge_adapter()


def merge_b_then_unmerge(model):
    model.set_adapter("b")
    model.merge_adapter()
    model.unmerge_adapter()
    model.set_adapter("a")


# What is done to the models; then they are called, and every call has to run fused.
CHANGES = {
    "nothing": lambda model: None,
    "set_adapter": lambda model: model.set_adapter("b"),
    "several active": lambda model: model.base_model.set_adapter(["a", "b"]),
    "scale_layer": lambda model: [m.scale_layer(0.5) for m in model.modules() if hasattr(m, "scale_layer")],
    "set_scale": lambda model: [m.set_scale("a", 3) for m in model.modules() if hasattr(m, "set_scale")],
    "merge and unmerge": merge_unmerge,
    "merge safely and unmerge": merged_and_safely,
    "merge the other": merge_b_then_unmerge,
    "delete the other": lambda model: model.delete_adapter("b"),
    "delete the active": lambda model: (model.delete_adapter("a"), model.set_adapter("b")),
    "A.data +=": add_to_data("lora_A"),
    "B.data +=": add_to_data("lora_B"),
    "W.data +=": add_to_data("base_layer.weight"),
    "bias.data +=": add_to_data("base_layer.bias"),
    "W in place": in_place("base_layer.weight"),
    "W.data =": with_base_data,
    "B by numpy": numpy,
    "A.data.copy_": copy_into_data,
    "A by storage": storage,
    "fused AdamW": fused_adamw,
    "one element of B": one_element,
    "rows of B swapped": swap_rows,
    "contiguity of B": lambda model: [
        setattr(p, "data", p.data.t().contiguous().t()) for p in parameters(model, "lora_B")
    ],
}


class Behaviour(unittest.TestCase):
    def check(self, models, fused=True, **kwargs):
        report = models.report
        before, before_peft = report.fused_calls, report.peft_calls
        ours, theirs = models.errors(**kwargs)
        # The errors of a whole model scatter; those of a layer have a sharper test.
        self.assertLessEqual(ours, 1.25 * theirs + 1e-7)
        after, after_peft = report.fused_calls, report.peft_calls
        layers = len(report.fused)
        expected = (layers, 0) if fused else (0, layers)
        self.assertEqual((after - before, after_peft - before_peft), expected, str(report))

    def each(self):
        for kind, dtype in itertools.product(KINDS, DTYPES):
            with self.subTest(f"{kind} {dtype}"):
                yield kind, Models(kind, dtype)

    def test_changes(self):
        # Every change on every model, in turn in one of the types.
        types = itertools.cycle(DTYPES)
        for (name, change), kind in itertools.product(CHANGES.items(), KINDS):
            dtype = next(types)
            with self.subTest(f"{name}, {kind} {dtype}"):
                models = Models(kind, dtype)
                self.check(models)
                models.do(change)
                self.check(models)
            if kind == "gpt2":
                next(types)

    def test_what_stays_on_peft(self):
        for _, models in self.each():
            with models.fused.disable_adapter(), models.peft.disable_adapter(), models.exact.disable_adapter():
                self.check(models, fused=False)
            self.check(models)
            models.do(lambda model: model.merge_adapter())
            self.check(models, fused=False)
            models.do(lambda model: model.unmerge_adapter())
            self.check(models)

    def test_adapter_names(self):
        for _, models in self.each():
            for names in (["a", "b", "a", "__base__"], ["b"] * 4, ["__base__"] * 4, ["a", "a", "b", "b"]):
                with self.subTest(names):
                    self.check(models, adapter_names=names)
            with self.assertRaisesRegex(ValueError, "non-existing"):
                models.fused(models.ids, adapter_names=["a", "b", "c", "a"])

    def test_files(self):
        for kind, models in self.each():
            self.check(models)
            models.do(lambda model: model.load_adapter(saved(kind, 5, 5, 7), "c"))
            models.do(lambda model: model.set_adapter("c"))
            self.check(models)
            for rank, alpha, seed in ((8, 4, 8), (5, 32, 9)):
                swap = saved(kind, rank, alpha, seed)
                models.do(lambda model: model.set_adapter("a"))
                models.do(lambda model: hotswap_adapter(model, swap, "a", torch_device="cpu"))
                self.check(models)
            with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
                models.fused.save_pretrained(ours)
                models.peft.save_pretrained(theirs)
                one, other = (load_file(f"{folder}/a/adapter_model.safetensors") for folder in (ours, theirs))
            self.assertEqual(one.keys(), other.keys())
            self.assertTrue(all(torch.equal(one[key], other[key]) for key in one))

    def test_copies(self):
        for _, models in self.each():
            self.check(models)
            original = models.fused
            self.assertEqual(original.state_dict().keys(), models.peft.state_dict().keys())
            for copied in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
                models.fused, models.report = copied, fused_lora.patch(copied)
                self.check(models)

    def test_another_type(self):
        for kind in KINDS:
            for dtype in DTYPES:
                models = Models(kind, torch.float32)
                self.check(models)
                models.fused.to(dtype)
                models.peft.to(dtype)
                models.exact = copy.deepcopy(models.peft).double()
                self.check(models)

    def test_generate(self):
        for kind in KINDS:
            models = Models(kind, torch.float32)
            for extra in ({}, {"adapter_names": ["a", "b", "__base__", "a"]}, {"num_beams": 2}):
                options = dict(input_ids=models.ids, max_new_tokens=8, do_sample=False, pad_token_id=0, **extra)
                ours, theirs = (model.generate(**options) for model in (models.fused, models.peft))
                self.assertTrue(torch.equal(ours, theirs))
            self.assertEqual(models.report.peft_calls, 0, str(models.report))

    def test_unload(self):
        for kind in KINDS:
            models = Models(kind, torch.float32)
            ours, theirs = (model.merge_and_unload() for model in (models.fused, models.peft))
            with torch.no_grad():
                self.assertTrue(torch.equal(ours(models.ids).logits, theirs(models.ids).logits))

    def test_unpatch(self):
        for _, models in self.each():
            self.check(models)
            fused_lora.unpatch(models.fused)
            with torch.no_grad():
                ours, theirs = (model(models.ids).logits for model in (models.fused, models.peft))
            self.assertTrue(torch.equal(ours, theirs))
            models.report = fused_lora.patch(models.fused)
            self.check(models)

    def test_training(self):
        models = Models("llama", torch.float32)
        self.check(models)
        gradients = []
        for model in (models.fused, models.peft):
            for p in parameters(model, "lora_", ".a."):
                p.requires_grad_(True)
            model.train()
            model(models.ids, labels=models.ids).loss.backward()
            gradients.append([p.grad for p in parameters(model, "lora_", ".a.")])
        self.assertTrue(all(torch.equal(one, other) for one, other in zip(*gradients, strict=True)))
        for model in (models.fused, models.peft):
            torch.optim.AdamW(parameters(model, "lora_", ".a."), lr=0.01).step()
            model.eval()
        models.exact = copy.deepcopy(models.peft).double()
        self.check(models)


if __name__ == "__main__":
    unittest.main()

"""The operator, and models under torch.compile."""

import copy
import functools
import unittest

import torch
import torch._dynamo.testing
from models import KINDS, peft_model, saved
from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
from test_layer import one

import fused_lora


@functools.cache
def peft_compiles():
    """Whether torch makes one graph of PEFT's own forward: 2.5 does not."""
    try:
        torch.compile(peft_model("llama", torch.float32), backend="eager", fullgraph=True)(torch.zeros(1, 2).long())
    except torch._dynamo.exc.Unsupported:
        return False
    return True


def of_whole_graphs(test):
    @functools.wraps(test)
    def run(self):
        if not peft_compiles():
            self.skipTest("this torch does not make one graph of PEFT's own forward")
        test(self)

    return run


class Compile(unittest.TestCase):
    def test_opcheck(self):
        fused_lora.patch(one()[0])
        for transposed, with_bias, tensors in ((False, True, False), (True, False, True), (False, False, True)):
            w = torch.randn(64, 96) if transposed else torch.randn(96, 64)
            arguments = (
                torch.randn(2, 5, 64),
                w,
                torch.randn(96) if with_bias else None,
                [torch.randn(4, 64), torch.randn(3, 64)],
                [torch.randn(96, 4), torch.randn(96, 3)],
                [2.0, 0.5],
                [torch.tensor(0.5), torch.tensor(3.0)] if tensors else [],
                transposed,
            )
            torch.library.opcheck(torch.ops.fused_lora.linear.default, arguments)
            x, w, bias, a, b, scale, of_tensors, _ = arguments
            if tensors:
                scale = [one * t.item() for one, t in zip(scale, of_tensors, strict=True)]
            y = x @ (w if transposed else w.t()) + (0 if bias is None else bias)
            y = y + sum(s * x @ p.t() @ q.t() for p, q, s in zip(a, b, scale, strict=True))
            torch.testing.assert_close(
                torch.ops.fused_lora.linear(*arguments), y, rtol=1e-5, atol=1e-4, check_stride=False
            )
        with self.assertRaisesRegex(RuntimeError, "fused_lora.linear: shapes that do not fit"):
            torch.ops.fused_lora.linear(x[..., 1:].contiguous(), w, bias, a, b, scale, [], False)

    @of_whole_graphs
    def test_a_whole_graph(self):
        for kind in KINDS:
            with self.subTest(kind), torch.no_grad():
                torch._dynamo.reset()
                model = peft_model(kind, torch.float32)
                theirs = copy.deepcopy(model)
                fused_lora.patch(model)
                ids = torch.randint(0, 96, (2, 7))
                seen = []

                def look(graph, inputs, seen=seen):
                    seen.extend(str(node.target) for node in graph.graph.nodes)
                    return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

                compiled = torch.compile(model, backend=look, fullgraph=True)
                logits = compiled(input_ids=ids, use_cache=False).logits
                torch.testing.assert_close(logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)
                self.assertTrue(any("fused_lora.linear" in target for target in seen))

    @of_whole_graphs
    def test_inductor(self):
        torch._dynamo.reset()
        model, _ = one()
        theirs = copy.deepcopy(model)
        fused_lora.patch(model)
        x = torch.randn(3, 64)
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), theirs(x), rtol=1e-5, atol=1e-5)

    @of_whole_graphs
    def test_hotswaps_need_no_other_graph(self):
        torch._dynamo.reset()
        model = peft_model("llama", torch.float32)
        model.delete_adapter("b")
        prepare_model_for_compiled_hotswap(model, target_rank=8)
        theirs = copy.deepcopy(model)
        fused_lora.patch(model)
        counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        ids = torch.randint(0, 96, (2, 7))
        with torch.no_grad():
            compiled(input_ids=ids, use_cache=False)
            self.assertEqual(counter.frame_count, 1)
            for rank, alpha, seed in ((4, 16, 5), (8, 2, 6), (2, 6, 7)):
                for each in (model, theirs):
                    hotswap_adapter(each, saved("llama", rank, alpha, seed), "a", torch_device="cpu")
                logits = compiled(input_ids=ids, use_cache=False).logits
                torch.testing.assert_close(logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)
        self.assertEqual(counter.frame_count, 1)

    @of_whole_graphs
    def test_gradients_stay_with_peft(self):
        torch._dynamo.reset()
        model, lora = one()
        fused_lora.patch(model)
        lora.lora_A["default"].weight.requires_grad_(True)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        compiled(torch.randn(3, 64)).sum().backward()
        self.assertIsNotNone(lora.lora_A["default"].weight.grad)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""Writes case.safetensors, the case that crates/transformer/tests/pytorch.rs compares with.

A small layer of GPT-2 in PyTorch, f32 on weights and inputs that were rounded to f16, bare and with each kind of adapter, with every
intermediate tensor that fused_lora_transformer::Stage names. Run it with PyTorch (2.15 wrote the file that is checked in) and
safetensors:

    python tests/transformer/make_case.py

Tensors are f16 (inputs: x and weights) or f32 (what PyTorch computed). Names of weights: `base.*`, `adapter-h.*`, `adapter-l.*`,
`lora.*`, `lora-qv.*`; of results: `<method>/<stage>`.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

D, HEADS, MLP = 64, 4, 256
SEQUENCES, SEQ_LEN = 2, 24
RANK, SCALE = 6, 0.5
EPSILON = 1e-5

generator = torch.Generator().manual_seed(20)
weights: dict[str, torch.Tensor] = {}


def normal(name: str, *shape: int, mean: float = 0.0, deviation: float = 1.0) -> torch.Tensor:
    """A named tensor, rounded to f16, as f32."""
    value = (mean + deviation * torch.randn(*shape, generator=generator)).half()
    weights[name] = value
    return value.float()


class Norm:
    def __init__(self, name: str):
        self.gamma = normal(f"{name}.gamma", D, mean=1.0, deviation=0.3)
        self.beta = normal(f"{name}.beta", D, deviation=0.3)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (D,), self.gamma, self.beta, EPSILON)


class Linear:
    """Weights of a trained layer's effect rather than its scale: with N(0, 0.02²) at d = 64 everything would be x."""

    def __init__(self, name: str, n: int, k: int):
        self.weight = normal(f"{name}.weight", n, k, deviation=k**-0.5)
        self.bias = normal(f"{name}.bias", n, deviation=0.5)

    def __call__(self, x: torch.Tensor, lora: "Lora | None" = None) -> torch.Tensor:
        y = F.linear(x, self.weight, self.bias)
        return y if lora is None else y + lora(x)


class Lora:
    def __init__(self, name: str, n: int, k: int):
        self.a = normal(f"{name}.a", RANK, k, deviation=k**-0.5)
        self.b = normal(f"{name}.b", n, RANK, deviation=RANK**-0.5)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return SCALE * F.linear(F.linear(x, self.a), self.b)


class QueryValue:
    """LoRA on the first and the last third of the fused projection."""

    def __init__(self, name: str):
        self.query = Lora(f"{name}.query", D, D)
        self.value = Lora(f"{name}.value", D, D)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.query(x), torch.zeros_like(x), self.value(x)], dim=-1)


class Bottleneck:
    """Houlsby et al. 2019, without the skip."""

    def __init__(self, name: str):
        self.down = Linear(f"{name}.down", RANK, D)
        self.up = Linear(f"{name}.up", D, RANK)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(gelu(self.down(x)))


def gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")


def attention(qkv: torch.Tensor) -> torch.Tensor:
    q, k, v = (
        part.view(SEQUENCES, SEQ_LEN, HEADS, D // HEADS).transpose(1, 2) for part in qkv.split(D, dim=-1)
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(SEQUENCES * SEQ_LEN, D)


class Layer:
    def __init__(self):
        self.norm1 = Norm("base.norm1")
        self.qkv = Linear("base.qkv", 3 * D, D)
        self.proj = Linear("base.proj", D, D)
        self.norm2 = Norm("base.norm2")
        self.up = Linear("base.up", MLP, D)
        self.down = Linear("base.down", D, MLP)

    def __call__(self, x: torch.Tensor, loras: dict, after_attention=None, after_mlp=None, after_layer=None):
        stages = {}
        stages["norm1"] = self.norm1(x)
        stages["qkv"] = self.qkv(stages["norm1"], loras.get("qkv"))
        stages["attention"] = attention(stages["qkv"])
        z = self.proj(stages["attention"], loras.get("proj"))
        stages["middle"] = x + (z if after_attention is None else z + after_attention(z))
        stages["norm2"] = self.norm2(stages["middle"])
        stages["mlp"] = gelu(self.up(stages["norm2"], loras.get("up")))
        z = self.down(stages["mlp"], loras.get("down"))
        y = stages["middle"] + (z if after_mlp is None else z + after_mlp(z))
        stages["output"] = y if after_layer is None else y + after_layer(y)
        return stages


def main() -> None:
    x = normal("x", SEQUENCES * SEQ_LEN, D)
    layer = Layer()
    h = [Bottleneck(f"adapter-h.{place}") for place in ("attention", "mlp")]
    norm, bottleneck = Norm("adapter-l.norm"), Bottleneck("adapter-l")
    shapes = {"qkv": (3 * D, D), "proj": (D, D), "up": (MLP, D), "down": (D, MLP)}
    lora = {name: Lora(f"lora.{name}", *shape) for name, shape in shapes.items()}

    results = {
        "none": layer(x, {}),
        "adapter-h": layer(x, {}, after_attention=h[0], after_mlp=h[1]),
        "adapter-l": layer(x, {}, after_layer=lambda y: bottleneck(norm(y))),
        "lora": layer(x, lora),
        "lora-qv": layer(x, {"qkv": QueryValue("lora-qv")}),
    }
    tensors = dict(weights)
    for method, stages in results.items():
        tensors |= {f"{method}/{stage}": value.contiguous() for stage, value in stages.items()}
    metadata = {"torch": torch.__version__, "lora_scale": str(SCALE), "seq_len": str(SEQ_LEN), "heads": str(HEADS)}
    save_file(tensors, Path(__file__).with_name("case.safetensors"), metadata)


if __name__ == "__main__":
    with torch.no_grad():
        main()

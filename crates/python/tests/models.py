"""Small random models with adapters, in three copies: patched, PEFT's own, and PEFT's own in f64."""

import copy
import functools
import logging
import tempfile
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import fused_lora

warnings.simplefilter("ignore")
logging.getLogger("transformers").setLevel(logging.ERROR)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
VOCABULARY = 96
_SIZES = dict(
    hidden_size=64,
    intermediate_size=112,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=VOCABULARY,
)
KINDS = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**_SIZES)), ["q_proj", "o_proj", "up_proj", "down_proj"]),
    "qwen2": (lambda: Qwen2ForCausalLM(Qwen2Config(**_SIZES)), ["q_proj", "k_proj", "v_proj", "down_proj"]),
    "gpt2": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=64)),
        ["c_attn", "c_proj", "c_fc"],
    ),
}


def base(kind, dtype, seed=0):
    torch.manual_seed(seed)
    model = KINDS[kind][0]()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().to(dtype)


_saved = {}


def saved(kind, rank, alpha, seed):
    """The folder of an adapter with random A and B, as PEFT saves it."""
    key = (kind, rank, alpha, seed)
    if key not in _saved:
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=KINDS[kind][1], fan_in_fan_out=kind == "gpt2")
        model = get_peft_model(base(kind, torch.float32), config)
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        _saved[key] = tempfile.TemporaryDirectory()
        model.save_pretrained(_saved[key].name)
    return _saved[key].name


@functools.cache
def _peft_model(kind, dtype):
    model = PeftModel.from_pretrained(base(kind, dtype), saved(kind, 8, 16, 1), adapter_name="a")
    model.load_adapter(saved(kind, 3, 9, 2), "b")
    return model.eval()


def peft_model(kind, dtype):
    """With two adapters, `a` and `b`, of which `a` is active."""
    return copy.deepcopy(_peft_model(kind, dtype))


class Models:
    """The three copies, and the report of the patched one."""

    def __init__(self, kind, dtype):
        self.peft = peft_model(kind, dtype)
        self.exact = copy.deepcopy(self.peft).double()
        self.fused = copy.deepcopy(self.peft)
        self.report = fused_lora.patch(self.fused)
        torch.manual_seed(3)
        self.ids = torch.randint(0, VOCABULARY, (4, 9))

    def __iter__(self):
        return iter((self.fused, self.peft, self.exact))

    def do(self, change):
        """Calls `change` with each of the three."""
        for model in self:
            change(model)

    def errors(self, **kwargs):
        """Relative errors of the logits, ours and PEFT's, against f64."""
        with torch.no_grad():
            ours, theirs, exact = (model(self.ids, **kwargs).logits.double() for model in self)
        return [((logits - exact).norm() / exact.norm()).item() for logits in (ours, theirs)]

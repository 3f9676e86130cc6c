"""PyTorch as a child process of the benches, which computes when it is told to.

`FUSED_LORA_TORCH=<this interpreter> cargo bench --bench peers` starts it. It reads a request a line from stdin and
answers each with a line on stdout, `ok …` or `error …`; when stdin ends, so does it.

    (start)                             ok <SIMD level, or -> <methods, joined by commas> <versions>
    load <path>                         tensors of that safetensors file, beside those that there are         ok
    prepare <slots> <passes> <seq_len>  what was made ready is gone; what will be has so many slots          ok
    ready <method> <rank>               makes a method ready          ok, or ok and why it cannot be had
    call <method> <rank>                `passes` forward passes       ok <wall ns of a pass> <cpu ns, on a CPU>
    output <path>                       y of the last pass, each product's, into that safetensors file        ok

A method that needs an adapter, so that there is none at rank 0, has a + behind its name in the first answer. What is
not installed is left out of it, and named on stderr. README.md beside this file says what each method computes.

Calls of an element type take its slots in turn. Its ring is as long in bytes as one of x's own type would be.

Threads that wait for work sleep (the bench sets OMP_WAIT_POLICY and the like before PyTorch is loaded): one that spins
would slow down the calls of others, which come next.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

INSTALL = "pip install -r benches/peers/requirements-cpu.txt (benches/peers/README.md says more)"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options. Exits with 2 on a bad one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=("linears", "layer"), help="what is computed")
    parser.add_argument("--threads", type=int, required=True, help="PyTorch's threads on a CPU")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:<number>")
    parser.add_argument("--cache", choices=("cold", "warm-w"), default="cold", help="whether the weights rotate")
    parser.add_argument("--adapters", type=int, default=1, help="adapters that the rows of a batch have, in turn")
    parser.add_argument("--heads", type=int, default=16, help="heads of attention")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: that of the process)."""
    args = parse_args(argv)
    # Libraries print what they like to stdout, vLLM its log: that is no answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(text: str) -> None:
        print(text, file=answers, flush=True)

    packages = ("torch", "safetensors", "numpy")
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        answer(f"error {sys.executable} lacks {', '.join(missing)}: {INSTALL}")
        return 2
    import torch_worker

    workload = importlib.import_module(f"torch_{args.workload}")
    try:
        device = torch_worker.device(args.device, args.threads)
        worker = torch_worker.Worker(workload, device, args.cache, args.heads, args.adapters)
    except torch_worker.NoDevice as error:
        answer(f"error {error}")
        return 3
    answer(worker.greeting())
    worker.serve(sys.stdin, answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from pathlib import Path

import arguments
import elements
import libcuda
import manifest
import npy
import reports
from launch import Array, Launch

DESCRIPTION = """Runs an entry of a PTX file through libcuda's C interface, and prints or saves what it leaves.

The library is the simulated driver or a real one: `--libcuda`, or the variable FUSED_LORA_LIBCUDA, else libcuda.so.1. The
simulated one writes its report to standard error; the exit status is then 1, as for any other error of the driver."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "run-ptx",
        description=DESCRIPTION,
        epilog=arguments.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ptx", nargs="?", type=Path, metavar="FILE", help="a PTX file")
    parser.add_argument("--entry", help="the only one of the file if not given")
    parser.add_argument("--grid", default="1", metavar="X,Y,Z", help="CTAs")
    parser.add_argument("--block", default="32", metavar="X,Y,Z", help="threads of a CTA")
    parser.add_argument("--cluster", default="1", metavar="X,Y,Z", help="CTAs of a cluster")
    parser.add_argument("--shared", type=int, default=0, metavar="BYTES", help="dynamic shared memory")
    parser.add_argument("--arg", action="append", default=[], metavar="ARG", help="a parameter, see below")
    parser.add_argument("--array", action="append", default=[], metavar="NAME=ARRAY", help="an array, see below")
    parser.add_argument("--manifest", nargs=2, metavar=("JSON", "NAME"), help="a kernel of a manifest instead of all that")
    parser.add_argument("--libcuda", metavar="LIBRARY")
    parser.add_argument("--allow", metavar="NAMES", help="what the simulated driver does not report; FUSED_LORA_SIMT_ALLOW in its docs")
    parser.add_argument("--runs", type=int, default=1, help="how often; the simulated driver takes another schedule for each")
    parser.add_argument("--seed", type=int, default=0, help="of random arrays")
    parser.add_argument("--save", type=Path, metavar="DIR", help="writes all arrays as NAME.npy; bf16 as u16")
    parser.add_argument("--raw", action="store_true", help="with --save: the bytes alone, as NAME.bin")
    return parser


def launch_of(options: argparse.Namespace) -> tuple[Path, Launch]:
    """The PTX file, and the launch."""
    if options.manifest:
        return manifest.read(Path(options.manifest[0]), options.manifest[1])
    if options.ptx is None:
        raise ValueError("no PTX file")
    dims = (arguments.dims(text) for text in (options.grid, options.block, options.cluster))
    launch = Launch(options.entry, *dims, options.shared)
    for text in options.array:
        arguments.add_array(launch, text)
    for text in options.arg:
        arguments.add_parameter(launch, text)
    return options.ptx, launch


def only_entry(ptx: str) -> str:
    """The entry of a text with one."""
    entries = re.findall(r"^[^/\n]*\.entry\s+([\w$%]+)", ptx, re.M)
    if len(entries) != 1:
        raise ValueError(f"--entry is one of {', '.join(entries)}" if entries else "there is no entry")
    return entries[0]


def summary(name: str, array: Array, data: bytes) -> str:
    """A line about an output."""
    values = elements.unpack(array.type, data)
    some = ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
    finite = [value for value in values if math.isfinite(value)]
    bounds = f"{min(finite):g} to {max(finite):g}" if finite else "nothing finite"
    if len(finite) < len(values):
        bounds += f", {len(values) - len(finite)} not finite"
    shape = "x".join(map(str, array.shape))
    return f"{name}: {array.type} {shape}, {bounds}: {some}"


def save(folder: Path, name: str, array: Array, data: bytes, raw: bool) -> None:
    """Writes an array."""
    folder.mkdir(parents=True, exist_ok=True)
    if raw:
        (folder / f"{name}.bin").write_bytes(data)
    else:
        (folder / f"{name}.npy").write_bytes(npy.render(elements.DTYPES[array.type], array.shape, data))


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        path, launch = launch_of(options)
        launch.check()
        ptx = path.read_text()
        launch.entry = launch.entry or only_entry(ptx)
        contents = {name: array.content(f"{options.seed} {name}") for name, array in launch.arrays.items()}
    except (OSError, ValueError, KeyError) as error:
        print(f"run-ptx: {error}", file=sys.stderr)
        return 2
    libcuda.set_defaults(ptx)
    if options.allow:
        os.environ["FUSED_LORA_SIMT_ALLOW"] = options.allow
    library = options.libcuda or os.environ.get("FUSED_LORA_LIBCUDA") or "libcuda.so.1"
    try:
        with reports.explained(path, ptx):
            module = libcuda.Module(library, ptx)
            for _ in range(options.runs):
                outputs = module.run(launch, contents)
    except (OSError, libcuda.CudaError) as error:
        print(f"run-ptx: {error}", file=sys.stderr)
        return 1
    for name, array in launch.arrays.items():
        data = outputs.get(name, contents[name])
        if array.is_output:
            print(summary(name, array, data))
        if options.save is not None and data is not None:
            save(options.save, name, array, data, options.raw)
    return 0

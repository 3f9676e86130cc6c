"""Compiles the kernels of `catalog.py`, has ptxas check them, and writes ptx/, manifest.json and opcodes.txt."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import catalog
import cute_compiler
import negatives
import opcode_list
import ptx_text
import triton_compiler
from launch import Kernel

HERE = Path(__file__).parent
# What the manifest says of parameters, and the bytes of each.
BYTES = {"pointer": 8, "map": 128, "i32": 4, "f32": 4, "i64": 8, "u8": 1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="kernels whose names contain it; all without")
    parser.add_argument("--check", action="store_true", help="compile again and compare with what is here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        make(made, arguments.names)
        if arguments.check:
            return compare(made, is_whole=not arguments.names)
        keep(made, is_whole=not arguments.names)
    return 0


def make(folder: Path, names: list[str]) -> None:
    """Everything, into a folder."""
    (folder / "ptx").mkdir()
    entries = []
    for kernel in catalog.kernels():
        if names and not any(name in kernel.name for name in names):
            continue
        text, launch = compiler_of(kernel).compile(kernel)
        text = head(kernel) + ptx_text.clean(text)
        entry = described(kernel, text, launch)
        assemble(kernel, text)
        for negative in entry["negatives"]:
            for change in negative.get("replace", []):
                assemble(kernel, text.replace(change["pattern"], change["with"]))
        (folder / "ptx" / f"{kernel.name}.ptx").write_text(text)
        entries.append(entry)
        print(f"{kernel.name}: {len(ptx_text.statements(text))} instructions, {len(entry['negatives'])} negatives")
    (folder / "manifest.json").write_text(manifest(entries))
    if not names:
        (folder / "opcodes.txt").write_text(opcode_list.table(folder / "ptx"))


def compiler_of(kernel: Kernel) -> Any:
    return cute_compiler if kernel.language == "cute" else triton_compiler


def head(kernel: Kernel) -> str:
    """What the file is."""
    constants = ", ".join(f"{name} = {value}" for name, value in kernel.constants.items() if name != "layout")
    options = f"; {kernel.warps} warps, {kernel.stages} stages, {kernel.ctas} CTAs of a cluster"
    lines = [
        f"Compiler: {compiler_of(kernel).name()}",
        f"Kernel: {kernel.function.__module__}.{kernel.function.__name__}",
        f"Target: sm_{kernel.target}{'a' if kernel.target >= 90 else ''}",
        f"Constants: {constants}{'' if kernel.language == 'cute' else options}",
    ]
    return "".join(f"// {line}\n" for line in lines)


def described(kernel: Kernel, text: str, launch: dict[str, Any]) -> dict[str, Any]:
    """The entry of the manifest."""
    sizes = [BYTES[one["type"] if one["kind"] == "scalar" else one["kind"]] for one in launch["parameters"]]
    assert sizes == ptx_text.parameters(text), (kernel.name, sizes, ptx_text.parameters(text))
    assert launch["threads"] == ptx_text.threads(text), kernel.name
    return {
        "name": kernel.name,
        "entry": ptx_text.entry(text),
        "target": f"sm_{kernel.target}{'a' if kernel.target >= 90 else ''}",
        **launch,
        "arrays": {
            name: {"shape": list(array.shape), "type": array.type, "fill": array.fill}
            for name, array in kernel.arrays.items()
        },
        "expect": {**kernel.expect, "tolerance": list(kernel.tolerance)},
        "negatives": negatives.negatives(text, launch["parameters"]),
    }


def manifest(entries: list[dict[str, Any]]) -> str:
    """JSON with a line for each field of a kernel, and for each part of a list or table in it."""
    kernels = ",\n".join(layout(entry) for entry in entries)
    return f'{{"kernels": [\n{kernels}\n]}}\n'


def layout(value: Any, depth: int = 1) -> str:
    pad = "  " * depth
    if depth < 3 and isinstance(value, dict) and value:
        parts = {key: layout(one, depth + 1).lstrip() for key, one in value.items()}
        fields = ",\n".join(f"{pad}  {json.dumps(key)}: {part}" for key, part in parts.items())
        return f"{pad}{{\n{fields}\n{pad}}}"
    if depth < 3 and isinstance(value, list) and value and isinstance(value[0], dict):
        items = ",\n".join(f"{pad}  {json.dumps(one)}" for one in value)
        return f"{pad}[\n{items}\n{pad}]"
    return pad + json.dumps(value)


def assemble(kernel: Kernel, text: str) -> None:
    """Fails unless ptxas takes a text."""
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(text)
        file.flush()
        target = f"sm_{kernel.target}{'a' if kernel.target >= 90 else ''}"
        command = [triton_compiler.ptxas(kernel.target), f"--gpu-name={target}", file.name, "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{kernel.name}: {done.stderr}")


def files(folder: Path) -> set[str]:
    """What is made, by path."""
    made = (*folder.glob("ptx/*.ptx"), *folder.glob("manifest.json"), *folder.glob("opcodes.txt"))
    return {str(path.relative_to(folder)) for path in made}


def compare(made: Path, is_whole: bool) -> int:
    """Says which files differ."""
    names = {name for name in files(made) if is_whole or name.endswith(".ptx")}
    differ = sorted(name for name in names if not is_same(made / name, HERE / name))
    if is_whole:
        differ += sorted(files(HERE) - names)
    for name in differ:
        print(f"differs: {name}")
    print(f"{len(names) - len(differ)} files as checked in, {len(differ)} not")
    return 1 if differ else 0


def is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def keep(made: Path, is_whole: bool) -> None:
    """Replaces what is here by what was made; with names, those kernels' PTX alone."""
    if is_whole:
        shutil.rmtree(HERE / "ptx", ignore_errors=True)
        shutil.copy(made / "manifest.json", HERE)
        shutil.copy(made / "opcodes.txt", HERE)
    shutil.copytree(made / "ptx", HERE / "ptx", dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())

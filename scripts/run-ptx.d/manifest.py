"""Launches of a manifest, such as `tests/foreign/manifest.json`; the README beside it says what stands there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launch import Array, Launch, Parameter, Pointer, Scalar, TensorMap


def read(path: Path, name: str) -> tuple[Path, Launch]:
    """The PTX file of a kernel, and its launch."""
    kernels = {kernel["name"]: kernel for kernel in json.loads(path.read_text())["kernels"]}
    if name not in kernels:
        raise ValueError(f"{path} has no kernel {name}; it has {', '.join(kernels)}")
    kernel = kernels[name]
    output = kernel["expect"]["output"]
    launch = Launch(
        kernel["entry"],
        tuple(kernel["grid"]),
        (kernel["threads"], 1, 1),
        tuple(kernel["cluster"]),
        kernel["shared"],
        {name: array(name == output, given) for name, given in kernel["arrays"].items()},
        [parameter(given) for given in kernel["parameters"]],
    )
    return path.parent / "ptx" / f"{name}.ptx", launch


def array(is_output: bool, given: dict[str, Any]) -> Array:
    """An array; one of NaNs stays as nobody wrote it, which is stricter."""
    ((how, value),) = given["fill"].items()
    fill = {
        "integers": lambda: f"integers={value[0]},{value[1]}",
        "uniform": lambda: f"random={value[0]},{value[1]}",
        "constant": lambda: "unwritten" if value == "nan" else str(value),
        "values": lambda: f"values={','.join(map(str, value))}",
    }[how]()
    return Array(given["type"], tuple(given["shape"]), is_output, fill)


def parameter(given: dict[str, Any]) -> Parameter:
    """A parameter."""
    if given["kind"] == "pointer":
        return Pointer(given["array"])
    if given["kind"] == "scalar":
        return Scalar(given["type"], given["value"])
    if (given["interleave"], given["out_of_bounds"]) != ("none", "zero"):
        raise ValueError(f"a map of {given['array']} with an interleave, or a fill of NaN")
    lists = [tuple(given[key]) for key in ("dims", "strides", "box", "element_strides")]
    return TensorMap(given["array"], given["type"], *lists, given["swizzle"])

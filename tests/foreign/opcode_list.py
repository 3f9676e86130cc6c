"""The forms of instructions in all PTX files, with counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ptx_text


def table(folder: Path) -> str:
    """One form a line: how often, and in how many files."""
    counts: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for path in sorted(folder.glob("*.ptx")):
        found = ptx_text.forms(path.read_text())
        counts += found
        modules.update(found.keys())
    lines = [f"{counts[name]:7} {modules[name]:4}   {name}" for name in sorted(counts)]
    total = f"{sum(counts.values())} instructions in {len(list(folder.glob('*.ptx')))} files, {len(counts)} forms"
    return "\n".join([f"# {total}", "#  count files", *lines]) + "\n"

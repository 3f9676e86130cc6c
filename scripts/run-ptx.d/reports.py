"""What the simulated driver writes to standard error, with the lines of PTX that it names."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# The driver numbers the texts that it has loaded; the first one is 0.
PLACE = re.compile(r"\bPTX 0:(\d+)(?::0\b)?")


def explain(report: str, path: Path, ptx: str) -> str:
    """A report that names the file, with the text of each line that it names."""
    lines = ptx.splitlines()
    numbers = {int(number) for number in PLACE.findall(report)}
    known = sorted(number for number in numbers if 1 <= number <= len(lines))
    quoted = "".join(f"  {path.name}:{number}: {lines[number - 1].strip()}\n" for number in known)
    return PLACE.sub(lambda place: f"{path.name}:{place[1]}", report) + quoted


@contextlib.contextmanager
def explained(path: Path, ptx: str) -> Iterator[None]:
    """Standard error of the whole process, libcuda's too, goes through `explain` when the block ends."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            sys.stderr.write(explain(file.read().decode(errors="replace"), path, ptx))
            sys.stderr.flush()

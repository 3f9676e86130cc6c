"""PTX as it is checked in: instructions and directives, one line each, without comments and debug information."""

from __future__ import annotations

import re
from collections import Counter

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
SECTION = re.compile(r"^\s*\.section\s[^{]*\{.*?^\s*\}", re.S | re.M)
GUARD = re.compile(r"^@!?[%\w$]+\s+")
LABEL = re.compile(r"^[$%\w]+:\s*")


def clean(text: str) -> str:
    """Drops comments, `.file`, `.loc`, debug sections and empty lines; a blank between words."""
    text = SECTION.sub("", COMMENT.sub("", text))
    lines = []
    depth = 0
    for line in text.split("\n"):
        line = " ".join(line.split())
        if not line or re.match(r"\.(file|loc)\b", line):
            continue
        line = re.sub(r"^(\.target \w+), debug$", r"\1", line)
        depth -= line.count("}") if line.startswith("}") else 0
        lines.append(f"{'    ' * depth}{line}")
        if line.endswith("{"):
            depth += 1
    return "\n".join(lines) + "\n"


def statements(text: str) -> list[str]:
    """The instructions, without guards and labels."""
    found = []
    for piece in re.split(r";|\n", COMMENT.sub("", text)):
        piece = LABEL.sub("", piece.strip().lstrip("{").strip())
        piece = GUARD.sub("", LABEL.sub("", piece))
        if re.match(r"[a-z]", piece):
            found.append(piece)
    return found


def forms(text: str) -> Counter[str]:
    """How often each form of an instruction occurs."""
    return Counter(form(statement) for statement in statements(text))


def form(statement: str) -> str:
    """The opcode, and what its operands say besides where one opcode has several forms."""
    opcode, _, rest = statement.partition(" ")
    operands = re.findall(r"\{[^}]*\}|\[[^]]*\]|[^\s,]+", rest)
    if opcode.startswith("wgmma.mma_async"):
        is_in_registers = operands[1].startswith("{")
        # Numbers of other than 16 bits have no flags: they are K-major.
        flags = operands[6:] or ["0"] * (1 if is_in_registers else 2)
        *majors, major_b = ("MN-major" if flag == "1" else "K-major" for flag in flags)
        source = "registers" if is_in_registers else f"shared, {majors[0]}"
        return f"{opcode} (A {source}; B {major_b}; scale-d {kind(operands[3])})"
    if opcode.startswith(("mbarrier.", "bar.sync", "barrier.sync", "mov.b64", "mov.b32", "cp.async.c")):
        return f"{opcode} ({', '.join(kind(operand) for operand in operands)})"
    return opcode


def kind(operand: str) -> str:
    """What an operand is."""
    names = ((r"\{", "vector"), (r"\[", "address"), (r"%p|\w*[Cc]omplete|P1|p$", "predicate"), (r"%", "register"))
    for pattern, name in (*names, (r"_$", "_"), (r"-?[0-9]", "number")):
        if re.match(pattern, operand):
            return name
    return "name"


def parameters(text: str) -> list[int]:
    """The bytes of each parameter of the entry."""
    listed = re.search(r"\.entry\s+[\w$]+\s*\((.*?)\)\s*(?=[.{])", text, re.S)
    assert listed, "no entry"
    sizes = {"8": 1, "16": 2, "32": 4, "64": 8}
    found = []
    for parameter in listed[1].split(","):
        bits = re.search(r"\.[busf](\d+)\b", parameter)
        count = re.search(r"\[(\d+)\]", parameter)
        if bits:
            found.append(sizes[bits[1]] * (int(count[1]) if count else 1))
    return found


def entry(text: str) -> str:
    """The name of the one entry."""
    (name,) = re.findall(r"\.entry\s+([\w$]+)", text)
    return name


def threads(text: str) -> int:
    """What `.reqntid` says."""
    x, y, z = (re.search(r"\.reqntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?", text) or [None] * 4).groups()
    return int(x) * int(y or 1) * int(z or 1)

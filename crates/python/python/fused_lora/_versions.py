"""The versions of torch and peft that are needed."""

from importlib import metadata

NEEDED = {"torch": (2, 4), "peft": (0, 14)}


def check():
    """Raises ImportError, naming the versions, unless torch and peft are there and new enough."""
    for name, needed in NEEDED.items():
        wanted = f"fused_lora needs {name} {'.'.join(map(str, needed))} or later"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ImportError(f"{wanted}, which is not installed") from None
        parts = found.split("+")[0].split(".")
        if tuple(int(part) for part in parts[:2]) < needed:
            raise ImportError(f"{wanted}; {found} is installed")

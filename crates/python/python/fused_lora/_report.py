"""What runs fused, and what stayed on PEFT's forward."""

from collections import Counter

from . import _native


class Record:
    """The calls of one layer so far, and what lets the next ones skip the checks: a plan, or None, or False where
    there can be none."""

    __slots__ = ("checked", "peft", "layer", "plan")

    def __init__(self, layer):
        self.layer = layer
        self.checked = 0
        self.peft = Counter()
        self.plan = None

    @property
    def fused(self):
        """Fused calls, checked or by a plan."""
        return self.checked + (self.plan.calls if self.plan else 0)

    def replace(self, plan):
        """Sets the next plan."""
        self.checked = self.fused
        self.plan = plan or False


class Report:
    """The LoRA layers of a model at the time of `patch`, with their calls until now.

    `fused` lists the layers that run fused where nothing is in the way; `skipped` has the reason why each of
    the others never does.
    """

    def __init__(self, records, skipped):
        self._records = records
        self.skipped = skipped

    @property
    def fused(self):
        """Names of the layers that were patched."""
        return list(self._records)

    @property
    def calls(self):
        """For each patched layer: `fused`, and a Counter of the reasons for calls of PEFT's forward."""
        return {name: {"fused": one.fused, "peft": Counter(one.peft)} for name, one in self._records.items()}

    @property
    def fused_calls(self):
        """Calls that ran fused, of all layers. Calls inside torch.compile are not counted."""
        return sum(record.fused for record in self._records.values())

    @property
    def peft_calls(self):
        """Calls of PEFT's forward by patched layers."""
        return self.reasons.total()

    @property
    def reasons(self):
        """Why patched layers called PEFT's forward, and how often."""
        return sum((record.peft for record in self._records.values()), Counter())

    @property
    def threads(self):
        """Whose threads compute."""
        return _native.threads_name()

    def __str__(self):
        layers = len(self._records) + len(self.skipped)
        lines = [f"{len(self._records)} of {layers} LoRA layers are patched, on {self.threads}"]
        lines.append(f"calls: {self.fused_calls} fused, {self.peft_calls} of PEFT's forward")
        lines += [f"  {count} × {reason}" for reason, count in self.reasons.most_common()]
        for name, record in self._records.items():
            why = "".join(f", {count} × {reason}" for reason, count in record.peft.items())
            lines.append(f"fused  {name}: {record.fused} fused{why}")
        lines += [f"PEFT   {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)

    __repr__ = __str__

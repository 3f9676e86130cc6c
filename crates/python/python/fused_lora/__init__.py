"""Un-merged LoRA adapters of PEFT on a CPU, in one pass over x and y.

    report = fused_lora.patch(model)    # a model with PEFT's LoRA layers
    print(report)                       # what runs fused, what stays on PEFT's forward, and why
    fused_lora.unpatch(model)

torch and peft are imported when `patch` is called, not with this package.
"""

from ._native import __version__

__all__ = ["__version__", "patch", "refresh", "unpatch"]


def patch(model):
    """Lets the LoRA layers of `model` run fused where that gives PEFT's numbers, and returns a `Report`.

    Layers that were patched before stay so; call it again after adding adapters to other modules. Raises
    ImportError for a torch or peft that is missing or too old, TypeError if `model` is no module, and
    ValueError if it has no LoRA layer of PEFT's.
    """
    from ._versions import check

    check()
    from . import _model

    return _model.patch(model)


def unpatch(model):
    """Gives the layers of `model` back to PEFT, and frees the packed weights."""
    from . import _model

    _model.unpatch(model)


def refresh(model):
    """Packs every base weight of `model` again at its next use.

    Needed after a change to a few elements of a base weight through `.data`, numpy or its storage. All other
    changes are seen without it, those to adapters by whatever way.
    """
    from . import _model

    _model.refresh(model)

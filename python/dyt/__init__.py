"""Fused forward and backward kernels for DyT, Derf, LayerNorm and RMSNorm.

`dyt.torch`, `dyt.jax`, `dyt.numpy` and `dyt.layers` are imported when they are first named; this module needs none of their frameworks.
"""

import importlib
from typing import NamedTuple

from . import _dyt

__version__: str = _dyt.__version__
__all__ = ["Device", "__version__", "devices", "set_threads"]

_SUBMODULES = ("jax", "layers", "numpy", "torch")


class Device(NamedTuple):
    """A device that could be meant, and whether it is there."""

    name: str
    #: What it is, or why it is absent.
    description: str
    available: bool


def devices() -> list[Device]:
    """Every device of this machine that the kernels could run on, and why some are absent.

    Opens every GPU for that, and closes it again: it takes time, and memory of each GPU while it lasts.
    """
    return [Device(*device) for device in _dyt.devices()]


def set_threads(n: int) -> None:
    """Limits the threads of each call on the CPU, the calling thread included.

    0, the default, takes the limit away: `dyt.torch` then follows `torch.get_num_threads()`, the others take as many as
    there are processors. Results are the same bits for any number.
    """
    _dyt.set_threads(n)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])

"""posjax: how much absolute position a convolutional network encodes, and where it comes from."""

import importlib
from types import ModuleType

__version__ = "0.1.0"
ROOMS = (
    *("layers", "runtime", "images", "encoders", "features", "probes", "fitting", "results"),
    *("report", "runs", "ppp", "training"),
)


def __getattr__(name: str) -> ModuleType:
    """Imports a room when it is first used: `posjax.encoders` and so on."""
    if name in ROOMS:
        return importlib.import_module(f"posjax.{name}")
    raise AttributeError(f"module 'posjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *ROOMS]

"""posjax: how much absolute position a convolutional network encodes, and where it comes from."""

import importlib
from typing import Any

__version__ = "0.1.0"
ROOMS = (
    *(
        "layers",
        "runtime",
        "transforms",
        "images",
        "encoders",
        "features",
        "probes",
        "fitting",
        "results",
    ),
    *("report", "runs", "ppp", "training"),
)


# Functions that stand in `posjax` itself, by their module.
FUNCTIONS = {
    **dict.fromkeys(("repad", "padded_layers", "layers_of"), "posjax.transforms"),
    "compare": "posjax.runs",
}


def __getattr__(name: str) -> Any:
    """Imports a room or function when it is first used: `posjax.encoders` and so on."""
    if name in ROOMS:
        return importlib.import_module(f"posjax.{name}")
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    raise AttributeError(f"module 'posjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *ROOMS, *FUNCTIONS]

"""`compare`: padding modes of one encoder, from Python and in a notebook."""

import contextlib
import dataclasses
import tempfile
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax.encoders import Encoder, Padding, Wrapped, find_network, read_weights
from posjax.images import Arrays, InMemory
from posjax.runs.comparison import Results
from posjax.runs.conditions import controls_that_apply, default_paddings
from posjax.runs.run import carry_out
from posjax.runs.settings import Settings

Images = str | Path | Arrays


def compare(
    encoder: str | Encoder,
    images: Images = "dead_leaves",
    test_images: Images | Mapping[str, Images] = "dead_leaves",
    *,
    paddings: str | Padding | Sequence[str | Padding] | None = None,
    maps: str | Sequence[str] = ("H", "V", "G"),
    **settings: Any,
) -> Results:
    """Trains readouts on an encoder under each padding mode, and scores them with controls.

    It prints the plan, and shows progress while it works.

    Args:
        encoder: an `Encoder`, whose own padding does not count; or a name, with `weights`.
        images: the training images: a folder, `tfds:NAME[:SPLIT]`, a generator such as
            `dead_leaves`, an array [n, h, w, 3], or any sequence of arrays [h, w, 3], uint8 or
            floats in [0, 1].
        test_images: the same, or a dict of several sets; its names are those of arrays.
        paddings: modes, or texts such as `zeros+stem=reflect`; by default zeros, reflect,
            replicate, circular, and valid where the encoder can have it.
        maps: position maps, of `posjax.probes.MAPS`.
        settings: other fields of `posjax.runs.Settings`, such as `controls` (by default all that
            apply), `seeds=(0, 1)`, `num_train`, `image_size`, `epochs` or `solver`. In a `workdir`
            a run that was cut off goes on.

    Raises:
        ValueError, FileNotFoundError: arguments, images or weights that do not fit together; names
            the argument.
        TypeError: `settings` names no setting.
    """
    about = _about(encoder)
    tests = test_images if isinstance(test_images, Mapping) else {"test images": test_images}
    chosen = default_paddings(about["encoder"]) if paddings is None else paddings
    values = {
        **about,
        "paddings": _setting("paddings", chosen),
        "maps": _setting("maps", maps),
        "images": _named("training images", images),
        "test_images": tuple(_named(name, spec) for name, spec in tests.items()),
        **{name: _setting(name, value) for name, value in settings.items()},
    }
    values.setdefault("controls", controls_that_apply(values))
    with _workdir(values.pop("workdir", None)) as workdir:
        whole = Settings(workdir=workdir, **values)
        if isinstance(encoder, Encoder) and encoder.padding is not None:
            _check_weights(encoder)
        return carry_out(whole, print)


def _about(encoder: str | Encoder) -> dict[str, Any]:
    """What an encoder says of the settings."""
    if isinstance(encoder, str):
        return {"encoder": (find_network(encoder),)}
    settings = {"normalize": encoder.normalize, "pool_padding": encoder.pool_padding}
    if isinstance(encoder.network, Wrapped):
        network = encoder.network.clone(padding=Padding("zeros"), pool_padding=None)
        return settings | {"encoder": (network,)}
    settings |= {"encoder": (encoder.name,), "dtype": encoder.dtype}
    if encoder.padding is not None:
        settings["weights"] = (encoder.weights,)
    if encoder.seed is not None:
        settings["seeds"] = (encoder.seed,)
    return settings


def _check_weights(encoder: Encoder) -> None:
    """The run reads or draws the weights again: an encoder with others would not be measured."""
    assert encoder.padding is not None  # pixels are left out
    network, seed = encoder.network, encoder.seed or 0
    if isinstance(network, Wrapped):
        expected = network.variables
    else:
        expected = read_weights(encoder.name, encoder.weights, encoder.padding, seed).variables
    trees = (encoder.variables, expected)
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, trees)
    if structure != other_structure or not all(map(np.array_equal, leaves, others)):
        raise ValueError(
            f"encoder: its weights are not those of {encoder.weights}: make it by "
            "posjax.encoders.frozen or posjax.encoders.wrap"
        )


def _named(name: str, images: Images) -> str | InMemory:
    return str(images) if isinstance(images, str | Path) else InMemory(images, name)


def _setting(name: str, value: Any) -> Any:
    """A value as settings take it: a tuple for an axis of the grid."""
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    if name not in fields:
        raise TypeError(f"{name} is no setting; there are {', '.join(sorted(fields))}")
    if typing.get_origin(fields[name].type) is not tuple:
        return value
    return (value,) if isinstance(value, str | int | Padding) else tuple(value)


@contextlib.contextmanager
def _workdir(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="posjax-") as made:
        yield Path(made)

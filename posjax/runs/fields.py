"""Settings as dataclass fields: one definition gives flag, default, help and check."""

import dataclasses
import json
import math
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NOT_GIVEN = object()
# A `Path` has one of the two slashes.
_ADDRESS = re.compile(r"[a-zA-Z][\w+.-]+:/+")
# Words that stand for something else than a file or folder of that name.
_WORDS = ("black", "cifar10", "dead_leaves", "imagenet", "noise", "random", "white")

MANUAL_DIR: dict[str, Any] = {
    "help": "Folder of archives downloaded by hand for tfds: datasets, such as DUTS-TR.zip.",
    "result": False,
    "default_text": "downloads/manual under TFDS_DATA_DIR",
}
"""The arguments of `setting` for the field `manual_dir` of every program that reads datasets."""

SKIP_BAD_IMAGES: dict[str, Any] = {
    "help": "Leave out and list images that cannot be read, and masks that do not fit theirs.",
}
"""The arguments of `setting` for the field `skip_bad_images` of every program that reads images."""

DEVICES: dict[str, Any] = {
    "help": "Number of local devices, 0 for all; on a CPU, of virtual devices.",
    "at_least": 0,
    # No host has as many accelerators. Each virtual device of a CPU keeps threads and variables of
    # its own, and all wait for each other in every step.
    "below": 257,
    "result": False,
}
"""The arguments of `setting` for the field `devices` of every program."""


def plain_path(text: str) -> str:
    """The same file or folder under one name: `photos` for `photos/`, `./photos` and `.//photos`.

    What is no path stays as it is, and so does `./noise`: `noise` alone is a generator.
    """
    if not text or text.startswith("tfds:"):
        return text
    plain = str(Path(text).expanduser())
    return text if plain in _WORDS else plain


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    demo: Any = NOT_GIVEN,
    choices: Sequence[str] = (),
    **metadata: Any,
) -> Any:
    """A dataclass field of a settings class.

    Args:
        default: the value of the paper's recipe; none where the field is required.
        help: the text of the flag, with the unit; empty where there is no flag.
        demo: the value in the demonstration, where it is another one.
        choices: the known values.
        metadata: `at_least=`, `above=` and `below=`, bounds; `parse=`, a function of each value;
            `needs_values=False` for a tuple that may be empty; `repeated=True`, a flag that may be
            given several times in place of a comma list; `default_text=`, the default in words;
            `result=False` where the field does not determine the results; `is_path=False` for a
            text that may look like an address.
    """
    about = {"help": help, "demo": demo, "choices": tuple(choices), **metadata}
    return dataclasses.field(default=default, metadata=about)


def check_fields(settings: Any) -> None:
    """Parses and checks every field of a settings object, in its `__post_init__`.

    Paths become absolute.

    Raises:
        ValueError: a value is unknown, out of range, or an address such as gs://BUCKET; the message
            begins with the field's name.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None or "help" not in field.metadata:
            continue
        is_axis = typing.get_origin(field.type) is tuple
        parsed = _parsed_axis(field, value) if is_axis else _parsed(field, value)
        object.__setattr__(settings, field.name, parsed)


def _parsed_axis(field: dataclasses.Field, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, tuple):
        raise ValueError(f"{field.name} needs a tuple of values, found {values!r}")
    parsed = tuple(_parsed(field, value) for value in values)
    is_empty = not values and field.metadata.get("needs_values", True)
    if is_empty or len(set(parsed)) < len(parsed):
        shown = ", ".join(map(str, values))
        raise ValueError(f"{field.name} needs one or more different values, found ({shown})")
    return parsed


def _parsed(field: dataclasses.Field, value: Any) -> Any:
    name, about = field.name, field.metadata
    is_path = about.get("is_path", True)
    if is_path and isinstance(value, str | Path) and (scheme := _ADDRESS.match(str(value))):
        address = f"{scheme[0].rstrip('/')}//{str(value)[scheme.end() :]}"
        raise ValueError(
            f"{name}: {address} is an address, expected a file or folder of this machine: copy it, "
            "or mount it and name the folder"
        )
    if isinstance(value, Path):
        return value.expanduser().absolute()
    if parse := about.get("parse"):
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    choices = about["choices"]
    least, above, below = (about.get(bound) for bound in ("at_least", "above", "below"))
    if choices and value not in choices:
        raise ValueError(f"{name}: {value!r} is unknown; expected one of {', '.join(choices)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, found {value}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be {least:g} or more, found {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be above {above:g}, found {value}")
    if below is not None and value >= below:
        raise ValueError(f"{name} must be below {below:g}, found {value}")
    return value


def result_fields(settings: Any, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """The fields that determine results, as a JSON file has them: lists, and texts for paddings."""
    values = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.metadata.get("result", True) and field.name not in left_out
    }
    return json.loads(json.dumps(values, default=str))

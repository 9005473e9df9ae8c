"""Settings as dataclass fields: one definition gives flag, default, help and check."""

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NOT_GIVEN = object()

MANUAL_DIR: dict[str, Any] = {
    "help": "Folder of archives that were downloaded by hand for tfds: datasets, such as "
    "DUTS-TR.zip.",
    "result": False,
    "default_text": "downloads/manual under TFDS_DATA_DIR",
}
"""What every program that reads datasets says of its field `manual_dir`, see `setting`."""

DEVICES: dict[str, Any] = {
    "help": "Number of local devices to use, 0 for all; on a CPU, so many virtual devices are "
    "made.",
    "at_least": 0,
    "result": False,
}
"""What every program that computes on several devices says of its field `devices`."""


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    demo: Any = NOT_GIVEN,
    choices: Sequence[str] = (),
    at_least: int | float | None = None,
    **metadata: Any,
) -> Any:
    """A dataclass field of a settings class.

    Args:
        default: the value of the paper's recipe; none where the field is required.
        help: what the flag says of itself, with the unit; empty where there is no flag.
        demo: the value in the demonstration, where it has another one.
        choices: the values that are known.
        at_least: the least value. `above=` is a bound that is excluded, `below=` likewise.
        metadata: `parse=`, a function of each value; `repeated=True`, a flag that may be given
            several times in place of a comma list; `default_text=`, the default in words; and
            `result=False` where the field does not determine the results.
    """
    about = {
        "help": help,
        "demo": demo,
        "choices": tuple(choices),
        "at_least": at_least,
        **metadata,
    }
    return dataclasses.field(default=default, metadata=about)


def check_fields(settings: Any) -> None:
    """Parses and checks every field of a settings object, in its `__post_init__`.

    Raises:
        ValueError: a value is unknown or out of range; the message begins with the field's name.
    """
    for field in dataclasses.fields(settings):
        value, about = getattr(settings, field.name), field.metadata
        if value is None or "help" not in about:
            continue
        if typing.get_origin(field.type) is tuple and not isinstance(value, tuple):
            raise ValueError(f"{field.name} needs a tuple of values, found {value!r}")
        several = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) and about.get("needs_values", True):
            check_axis(field.name, value)
        if parse := about.get("parse"):
            several = tuple(_parsed(field.name, parse, one) for one in several)
            parsed = several if isinstance(value, tuple) else several[0]
            object.__setattr__(settings, field.name, parsed)
        if about["choices"]:
            check_known(field.name, several, about["choices"])
        for one in several:
            _check_range(field.name, one, about)


def _parsed(name: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _check_range(name: str, value: Any, about: Mapping[str, Any]) -> None:
    least, above, below = (about.get(key) for key in ("at_least", "above", "below"))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, found {value}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be {least:g} or more, found {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be above {above:g}, found {value}")
    if below is not None and value >= below:
        raise ValueError(f"{name} must be below {below:g}, found {value}")


def check_known(name: str, values: Sequence[Any], known: Sequence[Any]) -> None:
    """Raises ValueError where a value is not known; names the argument."""
    for value in values:
        if value not in known:
            raise ValueError(f"{name}: {value!r} is unknown; expected one of {', '.join(known)}")


def check_axis(name: str, values: Sequence[Any]) -> None:
    """Raises ValueError where there is no value, one twice, or no tuple of them."""
    if isinstance(values, str) or not values or len(set(values)) < len(values):
        shown = ", ".join(map(str, values)) if not isinstance(values, str) else values
        raise ValueError(f"{name} needs one or more different values, found ({shown})")


def result_fields(settings: Any, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """The fields that determine results, as a file of settings has them: texts for paddings."""

    def as_json(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [as_json(one) for one in value]
        plain = value is None or isinstance(value, str | int | float | bool)
        return value if plain else str(value)

    return {
        field.name: as_json(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.metadata.get("result", True) and field.name not in left_out
    }

"""Flags from the fields of settings: the only place that reads them."""

import dataclasses
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any

from absl import flags

from posjax.runs.fields import NOT_GIVEN

Defaults = Mapping[str, Any]

MAY_BE_EMPTY = ("compile_cache",)
_MAY_BE_NONE = ("controls",)
_SCALARS = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}


def define(settings: type, paper: Defaults, demo: Defaults) -> None:
    """Defines a flag for every field of a settings class that has a help text.

    A field that is a settings class itself gives flags for its own fields. `paper` and `demo` are a
    program's defaults, where it has others than the fields.
    """
    defaults = {
        field.name: (
            paper.get(field.name, field.default),
            demo.get(field.name, field.metadata["demo"]),
        )
        for field, _ in _fields(settings)
    }
    # Texts refer to fields without a flag, under these names.
    numbers = {name: standard for name, (standard, _) in defaults.items()}
    numbers |= {f"demo_{name}": other for name, (_, other) in defaults.items()}
    for field, kind in _fields(settings):
        if field.metadata["help"]:
            default = field.metadata.get("default_text") or _default_text(*defaults[field.name])
            _define_flag(
                field, kind, f"{field.metadata['help']} Default: {default.format(**numbers)}."
            )
            flag = flags.FLAGS[field.name]
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _fields(settings: type) -> Iterator[tuple[dataclasses.Field, Any]]:
    """The fields of a settings class and of those within it, each with its type."""
    kinds = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(kinds[field.name]):
            yield from _fields(kinds[field.name])
        elif "help" in field.metadata:
            yield field, kinds[field.name]


def _define_flag(field: dataclasses.Field, kind: Any, text: str) -> None:
    if field.metadata.get("repeated"):
        flags.DEFINE_multi_string(field.name, None, text)
    elif typing.get_origin(kind) is tuple:
        flags.DEFINE_list(field.name, None, text)
    elif field.metadata["choices"]:
        flags.DEFINE_enum(field.name, None, list(field.metadata["choices"]), text)
    else:
        _SCALARS.get(_scalar(kind), flags.DEFINE_string)(field.name, None, text)


def _scalar(kind: Any) -> Any:
    """The type beside None."""
    if isinstance(kind, UnionType):
        return next(one for one in typing.get_args(kind) if one is not type(None))
    return kind


def _default_text(standard: Any, demo: Any) -> str:
    text = _as_text(standard)
    if demo in (NOT_GIVEN, standard):
        return text
    return f"{text}, in the demonstration {_as_text(demo)}"


def _as_text(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def given(settings: type) -> dict[str, Any]:
    """The values of the flags that were given, as the fields of a settings class have them.

    Raises:
        ValueError: a value is not of the field's type, or empty.
    """
    return {
        field.name: _value(field.name, flags.FLAGS[field.name].value, kind)
        for field, kind in _fields(settings)
        if field.metadata["help"] and flags.FLAGS[field.name].present
    }


def build(settings: type, values: Defaults, demo: bool = False) -> Any:
    """A settings object with these values, and the fields' defaults for the others.

    Raises:
        ValueError: a value cannot be, or a required one is missing.
    """
    kinds = typing.get_type_hints(settings)
    arguments = {}
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(kinds[field.name]):
            arguments[field.name] = build(kinds[field.name], values, demo)
        elif field.name in values:
            arguments[field.name] = values[field.name]
        elif demo and field.metadata.get("demo", NOT_GIVEN) is not NOT_GIVEN:
            arguments[field.name] = field.metadata["demo"]
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{field.name} is needed: {field.metadata['help']}")
    return settings(**arguments)


def read(settings: type, program: str, defaults: Defaults = MappingProxyType({})) -> Any:
    """The settings that the flags describe. `program` names the default workdir.

    Raises:
        ValueError: a value cannot be, or a required one is missing.
    """
    return build(settings, {"workdir": Path(f"runs/{program}"), **defaults, **given(settings)})


def devices() -> int:
    """The number of devices that was given, or 0."""
    return flags.FLAGS["devices"].value or 0


def names() -> list[str]:
    """The names of all flags, the longest first."""
    return sorted(flags.FLAGS, key=len, reverse=True)


def verbose() -> bool:
    """Whether --verbosity was given."""
    return bool(flags.FLAGS["verbosity"].present)


def _value(name: str, value: Any, kind: Any) -> Any:
    empty = not all(value) or not value if isinstance(value, list) else value == ""
    if empty and name not in MAY_BE_EMPTY:
        none = f", {name}=none for none" if name in _MAY_BE_NONE else ""
        raise ValueError(f"{name} is empty: give a value{none}, or leave it out")
    if not isinstance(value, list):
        return Path(value).expanduser() if _scalar(kind) is Path else value
    whole = typing.get_args(kind)[0] is int
    return tuple(_whole_number(name, one) if whole else _expanded(one) for one in value)


def _whole_number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name} needs whole numbers, found {text!r}") from error


def _expanded(text: str) -> str:
    return str(Path(text).expanduser()) if text.startswith("~") else text

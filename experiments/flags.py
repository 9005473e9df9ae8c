"""Flags from the fields of settings: the only place that reads them."""

import dataclasses
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any

from absl import flags

from posjax.runs.fields import NOT_GIVEN

Defaults = Mapping[str, Any]

MAY_BE_EMPTY = ("compile_cache",)
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
    kinds = typing.get_type_hints(settings)
    numbers = _defaults_without_flags(settings, paper, demo)
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(kinds[field.name]):
            define(kinds[field.name], paper, demo)
        elif field.metadata.get("help"):
            default = _default_text(field, paper, demo).format(**numbers)
            text = f"{field.metadata['help']} Default: {default}."
            _define_flag(field, kinds[field.name], text)
            flag = flags.FLAGS[field.name]
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _define_flag(field: dataclasses.Field, kind: Any, text: str) -> None:
    choices = field.metadata["choices"]
    if field.metadata.get("repeated"):
        flags.DEFINE_multi_string(field.name, None, text)
    elif typing.get_origin(kind) is tuple:
        flags.DEFINE_list(field.name, None, text)
    elif choices:
        flags.DEFINE_enum(field.name, None, list(choices), text)
    else:
        _SCALARS.get(_scalar(kind), flags.DEFINE_string)(field.name, None, text)


def _scalar(kind: Any) -> Any:
    """The type beside None."""
    if isinstance(kind, UnionType):
        return next(one for one in typing.get_args(kind) if one is not type(None))
    return kind


def _default_text(field: dataclasses.Field, paper: Defaults, demo: Defaults) -> str:
    if text := field.metadata.get("default_text"):
        return text
    standard = paper.get(field.name, field.default)
    other = demo.get(field.name, field.metadata["demo"])
    text = _as_text(standard)
    return (
        text
        if other in (NOT_GIVEN, standard)
        else f"{text}, in the demonstration {_as_text(other)}"
    )


def _defaults_without_flags(settings: type, paper: Defaults, demo: Defaults) -> dict[str, Any]:
    """The defaults of the fields without a flag, to which texts refer."""
    numbers = {}
    for field in dataclasses.fields(settings):
        if field.metadata.get("help") == "":
            numbers[field.name] = paper.get(field.name, field.default)
            numbers[f"demo_{field.name}"] = demo.get(field.name, field.metadata["demo"])
    return numbers


def _as_text(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def given(settings: type) -> dict[str, Any]:
    """The values of the flags that were given, as the fields of a settings class have them.

    Raises:
        ValueError: a value is not of the field's type, or empty.
    """
    kinds = typing.get_type_hints(settings)
    values = {}
    for field in dataclasses.fields(settings):
        kind = kinds[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            values |= given(kind)
        elif field.metadata.get("help") and flags.FLAGS[field.name].present:
            values[field.name] = _value(field.name, flags.FLAGS[field.name].value, kind)
    return values


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
    if isinstance(value, list):
        if not value or not all(value):
            raise ValueError(f"{name} is empty: give a value, or leave it out")
        whole = typing.get_args(kind)[0] is int
        return tuple(_whole_number(name, one) if whole else _expanded(one) for one in value)
    if value == "" and name not in MAY_BE_EMPTY:
        raise ValueError(f"{name} is empty: give a value, or leave it out")
    return Path(value).expanduser() if _scalar(kind) is Path else value


def _whole_number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name} needs whole numbers, found {text!r}") from error


def _expanded(text: str) -> str:
    return str(Path(text).expanduser()) if text.startswith("~") else text

"""Settings that a user may change by name: the fields of a dataclass, `--set name=value` beside it.

    @dataclasses.dataclass(frozen=True)
    class Settings:
        units: int = setting(128, "width of the projection", least=1)
        dropout: float = setting(0.5, "share of features that are dropped", least=0, below=1)

    parse(Settings, ["units=256"])  # Settings(units=256, dropout=0.5)

A field is an int, a float, a bool, a str, a `Literal` of texts, one of these or None, or a tuple of
ints or floats of any length (`widths=64,128`).
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from captioning.runtime.errors import CaptioningError, printable

T = TypeVar("T")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def setting(
    default: Any,
    help: str,  # as argparse calls it
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Any:
    """A field of a dataclass: its default, what it means in one line, and the range it must be in.

    Args:
        least, above: bounds from below, `above` without the bound itself.
        most, below: bounds from above, `below` without the bound itself.
    """
    bounds = {"least": least, "above": above, "most": most, "below": below}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return dataclasses.field(default=default, metadata={"help": help, "bounds": given})


def parse(kind: type[T], assignments: Iterable[str] = (), /, **defaults: Any) -> T:
    """An instance of a dataclass from texts `name=value`; a later one replaces an earlier one.

    Args:
        kind: a dataclass whose fields all have a default.
        defaults: values that stand where no text names the field, instead of its own default.

    Raises:
        CaptioningError: if a text is no `name=value`, names no field, or its value is not of the
            field's type or out of its range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values = dict(defaults)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise CaptioningError(
                f"expected a setting as name=value, found {printable(assignment)!r}; known names: "
                f"{_listed(fields)}"
            )
        if name not in fields:
            raise CaptioningError(
                f"expected one of the settings {_listed(fields)}, found {printable(name)!r}; "
                "correct the name"
            )
        values[name] = _value(fields[name], hints[name], text.strip())
    return kind(**values)


def parse_all(kinds: Sequence[type], assignments: Iterable[str], /, **defaults: Any) -> list[Any]:
    """An instance of each of several dataclasses, whose settings go by one `--set`.

    Args:
        defaults: as for `parse`; each goes to the dataclasses that have such a field.

    Raises:
        CaptioningError: as `parse`.
    """
    names = [[field.name for field in dataclasses.fields(kind)] for kind in kinds]
    shares: list[list[str]] = [[] for _ in kinds]
    for assignment in assignments:
        name = assignment.partition("=")[0].strip().replace("-", "_")
        having = [i for i, known in enumerate(names) if name in known]
        if not having or "=" not in assignment:
            known = _listed(name for group in names for name in group)
            raise CaptioningError(
                f"expected a setting as name=value, of {known}, found {printable(assignment)!r}; "
                "correct the name"
            )
        for i in having:
            shares[i].append(assignment)
    return [
        parse(kind, share, **{name: value for name, value in defaults.items() if name in known})
        for kind, share, known in zip(kinds, shares, names, strict=True)
    ]


def restore(kind: type[T], values: Mapping[str, Any], where: str | os.PathLike) -> T:
    """The instance whose fields were recorded as JSON, checked as `parse` checks texts.

    Args:
        where: the file that holds the record.

    Raises:
        CaptioningError: as `parse`, with the file.
    """
    tuples = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    try:
        return parse(kind, [f"{name}={_written(value)}" for name, value in tuples.items()])
    except CaptioningError as error:
        raise CaptioningError(f"{where}: {error}; it may be damaged: copy it again") from None


def describe(kind: type, /, **defaults: Any) -> str:
    """A line for each field of a dataclass: `name=default`, and what it means.

    Args:
        defaults: as for `parse_all`.
    """
    fields = dataclasses.fields(kind)
    names = [f"{f.name}={_written(defaults.get(f.name, f.default))}" for f in fields]
    width = max(map(len, names), default=0)
    lines = (
        f"{name:{width}}  {field.metadata.get('help', '')}".rstrip()
        for name, field in zip(names, fields, strict=True)
    )
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none at all"


def _written(value: Any) -> str:
    """A value as `parse` reads it."""
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _value(field: dataclasses.Field, hint: Any, text: str) -> Any:
    bounds = field.metadata.get("bounds", {})
    try:
        value = _converted(hint, text)
        for number in value if isinstance(value, tuple) else [value]:
            if isinstance(number, int | float) and not _within(number, **bounds):
                raise ValueError
    except (ValueError, OverflowError):
        words = {"least": "at least", "most": "at most"}
        range_ = "".join(f", {words.get(name, name)} {bound:g}" for name, bound in bounds.items())
        raise CaptioningError(
            f"expected {_expected(hint)}{range_} for {field.name}, found {printable(text)!r}; "
            "correct the value"
        ) from None
    return value


def _within(
    number: float,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> bool:
    return math.isfinite(number) and least <= number <= most and above < number < below


def _converted(hint: Any, text: str) -> Any:
    """A text as a value of a type; ValueError where it is none."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # of a type and None
        if text.lower() == "none" and type(None) in parts:
            return None
        return _converted(next(part for part in parts if part is not type(None)), text)
    if origin is typing.Literal:
        if text not in parts:
            raise ValueError
        return text
    if origin is tuple:
        return tuple(_converted(parts[0], part.strip()) for part in text.split(","))
    if hint is bool:
        if text.lower() not in _WORDS:
            raise ValueError
        return _WORDS[text.lower()]
    return hint(text)


def _expected(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if part is type(None) else _expected(part) for part in parts)
    if origin is typing.Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple:
        return f"{_EXPECTED[parts[0]].removeprefix('a ')}s with commas between"
    return _EXPECTED[hint]

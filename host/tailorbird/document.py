"""Frozen dataclasses as JSON documents with a `schema`, and back, with the path of whatever does not fit."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


class DocumentError(ValueError):
    """The text is not such a document; the message names the place."""


def dump_document(value: Any, *, indent: int | None = None) -> str:
    """JSON of a dataclass; infinities and NaN, which JSON lacks, become null."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def parse_document(kind: type[T], text: str, *, schema: str) -> T:
    """Inverse of dump_document for a dataclass whose field `schema` must equal `schema`.

    Raises:
        DocumentError: bad JSON, another schema, a missing or unknown field, a value of the wrong type.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error}") from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found != schema:
        raise DocumentError(f"schema is {found!r}, expected {schema!r}")
    return typing.cast("T", _typed(kind, data, "$"))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _typed(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        if data is None:
            return None
        return _typed(next(arm for arm in typing.get_args(kind) if arm is not type(None)), data, where)
    if origin is tuple:
        return _sequence(typing.get_args(kind), data, where)
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast("type", kind), data, where)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise DocumentError(f"{where}: expected {kind.__name__}, found {type(data).__name__}")
    return data


def _sequence(arms: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise DocumentError(f"{where}: expected a list, found {type(data).__name__}")
    if len(arms) == 2 and arms[1] is Ellipsis:
        arms = (arms[0],) * len(data)
    if len(arms) != len(data):
        raise DocumentError(f"{where}: expected {len(arms)} items, found {len(data)}")
    return tuple(_typed(arm, item, f"{where}[{i}]") for i, (arm, item) in enumerate(zip(arms, data, strict=True)))


def _record(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise DocumentError(f"{where}: expected an object, found {type(data).__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - set(fields)):
        raise DocumentError(f"{where}: unknown field {unknown[0]!r}")
    required = {name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING}
    if missing := sorted(required - set(data)):
        raise DocumentError(f"{where}: field {missing[0]!r} is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _typed(hints[name], value, f"{where}.{name}") for name, value in data.items()})

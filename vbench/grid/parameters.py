"""Typed parameters: from a factory's annotation to a JSON schema, and from the schema to typed values."""

from __future__ import annotations

import functools
import inspect
import json
import operator
import unicodedata
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.errors import PydanticUserError

from vbench.catalogue import Parameter
from vbench.grid.positions import quoted

__all__ = ["canonical", "describe", "format_value", "parameter_of", "shown", "typed"]

_LIMITS: Final = {
    "minimum": ("ge", ">= {}"),
    "exclusiveMinimum": ("gt", "> {}"),
    "maximum": ("le", "<= {}"),
    "exclusiveMaximum": ("lt", "< {}"),
    "multipleOf": ("multiple_of", "a multiple of {}"),
}
_LENGTHS: Final = {
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}
_KEYWORDS: Final = {*_LIMITS, *_LENGTHS, "type", "enum", "const", "anyOf", "items", "prefixItems"}
_NOTES: Final = {"title", "description", "default", "examples", "deprecated"}
_SCALARS: Final[Mapping[str, tuple[type, str]]] = {
    "integer": (int, "an integer"),
    "number": (float, "a number"),
    "string": (str, "text"),
    "boolean": (bool, "true or false"),
    "null": (type(None), "null"),
}


def describe(schema: Mapping[str, Any]) -> str:
    """What a schema asks for, in words.

    >>> describe({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    'an integer >= 1 or null'
    """
    if "const" in schema:
        return format_value(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(format_value, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(describe, schema["anyOf"])))
    if schema.get("type") == "array":
        return _describe_list(schema)
    words = _SCALARS[schema["type"]][1] if "type" in schema else "a value"
    limits = [text.format(schema[name]) for name, (_, text) in _LIMITS.items() if name in schema]
    if "minLength" in schema or "maxLength" in schema:
        limits.append(f"of length {_between(schema, 'minLength', 'maxLength')}")
    return " ".join([words, " and ".join(limits)]) if limits else words


def _between(schema: Mapping[str, Any], low: str, high: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if least == most:
        return str(least)
    if least is not None and most is not None:
        return f"{least} to {most}"
    return f"at least {least}" if most is None else f"at most {most}"


def _describe_list(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return "a list [" + ", ".join(map(describe, schema["prefixItems"])) + "]"
    words = "a list"
    if schema.get("minItems") or schema.get("maxItems") is not None:
        words += f" of length {_between(schema, 'minItems', 'maxItems')}"
    return f"{words}, each {describe(schema['items'])}" if schema.get("items") else words


def _member(choices: Sequence[Any], value: Any) -> Any:
    """The choice that equals the value, where true is no 1 and an int may stand for a float."""
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    for choice in choices:
        if isinstance(choice, float) and type(value) is int and choice == value:
            return choice
    raise ValueError("no such choice")


def _python_type(schema: Mapping[str, Any]) -> Any:
    if "const" in schema or "enum" in schema:
        choices = [schema["const"]] if "const" in schema else schema["enum"]
        return Annotated[Any, AfterValidator(functools.partial(_member, choices))]
    if "anyOf" in schema:
        # A number before an integer: 1 and 1.0 are one value wherever both are allowed.
        branches = sorted(schema["anyOf"], key=lambda branch: branch.get("type") != "number")
        union = functools.reduce(operator.or_, map(_python_type, branches))
        several = sum(branch.get("type") != "null" for branch in branches) > 1  # else pydantic sees no union
        return Annotated[union, Field(union_mode="left_to_right")] if several else union
    limits = {word: schema[name] for name, (word, _) in _LIMITS.items() if name in schema}
    if "prefixItems" not in schema:
        limits |= {word: schema[name] for name, word in _LENGTHS.items() if name in schema}
    kind: Any = Any
    if schema.get("type") == "array":
        kind = list[_python_type(schema.get("items") or {})]  # type: ignore[misc]
        if "prefixItems" in schema:
            kind = tuple[tuple(map(_python_type, schema["prefixItems"]))]  # type: ignore[misc]
    elif "type" in schema:
        kind = _SCALARS[schema["type"]][0]
    return Annotated[kind, Field(**limits)] if limits else kind


@functools.lru_cache(maxsize=4096)
def _adapter(schema: str) -> TypeAdapter[Any]:
    return TypeAdapter(_python_type(json.loads(schema)), config=ConfigDict(strict=True, allow_inf_nan=False))


def typed(schema: Mapping[str, Any], value: Any) -> Any:
    """``value`` as the schema has it: an int becomes a float where a number is wanted, nothing else changes.

    Raises:
        ValueError: it is not what the schema asks for.
    """
    adapter = _adapter(json.dumps(schema, sort_keys=True))
    try:  # JSON, since it takes a list for a tuple and nothing that a grid cannot hold
        checked = adapter.validate_json(json.dumps(value, allow_nan=False))
        return _normal(adapter.dump_python(checked, mode="json"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected {describe(schema)}, not {shown(value)}") from error


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        raise TypeError("a parameter holds no mapping")
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return value + 0.0 if isinstance(value, float) else value  # -0.0 + 0.0 is 0.0


def canonical(value: Any) -> str:
    """The same text for the same JSON value: sorted keys, NFC strings, floats by repr, -0.0 as 0.0."""
    return _ENCODER.encode(_canonical(value))


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    if type(value) in (str, int, float, bool, NoneType):  # an abstract class takes ten times as long to ask
        return _normal(value)
    if type(value) is dict or isinstance(value, Mapping):
        return {unicodedata.normalize("NFC", key): _canonical(child) for key, child in value.items()}
    return [_canonical(child) for child in value] if isinstance(value, list | tuple) else _normal(value)


def format_value(value: Any) -> str:
    """A value as it stands in ``name[param=value]``: text bare where it is safe, floats by repr.

    >>> format_value([64, 0.5, None, True, "relu", "5"])
    '[64,0.5,null,true,relu,"5"]'
    """
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(format_value, value)) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def shown(value: Any) -> str:
    """A value as an error quotes it, cut to 40 characters."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, str):
        text = repr(value)
    else:
        try:
            text = format_value(value)
        except (TypeError, ValueError):
            text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def parameter_of(name: str, annotation: Any, default: Any, required: bool) -> Parameter:
    """What a factory's annotation says about a parameter.

    >>> from annotated_types import Ge
    >>> parameter_of("k", Annotated[int, Ge(1), "samples per datum"], 5, False).schema
    {'minimum': 1, 'type': 'integer'}

    Raises:
        TypeError: a grid cannot write such a value, or the default is not one.
    """
    if name == "sweep":
        raise TypeError("parameter 'sweep': the name is a word of the grid")
    if annotation is inspect.Parameter.empty:
        annotation = Any
    try:
        schema = _clean(TypeAdapter(annotation).json_schema())
    except (PydanticUserError, NameError, LookupError, TypeError) as error:
        raise TypeError(
            f"parameter {name!r}: a grid cannot write {annotation!r}; use int, float, str, bool, None, "
            f"Literal, and lists, tuples and unions of these"
        ) from error
    value = None
    if not required:
        try:
            value = typed(schema, _listed(default))
        except ValueError as error:
            raise TypeError(f"parameter {name!r}: the default is wrong: {error}") from error
    return Parameter(name, schema, value, required, " ".join(_help(annotation).split()))


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _clean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without titles and the like; TypeError at what ``_python_type`` would not hold to."""
    kept = {key: value for key, value in schema.items() if key not in _NOTES}
    if set(kept) - _KEYWORDS or kept.get("type") not in (None, "array", *_SCALARS):
        raise TypeError(f"unsupported schema {schema}")
    if "const" in kept:  # from here on: what pydantic's versions write differently
        kept.pop("enum", None)
    for key in _LIMITS.keys() & kept.keys():
        kept[key] = int(kept[key]) if kept[key] == int(kept[key]) else kept[key]
    for key in ("anyOf", "prefixItems"):
        if key in kept:
            kept[key] = [_clean(branch) for branch in kept[key]]
    if "items" in kept:
        kept["items"] = _clean(kept["items"])
    return kept


def _help(annotation: Any) -> str:
    """The first plain string (or ``Doc``) in the metadata, also inside a union."""
    for item in getattr(annotation, "__metadata__", ()):
        text = item if isinstance(item, str) else getattr(item, "documentation", None)
        if isinstance(text, str):
            return text
    inner = () if get_origin(annotation) is Literal else get_args(annotation)
    return next(filter(None, map(_help, inner)), "") if not isinstance(annotation, str) else ""

"""One component with its parameters, written ``iwae[k=5]`` or ``iwae: {k: 5}``."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vbench.catalogue import Catalogue, Component, Kind
from vbench.grid.parameters import canonical, describe, format_value, parameter_of, shown, typed
from vbench.grid.positions import GridError, Node, Place, Problems, from_python, nearest, plain
from vbench.grid.values import read_values
from vbench.grid.yaml12 import scalar

__all__ = [
    "Choice",
    "describe",
    "format_value",
    "parameter_of",
    "parse_choice",
    "parse_text",
    "read_choices",
    "split_top",
    "typed",
]

_DEEPEST: Final = 20


@dataclass(frozen=True)
class Choice:
    """One component and its parameters.

    Attributes:
        kind: ``encoder``, ``estimator``, ...
        name: its registered name.
        given: the parameters that the user wrote, typed, in the component's order.
        parameters: all of them, typed: given ones and defaults.
    """

    kind: Kind
    name: str
    given: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def __str__(self) -> str:
        return self._text(self.given)

    @property
    def full(self) -> str:
        """The same choice with every parameter written out: one text per meaning."""
        return self._text(self.parameters)

    def _text(self, values: Mapping[str, Any]) -> str:
        inner = ",".join(f"{name}={format_value(value)}" for name, value in values.items())
        return f"{self.name}[{inner}]" if inner else self.name

    @functools.cached_property
    def content(self) -> str:
        """What it is as canonical JSON: name and all parameters."""
        return canonical({"name": self.name, "parameters": self.parameters})

    def __hash__(self) -> int:
        return hash((self.kind, self.content))


def split_top(text: str) -> list[str] | None:
    """The parts between commas that stand outside brackets and quotes; None where these do not match.

    >>> split_top('iwae[k=5,beta=2], "a,b"')
    ['iwae[k=5,beta=2]', '"a,b"']
    """
    parts, start, stack, quote, fresh = [], 0, [], "", True
    pairs = {"[": "]", "{": "}"}
    i = 0
    while i < len(text):
        char = text[i]
        if quote:
            if char == "\\" and quote == '"':
                i += 1
            elif char == quote:
                quote = ""
        elif char in "\"'" and fresh:  # elsewhere it is an apostrophe
            quote = char
        elif char in pairs:
            stack.append(pairs[char])
        elif char in "]}":
            if not stack or stack.pop() != char:
                return None
        elif char == "," and not stack:
            parts.append(text[start:i].strip())
            start = i + 1
        fresh = char in "[{,=: "
        i += 1
    return None if stack or quote else [*parts, text[start:].strip()]


class _Scanner:
    """Recursive descent over ``name[param=value,...]``."""

    name = re.compile(r"\s*([^\s\[\]{}=,\"']+)\s*")
    param = re.compile(r"\s*([^\s\[\]{}=,\"']+)\s*=\s*")
    double = re.compile(r'"(?:[^"\\]|\\.)*"\s*')
    single = re.compile(r"'((?:[^']|'')*)'\s*")
    bare = re.compile(r"[^,\[\]{}\"]*")
    space = re.compile(r"\s*")

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def match(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise ValueError(f"expected {wanted}{self.rest()}")
        self.at = found.end()
        return found[found.lastindex or 0]

    def take(self, mark: str) -> bool:
        ok = self.text.startswith(mark, self.at)
        if ok:
            self.at = self.space.match(self.text, self.at + len(mark)).end()  # type: ignore[union-attr]
        return ok

    def items(self, depth: int) -> Iterator[Any]:
        while True:
            yield self.value(depth)
            if self.take("]"):
                return
            self.match(re.compile(r",\s*"), "',' or ']'")

    def value(self, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"lists nested deeper than {_DEEPEST} levels")
        if self.take("["):
            return [] if self.take("]") else list(self.items(depth + 1))
        if self.text.startswith('"', self.at):
            try:
                return json.loads(self.match(self.double, 'a closing "'))
            except json.JSONDecodeError as error:
                raise ValueError(f"expected text in quotes ({error.msg})") from None
        if self.text.startswith("'", self.at):
            return self.match(self.single, "a closing '").replace("''", "'")
        word = self.match(self.bare, "a value").strip()
        if not word:
            raise ValueError(f"expected a value{self.rest()}")
        return scalar(word)

    def rest(self) -> str:
        left = self.text[self.at :]
        return f" at {shown(left)}" if left else " at its end"


def parse_text(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the values in ``name[param=value,...]``, values as YAML 1.2 reads them.

    >>> parse_text("gaussian[latent=8,hidden=[64,64]]")
    ('gaussian', {'latent': 8, 'hidden': [64, 64]})

    Raises:
        ValueError: it is not of that form.
    """
    scanner = _Scanner(text)
    name = scanner.match(scanner.name, "a name")
    values: dict[str, Any] = {}
    if scanner.take("["):
        while True:
            param = scanner.match(scanner.param, "param=value")
            if param in values:
                raise ValueError(f"{param} is given twice")
            values[param] = scanner.value()
            if scanner.take("]"):
                break
            scanner.match(re.compile(r","), "',' or ']'")
    if scanner.at < len(text):
        raise ValueError(f"expected name[param=value], found {shown(text[scanner.at :])} after it")
    return name, values


def parse_choice(text_or_mapping: Any, kind: Kind, catalogue: Catalogue, where: str = "") -> Choice:
    """One choice, from its text or a one-key mapping.

    Args:
        text_or_mapping: ``"gaussian[latent=8]"`` or ``{"gaussian": {"latent": 8}}``.
        kind: what to choose.
        catalogue: what there is to choose from.
        where: what to name in front of a problem.

    Raises:
        GridError: no such choice.
    """
    if isinstance(text_or_mapping, Choice):
        text_or_mapping = str(text_or_mapping)
    problems = Problems()
    node = from_python(text_or_mapping, "", problems)
    found = read_choices(node, kind, catalogue, where or kind, problems)
    problems.finish()
    if len(found) != 1:
        raise GridError([f"{where or kind}: expected one {kind}, not a sweep of {len(found)}"])
    return found[0]


def read_choices(node: Node, kind: Kind, catalogue: Catalogue, path: str, problems: Problems) -> list[Choice]:
    """One entry of an axis: a choice, several under ``sweep``, none where something is wrong."""
    if node.broken:
        return []
    if isinstance(node.value, str):
        try:
            name, values = parse_text(node.value)
        except ValueError as error:
            problems.add(node.place, path, f"{shown(node.value)}: {error}")
            return []
        inner = _nodes(values, node.place)
    elif isinstance(node.value, dict) and len(node.value) == 1:
        ((name, inner),) = node.value.items()
    else:
        problems.add(node.place, path, _no_entry(node, kind))
        return []
    component = catalogue.get(kind, name)
    if component is None:
        problems.add(inner.at, path, _unknown(name, kind, catalogue))
        return []
    before = len(problems)
    keys = () if isinstance(node.value, str) else ("sweep",)
    written = read_values(inner, component.parameters, f"{path}.{name}", problems, owner=name, keys=keys)
    if len(problems) > before or not inner.sound:
        return []
    return [_choice(component, values) for values in written.crossed()]


def _nodes(value: Any, place: Place) -> Node:
    if isinstance(value, dict):
        return Node({key: _nodes(child, place) for key, child in value.items()}, place)
    return Node([_nodes(item, place) for item in value] if isinstance(value, list) else value, place)


def _no_entry(node: Node, kind: Kind) -> str:
    value = plain(node)
    article = "an" if kind in ("encoder", "estimator") else "a"
    text = f"expected {article} {kind}'s name, name[param=value] or name: {{param: value}}"
    if isinstance(value, dict) and len(value) > 1:
        return f"{text}, not the keys {', '.join(value)} (a list of names; parameters indented below theirs)"
    return f"{text}, not {shown(value)}"


def _unknown(name: str, kind: Kind, catalogue: Catalogue) -> str:
    names = catalogue.names(kind)
    near = nearest(name, names)
    if not near and names:
        near = f" (known: {', '.join(names[:12])}{', ...' * (len(names) > 12)})"
    broken = f"; {len(catalogue.broken)} failed to load, see `vbench plugins`" if catalogue.broken else ""
    return f"unknown {kind} {shown(name)}{near}{broken}"


def _choice(component: Component, values: Mapping[str, Any]) -> Choice:
    parameters = {}
    for parameter in component.parameters:
        if parameter.name in values:
            parameters[parameter.name] = values[parameter.name]
        else:
            try:
                parameters[parameter.name] = typed(parameter.schema, parameter.default)
            except ValueError as error:
                line = f"{component.module or component.name}: the default of {parameter.name}: {error}"
                raise GridError([line]) from error
    given = {name: value for name, value in parameters.items() if name in values}
    return Choice(component.kind, component.name, given, parameters)

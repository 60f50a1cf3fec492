"""What a mapping of the grid gives to parameters: typed values, once or to be crossed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vbench.catalogue import Parameter
from vbench.grid.parameters import canonical, describe, shown, typed
from vbench.grid.positions import Node, Problems, nearest, plain

__all__ = ["MAX_ENTRIES", "Values", "expected", "read_values", "unknown"]

MAX_ENTRIES: Final = 10_000  # of one axis: more is a slip of the pen, and costs memory before it costs runs


@dataclass(frozen=True)
class Values:
    """What was written for some parameters: ``given`` once, ``swept`` to be crossed."""

    given: Mapping[str, Any] = field(default_factory=dict)
    swept: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def crossed(self) -> Iterator[dict[str, Any]]:
        """Every combination, the last swept parameter fastest."""
        for values in itertools.product(*self.swept.values()):
            yield {**self.given, **dict(zip(self.swept, values, strict=True))}


def unknown(name: str, valid: Iterable[str], keys: Sequence[str] = (), owner: str = "") -> str:
    """What to say of a name that is in neither ``valid`` (parameters of ``owner``, if any) nor ``keys``."""
    near = nearest(name, [*valid, *keys])
    if owner:
        return f"unknown parameter{near}; {owner} takes {', '.join(valid) or 'none'}"
    return f"unknown key{near or ' (expected one of ' + ', '.join([*valid, *keys]) + ')'}"


def expected(parameter: Parameter) -> str:
    """``expected an integer >= 1 (samples per datum)``."""
    return f"expected {describe(parameter.schema)}" + (f" ({parameter.help})" if parameter.help else "")


def read_values(
    node: Node,
    parameters: Sequence[Parameter],
    path: str,
    problems: Problems,
    *,
    owner: str = "",
    keys: Sequence[str] = (),
) -> Values:
    """The typed values of a mapping; what is wrong goes to ``problems``.

    Args:
        node: the mapping; null is an empty one.
        parameters: what may be written.
        path: its key path.
        problems: where problems go.
        owner: the component whose parameters these are; empty for the grid's own keys.
        keys: further valid keys, read elsewhere; ``sweep`` among them is read here.
    """
    if node.broken:
        return Values()
    known = {parameter.name: parameter for parameter in parameters}
    if not isinstance(node.value, dict | None):
        what = "parameters" if owner else ", ".join([*known, *keys])
        problems.add(node.place, path, f"expected a mapping of {what}, not {shown(plain(node))}")
        return Values()
    entries: dict[str, Node] = node.value or {}
    given: dict[str, Any] = {}
    for name, value in entries.items():
        if name in known:
            given.update((name, item) for item in _read(known[name], value, f"{path}.{name}", problems))
        elif name not in keys:
            problems.add(value.at, f"{path}.{name}", unknown(name, known, keys, owner))
    swept: dict[str, list[Any]] = {}
    if "sweep" in keys and "sweep" in entries:
        swept = _read_sweep(entries["sweep"], known, entries, f"{path}.sweep", problems, owner)
    for name, parameter in known.items():
        if parameter.required and name not in entries and name not in swept:
            problems.add(node.at, f"{path}.{name}", f"missing, {expected(parameter)}")
    return Values(given, swept)


def _read(parameter: Parameter, node: Node, path: str, problems: Problems) -> list[Any]:
    """The typed value in a list, or an empty list when it is wrong."""
    if node.broken:
        return []
    value = plain(node)
    try:
        return [typed(parameter.schema, value)]
    except ValueError:
        near = nearest(value, _words(parameter.schema)) if isinstance(value, str) else ""
        problems.add(node.place, path, f"{expected(parameter)}, not {shown(value)}{near}")
        return []


def _words(schema: Mapping[str, Any]) -> list[str]:
    """The words that a schema lists as its choices."""
    branches = [schema, *schema.get("anyOf", ())]
    words = [word for branch in branches for word in [*branch.get("enum", ()), branch.get("const")]]
    return [word for word in words if isinstance(word, str)]


def _read_sweep(
    node: Node,
    known: Mapping[str, Parameter],
    entries: Mapping[str, Node],
    path: str,
    problems: Problems,
    owner: str,
) -> dict[str, list[Any]]:
    """Lists of values to cross."""
    if node.broken:
        return {}
    if not isinstance(node.value, dict) or not node.value:
        problems.add(node.place, path, f"expected lists to cross, as in {{{next(iter(known), 'k')}: [...]}}")
        return {}
    swept: dict[str, list[Any]] = {}
    for name, values in node.value.items():
        here = f"{path}.{name}"
        if name not in known:
            problems.add(values.at, here, unknown(name, known, owner=owner))
        elif name in entries:
            problems.add(values.at, here, "both given and swept")
        elif values.broken:
            continue
        elif not isinstance(values.value, list) or not values.value:
            text = f"expected a list of values to cross, not {shown(plain(values))}"
            problems.add(values.place, here, text)
        else:
            found: dict[str, Any] = {}
            for i, value in enumerate(values.value):
                items = _read(known[name], value, f"{here}[{i}]", problems)
                found.update((canonical(item), item) for item in items)
            swept[name] = list(found.values())
    count = math.prod(map(len, swept.values()))
    if count > MAX_ENTRIES:
        problems.add(node.at, path, f"{count} combinations, at most {MAX_ENTRIES}")
        return {}
    return swept

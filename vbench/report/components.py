"""Components and plugins on the terminal: list, show, plugins."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vbench.catalogue import EVERY_KIND, KINDS, Catalogue, Component, Kind
from vbench.discovery import lacking

__all__ = ["list_json", "plugins_json", "show", "show_list", "show_plugins"]


def list_json(catalogue: Catalogue, kind: str | None = None) -> list[dict[str, Any]]:
    """One object per component: kind, name, distribution, version, summary, source, parameters.

    ``unavailable`` says what to install where the extra that it needs is not; else it is empty.
    """
    return [
        {key: value for key, value in asdict(component).items() if key != "doc"}
        | {"unavailable": _unavailable(component)}
        for component in catalogue
        if kind in (None, component.kind)
    ]


def show_list(catalogue: Catalogue, kind: str | None = None) -> None:
    """A table of names with their first line."""
    console = Console()
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    found.add_column("kind", no_wrap=True)
    found.add_column("name", no_wrap=True)
    found.add_column("what it is")
    strangers = {c.distribution for c in catalogue} - {"vbench"}
    if strangers:
        found.add_column("from", no_wrap=True)
    for component in catalogue:
        if kind in (None, component.kind):
            origin = (component.distribution,) if strangers else ()
            text = Text(component.summary)
            if line := _unavailable(component):
                text = Text(f"unavailable, {line}", style="yellow")
            found.add_row(component.kind, component.name, text, *origin)
    console.print(found)
    console.print(Text("vbench show NAME tells the rest"), style="dim")


def _unavailable(component: Component) -> str:
    return lacking(component.distribution, component.extra)


def plugins_json(catalogue: Catalogue) -> dict[str, Any]:
    """Installed distributions with what they register, and what could not be loaded."""
    return {
        "plugins": [
            {
                "distribution": name,
                "version": components[0].version,
                "components": [f"{c.kind}:{c.name}" for c in components],
            }
            for name, components in _by_distribution(catalogue).items()
        ],
        "broken": [asdict(item) for item in catalogue.broken],
        "clashes": list(catalogue.clashes),
    }


def _by_distribution(catalogue: Catalogue) -> dict[str, list[Component]]:
    found: dict[str, list[Component]] = {}
    for component in catalogue:
        found.setdefault(component.distribution, []).append(component)
    return found


def show_plugins(catalogue: Catalogue) -> None:
    """One line per distribution, then whatever is wrong."""
    console = Console()
    for name, components in _by_distribution(catalogue).items():
        console.print(Text(f"{name} {components[0].version}: {len(components)} components"), soft_wrap=True)
        if name != "vbench":
            for component in components:
                console.print(Text(f"  {component.kind}:{component.name}  {component.summary}"), soft_wrap=True)
    for item in catalogue.broken:
        line = f"broken: {item.distribution} {item.version} ({item.entry_point}): {item.reason}"
        console.print(Text(line), style="red", soft_wrap=True)
    for clash in catalogue.clashes:
        console.print(Text(f"clash: {clash}"), style="red", soft_wrap=True)


def show(catalogue: Catalogue, name: str) -> int:
    """Everything about one component, or about what a kind must provide; returns the exit code."""
    if name in EVERY_KIND:
        _show_kind(name)
        return 0
    kind, _, rest = name.rpartition(":")
    found = [c for c in catalogue if c.name == rest and kind in ("", c.kind)]
    if not found:
        names = [c.name for c in catalogue] + list(EVERY_KIND)
        near = difflib.get_close_matches(rest, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else " (vbench list shows the names)"
        print(f"vbench: nothing is called {name!r}{hint}", file=sys.stderr)
        return 2
    for component in found:
        _show_component(component)
    return 0


def _show_component(component: Component) -> None:
    console = Console()
    console.print(Text(f"{component.kind}:{component.name}", style="bold"))
    if line := _unavailable(component):
        console.print(Text(f"unavailable, {line}", style="yellow"), soft_wrap=True)
    console.print(Text(component.doc))
    for parameter in component.parameters:
        default = "required" if parameter.required else f"default {parameter.default!r}"
        line = f"  {parameter.name}: {describe(parameter.schema)}, {default}"
        console.print(Text(f"{line}  {parameter.help}".rstrip()), soft_wrap=True)
    needs, offers = _traits(component)
    for title, traits in (("needs", needs), ("offers", offers)):
        if traits:
            console.print(Text(f"{title}: {', '.join(sorted(traits))}"), soft_wrap=True)
    console.print(Text(f"from {component.distribution} {component.version}, {component.module}"), style="dim")
    console.print()


def describe(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words.

    >>> describe({"type": "integer", "minimum": 1})
    'integer >= 1'
    """
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(describe(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {describe(schema.get('items', {}))}"
    words = [str(schema.get("type", "anything"))]
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    words += [f"{sign} {schema[key]}" for key, sign in limits.items() if key in schema]
    return " ".join(words)


def _traits(component: Component) -> tuple[frozenset[str], frozenset[str]]:
    """What the component needs and offers with its default parameters, found by building it for small data."""
    from vbench.assemble import sample_part

    part = sample_part(component.kind, component.name)
    return frozenset(getattr(part, "needs", ())), frozenset(getattr(part, "offers", ()))


def _show_kind(kind: Kind) -> None:
    """The contract of one kind: its hook, what its factory may ask for, and the class to write."""
    from vbench import execute, hookspecs, types
    from vbench.registry import PROVIDED

    console = Console()
    contract = getattr(types if kind in KINDS else execute, kind.capitalize())
    how = f"register it from the hook vbench_{kind}s() of a package with an entry point in group vbench"
    console.print(Text(f"{kind} (contract {hookspecs.CONTRACT}): {how}", style="bold"))
    console.print(Text(inspect.cleandoc(hookspecs.__doc__ or "")))
    given = ", ".join(sorted(PROVIDED[kind])) or "nothing"
    console.print(Text(f"\nOf the task, its factory may ask for: {given}.\n"))
    console.print(Text(inspect.getsource(contract)))
    if kind not in ("dataset", "executor"):
        console.print(Text(inspect.getsource(types.Trait)))

"""What is being judged: a factory with its parameters, registered or not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vbench.catalogue import KINDS, Component, Kind
from vbench.grid import GridError, parse_choice
from vbench.registry import describe, load_registry

__all__ = ["Subject", "registered", "subject"]


@dataclass(frozen=True)
class Subject:
    """A factory, what it says of itself, and the parameters that it is judged with."""

    component: Component
    factory: Callable[..., Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """Encoder, decoder, ..."""
        return self.component.kind

    @property
    def name(self) -> str:
        """Its registered name, or the factory's own."""
        return self.component.name

    def build(self, task: Mapping[str, Any], **changed: Any) -> Any:
        """A new object for a task (x, z, n, mean, data), its initial parameters always the same.

        Tells nothing of the caller's random numbers.
        """
        asked = {name: task[name] for name in task if name in inspect.signature(self.factory).parameters}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.factory(**{**asked, **self.parameters, **changed})

    def with_parameters(self, **parameters: Any) -> Subject:
        """The same factory, judged with these parameters."""
        return replace(self, parameters={**self.parameters, **parameters})

    def has(self, parameter: str) -> bool:
        """Whether the factory takes that parameter."""
        return any(p.name == parameter for p in self.component.parameters)

    def smallest(self, parameter: str) -> int:
        """The least whole number that the signature admits."""
        schema = next(p.schema for p in self.component.parameters if p.name == parameter)
        return max(1, int(schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)))


def subject(kind: Kind, what: str | Callable[..., Any], name: str = "") -> Subject:
    """A registered component by its name (``"vimco[k=3]"``), or any factory.

    Raises:
        GridError: nothing of that kind has that name, or a parameter is wrong.
        TypeError, ValueError: the factory's signature cannot be used.
    """
    if isinstance(what, str):
        choice = parse_choice(what, kind, load_registry().catalogue(), f"check({kind})")
        found = load_registry().get(kind, choice.name)
        return Subject(found.component, found.factory, dict(choice.parameters))
    name = name or getattr(what, "__name__", type(what).__name__).lower().strip("<_>").replace("_", "-")
    return Subject(describe(kind, name, what, "", ""), what)


def registered(names: tuple[str, ...] = (), distribution: str | None = None) -> list[Subject]:
    """Registered components: by name (``vimco``, ``encoder:bernoulli``, ``rloo[k=2]``), of one distribution, or all.

    Raises:
        GridError: a name that nothing has.
    """
    registry = load_registry()
    catalogue = registry.catalogue()
    if distribution is not None:
        owners = {component.distribution for component in catalogue}
        if distribution not in owners:
            raise GridError([f"--plugin: {distribution!r} registers nothing (known: {', '.join(sorted(owners))})"])
    found = []
    for text in names:
        prefix, _, rest = text.partition("[")
        kind, _, name = prefix.rpartition(":")
        kinds = [k for k in KINDS if kind in ("", k) and catalogue.get(k, name)]
        if not kinds:
            # the grid's own message, with the nearest name
            parse_choice(text.removeprefix(f"{kind}:"), kind if kind in KINDS else "estimator", catalogue, "check")
            raise GridError([f"check: nothing is called {text!r}"])
        found += [subject(k, f"{name}[{rest}" if rest else name) for k in kinds]
    if not names:
        chosen = [c for c in catalogue if distribution in (None, c.distribution)]
        found = [Subject(c, registry.get(c.kind, c.name).factory, _defaults(c)) for c in chosen]
    return found


def _defaults(component: Component) -> dict[str, Any]:
    return {p.name: p.default for p in component.parameters if not p.required}

"""What is being judged: a factory with its parameters, registered or not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vbench.catalogue import Component, Kind
from vbench.grid import Choice, named_components, parse_choice
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

    def small(self) -> dict[str, Any]:
        """Parameters that make a part of a hierarchy small: layers of one latent, narrow nets, the fewest steps."""
        found: dict[str, Any] = {}
        for parameter in self.component.parameters:
            name, lists = parameter.name, parameter.schema.get("type") == "array"
            if name == "steps":
                found[name] = self.smallest(name)
            elif name == "hidden" and not lists:
                found[name] = 6
            elif name in ("latent", "hidden") and lists:
                width = 1 if name == "latent" else 6
                found[name] = [[width] if isinstance(given, list) else width for given in parameter.default or (1,)]
        return found

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
        return _of(parse_choice(what, kind, load_registry().catalogue(), f"check({kind})"))
    name = name or getattr(what, "__name__", type(what).__name__).lower().strip("<_>").replace("_", "-")
    return Subject(describe(kind, name, what, "", ""), what)


def registered(names: Sequence[str] = (), distribution: str | None = None) -> list[Subject]:
    """Registered components: by name (see :func:`vbench.grid.named_components`), of one distribution, or all.

    Raises:
        GridError: a name that nothing has.
    """
    return [_of(choice) for choice in named_components(names, load_registry().catalogue(), distribution)]


def _of(choice: Choice) -> Subject:
    found = load_registry().get(choice.kind, choice.name)
    return Subject(found.component, found.factory, dict(choice.parameters))

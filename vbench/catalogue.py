"""What is registered, described without the objects: names, parameters and where they come from. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["EVERY_KIND", "KINDS", "Broken", "Catalogue", "Component", "Kind", "Parameter"]

Kind = Literal["dataset", "encoder", "decoder", "prior", "estimator", "executor"]
KINDS: Final[tuple[Kind, ...]] = ("dataset", "encoder", "decoder", "prior", "estimator")  # what a grid crosses
EVERY_KIND: Final[tuple[Kind, ...]] = (*KINDS, "executor")


@dataclass(frozen=True)
class Parameter:
    """One parameter that a user may set.

    Attributes:
        name: as in the factory's signature.
        schema: its type and limits as a JSON schema (``{"type": "integer", "minimum": 1}``).
        default: the value used when it is not given (a JSON value; lists for tuples); None when required.
        required: whether it must be given.
        help: one line.
    """

    name: str
    schema: Mapping[str, Any]
    default: Any = None
    required: bool = False
    help: str = ""


@dataclass(frozen=True)
class Component:
    """One registered name.

    ``source`` is the paper, ``module`` the place of the factory (``pkg.mod:name``), ``extra`` the optional extra of the
    distribution that it cannot be made without.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    summary: str = ""
    source: str = ""
    module: str = ""
    doc: str = ""
    parameters: tuple[Parameter, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be loaded, and why; a ``deadly`` one takes the process with it that tries."""

    distribution: str
    version: str
    entry_point: str
    reason: str
    deadly: bool = False


@dataclass(frozen=True)
class Catalogue:
    """Everything registered, by kind and name, with the plugins that failed and the names that two of them claim."""

    components: Mapping[Kind, Mapping[str, Component]]
    broken: tuple[Broken, ...] = field(default=())
    clashes: tuple[str, ...] = field(default=())

    def names(self, kind: Kind) -> list[str]:
        """Registered names of one kind, sorted."""
        return sorted(self.components.get(kind, {}))

    def get(self, kind: Kind, name: str) -> Component | None:
        """The component, or None."""
        return self.components.get(kind, {}).get(name)

    def __iter__(self) -> Iterator[Component]:
        for kind in EVERY_KIND:
            for name in self.names(kind):
                yield self.components[kind][name]

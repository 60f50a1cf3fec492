"""What a plugin may register: one hook per kind, each returning a mapping of name to factory.

A plugin is a package with an entry point in group ``vbench``. A factory is a function or class; from its signature it
gets what it asks for by name (``x``, ``n``, ``mean``, ``data``, and for decoders, priors and estimators ``z``), and
everything else is a user's parameter with its default, type, limits and help: ``k: Annotated[int, Ge(2), "samples per
datum"] = 4``.

A factory that works only where an optional extra of its package is installed says so, ``factory.extra = "pyro"``:
without it the name is listed as unavailable, with what to install, and its cells are skipped.

A plugin may say which version of the contract it was written for, ``vbench_contract = 1`` beside its hooks: then a
vbench that does not keep it says so in one line (docs/contract.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pluggy

__all__ = ["CONTRACT", "OLDEST", "Factories", "hookimpl", "hookspec"]

CONTRACT: Final = 1  # raised when a plugin that worked would work no more
OLDEST: Final = 1  # the oldest that is still kept

hookspec = pluggy.HookspecMarker("vbench")
hookimpl = pluggy.HookimplMarker("vbench")

Factories = Mapping[str, Callable[..., Any]]


@hookspec
def vbench_datasets() -> Factories:  # type: ignore[empty-body]
    """Name to factory of a :class:`vbench.Dataset`."""


@hookspec
def vbench_encoders() -> Factories:  # type: ignore[empty-body]
    """Name to factory of a :class:`vbench.Encoder`."""


@hookspec
def vbench_decoders() -> Factories:  # type: ignore[empty-body]
    """Name to factory of a :class:`vbench.Decoder`."""


@hookspec
def vbench_priors() -> Factories:  # type: ignore[empty-body]
    """Name to factory of a :class:`vbench.Prior`."""


@hookspec
def vbench_estimators() -> Factories:  # type: ignore[empty-body]
    """Name to factory of a :class:`vbench.Estimator`."""


@hookspec
def vbench_executors() -> Factories:  # type: ignore[empty-body]
    """Name to factory of a :class:`vbench.execute.Executor`; it is given ``limits`` and ``workers``."""

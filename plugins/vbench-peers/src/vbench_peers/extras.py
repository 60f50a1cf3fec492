"""Marks a factory with the extra of this package that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["needs_extra"]

_F = TypeVar("_F", bound=Callable[..., Any])


def needs_extra(extra: str) -> Callable[[_F], _F]:
    """The factory works only where this extra is installed: vbench lists it as unavailable elsewhere."""

    def mark(factory: _F) -> _F:
        factory.extra = extra  # type: ignore[attr-defined]
        return factory

    return mark

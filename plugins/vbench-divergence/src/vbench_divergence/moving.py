"""A model of which only some parts move."""

from __future__ import annotations

from typing import Any

from vbench import frozen

__all__ = ["moving"]


def moving(model: Any, *parts: str) -> Any:
    """The model with detached parameters in all parts but these."""
    clone = frozen(model)
    for part in parts:
        setattr(clone, part, getattr(model, part))
    return clone

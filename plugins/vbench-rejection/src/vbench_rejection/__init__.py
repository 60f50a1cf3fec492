"""Posteriors by rejection sampling, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, hookimpl
from vbench_rejection.vrs import VRS

__all__ = ["vbench_encoders"]


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """What this package registers."""
    return {"vrs": VRS}

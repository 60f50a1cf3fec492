"""Hierarchies of latents, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, Prior, hookimpl
from vbench_hierarchy.hierarchy_encoder import HierarchyEncoder
from vbench_hierarchy.hierarchy_prior import HierarchyPrior
from vbench_hierarchy.lvae import LadderEncoder
from vbench_hierarchy.top_down import TopDownEncoder

__all__ = ["vbench_encoders", "vbench_priors"]


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """The posteriors of this package."""
    return {
        "hierarchy": HierarchyEncoder,
        "lvae": LadderEncoder,
        "top-down": TopDownEncoder,
    }


@hookimpl
def vbench_priors() -> Mapping[str, Callable[..., Prior]]:
    """The priors of this package."""
    return {"hierarchy": HierarchyPrior}

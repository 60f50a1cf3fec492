"""Hierarchies of latents, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Decoder, Encoder, Estimator, Prior, hookimpl
from vbench_hierarchy.draw_decoder import DrawDecoder
from vbench_hierarchy.draw_encoder import DrawEncoder
from vbench_hierarchy.hierarchy_encoder import HierarchyEncoder
from vbench_hierarchy.hierarchy_prior import HierarchyPrior
from vbench_hierarchy.lvae import LadderEncoder
from vbench_hierarchy.top_down import TopDownEncoder
from vbench_hierarchy.vdm import VDM
from vbench_hierarchy.vdm_continuous import VDMContinuous
from vbench_hierarchy.vdm_encoder import VDMEncoder
from vbench_hierarchy.vdm_prior import VDMPrior

__all__ = ["vbench_decoders", "vbench_encoders", "vbench_estimators", "vbench_priors"]


@hookimpl
def vbench_decoders() -> Mapping[str, Callable[..., Decoder]]:
    """The likelihoods of this package."""
    return {"draw": DrawDecoder}


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """The posteriors of this package."""
    return {
        "draw": DrawEncoder,
        "hierarchy": HierarchyEncoder,
        "lvae": LadderEncoder,
        "top-down": TopDownEncoder,
        "vdm": VDMEncoder,
    }


@hookimpl
def vbench_estimators() -> Mapping[str, Callable[..., Estimator]]:
    """The objectives of this package."""
    return {"vdm": VDM, "vdm-continuous": VDMContinuous}


@hookimpl
def vbench_priors() -> Mapping[str, Callable[..., Prior]]:
    """The priors of this package."""
    return {"hierarchy": HierarchyPrior, "vdm": VDMPrior}

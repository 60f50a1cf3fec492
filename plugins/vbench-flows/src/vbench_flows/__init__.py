"""Normalizing flows, one method per file: posteriors, and a learned prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, Prior, hookimpl
from vbench_flows.flow import FlowPrior
from vbench_flows.householder import HouseholderEncoder
from vbench_flows.iaf import IAFEncoder
from vbench_flows.maf import MAFEncoder
from vbench_flows.nsf import NSFEncoder
from vbench_flows.planar import PlanarEncoder
from vbench_flows.radial import RadialEncoder
from vbench_flows.realnvp import RealNVPEncoder
from vbench_flows.sylvester import SylvesterEncoder

__all__ = ["vbench_encoders", "vbench_priors"]


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """The posteriors of this package."""
    return {
        "householder": HouseholderEncoder,
        "iaf": IAFEncoder,
        "maf": MAFEncoder,
        "nsf": NSFEncoder,
        "planar": PlanarEncoder,
        "radial": RadialEncoder,
        "realnvp": RealNVPEncoder,
        "sylvester": SylvesterEncoder,
    }


@hookimpl
def vbench_priors() -> Mapping[str, Callable[..., Prior]]:
    """The prior of this package."""
    return {"flow": FlowPrior}

"""Learned priors, and latents on a simplex or a sphere, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, Prior, hookimpl
from vbench_priors.acn import ACNPrior
from vbench_priors.exemplar import ExemplarPrior
from vbench_priors.kumaraswamy import KumaraswamyEncoder
from vbench_priors.logit_normal import LogitNormalEncoder
from vbench_priors.stick_breaking import StickBreakingPrior
from vbench_priors.uniform_sphere import UniformSpherePrior
from vbench_priors.vamp import VampPrior
from vbench_priors.von_mises_fisher import VonMisesFisherEncoder

__all__ = ["vbench_encoders", "vbench_priors"]


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """The posteriors of this package."""
    return {
        "kumaraswamy": KumaraswamyEncoder,
        "logit-normal": LogitNormalEncoder,
        "von-mises-fisher": VonMisesFisherEncoder,
    }


@hookimpl
def vbench_priors() -> Mapping[str, Callable[..., Prior]]:
    """The priors of this package."""
    return {
        "acn": ACNPrior,
        "exemplar": ExemplarPrior,
        "stick-breaking": StickBreakingPrior,
        "uniform-sphere": UniformSpherePrior,
        "vamp": VampPrior,
    }

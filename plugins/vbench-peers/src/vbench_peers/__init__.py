"""Losses of other libraries as they release them, one per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Estimator, Prior, hookimpl
from vbench_peers.pyro_renyi import pyro_renyi
from vbench_peers.pyro_rws import pyro_rws
from vbench_peers.pyro_trace import pyro_trace
from vbench_peers.pyro_tracegraph import pyro_tracegraph
from vbench_peers.pyro_tracemeanfield import pyro_tracemeanfield
from vbench_peers.pythae_ciwae import pythae_ciwae
from vbench_peers.pythae_iwae import pythae_iwae
from vbench_peers.pythae_miwae import pythae_miwae
from vbench_peers.pythae_piwae import pythae_piwae
from vbench_peers.pythae_vae import pythae_vae
from vbench_peers.pythae_vamp import PythaeVampPrior, pythae_vamp

__all__ = ["vbench_estimators", "vbench_priors"]


@hookimpl
def vbench_estimators() -> Mapping[str, Callable[..., Estimator]]:
    """What this package registers."""
    return {
        "pyro-renyi": pyro_renyi,
        "pyro-rws": pyro_rws,
        "pyro-trace": pyro_trace,
        "pyro-tracegraph": pyro_tracegraph,
        "pyro-tracemeanfield": pyro_tracemeanfield,
        "pythae-ciwae": pythae_ciwae,
        "pythae-iwae": pythae_iwae,
        "pythae-miwae": pythae_miwae,
        "pythae-piwae": pythae_piwae,
        "pythae-vae": pythae_vae,
        "pythae-vamp": pythae_vamp,
    }


@hookimpl
def vbench_priors() -> Mapping[str, Callable[..., Prior]]:
    """What this package registers."""
    return {"pythae-vamp": PythaeVampPrior}

"""Posteriors and estimators built from Hamiltonian and Langevin dynamics, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, Estimator, hookimpl
from vbench_hmc.hmc_dlgm import HMCDLGM
from vbench_hmc.hvae import HVAE
from vbench_hmc.hvi import HVI
from vbench_hmc.l2hmc import L2HMC
from vbench_hmc.langevin import Langevin

__all__ = ["vbench_encoders", "vbench_estimators"]


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """What this package registers: posteriors."""
    return {"hvae": HVAE, "hvi": HVI, "langevin": Langevin}


@hookimpl
def vbench_estimators() -> Mapping[str, Callable[..., Estimator]]:
    """What this package registers: estimators."""
    return {"hmc-dlgm": HMCDLGM, "l2hmc": L2HMC}

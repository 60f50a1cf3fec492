"""Objectives beyond the evidence lower bound, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, Estimator, hookimpl
from vbench_divergence.beta import Beta
from vbench_divergence.ciwae import ciwae
from vbench_divergence.cubo import cubo
from vbench_divergence.free_bits import FreeBits
from vbench_divergence.infovae_mmd import InfoVAEMMD
from vbench_divergence.jvi import jvi
from vbench_divergence.kl_annealing import KLAnnealing
from vbench_divergence.miwae import MIWAE
from vbench_divergence.mmd_net import MMDNet
from vbench_divergence.none import NoEncoder
from vbench_divergence.piwae import PIWAE
from vbench_divergence.tvo import tvo
from vbench_divergence.tvo_reparam import tvo_reparam
from vbench_divergence.wae_gan import WAEGAN
from vbench_divergence.wae_mmd import WAEMMD
from vbench_divergence.wake_sleep import WakeSleep

__all__ = ["vbench_encoders", "vbench_estimators"]


@hookimpl
def vbench_estimators() -> Mapping[str, Callable[..., Estimator]]:
    """What this package registers."""
    return {
        "beta": Beta,
        "ciwae": ciwae,
        "cubo": cubo,
        "free-bits": FreeBits,
        "infovae-mmd": InfoVAEMMD,
        "jvi": jvi,
        "kl-annealing": KLAnnealing,
        "miwae": MIWAE,
        "mmd-net": MMDNet,
        "piwae": PIWAE,
        "tvo": tvo,
        "tvo-reparam": tvo_reparam,
        "wae-gan": WAEGAN,
        "wae-mmd": WAEMMD,
        "wake-sleep": WakeSleep,
    }


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """What this package registers."""
    return {"none": NoEncoder}

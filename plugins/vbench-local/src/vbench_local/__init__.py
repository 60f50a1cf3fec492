"""Posteriors of single data: fitted, refined, or guessed by a net that is kept smooth; one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Encoder, hookimpl
from vbench_local.denoising import DenoisingEncoder
from vbench_local.semi_amortized import SemiAmortizedEncoder
from vbench_local.svi import SVI
from vbench_local.weight_normalized import WeightNormalizedEncoder

__all__ = ["vbench_encoders"]


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """What this package registers."""
    return {
        "denoising": DenoisingEncoder,
        "semi-amortized": SemiAmortizedEncoder,
        "svi": SVI,
        "weight-normalized": WeightNormalizedEncoder,
    }

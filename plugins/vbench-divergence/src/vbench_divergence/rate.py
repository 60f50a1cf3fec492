"""The rate KL(q || p) of a datum, sampled or in closed form."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from vbench import Draw, Trait

__all__ = ["KL", "needs", "rate"]

KL = Literal["sampled", "analytic"]


def needs(kl: KL) -> frozenset[str]:
    """What a pathwise rule needs for it."""
    closed = {Trait.KL, Trait.FACTORIZED_PRIOR} if kl == "analytic" else {Trait.NORMALIZED}
    return frozenset({Trait.PATHWISE, *closed})


def rate(kl: KL, posterior: Any, prior: Any, draw: Draw) -> Tensor:
    """``[B]``, nats."""
    if kl == "analytic":
        closed: Tensor = posterior.kl(prior)
        return closed
    sampled: Tensor = (draw.log_q - prior.log_prob(draw.z)).mean(0)
    return sampled

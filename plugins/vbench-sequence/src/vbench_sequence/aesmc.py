"""AESMC: the filtering bound, particles resampled at every step by one random offset."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from vbench import Estimator
from vbench_sequence.filtering import Ancestors, Schedule, particle_filter
from vbench_sequence.resampling import Scheme

__all__ = ["aesmc"]


def aesmc(
    k: Annotated[int, Ge(1), "particles per datum"] = 4,
    schedule: Annotated[Schedule, "when ancestors are drawn; adaptive: by effective sample size"] = "always",
    scheme: Annotated[Scheme, "how ancestors are drawn"] = "systematic",
    threshold: Annotated[float, Gt(0), Le(1), "of the adaptive schedule, as a part of k"] = 0.5,
    ancestors: Annotated[Ancestors, "what becomes of the score of the ancestors"] = "dropped",
) -> Estimator:
    r"""Filtering bound by pathwise gradients, systematic resampling at every step.

    .. math:: E \log \hat p, \qquad \hat p = \prod_t \sum_k W_{t-1}^k
       \frac{p(x_t | z_{\le t}^k)\, p(z_t^k | z_{<t}^k)}{q(z_t^k | z_{<t}^k, x)}

    Biased for this bound where particles are resampled: the score of the ancestors is dropped (``ancestors: score``
    keeps it; with multinomial ancestors at every step that is unbiased). Value and surrogate are ``[B]``, nats.

    Source: Le, Igl, Rainforth, Jin & Wood (2018), Auto-Encoding Sequential Monte Carlo, arXiv:1705.10306.
    """
    return particle_filter(k, schedule, scheme, threshold, ancestors)

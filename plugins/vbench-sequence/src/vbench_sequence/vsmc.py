"""VSMC: the filtering bound, particles resampled at every step, one in each of K parts."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from vbench import Estimator
from vbench_sequence.filtering import Ancestors, Schedule, particle_filter
from vbench_sequence.resampling import Scheme

__all__ = ["vsmc"]


def vsmc(
    k: Annotated[int, Ge(1), "particles per datum"] = 4,
    schedule: Annotated[Schedule, "when ancestors are drawn; adaptive: by effective sample size"] = "always",
    scheme: Annotated[Scheme, "how ancestors are drawn"] = "stratified",
    threshold: Annotated[float, Gt(0), Le(1), "of the adaptive schedule, as a part of k"] = 0.5,
    ancestors: Annotated[Ancestors, "what becomes of the score of the ancestors"] = "dropped",
) -> Estimator:
    r"""Filtering bound by pathwise gradients, stratified resampling at every step.

    .. math:: E \log \hat p, \qquad \hat p = \prod_t \sum_k W_{t-1}^k
       \frac{p(x_t | z_{\le t}^k)\, p(z_t^k | z_{<t}^k)}{q(z_t^k | z_{<t}^k, x)}

    Biased for this bound where particles are resampled: the score of the ancestors is dropped (``ancestors: score``
    keeps it; with multinomial ancestors at every step that is unbiased). Value and surrogate are ``[B]``, nats.

    Source: Naesseth, Linderman, Ranganath & Blei (2018), Variational Sequential Monte Carlo, arXiv:1705.11140
    (stratified as in its authors' code, github.com/blei-lab/variational-smc).
    """
    return particle_filter(k, schedule, scheme, threshold, ancestors)

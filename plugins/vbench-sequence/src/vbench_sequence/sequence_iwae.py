"""The importance-weighted bound of whole sequences, in one walk."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import IWAE, Estimator
from vbench_sequence.filtering import WholeSequences

__all__ = ["sequence_iwae"]


def sequence_iwae(k: Annotated[int, Ge(1), "trajectories per datum"] = 4) -> Estimator:
    r"""Importance-weighted bound of whole sequences, reparameterised.

    .. math:: E \log \frac1K \sum_k \prod_t
       \frac{p(x_t | z_{\le t}^k)\, p(z_t^k | z_{<t}^k)}{q(z_t^k | z_{<t}^k, x)}

    FIVO that never resamples; the same numbers as ``iwae`` on the same parts, in one walk through the data where that
    one takes three. Value and surrogate are ``[B]``, nats.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519; Maddison et al.
    (2017), Filtering Variational Objectives, arXiv:1705.09279 (of sequences).
    """
    return WholeSequences(IWAE(), k)

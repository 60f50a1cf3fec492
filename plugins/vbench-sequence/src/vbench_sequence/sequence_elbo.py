"""The ELBO of whole sequences, in one walk."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import ELBO, Estimator
from vbench_sequence.filtering import WholeSequences

__all__ = ["sequence_elbo"]


def sequence_elbo(k: Annotated[int, Ge(1), "trajectories per datum, averaged"] = 1) -> Estimator:
    r"""ELBO of whole sequences, reparameterised.

    .. math:: \frac1K \sum_k \sum_t \log \frac{p(x_t | z_{\le t}^k)\, p(z_t^k | z_{<t}^k)}{q(z_t^k | z_{<t}^k, x)}

    The same numbers as ``reparam`` on the same parts, in one walk through the data where that one takes three. Value
    and surrogate are ``[B]``, nats.

    Source: Chung, Kastner, Dinh, Goel, Courville & Bengio (2015), A Recurrent Latent Variable Model for Sequential
    Data, arXiv:1506.02216.
    """
    return WholeSequences(ELBO(), k)

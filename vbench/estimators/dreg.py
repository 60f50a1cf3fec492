"""The doubly reparameterised importance-weighted gradient."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench.bounds import IWAE
from vbench.estimators.doubly import DoublyReparameterized
from vbench.types import Estimator

__all__ = ["dreg"]


def dreg(k: Annotated[int, Ge(1), "importance samples per datum"] = 5) -> Estimator:
    r"""Importance-weighted bound with a doubly reparameterised encoder gradient.

    .. math:: \nabla_\phi: \; \sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k}
       \frac{\partial z_k}{\partial \phi}; \qquad \nabla_\theta: \; \sum_k \tilde w_k \nabla_\theta \log p(x, z_k)

    Unbiased for the K-sample bound, the decoder's gradient included (its weights are not squared).

    Source: Tucker, Lawson, Gu & Maddison (2019), Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives,
    arXiv:1810.04152.
    """
    return DoublyReparameterized(IWAE(), k)

"""The thermodynamic variational objective by its covariance gradient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import Tensor

from vbench import Estimator
from vbench_divergence.held import Held
from vbench_divergence.thermodynamic import Spacing, Thermodynamic, schedule

__all__ = ["Covariance", "tvo"]


@dataclass(frozen=True)
class Covariance:
    r"""The covariance gradient with self-normalised weights.

    .. math:: \sum_t (\beta_{t+1} - \beta_t) \Big( \sum_k \tilde w_{t,k} \nabla \log w_k + \tfrac{K}{K-1}
       \sum_k \tilde w_{t,k} \big(\log w_k - \textstyle\sum_j \tilde w_{t,j} \log w_j\big) \nabla \log \pi_{t,k} \Big),
       \qquad \log \pi_t = \beta_t \log p + (1 - \beta_t) \log q

    Source: Masrani, Le & Wood (2019), The Thermodynamic Variational Objective, arXiv:1907.00031, equation 11.
    """

    points: tuple[float, ...]

    def __call__(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """``[K, B], [K, B] -> [B]``."""
        live, k = log_p - log_q, len(log_p)
        log_w = live.detach()
        total = log_w.new_zeros(log_w.shape[1:])
        for start, end in pairwise(self.points):
            weight = (start * log_w).softmax(0)
            centred = (log_w - (weight * log_w).sum(0)) * (k / (k - 1))
            path = start * log_p + (1 - start) * log_q
            total = total + (end - start) * (weight * (live + centred * path)).sum(0)
        return total


def tvo(
    partitions: Annotated[int, Ge(1), "terms of the left Riemann sum; one is the ELBO"] = 5,
    first: Annotated[float, Gt(0), Lt(1), "the first point above zero, where they are spaced logarithmically"] = 0.05,
    spacing: Annotated[Spacing, "of the points in (0, 1]"] = "log",
    k: Annotated[int, Ge(2), "samples per datum"] = 5,
) -> Estimator:
    r"""Thermodynamic variational objective, by the covariance gradient of its exact expectations.

    .. math:: \sum_{t=0}^{T-1} (\beta_{t+1} - \beta_t)\, E_{\pi_t}[\log w] \le \log p(x), \qquad
       \nabla E_{\pi_\beta}[\log w] = E_{\pi_\beta}[\nabla \log w]
       + \mathrm{Cov}_{\pi_\beta}(\nabla \log \tilde\pi_\beta, \log w)

    Expectations under :math:`\pi_\beta \propto q^{1-\beta} p^\beta` are self-normalised over K draws of q: the gradient
    is biased for the exact objective by O(1/K) and is not that of its self-normalised value (for that see
    ``tvo-reparam``); it is unbiased for its ``target``. With one partition it is the ELBO's likelihood-ratio gradient
    with the other samples as baseline. Any latents with a normalised density.

    Source: Masrani, Le & Wood (2019), The Thermodynamic Variational Objective, arXiv:1907.00031.
    """
    points = schedule(partitions, first, spacing)
    return Held(Thermodynamic(points), Covariance(points), k)

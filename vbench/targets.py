"""Targets: what a gradient estimates where it is that of no bound; functions of log p and log q at draws of q."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Wake"]


@dataclass(frozen=True)
class Wake:
    r"""Reweighted wake-sleep: self-normalised importance weights for decoder, prior and encoder.

    .. math:: \sum_k \tilde w_k \nabla \big(\log p(x, z_k) + \log q(z_k | x)\big), \qquad
       \tilde w_k = w_k / \textstyle\sum_j w_j

    For decoder and prior its mean is the gradient of the K-sample bound; for the encoder it is that of
    :math:`-\mathrm{KL}(p(z | x) \| q)` with a bias that falls as 1/K.

    Source: Bornschein & Bengio (2015), Reweighted Wake-Sleep, arXiv:1406.2751.
    """

    def __call__(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """``[K, B], [K, B] -> [B]``."""
        return ((log_p - log_q).detach().softmax(0) * (log_p + log_q)).sum(0)

"""CHIVI: the encoder descends the chi upper bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

from vbench import Estimator, Renyi
from vbench_divergence.held import Held

__all__ = ["Chi", "cubo"]


@dataclass(frozen=True)
class Chi:
    r"""Powers of the weights for the encoder, self-normalised weights for decoder and prior.

    .. math:: \frac{n-1}{n} \frac1K \sum_k \Big(\frac{w_k}{c}\Big)^n \nabla \log q(z_k | x)
       + \sum_k \tilde w_k \nabla \log p(x, z_k)

    Args:
        order: n.
        scale: log c, nats; None: the largest log weight of the datum.

    Source: Dieng, Tran, Ranganath, Paisley & Blei (2017), Variational Inference via Chi Upper Bound Minimization,
    arXiv:1611.00328, algorithm 1.
    """

    order: float
    scale: float | None = None

    def __call__(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """``[K, B], [K, B] -> [B]``."""
        log_w = (log_p - log_q).detach()
        top = log_w.amax(0) if self.scale is None else self.scale
        power = (self.order * (log_w - top)).exp()
        return (1 - 1 / self.order) * (power * log_q).mean(0) + (log_w.softmax(0) * log_p).sum(0)


def cubo(
    order: Annotated[float, Gt(1), "n of CUBO_n; 2 is the chi-square divergence"] = 2.0,
    k: Annotated[int, Ge(2), "samples per datum"] = 3,
    scale: Annotated[
        float | None, "nats taken off every log weight before it is raised; null: the largest of the datum"
    ] = None,
) -> Estimator:
    r"""Chi upper bound, minimised by the encoder; decoder and prior ascend the importance-weighted bound.

    .. math:: \mathrm{CUBO}_n = \tfrac1n \log E_q[w^n] \ge \log p(x), \qquad
       -\nabla_\phi \tfrac1n E_q[(w / c)^n] = \tfrac{n-1}{n} E_q[(w / c)^n \nabla_\phi \log q(z | x)]

    What can be estimated without bias is the exponential form, with a constant c (``scale``). Weights differ by
    hundreds of nats between data, so that as published c is the largest weight of the draws (here of the datum's own):
    the direction is then right for many samples only, and at its K the gradient is that of no bound but of its
    ``target``. The value is the K-sample estimate of CUBO, biased downwards: on no side of the evidence. The paper fits
    q to a fixed model; here decoder and prior follow self-normalised weights at the same draws, what a q of this kind
    is good for.

    Source: Dieng, Tran, Ranganath, Paisley & Blei (2017), Variational Inference via Chi Upper Bound Minimization,
    arXiv:1611.00328.
    """
    return Held(Renyi(1 - order), Chi(order, scale), k)
